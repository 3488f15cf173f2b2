"""Walking and adding up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellbox.images import trees


@pytest.fixture
def folder(tmp_path: Path):
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/f").write_bytes(b"12345")
    os.link(tmp_path / "d/f", tmp_path / "hard")
    (tmp_path / "link").symlink_to("/etc")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield tmp_path, fd
    os.close(fd)


def test_walk_in_order_and_through_no_link(folder):
    _, fd = folder
    assert [path for path, _ in trees.walk(fd)] == [b"d", b"d/e", b"d/f", b"hard", b"link"]
    assert [path for path, _ in trees.walk(fd, b"d")] == [b"d/e", b"d/f"]
    with pytest.raises(OSError):
        list(trees.walk(fd, b"link"))


def test_usage_counts_an_inode_once(folder):
    _, fd = folder
    total = trees.usage(fd)
    assert (total.entries, total.size) == (5, 5 + 4)


def test_the_check_tells_every_change(folder):
    path, fd = folder
    seen = {trees.usage(fd).check}

    def changed() -> bool:
        check = trees.usage(fd).check
        new = check not in seen
        seen.add(check)
        return new

    assert not changed()
    (path / "d/f").write_bytes(b"1234")
    assert changed()
    (path / "d/f").chmod(0o700)
    assert changed()
    os.utime(path / "hard", (1, 1))
    assert changed()
    (path / "link").unlink()
    assert changed()
    (path / "d/e").rmdir()
    assert changed()


def test_one_device(folder):
    _, fd = folder
    here = os.fstat(fd).st_dev
    root = os.open("/", os.O_RDONLY)
    try:
        if os.stat("/proc").st_dev == os.fstat(root).st_dev:
            pytest.skip("/proc is not a file system of its own here")
        first = [path for path, _ in trees.walk(root, b"proc/self/net", one_device=True)][:1]
        assert first
    except OSError:
        pass  # a link on the way, which walk does not follow
    finally:
        os.close(root)
    assert all(facts.st_dev == here for _, facts in trees.walk(fd, one_device=True))
