"""Docker's restart policies, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.containers import restart
from cellbox.model.container import RestartPolicy

NO, ALWAYS = RestartPolicy("no"), RestartPolicy("always")
UNLESS, TWICE = RestartPolicy("unless-stopped"), RestartPolicy("on-failure", 2)
EVER = RestartPolicy("on-failure", 0)


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "wanted"),
    [
        (NO, 0, 0, False),
        (NO, 1, 0, False),
        (RestartPolicy(""), 1, 0, False),
        (ALWAYS, 0, 0, True),
        (ALWAYS, 137, 1000, True),
        (UNLESS, 0, 0, True),
        (UNLESS, 1, 5, True),
        (TWICE, 0, 0, False),
        (TWICE, 1, 0, True),
        (TWICE, 1, 1, True),
        (TWICE, 1, 2, False),
        (EVER, 1, 1000, True),
        (EVER, 0, 0, False),
    ],
)
def test_wanted(policy, code, restarts, wanted):
    assert restart.wanted(policy, code, restarts, False) is wanted


UNWELL, UNWELL_TWICE = RestartPolicy("on-unhealthy"), RestartPolicy("on-unhealthy", 2)


@pytest.mark.parametrize(
    ("policy", "restarts", "ends"),
    [
        (UNWELL, 1000, True),
        (UNWELL_TWICE, 1, True),
        (UNWELL_TWICE, 2, False),
        (ALWAYS, 0, False),
        (EVER, 0, False),
        (NO, 0, False),
    ],
)
def test_who_is_ended_for_being_unwell(policy, restarts, ends):
    assert restart.ends_unwell(policy, restarts) is ends


def test_who_was_ended_for_being_unwell_has_failed():
    assert restart.wanted(UNWELL, 0, 0, False, unwell=True)
    assert restart.wanted(UNWELL, 1, 0, False) and not restart.wanted(UNWELL, 0, 0, False)
    assert not restart.wanted(UNWELL_TWICE, 0, 2, False, unwell=True)
    assert not restart.wanted(UNWELL, 0, 0, True, unwell=True)


@pytest.mark.parametrize("policy", [NO, ALWAYS, UNLESS, TWICE, EVER], ids=lambda one: one.name)
@pytest.mark.parametrize("code", [0, 1, 143])
def test_what_somebody_stopped_stays_down(policy, code):
    assert not restart.wanted(policy, code, 0, True)


def test_the_wait_doubles_up_to_a_minute():
    waits, last = [], 0.0
    for _ in range(12):
        last = restart.wait(last, 0.5)
        waits.append(last)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-3:] == [51.2, 60.0, 60.0]


@given(st.floats(0, 60), st.floats(0, 1e6))
def test_the_wait_is_bounded(previous, ran):
    assert 0 < restart.wait(previous, ran) <= restart.LONGEST_WAIT


@pytest.mark.parametrize(("ran", "expected"), [(9.99, 60.0), (10.0, 0.1), (1e6, 0.1)])
def test_a_good_run_starts_over(ran, expected):
    assert restart.wait(60.0, ran) == expected
