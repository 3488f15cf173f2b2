"""Containers that run beside the notebook."""

from __future__ import annotations

import asyncio

import pytest

from cellbox import handles
from cellbox.errors import StartError
from cellbox.model.container import RunSpec
from cellbox_magics import jobs
from cellbox_magics.jobs import Job, feed


@pytest.fixture
def job(engine):
    """Start a job of one command."""

    def start(*command: str, stdin: bytes = b"") -> Job:
        def work(talk, created):
            spec = RunSpec("ubuntu", command, interactive=True)
            return handles.run(engine, spec, talk=talk, created=created)

        return Job("ubuntu", work, stdin).start()

    return start


def test_a_job_sends_listens_and_ends(job):
    made = job("cat", stdin=b"x" * 200_000)
    assert made.wait() == 0
    assert len(made.logs()) == 200_000
    assert repr(made).startswith("<ended with 0: happy_curie")


def test_only_the_newest_output_is_kept(job, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 5)
    made = job("hello")
    made.wait()
    assert made.logs() == "ello\n"


def test_waiting_has_a_limit_and_stopping_is_safe(job):
    made = job("sleep")
    with pytest.raises(TimeoutError):
        made.wait(0.01)
    assert repr(made).startswith("<running")
    made.stop()

    async def wait():
        return await made

    assert asyncio.run(wait()) == 143
    made.stop()


def test_a_program_that_does_not_start_fails_whoever_waits(job):
    made = job("nothing")
    with pytest.raises(StartError):
        made.wait()
    assert "failed" in repr(made)


def test_what_hinders_the_container_is_raised_at_once(engine):
    def work(talk, created):
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        Job("x", work).start()


def test_a_program_that_does_not_read_is_no_error():
    class Deaf:
        def write(self, data):
            raise BrokenPipeError

    feed(Deaf(), b"x")
