"""Layers in one pass: bytes to files and back, limits, and both directions agreeing."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from cellbox.errors import IntegrityError, InvalidArgument
from cellbox.images import layers, tarwrite
from cellbox.images.compression import Compressor, fd_reader
from cellbox.images.extract import OPAQUE_XATTR
from cellbox.images.pack import Options

pytestmark = pytest.mark.root


def apply(data: bytes, target: Path, **how) -> layers.Applied:
    target.mkdir(exist_ok=True)
    fd = os.open(target, os.O_RDONLY)
    try:
        return layers.apply(io.BytesIO(data).read, fd, **how)
    finally:
        os.close(fd)


def pack(source: Path, *lowers: Path, **options) -> tuple[bytes, str]:
    fds = [os.open(path, os.O_RDONLY) for path in (source, *lowers)]
    out = os.memfd_create("out")
    try:
        chosen = Options(overlay=True, **options)
        digest, size = layers.pack(fds[0], out, lowers=fds[1:], options=chosen)
        data = os.pread(out, size + 1, 0)
        assert len(data) == size
        return data, digest
    finally:
        for fd in (*fds, out):
            os.close(fd)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_a_layer_in_every_encoding(make_tar, tmp_path, kind):
    data = make_tar(("a", b"x" * 100_000), ("d/b", b"y"))
    compressor = Compressor(kind)
    encoded = compressor.feed(data) + compressor.finish()
    applied = apply(encoded, tmp_path / "fs", diff_id=digest(data))
    assert applied.diff_id == digest(data)
    assert applied.tar_size == len(data)
    assert (applied.outcome.entries, applied.outcome.size) == (2, 100_001)
    assert (tmp_path / "fs/d/b").read_bytes() == b"y"


def test_padding_after_the_end_counts_for_the_digest(make_tar, tmp_path):
    data = make_tar(("a", b"x"))
    assert apply(data, tmp_path / "one").diff_id == digest(data)
    longer = data + bytes(10_240)
    assert apply(longer, tmp_path / "two").diff_id == digest(longer)


def test_another_diff_id(make_tar, tmp_path):
    with pytest.raises(IntegrityError):
        apply(make_tar(("a", b"")), tmp_path / "fs", diff_id=digest(b""))


def test_sha512(make_tar, tmp_path):
    data = make_tar(("a", b""))
    wanted = "sha512:" + hashlib.sha512(data).hexdigest()
    assert apply(data, tmp_path / "fs", diff_id=wanted).diff_id == wanted


@pytest.mark.parametrize(
    "limits",
    [
        layers.Limits(size=5000),
        layers.Limits(entries=3),
        layers.Limits(ratio=2, ratio_from=1000),
    ],
)
def test_limits(make_tar, tmp_path, limits):
    data = make_tar(*[(f"f{number}", bytes(2000)) for number in range(5)])
    with pytest.raises(InvalidArgument):
        apply(gzip.compress(data), tmp_path / "fs", limits=limits)


def test_a_bomb_ends_early(tmp_path):
    bomb = gzip.compress(tarwrite.header(b"zeros", size=1 << 27) + bytes(1 << 27), 1)
    with pytest.raises(InvalidArgument, match="suspiciously"):
        apply(bomb, tmp_path / "fs", limits=layers.Limits(ratio=100, ratio_from=1 << 22))
    assert (tmp_path / "fs/zeros").stat().st_size < 1 << 26


@pytest.mark.parametrize("size", [0, 100, 511, 513, 1000])
def test_a_cut_archive(make_tar, tmp_path, size):
    data = make_tar(("a" * 200, b"x" * 2000))
    if size == 0:
        assert apply(data[:size], tmp_path / "fs").outcome.entries == 0
        return
    with pytest.raises(InvalidArgument):
        apply(data[:size], tmp_path / "fs")


def test_garbage(tmp_path):
    with pytest.raises(InvalidArgument):
        apply(os.urandom(5000), tmp_path / "fs")


def test_a_name_the_kernel_refuses_is_the_archives_fault(make_tar, tmp_path):
    with pytest.raises(InvalidArgument):
        apply(make_tar(("n" * 300, b"")), tmp_path / "fs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of everything."""
    path = tmp_path / "tree"
    path.mkdir()
    (path / "d").mkdir(mode=0o1777)
    (path / "d").chmod(0o1777)
    (path / "d/f").write_bytes(b"data" * 5000)
    (path / "d/f").chmod(0o4755)
    os.link(path / "d/f", path / "hard")
    (path / "l").symlink_to("../x" * 60)
    os.symlink("t", os.fsencode(path) + b"/\xff\xfe")
    os.mkfifo(path / "p")
    os.mknod(path / "null", 0o020666, os.makedev(1, 3))
    (path / ("long" * 40)).write_bytes(b"")
    (path / "owned").write_bytes(b"1")
    os.chown(path / "owned", 1000, 3_000_000)
    os.setxattr(path / "owned", "user.a", b"b")
    os.mknod(path / "gone", 0o020000, 0)
    (path / "opaque").mkdir()
    os.setxattr(path / "opaque", OPAQUE_XATTR, b"y")
    return path


