"""Frames of output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import EngineError
from cellbox.wire.streams import MAX_PIECE, Deframer, frame

pieces = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr", "stdin", "error"]), st.binary(max_size=40))
)


def test_a_frame_is_what_docker_sends():
    assert frame("stdout", b"hello") == b"\1\0\0\0\0\0\0\5hello"
    assert frame("stderr", b"") == b"\2\0\0\0\0\0\0\0"


@given(pieces, st.integers(1, 9))
def test_frames_come_out_whole_however_they_were_cut(told, step):
    data = b"".join(frame(name, part) for name, part in told)
    deframer = Deframer()
    found = []
    for start in range(0, len(data), step):
        found += deframer.feed(data[start : start + step])
    assert found == [(name, part) for name, part in told if part]
    assert deframer.whole


def test_an_end_within_a_frame_is_seen():
    deframer = Deframer()
    assert deframer.feed(frame("stdout", b"hello")[:-1]) == []
    assert not deframer.whole
    assert deframer.feed(b"o") == [("stdout", b"hello")]
    assert deframer.whole


def test_a_huge_frame_comes_in_pieces():
    data = b"x" * (MAX_PIECE + 5)
    found = Deframer().feed(frame("stdout", data))
    assert [len(part) for _, part in found] == [MAX_PIECE, 5]
    assert b"".join(part for _, part in found) == data


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK", b"\4\0\0\0\0\0\0\1x", b"\1\1\0\0\0\0\0\1x"])
def test_what_is_not_in_frames_is_refused(data):
    with pytest.raises(EngineError, match="not in frames"):
        Deframer().feed(data)
