"""How patient the client is, and how a task is called off."""

import threading

import pytest

from cellbox.errors import NotFound
from cellbox.registry.retry import (
    Pace,
    Policy,
    Stop,
    Stopped,
    Transient,
    parse_retry_after,
    persist,
)


def test_waits_double_and_are_spread_and_bounded():
    policy = Policy(first_wait=1.0, longest_wait=10.0)
    for attempt, middle in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 10.0), (10_000, 10.0)]:
        found = {policy.wait_before(attempt) for _ in range(20)}
        assert len(found) > 1
        assert all(0.75 * middle <= wait <= 1.25 * middle for wait in found)


def test_what_the_server_asks_for_is_heard_within_reason():
    policy = Policy(first_wait=1.0, longest_wait=10.0)
    assert policy.wait_before(1, 7.0) == 7.0
    assert policy.wait_before(1, 0.0) == 0.0
    assert policy.wait_before(1, 3600.0) < 2.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("Thu, 99 Foo 1970", None),
        ("9" * 101, None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
    ],
)
def test_retry_after(header, seconds):
    assert parse_retry_after(header) == seconds


class Flaky:
    def __init__(self, failures, error):
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_persist_repeats_what_may_pass():
    waits = []
    flaky = Flaky(4, Transient("later", 2.0))
    assert persist(Policy(tries=5), flaky, waits.append) == "done"
    assert waits == [2.0] * 4


def test_persist_gives_up_with_the_last_failure():
    flaky = Flaky(99, Transient("later"))
    with pytest.raises(Transient, match="later"):
        persist(Policy(tries=3), flaky, lambda seconds: None)
    assert flaky.calls == 3


def test_persist_does_not_repeat_what_will_not_pass():
    flaky = Flaky(99, NotFound("image", "x"))
    with pytest.raises(NotFound):
        persist(Policy(), flaky, lambda seconds: None)
    assert flaky.calls == 1


def test_a_task_that_is_called_off_does_not_wait():
    stop = Stop()
    stop.wait(0)
    stop.set()
    for call in (stop.check, lambda: stop.wait(60)):
        with pytest.raises(Stopped):
            call()


def test_calling_off_wakes_a_thread_that_waits():
    stop, woken = Stop(), threading.Event()

    def sleep():
        with pytest.raises(Stopped):
            stop.wait(60)
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    stop.set()
    thread.join(10)
    assert woken.is_set()


def test_calling_off_cuts_what_is_open_and_nothing_else():
    stop, cut = Stop(), []
    with stop.cutting(lambda: cut.append("closed before")):
        pass
    with stop.cutting(lambda: cut.append("open")):
        stop.set()
    assert cut == ["open"]
    with pytest.raises(Stopped), stop.cutting(lambda: None):
        pass


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def receive(pace, clock, seconds, received):
    with pace:
        clock.now += seconds
    return pace.too_slow(received)


def test_a_body_that_crawls_is_told():
    clock = Clock()
    pace = Pace(Policy(stall=30.0, min_speed=100), clock)
    assert [receive(pace, clock, 1.0, 1) for _ in range(30)] == [False] * 29 + [True]


def test_a_body_that_comes_fast_enough_is_not():
    clock = Clock()
    pace = Pace(Policy(stall=30.0, min_speed=100), clock)
    assert not any(receive(pace, clock, 1.0, 100) for _ in range(100))


def test_time_that_the_reader_takes_does_not_count():
    clock = Clock()
    pace = Pace(Policy(stall=30.0, min_speed=100), clock)
    for _ in range(100):
        assert not receive(pace, clock, 0.1, 1)
        clock.now += 1000
