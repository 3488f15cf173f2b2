"""What a query says."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.wire import filters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("{}", {}),
        ('{"label":{"a=b":true,"c":false}}', {"label": ["a=b", "c"]}),
        ('{"label":["a=b","c"],"status":[]}', {"label": ["a=b", "c"], "status": []}),
        ('{"dangling":{"true":true},"id":["x"]}', {"dangling": ["true"], "id": ["x"]}),
    ],
)
def test_filters_are_read_in_either_form(text, found):
    assert filters.parse_filters(text) == found


@pytest.mark.parametrize(
    "text",
    ["bad", "[]", "5", "null", '{"a":1}', '{"a":[1]}', '{"a":"x"}', '{"a":null}', "[" * 99_999],
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(InvalidArgument, match="invalid filter"):
        filters.parse_filters(text)


words = st.text(max_size=5)


@given(st.dictionaries(words, st.lists(words, unique=True)))
def test_filters_there_and_back(asked):
    assert filters.parse_filters(filters.filters_text(asked)) == asked


def test_no_filters_are_no_text():
    assert filters.filters_text({}) == ""


@pytest.mark.parametrize("text", ["", "0", "no", "False", " none "])
def test_flags_that_are_off(text):
    assert filters.flag(text) is False


@pytest.mark.parametrize("text", ["1", "true", "yes", "x", "-1"])
def test_flags_that_are_on(text):
    assert filters.flag(text) is True


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5)]
)
def test_durations_are_gos(text, seconds):
    assert filters.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "s", "1m30", "-5s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidArgument, match="30s"):
        filters.duration(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [("1700000000", 1.7e9), ("10m", 400.0), ("1970-01-01T00:01:00Z", 60.0),
     ("1970-01-01T00:01:00", 60.0), ("1970-01-01", 0.0), ("1.25", 1.25),
     ("1970-01-01T00:00:01.250000001Z", 1.25), ("1970-01-01T01:01:00+01:00", 60.0)],
)  # fmt: skip
def test_instants_are_absolute_or_before_now(text, instant):
    assert filters.moment(text, 1000.0) == instant


def test_what_is_no_instant_is_refused():
    with pytest.raises(InvalidArgument, match="Unix time"):
        filters.moment("yesterday", 0.0)


def test_a_duration_counts_from_the_present():
    assert filters.moment("10m") == pytest.approx(time.time() - 600, abs=5)


@given(st.text(max_size=12))
def test_any_text_is_an_instant_or_a_clear_error(text):
    try:
        filters.moment(text, 0.0)
    except InvalidArgument as error:
        assert "Unix time" in str(error)


def test_until_becomes_an_instant():
    told = {"until": ["100", "1970-01-01T00:01:40Z"], "label": ["a"]}
    assert filters.with_moments(told) == {"until": ["100.0", "100.0"], "label": ["a"]}
    (hour,) = filters.with_moments({"until": ["1h"]})["until"]
    assert abs(float(hour) - (time.time() - 3600)) < 60
    assert filters.with_moments({"label": ["a"]}) == {"label": ["a"]}
    with pytest.raises(InvalidArgument):
        filters.with_moments({"until": ["soon"]})
