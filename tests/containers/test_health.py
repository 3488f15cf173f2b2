"""Health as a state machine, with instants made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.containers.health import HEALTHY, STARTING, UNHEALTHY, Monitor, monitored
from cellbox.model.container import HealthCheck

SHELL = ("/bin/sh", "-c")


def monitor(**how):
    return Monitor(HealthCheck(**{"test": ("CMD", "ask"), **how}), SHELL, 1000.0)


def told(one, *codes, at=2000.0):
    return [one.result(at, code, {"exit_code": code}) for code in codes]


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (("CMD", "ask", "it"), ("ask", "it")),
        (("CMD-SHELL", "ask | grep it"), ("/bin/sh", "-c", "ask | grep it")),
    ],
)
def test_the_command(test, command):
    assert monitor(test=test).command == command


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (None, False),
        (HealthCheck(), False),
        (HealthCheck(("NONE",)), False),
        (HealthCheck(("CMD", "x")), True),
        (HealthCheck(("CMD-SHELL", "x")), True),
    ],
)
def test_what_is_monitored(check, expected):
    assert monitored(check) is expected


def test_dockers_defaults():
    one = monitor()
    assert (one.interval, one.timeout, one.status) == (30.0, 30.0, STARTING)
    assert one.due() == 1030.0
    assert told(one, 1, 1, 1) == [False, False, True]


def test_one_success_is_enough():
    one = monitor()
    assert told(one, 0, 0) == [True, False]
    assert (one.status, one.failing_streak) == (HEALTHY, 0)


def test_it_takes_as_many_failures_in_a_row_as_was_said():
    one = monitor(retries=2)
    assert told(one, 0, 1, 0, 1, 1, 1) == [True, False, False, False, True, False]
    assert (one.status, one.failing_streak) == (UNHEALTHY, 3)
    assert told(one, 0) == [True]
    assert (one.status, one.failing_streak) == (HEALTHY, 0)


def test_failures_while_it_is_starting_do_not_count():
    one = monitor(start_period=10.0, retries=1)
    assert told(one, 1, 1, 1, at=1009.0) == [False] * 3
    assert (one.status, one.failing_streak) == (STARTING, 0)
    assert told(one, 1, at=1010.0) == [True]
    assert one.status == UNHEALTHY


def test_a_success_ends_the_start_period():
    one = monitor(start_period=100.0, retries=1)
    told(one, 0, at=1001.0)
    assert told(one, 1, at=1002.0) == [True]


def test_probes_come_more_often_while_it_is_starting():
    one = monitor(start_period=10.0, interval=30.0, start_interval=1.0)
    assert one.due() == 1001.0
    told(one, 1, at=1002.0)
    assert one.due() == 1003.0
    told(one, 0, at=1004.0)
    assert one.due() == 1034.0


def test_the_start_interval_is_never_longer_than_the_interval():
    assert monitor(start_period=100.0, interval=2.0).due() == 1002.0


def test_the_last_five_entries_are_kept():
    one = monitor()
    told(one, *range(10))
    assert [entry["exit_code"] for entry in one.log] == [5, 6, 7, 8, 9]


@given(st.lists(st.tuples(st.floats(1000, 1e6), st.integers(-1, 255))), st.integers(0, 5))
def test_it_is_unhealthy_after_enough_failures_and_only_then(answers, retries):
    one = monitor(retries=retries)
    for now, code in sorted(answers):
        before = one.status
        assert one.result(now, code, {}) is (one.status != before)
        assert (one.status == HEALTHY) >= (code == 0)
        assert (one.status == UNHEALTHY) == (one.failing_streak >= (retries or 3))
        assert one.due() > now
