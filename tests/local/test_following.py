from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellbox.containers import journal, records
from cellbox.errors import NotFound
from cellbox.local import following
from cellbox.local.following import Follower
from cellbox.model.container import Container, RunSpec, Status

FACTS = Container("c" * 64, "web", "i", RunSpec("x"), ("x",), Status.RUNNING, 0.0)


class Watched:
    """A container whose facts a test sets; ``looks`` counts how often they are asked for."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.status: Status | None = Status.RUNNING
        self.looks = 0

    def run_directory(self, id: str) -> Path:
        return self.run

    def facts(self, record: Any) -> Container:
        self.looks += 1
        if self.status is None:
            raise NotFound("container", "web")
        return replace(FACTS, status=self.status)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    (tmp_path / records.STATE).touch()
    return Watched(tmp_path)


def follower(watched: Watched, **how: Any) -> Follower:
    return Follower(watched, SimpleNamespace(id="c" * 64), how.get("stop"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "over"),
    [
        (Status.RUNNING, False),
        (Status.PAUSED, False),
        (Status.RESTARTING, False),
        (Status.EXITED, True),
        (Status.CREATED, True),
        (None, True),
    ],
)
def test_what_has_ended(watched: Watched, status: Status | None, over: bool) -> None:
    watched.status = status
    assert follower(watched).ended() is over


def test_a_shim_that_is_there_is_believed_for_a_while(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = follower(watched)
    for _ in range(10):
        assert not one.ended()
    assert watched.looks == 1
    now = time.monotonic()
    monkeypatch.setattr(following.time, "monotonic", lambda: now + 10)
    watched.status = Status.EXITED
    assert one.ended(), "it was killed and could not tell"


def test_a_shim_that_has_left_is_noticed_at_once(watched: Watched) -> None:
    one = follower(watched)
    assert not one.ended()
    (watched.run / records.STATE).unlink()
    watched.status = Status.EXITED
    assert one.ended()


def test_who_follows_may_stop(watched: Watched) -> None:
    stopped = False
    one = follower(watched, stop=lambda: stopped)
    assert not one.ended()
    stopped = True
    assert one.ended()


def test_the_longer_nothing_comes_the_rarer_are_the_looks(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(following.time, "sleep", pauses.append)
    one = follower(watched)
    for _ in range(30):
        one.wait(journal.POLL)
    assert pauses[0] == journal.POLL
    assert pauses == sorted(pauses)
    assert pauses[-1] == following.SLOWEST
    assert list(one.noted([(1.0, "stdout", b"x")])) == [(1.0, "stdout", b"x")]
    one.wait(journal.POLL)
    assert pauses[-1] == journal.POLL
