"""Sizes, durations, instants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.container import Ulimit
from cellbox_magics.grammar import values


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1b", 1), ("256m", 256 << 20), ("1.5GiB", 3 << 29), ("2 kb", 2048),
     ("1T", 1 << 40)],
)  # fmt: skip
def test_sizes_are_binary(text, size):
    assert values.size(text) == size


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_a_clear_error(text):
    try:
        assert values.size(text) >= 0
    except InvalidArgument as error:
        assert "256m" in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5)]
)
def test_durations_are_gos(text, seconds):
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "s", "1m30", "-5s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidArgument, match="30s"):
        values.duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [("1700000000", 1.7e9), ("10m", 400.0), ("1970-01-01T00:01:00Z", 60.0),
     ("1970-01-01T00:01:00", 60.0), ("1970-01-01T01:01:00+01:00", 60.0)],
)  # fmt: skip
def test_instants_are_absolute_or_before_now(text, moment):
    assert values.instant(text, 1000.0) == moment


def test_what_is_no_instant_is_refused():
    with pytest.raises(InvalidArgument, match="Unix time"):
        values.instant("yesterday", 0.0)


def test_ulimits_have_one_number_or_two():
    assert values.ulimit("NOFILE=5") == Ulimit("nofile", 5, 5)
    with pytest.raises(InvalidArgument):
        values.ulimit("nofile")


def test_filters_keep_several_values_of_a_key():
    words = ["label=a", "label=b=c", "status=exited", "label!=d"]
    assert values.filters(words) == {
        "label": ["a", "b=c"], "status": ["exited"], "label!": ["d"],
    }  # fmt: skip
    with pytest.raises(InvalidArgument):
        values.filters(["status"])
