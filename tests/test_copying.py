"""Files between a container and this machine; the cases of ``cp`` are in the tests of its verb."""

from __future__ import annotations

import pytest

from cellbox.engine import Engine
from cellbox.errors import InvalidArgument, NotFound
from cellbox.handles import ContainerHandle
from cellbox.model.container import RunSpec
from cellbox.model.image import Image


@pytest.fixture(params=["running", "created"])
def box(request: pytest.FixtureRequest, engine: Engine, busybox: Image) -> ContainerHandle:
    made = engine.containers.create(RunSpec("busybox", ("sleep", "99"), detach=True))
    if request.param == "running":
        engine.containers.start(made.id)
    return ContainerHandle(engine, made)


def test_one_file_without_a_tar(box):
    data = bytes(range(256)) * 5000
    box.write_file("/srv/data.bin", data, mode=0o600, owner=(12, 34))
    assert box.read_file("/srv/data.bin") == data
    assert box.engine.files.stat(box.id, "/srv/data.bin").mode == 0o100600
    box.write_file("/srv/data.bin", b"")
    assert box.read_file("srv/data.bin") == b""
    if box.reload().status == "running":
        box.write_file("/srv/x", b"x", owner=(12, 34))
        assert box.exec("stat -c %u:%g:%a /srv/x").output == "12:34:644\n"


def test_links_are_followed_inside(box):
    assert box.read_file("/bin/cat")[:4] == b"\x7fELF"
    assert b"root" in box.read_file("/etc/passwd")


@pytest.mark.parametrize(
    ("path", "kind"), [("/nosuch", NotFound), ("/etc", InvalidArgument), ("/etc/", InvalidArgument)]
)
def test_what_is_no_file(box, path, kind):
    with pytest.raises(kind):
        box.read_file(path)


def test_a_file_has_a_name_and_a_directory(box):
    with pytest.raises(NotFound):
        box.write_file("/nosuch/file", b"")
    with pytest.raises(InvalidArgument, match="names no file"):
        box.write_file("/srv/", b"")
    with pytest.raises(InvalidArgument):
        box.write_file("/etc", b"over a directory")


def test_trees_both_ways(box, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1")
    box.copy_to(str(tmp_path / "in"), "/srv")
    box.copy_from("/srv/in", str(tmp_path / "out"))
    assert (tmp_path / "out" / "a").read_text() == "1"
