"""Names of containers."""

import random

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local import names


@pytest.mark.parametrize("name", ["ab", "web-1", "A.b_c-D", "0x", "a" * 255])
def test_valid_names(name):
    assert names.check(name) == name
    assert names.check("/" + name) == name


@pytest.mark.parametrize("name", ["", "a", "_a", "-a", ".a", "a b", "a/b", "//a", "é1", "ab\n"])
def test_invalid_names(name):
    with pytest.raises(InvalidArgument) as caught:
        names.check(name)
    assert str(caught.value) == (
        f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )


def test_a_name_has_an_end():
    with pytest.raises(InvalidArgument, match="more than 255"):
        names.check("a" * 256)


def test_the_lists_are_clean():
    for words in (names.ADJECTIVES, names.SCIENTISTS):
        assert len(set(words)) == len(words) >= 100
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_a_generated_name_is_valid():
    for seed in range(100):
        name = names.generate(lambda name: False, random.Random(seed))
        assert names.check(name) == name
        adjective, scientist = name.split("_")
        assert adjective in names.ADJECTIVES and scientist in names.SCIENTISTS


def test_digits_are_added_while_names_are_taken():
    asked = []

    def is_taken(name):
        asked.append(name)
        return len(asked) < 4

    name = names.generate(is_taken, random.Random(1))
    assert name == asked[-1] and name[-3:].isdigit() and not asked[0][-1].isdigit()


@pytest.mark.parametrize("name", ["a", "my_net.work-1", "A" * 255])
def test_names_of_networks(name):
    assert names.check_network(name) == name


@pytest.mark.parametrize("name", ["", ".", "-a", "a b", "a/b", "../x", "a\n", "A" * 256])
def test_what_is_no_name_of_a_network(name):
    with pytest.raises(InvalidArgument, match="no name for a network"):
        names.check_network(name)
