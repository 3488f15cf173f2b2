"""Contexts: tars, compressed or not, and directories; and as they are sent to a daemon."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest
import zstandard

from cellbox.build import tree
from cellbox.build.archives import plain
from cellbox.build.context import opened, sent
from cellbox.errors import InvalidArgument


def names(root):
    return [name for name, _ in tree.walk(root, "") if name]


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
)
def test_a_tar(tar_of, compress):
    data = compress(tar_of(Dockerfile=b"FROM x", f=b"1").read())
    with opened(io.BytesIO(data)) as context:
        assert (context.dockerfile, names(context.root)) == ("FROM x", ["Dockerfile", "f"])


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_a_damaged_one_is_refused(tar_of, compress):
    data = bytearray(compress(tar_of(Dockerfile=b"FROM x" * 999).read()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InvalidArgument), opened(io.BytesIO(data)):
        pass
    with pytest.raises(InvalidArgument), opened(io.BytesIO(data[:30])):
        pass


def test_what_a_connection_fails_with_is_no_damage():
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError), opened(io.BufferedReader(Broken())):
        pass


def test_where_the_dockerfile_is(tar_of):
    data = tar_of(dockerfile=b"FROM low", **{"sub/D": b"FROM sub"}).read()
    for name, text in (("", "FROM low"), ("sub/D", "FROM sub"), ("./sub//D", "FROM sub")):
        with opened(io.BytesIO(data), name) as context:
            assert context.dockerfile == text
    for name, said in (
        ("none", "Cannot locate specified Dockerfile: none"),
        ("sub", "Cannot locate"),
        ("../D", "must be within the build context"),
    ):
        with pytest.raises(InvalidArgument, match=said), opened(io.BytesIO(data), name):
            pass


def test_a_client_had_to_send_what_is_ignored(tar_of):
    files = {"Dockerfile": b"FROM x", "f": b"1", ".dockerignore": b"Dockerfile\n.dockerignore\nf\n"}
    with opened(tar_of(**files)) as context:
        assert (context.dockerfile, names(context.root)) == ("FROM x", ["f"])


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "sub").mkdir(parents=True)
    for name in ("Dockerfile", "a.log", "sub/b.log", "sub/c"):
        (path / name).write_text(f"FROM {name}")
    (path / ".dockerignore").write_text("**/*.log\n")
    return path


def test_a_directory(folder):
    with opened(folder) as context:
        assert context.dockerfile == "FROM Dockerfile"
        assert names(context.root) == [".dockerignore", "Dockerfile", "sub", "sub/c"]
    (folder / "Dockerfile.dockerignore").write_text("sub\n")
    with opened(folder, str(folder / "Dockerfile")) as context:
        assert "a.log" in names(context.root) and "sub" not in names(context.root)
    with pytest.raises(InvalidArgument, match="failed to read dockerfile: open .*/none: no such"):
        with opened(folder, "none"):
            pass
    with pytest.raises(InvalidArgument, match="is no directory"), opened(folder / "a.log"):
        pass


def test_a_directory_as_it_is_sent(folder, tmp_path):
    other = tmp_path / "Other"
    other.write_text("FROM other")
    body, name = sent(folder, str(other))
    with opened(io.BytesIO(body.read()), name) as context:
        assert context.dockerfile == "FROM other"
        assert names(context.root) == [".dockerignore", "Dockerfile", "sub", "sub/c"]
    assert sent(io.BytesIO(b"tar"), "D")[1] == "D"
    (folder / name).write_text("x")
    with pytest.raises(InvalidArgument, match="is in the way"):
        sent(Path(folder))


def test_what_is_not_compressed_is_as_it_is():
    assert plain(io.BytesIO(b"plain")).read() == b"plain"
    assert plain(io.BytesIO(b"")).read() == b""
