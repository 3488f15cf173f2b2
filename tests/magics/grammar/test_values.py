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


def test_lists_have_commas():
    assert values.listed(["a, b", "", "c,"]) == ["a", "b", "c"]
