"""The loop: handlers, deadlines, and the ends of it."""

from __future__ import annotations

import os
import select
import time

import pytest

from cellbox.networks.loop import Loop


@pytest.fixture
def pipe():
    read, write = os.pipe()
    ends = [read, write]
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.fixture
def loop(pipe):
    made = Loop(pipe[0])
    yield made
    made.close()


def test_it_ends_when_the_other_end_is_closed(loop, pipe):
    os.close(pipe.pop())
    loop.run()


def test_it_ends_with_a_process(in_time):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    loop = Loop(pidfd)
    loop.run()
    loop.close()
    os.close(pidfd)
    os.waitpid(pid, 0)
    assert in_time()


@pytest.fixture
def in_time():
    began = time.monotonic()
    return lambda: time.monotonic() - began < 5


def test_what_is_ready_is_told_until_it_is_forgotten(loop):
    read, write = os.pipe()
    os.write(write, b"x")
    told = []

    def hear(events):
        told.append(events)
        if len(told) == 3:
            loop.forget(read)
            loop.forget(read)  # it may be said twice
            loop.later("end", 0.02, loop.end)

    loop.watch(read, select.EPOLLIN, hear)
    loop.run()
    os.close(read)
    os.close(write)
    assert told == [select.EPOLLIN] * 3


def test_a_later_wish_takes_the_place_of_an_earlier_one(loop):
    read, write = os.pipe()
    os.write(write, b"x")
    loop.watch(read, select.EPOLLIN, lambda _: pytest.fail("forgotten"))
    loop.watch(read, select.EPOLLIN, lambda _: loop.end())
    loop.run()
    os.close(read)
    os.close(write)


def test_deadlines_come_in_time_and_can_be_called_off(loop):
    told = []
    loop.later("b", 0.03, lambda: told.append("b"))
    loop.later("a", 0.01, lambda: told.append("a"))
    loop.later("never", 0.02, lambda: told.append("never"))
    loop.later("again", 0.0, lambda: told.append("early"))
    loop.later("again", 0.04, loop.end)
    loop.cancel("never")
    loop.cancel("nothing")
    began = time.monotonic()
    loop.run()
    assert told == ["a", "b"] and time.monotonic() - began >= 0.04


def test_one_deadline_may_call_another_one_off(loop):
    told = []

    def first():
        told.append("first")
        loop.cancel("second")
        loop.later("end", 0.0, loop.end)

    loop.later("first", 0.0, first)
    loop.later("second", 0.0, lambda: told.append("second"))
    loop.run()
    assert told == ["first"]


def test_the_events_of_a_closed_descriptor_are_not_those_of_the_next_with_its_number(loop):
    """Both are ready at once; who is called first puts another file in the place of the other."""
    pipes = [os.pipe(), os.pipe()]
    quiet = os.pipe()
    told = []

    def replace(mine, other):
        def hear(_events):
            loop.forget(mine)
            loop.forget(other)
            os.dup2(quiet[0], other)
            loop.watch(other, select.EPOLLIN, told.append)
            loop.later("end", 0.03, loop.end)

        return hear

    for (mine, write), (other, _) in (pipes, pipes[::-1]):
        os.write(write, b"x")
        loop.watch(mine, select.EPOLLIN, replace(mine, other))
    loop.run()
    for fd in (*pipes[0], *pipes[1], *quiet):
        os.close(fd)
    assert told == []
