"""A long task's progress."""

from __future__ import annotations

import threading

import pytest

from cellbox.model.image import Progress
from cellbox_magics.progress import Board, Painter, fraction, line


def test_the_newest_step_of_each_part_counts():
    board = Board("Pulling x")
    assert board.record(Progress("a", "Waiting"))
    assert board.record(Progress("a", "Downloading", 5, 10))
    assert not board.record(Progress("a", "Downloading", 6, 10))
    board.record(Progress("b", "Extracting"))
    assert board.text().splitlines() == [
        "Pulling x",
        "a: Downloading [==================>           ] 6B/10B",
        "b: Extracting",
    ]


@pytest.mark.parametrize(
    ("step", "part"),
    [
        (Progress("a", "x", 5, 10), 0.5),
        (Progress("a", "x", 50, 10), 1.0),
        (Progress("a", "x", -5, 10), 0.0),
        (Progress("a", "x", 5, None), None),
        (Progress("a", "x", 5, 0), None),
        (Progress("a", "x", 5, -1), None),
    ],
)
def test_totals_that_make_no_sense_do_no_harm(step, part):
    assert fraction(step) == part
    assert line(step).startswith("a: x")


def test_html_is_escaped_and_static():
    board = Board("<b>")
    board.record(Progress("<i>", "<script>", 1, 2))
    html = board.html()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "width:50%" in html


def test_the_painter_draws_in_its_own_time():
    board = Board("t")
    drawn = []
    both = threading.Event()

    def draw():
        drawn.append(board.text())
        if "b: y" in drawn[-1]:
            both.set()

    with Painter(board, draw, pause=0.001) as watch:
        watch(Progress("a", "x"))
        watch(Progress("b", "y"))
        assert both.wait(20)
    assert drawn[-1] == "t\na: x\nb: y"


def test_nothing_is_drawn_when_nothing_happened():
    drawn = []
    with Painter(Board("t"), lambda: drawn.append(1)):
        pass
    assert drawn == []


def test_a_thousand_steps_are_few_drawings():
    board = Board("t")
    drawn = []
    with Painter(board, lambda: drawn.append(1), pause=60) as watch:
        for number in range(1000):
            watch(Progress("a", "x", number, 1000))
    assert len(drawn) <= 3
