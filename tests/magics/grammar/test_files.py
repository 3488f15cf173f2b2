"""cp and export; tars out of a container are hostile."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.model.container import FileStat


def tar(*members: tuple[str, str, str]) -> bytes:
    """A tar of (kind, name, content or target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind, name, content in members:
            member = tarfile.TarInfo(name)
            if kind == "file":
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
            else:
                member.type = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE,
                               "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE,
                               "device": tarfile.CHRTYPE}[kind]  # fmt: skip
                member.mode = 0o755
                member.linkname = content
                archive.addfile(member)
    return out.getvalue()


FILE = tar(("file", "f", "text"))
TREE = tar(("dir", "d", ""), ("file", "d/one", "1"), ("hard", "d/two", "d/one"))


@pytest.fixture
def files(engine, say):
    """The files of a container called web."""
    say("_ = %container create --name web ubuntu ls")
    engine.files.tars = {"/f": FILE, "/d": TREE, "/d/.": TREE}
    return engine.files


def test_a_file_comes_out_under_its_name_or_another(files, say, tmp_path):
    say(f"%container cp web:/f {tmp_path}")
    assert (tmp_path / "f").read_text() == "text"
    say(f"%container cp web:/f {tmp_path}/other")
    assert (tmp_path / "other").read_text() == "text"
    with pytest.raises(InvalidArgument, match="no such directory"):
        say(f"%container cp web:/f {tmp_path}/none/")
    with pytest.raises(InvalidArgument, match="no such directory"):
        say(f"%container cp web:/f {tmp_path}/none/x")


def test_a_directory_comes_out_whole_renamed_or_its_contents(files, say, tmp_path):
    say(f"%container cp web:/d {tmp_path}")
    assert (tmp_path / "d" / "two").read_text() == "1"
    say(f"%container cp web:/d {tmp_path}/other")
    assert (tmp_path / "other" / "two").read_text() == "1"
    say(f"%container cp web:/d/. {tmp_path}/contents")
    assert sorted(os.listdir(tmp_path / "contents")) == ["one", "two"]


def test_a_link_is_followed_when_told(files, say, tmp_path):
    files.paths["/link"] = FileStat("link", 0, 0o120777, 0.0, target="/f")
    say(f"%container cp -L web:/link {tmp_path}")
    assert (tmp_path / "f").read_text() == "text"


@pytest.mark.parametrize(
    "members",
    [
        [("file", "../escaped", "x")],
        [("file", "/tmp/cellbox-escaped", "x"), ("link", "f", "/etc")],
        [("link", "f", "/etc/passwd")],
        [("link", "f", "../../outside"), ("file", "f/x", "x")],
        [("hard", "f", "/etc/passwd")],
        [("device", "f", "")],
    ],
    ids=["dots", "absolute", "link", "through a link", "hard link", "device"],
)
def test_a_hostile_tar_writes_nothing_outside(files, say, tmp_path, members):
    files.tars["/f"] = tar(*members)
    target = tmp_path / "in"
    target.mkdir()
    with pytest.raises(InvalidArgument, match="not all copied"):
        say(f"%container cp web:/f {target}")
    assert sorted(os.listdir(tmp_path)) == ["in"]
    assert not os.path.exists("/tmp/cellbox-escaped")


def names(data: bytes) -> list[tuple[str, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(member.name, member.uid) for member in archive]


def test_a_file_goes_in_under_its_name_or_another(files, say, tmp_path):
    source = tmp_path / "s"
    source.write_text("x")
    files.paths = {"/dir": FileStat("dir", 0, 0o040755, 0.0), "/old": FileStat("o", 1, 0o100644, 0)}
    for target in ("/dir", "/dir/new", "/old"):
        say(f"%container cp {source} web:{target}")
    assert [(path, names(data)) for path, data in files.put_tars] == [
        ("/dir", [("s", 0)]), ("/dir", [("new", 0)]), ("/", [("old", 0)]),
    ]  # fmt: skip


def test_a_directory_goes_in(files, say, tmp_path):
    source = tmp_path / "tree"
    source.mkdir()
    (source / "one").write_text("1")
    files.paths = {"/dir": FileStat("dir", 0, 0o040755, 0.0), "/old": FileStat("o", 1, 0o100644, 0)}
    say(f"%container cp -a {source} web:/dir")
    assert [name for name, _ in names(files.put_tars[0][1])] == ["tree", "tree/one"]
    say(f"%container cp {source}/. web:/dir")
    assert [name for name, _ in names(files.put_tars[1][1])] == [".", "./one"]
    with pytest.raises(InvalidArgument, match="is a file"):
        say(f"%container cp {source} web:/old")


def test_what_is_not_there_is_said(files, say, tmp_path):
    with pytest.raises(InvalidArgument, match="no such file"):
        say(f"%container cp {tmp_path}/none web:/dir")
    (tmp_path / "s").write_text("x")
    with pytest.raises(NotFound):
        say(f"%container cp {tmp_path}/s web:/none/")
    with pytest.raises(InvalidArgument, match="name one CONTAINER:PATH"):
        say("%container cp /a /b")
    with pytest.raises(InvalidArgument, match="name one CONTAINER:PATH"):
        say("%container cp a:/a b:/b")


def test_export_writes_a_tar(files, say, tmp_path):
    say(f"%container export -o {tmp_path}/x.tar web")
    assert (tmp_path / "x.tar").read_bytes() == b"a root file system"
