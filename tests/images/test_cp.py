"""``cp`` and ``export`` in a root that may be hostile."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.images import cp


@pytest.fixture
def container(tmp_path: Path):
    """A root; ``../host`` must neither be read nor written."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "etc/d").mkdir(parents=True)
    (root / "etc/passwd").write_bytes(b"inside")
    (root / "etc/d/f").write_bytes(b"f")
    (root / "up").symlink_to("../host")
    (root / "absolute").symlink_to("/etc")
    (root / "file").symlink_to("/../../etc/passwd")
    (root / "host").symlink_to(tmp_path / "host")
    fd = os.open(root, os.O_RDONLY)
    yield root, fd
    os.close(fd)


def packed(fd: int, path: bytes) -> dict[str, bytes | None]:
    out = os.memfd_create("out")
    try:
        cp.pack_tree(fd, path, out)
        os.lseek(out, 0, 0)
        with os.fdopen(os.dup(out), "rb") as file, tarfile.open(fileobj=file) as judge:
            return {
                member.name: judge.extractfile(member).read() if member.isreg() else None
                for member in judge.getmembers()
            }
    finally:
        os.close(out)


def test_find(container):
    _, fd = container
    found = cp.find(fd, b"/etc/passwd")
    assert (found.name, found.size, stat.S_ISREG(found.mode)) == ("passwd", 6, True)
    link = cp.find(fd, b"/absolute")
    assert (link.name, link.target) == ("absolute", "/etc")
    assert stat.S_ISDIR(cp.find(fd, b"/absolute/").mode)
    assert stat.S_ISDIR(cp.find(fd, b"/").mode)
    assert stat.S_ISDIR(cp.find(fd, b"").mode)


@pytest.mark.parametrize("path", [b"/none", b"/up/secret", b"/host/secret", b"/../host/secret"])
def test_nothing_of_the_host_is_found(container, path):
    _, fd = container
    with pytest.raises(NotFound):
        cp.find(fd, path)
    with pytest.raises(NotFound):
        packed(fd, path)


def test_a_file_is_no_directory(container):
    _, fd = container
    with pytest.raises(InvalidArgument):
        cp.find(fd, b"/etc/passwd/")
    with pytest.raises(InvalidArgument):
        cp.find(fd, b"/etc\0/passwd")


def test_names_start_with_the_last_one(container):
    _, fd = container
    whole = {"etc": None, "etc/d": None, "etc/d/f": b"f", "etc/passwd": b"inside"}
    assert packed(fd, b"/etc") == whole
    assert packed(fd, b"/etc/") == whole
    assert set(packed(fd, b"/etc/.")) == {".", "./d", "./d/f", "./passwd"}
    assert packed(fd, b"/etc/passwd") == {"passwd": b"inside"}
    assert packed(fd, b"etc/passwd") == {"passwd": b"inside"}
    assert packed(fd, b"/absolute") == {"absolute": None}
    assert packed(fd, b"/absolute/d") == {"d": None, "d/f": b"f"}
    assert "etc/passwd" in packed(fd, b"/")


def unpack(fd: int, path: bytes, data: bytes, **how) -> None:
    stream = os.memfd_create("stream")
    try:
        os.write(stream, data)
        os.lseek(stream, 0, 0)
        cp.unpack_tree(fd, path, stream, **how)
    finally:
        os.close(stream)


def test_unpack(container, make_tar):
    root, fd = container
    unpack(fd, b"/etc/d", make_tar(("new", b"1"), (".wh.f", b"literal")))
    assert (root / "etc/d/new").read_bytes() == b"1"
    assert (root / "etc/d/.wh.f").read_bytes() == b"literal"
    assert (root / "etc/d/f").exists()
    unpack(fd, b"/absolute", make_tar(("through", b"2")))
    assert (root / "etc/through").read_bytes() == b"2"


def test_links_lead_nowhere_but_inside(container, make_tar):
    root, fd = container
    host = root.parent / "host"
    link = {"type": tarfile.SYMTYPE, "linkname": str(host)}
    unpack(fd, b"/", make_tar(("l", link), ("l/secret", b"evil"), ("up/secret", b"evil")))
    assert (host / "secret").read_bytes() == b"secret"
    assert os.listdir(host) == ["secret"]
    assert (root / "host").is_symlink()


@pytest.mark.parametrize("path", [b"/etc/passwd", b"/file"])
def test_only_into_a_directory(container, make_tar, path):
    _, fd = container
    with pytest.raises(InvalidArgument):
        unpack(fd, path, make_tar(("x", b"")))


def test_only_into_what_is_there(container, make_tar):
    _, fd = container
    with pytest.raises(NotFound):
        unpack(fd, b"/none", make_tar(("x", b"")))


def test_a_directory_is_not_overwritten_by_a_file(container, make_tar):
    root, fd = container
    with pytest.raises(InvalidArgument, match="cannot overwrite"):
        unpack(fd, b"/etc", make_tar(("d", b"")), keep_kinds=True)
    assert (root / "etc/d/f").exists()


@pytest.mark.root
def test_owners(container, make_tar):
    root, fd = container
    data = make_tar(("x", {"uid": 5, "gid": 6}))
    unpack(fd, b"/", data)
    assert (root / "x").stat().st_uid == 5
    unpack(fd, b"/", data, owner=(7, 8))
    assert ((root / "x").stat().st_uid, (root / "x").stat().st_gid) == (7, 8)


def test_garbage_in(container):
    _, fd = container
    with pytest.raises(InvalidArgument):
        unpack(fd, b"/", os.urandom(2000))


def test_round_trip(container, tmp_path):
    _, fd = container
    out = os.memfd_create("out")
    cp.pack_tree(fd, b"/etc/.", out)
    os.lseek(out, 0, 0)
    target = tmp_path / "target"
    target.mkdir()
    to = os.open(target, os.O_RDONLY)
    cp.unpack_tree(to, b"/", out)
    os.close(to)
    os.close(out)
    assert (target / "d/f").read_bytes() == b"f"
