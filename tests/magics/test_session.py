"""One engine, connected to late and closed once."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox_magics.session import Session, context_of, url_of


class Job:
    done = False

    def __init__(self):
        self.stopped = []

    def stop(self, timeout):
        self.stopped.append(timeout)


def test_an_engine_is_connected_to_when_first_needed(engine):
    urls = []

    def connect(url):
        urls.append(url)
        return engine

    session = Session("unix:///x", connect)
    assert not session.started
    assert session.engine is session.engine
    assert (urls, session.started) == (["unix:///x"], True)
    session.close()
    session.close()
    assert engine.closed


def test_jobs_end_with_the_session(engine):
    session = Session(connect=lambda url: engine)
    ended, running = Job(), Job()
    session.keep(ended)
    ended.done = True
    session.keep(running)
    session.close()
    assert (ended.stopped, running.stopped) == ([], [1])


def test_a_failing_close_is_nobodys_problem(engine):
    def close():
        raise RuntimeError

    engine.close = close
    session = Session(connect=lambda url: engine)
    assert session.engine is engine
    session.close()


# Several engines ---------------------------------------------------------------------------------


def test_every_engine_is_connected_to_once(engine):
    urls = []

    def connect(url):
        urls.append(url)
        return type(engine)()

    session = Session("unix:///x", connect)
    first = session.chosen(["unix:///y"])
    assert session.chosen(["unix:///y"]) is first is not session.engine
    assert session.chosen(()) is session.engine is session.chosen(["unix:///x"])
    session.chosen(["far"])
    assert urls == ["unix:///y", "unix:///x", "context:far"]
    session.url = "unix:///y"
    assert session.engine is first
    session.close()
    assert first.closed


def test_two_at_once_are_too_many(engine):
    session = Session(connect=lambda url: engine)
    with pytest.raises(InvalidArgument, match="names 2 engines.*name one"):
        session.chosen(["a", "b"])
    assert not session.started


def test_a_word_is_a_context_and_the_rest_a_url(monkeypatch):
    monkeypatch.delenv("CELLBOX_HOST", raising=False)
    monkeypatch.delenv("CELLBOX_CONTEXT", raising=False)
    assert url_of("far") == "context:far"
    assert url_of("unix:///x") == "unix:///x"
    assert (url_of(""), context_of("")) == ("", "embedded")
    assert context_of("context:far") == "far"
    monkeypatch.setenv("CELLBOX_CONTEXT", "near")
    assert (context_of(""), context_of("context:far")) == ("near", "far")
    monkeypatch.setenv("CELLBOX_HOST", "ssh://box")
    assert context_of("") == "ssh://box"
