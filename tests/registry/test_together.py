"""Jobs side by side."""

import threading

import pytest

from cellbox.registry.retry import Stop
from cellbox.registry.together import together


def test_all_is_done_a_few_at_a_time():
    lock, running, most = threading.Lock(), [0], [0]
    both = threading.Barrier(2, timeout=10)

    def job(number):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        both.wait()  # two of them run at once, or this breaks
        with lock:
            running[0] -= 1
        return number * 2

    jobs = {number: lambda number=number: job(number) for number in range(6)}
    assert together(jobs, Stop(), 2, "job") == {number: number * 2 for number in range(6)}
    assert most == [2]


def test_the_first_failure_is_raised_and_ends_the_others():
    stop, begun, done = Stop(), threading.Event(), []

    def waits():
        begun.set()
        stop.wait(30)

    def fails():
        begun.wait(10)
        raise ValueError("first")

    jobs = {"waits": waits, "fails": fails, "late": lambda: done.append(1)}
    with pytest.raises(ValueError, match="first"):
        together(jobs, stop, 2, "job")
    assert done == []
