"""Names of volumes."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.volume import ANONYMOUS_LABEL, Volume, check_name


@pytest.mark.parametrize("name", ["ab", "a.b_c-d", "0x", "A" * 255, "f" * 64])
def test_a_name_of_dockers_kind(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", ".a", "-a", "_a", "a/b", "..", "a b", "a\n", "a\0b", "é1", "A" * 256]
)
def test_what_could_be_a_path_is_none(name):
    with pytest.raises(InvalidArgument, match="volume name"):
        check_name(name)


def test_the_label_says_that_nobody_named_it():
    assert Volume("ab", "local", "", 0.0, labels={ANONYMOUS_LABEL: ""}).anonymous
    assert not Volume("ab", "local", "", 0.0).anonymous
