"""The notebook's surface where it is more than a shell: displays, boxes, streams."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.image import Progress
from cellbox_magics.notebook import Notebook
from cellbox_magics.outcome import Interrupted
from cellbox_magics.session import Session
from cellbox_magics.surface import Talking


class Kernel:
    """A shell that has a kernel."""

    kernel = object()

    def __init__(self):
        self.pushed = {}

    def push(self, values):
        self.pushed |= values


@pytest.fixture
def notebook(engine):
    return Notebook(Kernel(), Session(connect=lambda url: engine))


def test_progress_is_one_display(notebook, monkeypatch):
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(("update", bundle))

    def display(bundle, raw, display_id):
        shown.append(("display", bundle))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    with notebook.watch("Pulling x") as watch:
        watch(Progress("a", "Downloading", 5, 10))
    kinds = [kind for kind, _ in shown]
    assert kinds[0] == "display"
    assert set(kinds[1:]) <= {"update"}
    assert set(shown[-1][1]) == {"text/plain", "text/html"}


def test_attaching_is_let_go_by_an_interrupt(engine, notebook, interrupt, until):
    from cellbox.model.container import RunSpec

    def service(process):
        process.out("serving\n")
        until(process.output.empty)
        interrupt()
        return process.signal() == "TERM"

    engine.programs["service"] = service
    facts = engine.containers.create(RunSpec("ubuntu", ("service",)))
    stream = engine.containers.attach(facts.id)
    engine.containers.start(facts.id)
    with pytest.raises(Interrupted, match="runs on"):
        notebook.talk(stream, Talking("web", owns=False))
    assert stream.closed
    assert not stream.process.ended.is_set()
    engine.containers.kill(facts.id, signal="TERM")


def test_questions_without_an_input_box_are_not_answered(notebook, monkeypatch):
    def nobody(prompt):
        raise NotImplementedError

    monkeypatch.setattr("builtins.input", nobody)
    assert notebook.ask("sure?") == ""


def test_variables_are_pushed(notebook):
    notebook.publish({"x": 1})
    assert notebook._shell.pushed == {"x": 1}


def test_there_are_no_bytes_to_read_or_show(notebook):
    with pytest.raises(InvalidArgument, match="-i FILE"):
        notebook.source()
    with pytest.raises(InvalidArgument, match="-o FILE"):
        notebook.sink()
