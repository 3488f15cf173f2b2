"""Instants as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.model.times import instant, timestamp


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (0.0, "1970-01-01T00:00:00Z"),
        (1.25, "1970-01-01T00:00:01.25Z"),
        (1700000000.0, "2023-11-14T22:13:20Z"),
    ],
)
def test_times_are_rfc3339(moment, text):
    assert timestamp(moment) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-11-14T22:13:20Z", 1700000000.0),
        ("2023-11-14T23:13:20.25+01:00", 1700000000.25),
        ("2023-11-14T22:13:20.123456789Z", pytest.approx(1700000000.123457)),
        ("0001-01-01T00:00:00Z", None),
        ("2023-13-14T22:13:20Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_what_is_no_time_is_none(text, moment):
    assert instant(text) == moment


@given(st.integers(0, 1 << 32), st.integers(0, 999_999))
def test_there_and_back(seconds, micros):
    moment = seconds + micros / 1e6
    assert instant(timestamp(moment)) == pytest.approx(moment, abs=1e-6)
