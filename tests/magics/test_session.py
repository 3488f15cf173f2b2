"""One engine, connected to late and closed once."""

from __future__ import annotations

from cellbox_magics.session import Session


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
