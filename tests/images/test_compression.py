"""Compressed streams: every format whole, cut, damaged, in parts and hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib

import pytest
import zstandard

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.images import compression

DATA = b"".join(b"line %d\n" % number for number in range(400_000))
ENCODERS = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.compress,
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "none": lambda data: data,
}


def decompress(data: bytes) -> bytes:
    source = compression.Input(io.BytesIO(data).read)
    blocks = list(compression.decompress(source))
    assert all(0 < len(block) <= compression.BLOCK for block in blocks)
    return b"".join(blocks)


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(compression, "gzip_engine", zlib)


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_format(kind):
    assert decompress(ENCODERS[kind](DATA)) == DATA


@pytest.mark.parametrize("kind", ENCODERS)
def test_nothing(kind):
    assert decompress(ENCODERS[kind](b"")) == b""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_many_members(kind):
    encode = ENCODERS[kind]
    assert decompress(encode(b"one") + encode(b"") + encode(b"two")) == b"onetwo"


def test_zeros_after_gzip_are_padding_and_all_else_is_not():
    data = gzip.compress(b"data")
    assert decompress(data + bytes(1000)) == b"data"
    assert decompress(data + bytes(10) + data) == b"datadata"
    with pytest.raises(InvalidArgument):
        decompress(data + b"garbage that is no member")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_cut_stream(kind):
    with pytest.raises(InvalidArgument):
        decompress(ENCODERS[kind](DATA)[:-20])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_a_damaged_stream(kind):
    data = bytearray(ENCODERS[kind](os.urandom(100_000)))
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    data[8:20] = b"\xff" * 12
    with pytest.raises(InvalidArgument):
        decompress(bytes(data))


def test_a_bomb_comes_in_small_blocks():
    bomb = gzip.compress(bytes(1 << 26))
    source = compression.Input(io.BytesIO(bomb).read)
    first = next(compression.decompress(source))
    assert len(first) <= compression.BLOCK


def test_a_window_of_two_gigabytes_is_refused():
    # A frame header (RFC 8878, 3.1.1.1): no single segment, window exponent 21: 2^31 bytes.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(InvalidArgument):
        decompress(frame)


def test_a_skippable_frame_may_come_first():
    frame = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    assert decompress(frame + zstandard.compress(b"data")) == b"data"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_compressors_do_not_care_how_they_are_fed(kind):
    outcomes = set()
    for step in (1000, 1 << 16, len(DATA)):
        compressor = compression.Compressor(kind)
        pieces = [compressor.feed(DATA[at : at + step]) for at in range(0, len(DATA), step)]
        outcomes.add(b"".join(pieces) + compressor.finish())
    (data,) = outcomes
    assert decompress(data) == DATA


def test_gzip_tells_no_time_and_no_name():
    compressor = compression.Compressor("gzip")
    data = compressor.feed(b"x") + compressor.finish()
    assert data[3:8] == bytes(5)


def test_a_part_of_a_file(stream):
    read = compression.part_reader(stream(b"0123456789"), 2, 5)
    assert [read(3), read(3), read(3)] == [b"234", b"56", b""]


def test_media_types():
    for good in ("application/vnd.oci.image.layer.v1.tar+zstd", "a.tar", "a.tar.gzip"):
        compression.check_media_type(good)
    for bad in ("a.tar+gzip+encrypted", "application/json", ""):
        with pytest.raises(NotSupported):
            compression.check_media_type(bad)
