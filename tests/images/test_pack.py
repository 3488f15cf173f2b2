"""Packing while the tree is alive or strange."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from cellbox.images.pack import Options, Packer
from cellbox.images.trees import walk


def blocks(folder: Path, **options) -> bytes:
    fd = os.open(folder, os.O_RDONLY)
    try:
        return b"".join(Packer(fd, Options(**options)).tree())
    finally:
        os.close(fd)


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        return judge.getnames()


def test_order_and_end(tmp_path):
    for name in ("b", "a-", "a/z", "a/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    data = blocks(tmp_path)
    assert names(data) == ["a", "a/y", "a/z", "a-", "b"]
    assert data.endswith(bytes(1024))
    assert len(data) == 5 * 512 + 1024


def test_a_prefix_goes_before_names_and_links(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    os.link(tmp_path / "a", tmp_path / "b")
    data = blocks(tmp_path, prefix=b"top/")
    assert names(data) == ["top/a", "top/b"]
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        assert judge.getmember("top/b").linkname == "top/a"


def test_sockets_have_no_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert names(blocks(tmp_path)) == []


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_file_that_changes_its_size_keeps_its_headers_promise(tmp_path, size):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    fd = os.open(tmp_path, os.O_RDONLY)
    packing = Packer(fd, Options()).tree()
    data = next(packing)  # the header is out
    path.write_bytes(b"y" * size)
    data += b"".join(packing)
    os.close(fd)
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        (member,) = judge.getmembers()
        body = judge.extractfile(member).read()
    assert body == (b"y" * size)[:1000].ljust(1000, b"\0")


def test_a_file_exchanged_for_something_else_is_passed_over(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    fd = os.open(tmp_path, os.O_RDONLY)
    found = list(walk(fd))
    (tmp_path / "f").unlink()
    os.mkfifo(tmp_path / "f")
    assert names(b"".join(Packer(fd, Options()).entries(found))) == []
    os.close(fd)


def test_a_link_put_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "tree/d").mkdir(parents=True)
    (tmp_path / "tree/d/f").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/f").write_bytes(b"secret")
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    found = list(walk(fd))
    (tmp_path / "tree/d").rename(tmp_path / "tree/moved")
    (tmp_path / "tree/d").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        b"".join(Packer(fd, Options()).entries(found))
    os.close(fd)
