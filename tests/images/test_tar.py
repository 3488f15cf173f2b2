"""The tar reader, judged by GNU tar and Python's tarfile, and against damage."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.images import tar, tarwrite

needs_gnu_tar = pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not installed")


def blocks(data: bytes, size: int = 700):
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def read(data: bytes, size: int = 700) -> list[tuple[tar.Entry, bytes]]:
    stream = tar.Stream(blocks(data, size))
    found = []
    for entry in tar.read(stream):
        found.append((entry, b"".join(bytes(piece) for piece in stream.pieces(entry.stored))))
    stream.drain()
    return found


@pytest.mark.parametrize("size", [1, 511, 512, 700, 1 << 20])
def test_blocks_of_any_size(make_tar, size):
    data = make_tar(("a", b"x" * 1000), ("b", b""), ("c", b"y" * 512))
    assert [(entry.name, body) for entry, body in read(data, size)] == [
        (b"a", b"x" * 1000),
        (b"b", b""),
        (b"c", b"y" * 512),
    ]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_facts_in_every_format(make_tar, format):
    data = make_tar(
        (
            "dir/" + "n" * 90,
            {"data": b"hi", "mode": 0o4755, "uid": 1000, "gid": 2000, "mtime": 1700000000},
        ),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "t" * 100}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "link"}),
        ("device", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("folder", {"type": tarfile.DIRTYPE, "mode": 0o1777}),
        ("fifo", {"type": tarfile.FIFOTYPE}),
        format=format,
    )
    file, link, hard, device, folder, fifo = (entry for entry, _ in read(data))
    assert (file.mode, file.uid, file.gid, file.size) == (0o4755, 1000, 2000, 2)
    assert file.mtime == 1700000000 * 10**9
    assert (link.kind, link.link) == (tar.SYMLINK, b"t" * 100)
    assert (hard.kind, hard.link) == (tar.LINK, b"link")
    assert (device.kind, device.major, device.minor) == (tar.CHARACTER, 1, 3)
    assert (folder.kind, folder.mode, folder.name.rstrip(b"/")) == (
        tar.DIRECTORY,
        0o1777,
        b"folder",
    )
    assert fifo.kind == tar.FIFO


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_large_numbers_and_strange_bytes(make_tar, format):
    name = "d/" * 200 + "ü\udcff"
    data = make_tar(
        (name, {"linkname": "l" * 300, "type": tarfile.SYMTYPE, "uid": 1 << 30}), format=format
    )
    ((entry, _),) = read(data)
    assert entry.name == os.fsencode(name)
    assert entry.link == b"l" * 300
    assert entry.uid == 1 << 30


def test_pax_times_and_attributes(make_tar):
    data = make_tar(
        (
            "f",
            {"pax_headers": {"mtime": "1.000000007", "SCHILY.xattr.user.a": "1=2\n"}},
        ),
        ("g", {"pax_headers": {"mtime": "-3.5"}}),
    )
    first, second = (entry for entry, _ in read(data))
    assert first.mtime == 1_000_000_007
    assert first.xattrs == {b"user.a": b"1=2\n"}
    assert second.mtime == -3_500_000_000


def test_global_headers_are_passed_over():
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "evil"}
    ) as archive:
        archive.addfile(tarfile.TarInfo("good"))
    assert [entry.name for entry, _ in read(out.getvalue())] == [b"good"]


@needs_gnu_tar
@pytest.mark.parametrize(
    "flags",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 60])
def test_sparse_files(tmp_path, flags, pieces):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for number in range(pieces):
            file.seek((number * 2 + 1) << 16)
            file.write(b"%05d" % number * 800)
        file.truncate(pieces << 18)
    command = ["tar", "-C", str(tmp_path), "-S", *flags, "-cf", "-", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    ((entry, body),) = read(data)
    content, at = bytearray(entry.size), 0
    for offset, size in entry.sparse or [(0, entry.size)]:
        content[offset : offset + size] = body[at : at + size]
        at += size
    assert entry.name == b"sparse"
    assert bytes(content) == path.read_bytes()


def header(**fields) -> bytes:
    return tarwrite.header(fields.pop("name", b"f"), fields.pop("kind", tar.FILE), **fields)


def with_field(block: bytes, at: int, value: bytes) -> bytes:
    block = block[:at] + value + block[at + len(value) :]
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax(*records: bytes) -> bytes:
    data = b"".join(records)
    return header(kind=b"x", size=len(data)) + data + tarwrite.padding(len(data))


def record(key: bytes, value: bytes) -> bytes:
    return tarwrite._record(key, value)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage" * 200,
        header(size=10),
        header(size=1000) + b"x" * 512,
        header()[:300],
        header() + bytes(512) + header(),
        with_field(header(), 124, b"99999999999\0"),
        with_field(header(), 124, b"-0000000001\0"),
        with_field(header(), 124, b"1_0\0"),
        with_field(header(), 124, b"\xff" * 12),
        with_field(header(), 124, b"\x80" + b"\xff" * 11),
        header()[:100] + b"junk!!!" + header()[107:],
        header(kind=b"x", size=2 << 20),
        header(kind=b"L", size=5) + b"name\0" + bytes(507),
        pax(b"5 a=\n"),
        pax(b"99 path=x\n") + header(),
        pax(b"path=x\n") + header(),
        pax(b"9999999999 a=b\n") + header(),
        pax(b"0 a=b\n") + header(),
        pax(b"8 path=x") + header(),
        pax(record(b"path", b"a\0b")) + header(),
        pax(record(b"size", b"-5")) + header(),
        pax(record(b"size", b"9" * 23)) + header(),
        pax(record(b"mtime", b"tomorrow")) + header(),
        pax(record(b"uid", b"4294967296")) + header(),
        pax(record(b"GNU.sparse.map", b"0,1,2"), record(b"GNU.sparse.size", b"9")) + header(),
        pax(record(b"GNU.sparse.map", b"5,5,0,5"), record(b"GNU.sparse.size", b"99"))
        + header(size=10)
        + bytes(512),
        pax(record(b"GNU.sparse.map", b"0,5"), record(b"GNU.sparse.size", b"3"))
        + header(size=5)
        + bytes(512),
        pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.realsize", b"9"))
        + header(size=512)
        + b"999999999\n".ljust(512, b"\0"),
        pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.realsize", b"9"))
        + header(size=512)
        + b"x" * 512,
    ],
)
def test_damage_is_an_error_of_its_own_kind(data):
    with pytest.raises(InvalidArgument):
        read(data)


def test_many_small_extension_headers_are_too_many():
    endless = iter(lambda: header(kind=b"g"), b"")
    with pytest.raises(InvalidArgument):
        list(tar.read(tar.Stream(endless)))


def test_kinds_without_data_have_none_whatever_they_say(make_tar):
    link = with_field(header(kind=tar.SYMLINK, link=b"x"), 124, b"00000001000\0")
    assert [entry.name for entry, _ in read(link + header(name=b"next"))] == [b"f", b"next"]


def test_a_v7_directory():
    old = with_field(header(name=b"old/"), 156, b"\0")
    old = with_field(old, 257, bytes(8))
    ((entry, _),) = read(old)
    assert entry.kind == tar.DIRECTORY


def test_an_empty_block_is_not_the_end():
    stream = tar.Stream(iter([b"ab", b"", b"cd", b""]))
    assert (stream.take(4), stream.take(1)) == (b"abcd", b"")


def test_an_archive_may_end_without_an_end():
    assert len(read(header(name=b"a"))) == 1
    assert len(read(header(name=b"a") + bytes(512))) == 1
    assert read(b"") == []


@given(st.binary(max_size=3000))
@settings(max_examples=200)
def test_garbage_never_does_worse_than_invalid(data):
    try:
        read(data)
    except InvalidArgument:
        pass


@given(st.integers(0, 2047), st.binary(min_size=1, max_size=8))
@settings(max_examples=300)
def test_a_changed_header_never_does_worse_than_invalid(at, change):
    data = bytearray(pax(record(b"path", b"p" * 300)) + header(size=5) + b"12345".ljust(512))
    data[at : at + len(change)] = change
    try:
        read(bytes(data))
    except InvalidArgument:
        pass


def test_position_tells_where_data_start(make_tar, tmp_path: Path):
    data = make_tar(("a", b"first"), ("b" * 200, b"second"))
    stream = tar.Stream(blocks(data))
    found = []
    for entry in tar.read(stream):
        at = stream.position
        found.append(data[at : at + entry.size])
        stream.skip(entry.stored)
    assert found == [b"first", b"second"]
