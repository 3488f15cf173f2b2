"""Numbers and times as Docker prints them."""

from __future__ import annotations

import pytest

from cellbox_magics import humanize


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (72_800_000, "72.8MB"), (1.13e9, "1.13GB")],
)
def test_sizes_have_three_digits(count, text):
    assert humanize.size(count) == text


def test_binary_sizes_have_four_digits():
    assert humanize.binary_size(1.934 * 1024**3) == "1.934GiB"


def test_what_nobody_knows_is_not_available():
    assert humanize.clock(None) == "N/A"
    assert humanize.clock(0.0) == "1970-01-01 00:00:00 +0000 UTC"


def test_long_text_ends_with_an_ellipsis():
    assert humanize.shorten("abcdef", 4) == "abc…"
    assert humanize.shorten("abcd", 4) == "abcd"
