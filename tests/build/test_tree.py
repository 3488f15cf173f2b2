"""Trees of files: out of tars, out of directories, and ways through them."""

from __future__ import annotations

import io
import os
import socket
import tarfile

import pytest

from cellbox.build import tree
from cellbox.build.ignore import Ignore
from cellbox.build.tree import Kind, Node
from cellbox.errors import InvalidArgument


def archive(*members: tuple[str, dict]) -> io.BytesIO:
    """A tar of members; ``data`` is the content, other fields are TarInfo's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            writer.addfile(member, io.BytesIO(data))
    return out


def link(target: str) -> dict:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def content(node: Node | None) -> bytes:
    assert node is not None
    with node.open() as file:
        return file.read()


def test_a_tar_is_a_tree():
    root = tree.of_tar(
        archive(
            ("./a/b", {"data": b"1", "mode": 0o640, "uid": 5, "mtime": 7}),
            ("a", {"type": tarfile.DIRTYPE, "mode": 0o700}),
            ("hard", {"type": tarfile.LNKTYPE, "linkname": "a/b"}),
            ("/abs", {"data": b"2", "pax_headers": {"SCHILY.xattr.user.x": "y"}}),
            ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        )
    )
    node = tree.find(root, "a/b")
    assert node is not None
    assert (node.kind, node.mode, node.uid, node.mtime, node.size) == (Kind.FILE, 0o640, 5, 7, 1)
    assert (root.entries["a"].mode, content(node)) == (0o700, b"1")
    assert root.entries["hard"] is node
    assert root.entries["abs"].xattrs == {"SCHILY.xattr.user.x": "y"}
    assert root.entries["null"].kind is Kind.OTHER
    names = [name for name, _ in tree.walk(root, "")]
    assert names == ["", "a", "a/b", "abs", "hard", "null"]


def test_links_lead_inside_the_tree():
    root = tree.of_tar(
        archive(
            ("etc/passwd", {"data": b"ours"}),
            ("abs", link("/etc/passwd")),
            ("up", link("../../../../etc")),
            ("loop", link("loop")),
            ("gone", link("nowhere")),
        )
    )
    assert content(tree.find(root, "abs")) == b"ours"
    assert content(tree.find(root, "up/passwd")) == b"ours"
    assert content(tree.find(root, "../up/../etc/passwd")) == b"ours"
    assert tree.find(root, "gone") is None and tree.find(root, "etc/passwd/x") is None
    found = tree.find(root, "abs", follow=False)
    assert found is not None and found.kind is Kind.LINK
    with pytest.raises(InvalidArgument, match="too many levels"):
        tree.find(root, "loop")


@pytest.mark.parametrize(
    "members",
    [
        [("../x", {})],
        [("a/../../x", {})],
        [("l", link("/etc")), ("l/x", {"data": b"evil"})],
        [("f", {}), ("f/x", {})],
        [("h", {"type": tarfile.LNKTYPE, "linkname": "none"})],
        [("h", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"})],
    ],
)
def test_hostile_tars_are_refused(members):
    with pytest.raises(InvalidArgument):
        tree.of_tar(archive(*members))


def test_a_tar_may_end_with_its_last_byte_and_not_before():
    data = archive(("f", {"data": b"abc"})).getvalue()
    cut = data[: tarfile.BLOCKSIZE + 3]
    assert content(tree.find(tree.of_tar(io.BytesIO(cut)), "f")) == b"abc"
    for length in (tarfile.BLOCKSIZE + 2, tarfile.BLOCKSIZE - 9, 100):
        with pytest.raises(InvalidArgument):
            tree.of_tar(io.BytesIO(data[:length]))
    with pytest.raises(InvalidArgument):
        tree.of_tar(io.BytesIO(b"no tar" * 200))
    assert tree.of_tar(io.BytesIO()).entries == {}


def test_a_directory_is_a_tree(tmp_path):
    (tmp_path / "sub").mkdir(mode=0o750)
    (tmp_path / "sub" / "f").write_text("1")
    (tmp_path / "sub" / "g.log").write_text("2")
    (tmp_path / "only" / "ignored").mkdir(parents=True)
    (tmp_path / "only" / "ignored" / "x.log").write_text("3")
    (tmp_path / "l").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        root = tree.of_directory(tmp_path, Ignore(["**/*.log", "only", "!only/ignored/keep"]))
    assert sorted(root.entries) == ["l", "sub"]
    sub = root.entries["sub"]
    assert (sub.kind, sub.mode, sorted(sub.entries)) == (Kind.DIRECTORY, 0o750, ["f"])
    assert (root.entries["l"].target, content(sub.entries["f"])) == ("/etc/passwd", b"1")
