from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.api.keys import DEFAULT, Escape, parse
from cellbox.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("CTRL-Z", b"\x1a"),
        ("a,b,c", b"abc"),
        ("ctrl-@", b"\x00"),
        ("ctrl-\\,ctrl-],ctrl-^,ctrl-_,ctrl-[", b"\x1c\x1d\x1e\x1f\x1b"),
    ],
)
def test_keys_are_read_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "ctrl-1", "word", ",", "ä", "alt-a"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid detach keys"):
        parse(text)


def test_a_beginning_that_was_none_is_passed_on() -> None:
    escape = Escape(DEFAULT)
    assert escape.feed(b"ls\x10") == (b"ls", False)
    assert escape.feed(b"x") == (b"\x10x", False)


def test_keys_across_two_pieces_end_it_and_what_follows_is_dropped() -> None:
    escape = Escape(DEFAULT)
    assert escape.feed(b"ls\x10") == (b"ls", False)
    assert escape.feed(b"\x11rm") == (b"", True)


@given(st.lists(st.binary(max_size=4).map(lambda data: data.replace(b"\x11", b"")), max_size=20))
def test_without_the_keys_all_that_is_typed_arrives(pieces: list[bytes]) -> None:
    escape = Escape(DEFAULT)
    passed = b"".join(escape.feed(piece)[0] for piece in pieces)
    typed = b"".join(pieces)
    assert typed in (passed, passed + b"\x10")


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b""]), max_size=30))
def test_however_it_is_cut_the_keys_are_found(pieces: list[bytes]) -> None:
    keys, typed = b"aba", b"".join(pieces)
    escape, passed = Escape(keys), b""
    for piece in pieces:
        more, left = escape.feed(piece)
        passed += more
        if left:
            assert passed == typed[: typed.index(keys)]
            return
    assert keys not in typed
