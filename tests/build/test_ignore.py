"""What .dockerignore leaves out, as the reference implementation decides."""

from __future__ import annotations

import pytest

from cellbox.build.ignore import Ignore, parse
from cellbox.errors import InvalidArgument


def test_every_case_of_the_reference_implementation_agrees(cases):
    told = cases("ignore")
    decisions = 0
    for text, patterns, ignored in told["cases"]:
        assert parse(text) == patterns
        if isinstance(ignored, str):
            with pytest.raises(InvalidArgument, match=ignored):
                Ignore(patterns)
            continue
        found = Ignore(patterns)
        got = [index for index, path in enumerate(told["paths"]) if found.matches(path)]
        assert (text, got) == (text, ignored)
        decisions += len(told["paths"])
    assert decisions > 5000


def test_line_ends_and_a_byte_order_mark_do_not_count():
    assert parse("\ufeffa\r\n\r\n# c\r\n!b\r\n") == ["a", "!b"]


def test_no_patterns_ignore_nothing():
    assert not Ignore()
    assert not Ignore().matches("a")
    assert Ignore(["a"]) and Ignore(["a", "!a/b"]).takes_back and not Ignore(["a"]).takes_back


@pytest.mark.parametrize("pattern", ["!", "[a", "a[", "[]", "[z-a]", "a\\"])
def test_a_pattern_that_go_refuses_is_refused(pattern):
    with pytest.raises(InvalidArgument):
        Ignore([pattern])