def test_pack_and_apply_are_inverse(tree, tmp_path):
    first, first_digest = pack(tree)
    assert first_digest == digest(first)
    apply(first, tmp_path / "again", diff_id=first_digest)
    second, _ = pack(tmp_path / "again")
    assert second == first
    assert (tmp_path / "again/d/f").stat().st_nlink == 2
    assert os.getxattr(tmp_path / "again/opaque", OPAQUE_XATTR) == b"y"
    assert os.major((tmp_path / "again/gone").lstat().st_rdev) == 0


def test_what_docker_would_see(tree):
    data, _ = pack(tree, latest=0)
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        members = {member.name: member for member in judge.getmembers()}
    assert ".wh.gone" in members and "gone" not in members
    assert "opaque/.wh..wh..opq" in members
    assert members["hard"].islnk() and members["hard"].linkname == "d/f"
    assert members["owned"].pax_headers["SCHILY.xattr.user.a"] == "b"
    assert {member.mtime for member in members.values()} == {0}
    assert {member.uname for member in members.values()} == {""}


@pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not installed")
def test_gnu_tar_unpacks_the_same_tree(tree, tmp_path):
    for mark in ("gone", "opaque"):
        shutil.rmtree(tree / mark) if (tree / mark).is_dir() else (tree / mark).unlink()
    data, wanted = pack(tree)
    target = tmp_path / "gnu"
    target.mkdir()
    command = ["tar", "-C", str(target), "-xpf", "-", "--numeric-owner", "--xattrs"]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert pack(target) == (data, wanted)


@pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not installed")
def test_we_unpack_the_tree_that_gnu_tar_packed(tree, tmp_path):
    (tree / "gone").unlink()
    os.removexattr(tree / "opaque", OPAQUE_XATTR)
    for format in ("gnu", "pax", "posix"):
        command = ["tar", "-C", str(tree), "-cf", "-", f"--format={format}", "--xattrs", "."]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        apply(data, tmp_path / format)
        if format != "gnu":  # which has no attributes
            assert pack(tmp_path / format) == pack(tree)
        assert (tmp_path / format / "d/f").read_bytes() == (tree / "d/f").read_bytes()


def test_excluded_paths(tree):
    data, _ = pack(tree, excluded={b"d", b"l"})
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        names = judge.getnames()
    assert not {"d", "d/f", "l"} & set(names)
    assert "hard" in names


def test_too_much_to_pack(tree):
    with pytest.raises(InvalidArgument, match="more than 10 bytes"):
        pack(tree, limit=10)


def test_a_reader_from_a_pipe(make_tar, tmp_path):
    reader, writer = os.pipe()
    os.write(writer, make_tar(("f", b"data")))
    os.close(writer)
    fd = os.open(tmp_path, os.O_RDONLY)
    layers.apply(fd_reader(reader), fd)
    os.close(fd)
    os.close(reader)
    assert (tmp_path / "f").read_bytes() == b"data"


def test_layers_laid_over_each_other_and_what_changed_then(make_tar, tmp_path):
    apply(make_tar(("a", b"1"), ("d/b", b"2"), ("d/c", b"3"), ("e/f", b"4")), tmp_path / "low")
    apply(make_tar((".wh.a", b""), ("d/.wh.b", b""), ("g", b"5")), tmp_path / "high")
    apply(make_tar(("e/.wh..wh..opq", b""), ("e/h", b"6")), tmp_path / "top")
    stack = [tmp_path / name for name in ("top", "high", "low")]
    copied = tmp_path / "copied"
    copied.mkdir()
    fds = [os.open(path, os.O_RDONLY) for path in (*stack, copied)]
    layers.copy(fds[:-1], fds[-1])
    for fd in fds:
        os.close(fd)
    found = sorted(str(path.relative_to(copied)) for path in copied.rglob("*"))
    assert found == ["d", "d/c", "e", "e/h", "g"]

    (copied / "g").unlink()
    (copied / "d/c").write_bytes(b"33")
    (copied / "new").write_bytes(b"7")
    data, _ = pack(copied, *stack)
    with tarfile.open(fileobj=io.BytesIO(data)) as judge:
        assert judge.getnames() == [".wh.g", "d", "d/c", "new"] or judge.getnames() == [
            "d",
            "d/c",
            ".wh.g",
            "new",
        ]
