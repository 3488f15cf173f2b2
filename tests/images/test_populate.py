"""Filling a volume, to its end or not."""

from __future__ import annotations

import os
import stat

import pytest

from cellbox.images import populate

_OPEN = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def place(tmp_path):
    """A root with something in /data, and an empty volume: the paths of both."""
    root, volume = tmp_path / "root", tmp_path / "volume"
    (root / "data" / "sub").mkdir(parents=True)
    (volume / "_data").mkdir(parents=True)
    (root / "data" / "file").write_text("text")
    (root / "data" / "file").chmod(0o640)
    os.link(root / "data" / "file", root / "data" / "sub" / "hard")
    os.symlink("/data/file", root / "data" / "link")
    os.setxattr(root / "data" / "file", "user.mine", b"1")
    os.utime(root / "data" / "file", (1, 1_000_000_000))
    (root / "data").chmod(0o1750)
    return root, volume


def fill(place, path: bytes = b"/data") -> bool:
    root, volume = (os.open(one, _OPEN) for one in place)
    data = os.open("_data", _OPEN, dir_fd=volume)
    try:
        return populate.fill(root, path, volume, data)
    finally:
        for fd in (root, volume, data):
            os.close(fd)


def test_everything_comes_along(place):
    assert fill(place)
    data = place[1] / "_data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o1750
    assert sorted(os.listdir(data)) == ["file", "link", "sub"]
    facts = (data / "file").stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_mtime) == (0o640, 1_000_000_000)
    assert os.path.samestat(facts, (data / "sub/hard").stat())
    assert os.readlink(data / "link") == "/data/file"
    assert os.getxattr(data / "file", "user.mine") == b"1"
    assert os.listdir(place[1]) == ["_data"]


@pytest.mark.parametrize("size", [0, 512, 1024])
def test_a_file_of_whole_blocks_is_not_the_last(place, size):
    (place[0] / "data" / "a").write_bytes(bytes(size))
    assert fill(place)
    assert sorted(os.listdir(place[1] / "_data")) == ["a", "file", "link", "sub"]


def test_what_has_something_is_left_alone(place):
    (place[1] / "_data" / "mine").touch()
    assert not fill(place)
    assert os.listdir(place[1] / "_data") == ["mine"]


@pytest.mark.parametrize("path", [b"/none", b"/data/file", b"/none/deeper"])
def test_where_the_image_has_no_directory_nothing_is_done(place, path):
    assert not fill(place, path)
    assert os.listdir(place[1] / "_data") == []


def test_a_link_of_the_image_ends_in_the_image(place, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s").touch()
    os.symlink(tmp_path / "secret", place[0] / "out")
    os.symlink("../../../data", place[0] / "in")
    assert not fill(place, b"/out")
    assert fill(place, b"/in") and (place[1] / "_data" / "file").exists()


def test_an_empty_directory_gives_mode_and_owner(place):
    (place[0] / "empty").mkdir()
    (place[0] / "empty").chmod(0o2711)
    assert fill(place, b"/empty")
    assert stat.S_IMODE((place[1] / "_data").stat().st_mode) == 0o2711


def test_half_a_copy_is_thrown_away(place):
    half = place[1] / os.fsdecode(populate.FILLING)
    half.mkdir()
    (half / "torn").touch()
    assert fill(place)
    assert sorted(os.listdir(place[1] / "_data")) == ["file", "link", "sub"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moves", [1, 2, 3, 4])
def test_a_copy_that_was_on_its_way_arrives(place, moves, monkeypatch):
    rename, left = os.rename, [moves]

    def until_killed(*names, **where):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        rename(*names, **where)

    monkeypatch.setattr(os, "rename", until_killed)
    with pytest.raises(Killed):
        fill(place)
        left[0] = -1
        raise Killed
    monkeypatch.undo()
    (place[1] / "_data" / "of-a-container").touch()
    assert not fill(place)  # it was only brought to its end
    data = place[1] / "_data"
    assert sorted(os.listdir(data)) == ["file", "link", "of-a-container", "sub"]
    assert stat.S_IMODE(data.stat().st_mode) == 0o1750
    assert os.listdir(place[1]) == ["_data"]


def test_a_name_that_a_container_took_meanwhile_is_its_own(place):
    ready = place[1] / os.fsdecode(populate.FILLED)
    ready.mkdir()
    for name in ("file", "other"):
        (ready / name).write_text("the image's")
    (place[1] / "_data" / "file").write_text("mine")
    assert not fill(place)
    found = {one.name: one.read_text() for one in (place[1] / "_data").iterdir()}
    assert found == {"file": "mine", "other": "the image's"}
