"""The driver of local volumes: its options, its directories, what it mounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cellbox import volumes
from cellbox.errors import EngineError, InvalidArgument, NotFound, NotSupported
from cellbox.linux import syscalls
from cellbox.linux.trees import remove_tree
from cellbox.volumes import LocalDriver, Options

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}


# Options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, Options()),
        (TMPFS, Options("tmpfs", "tmpfs", ("size=1m", "mode=700"))),
        (
            {"type": "none", "device": "/x", "o": "bind"},
            Options("none", "/x", ("bind",)),
        ),
        ({"size": "10m"}, Options(size=10 << 20)),
        ({"size": "1.5GiB"}, Options(size=3 << 29)),
        ({"size": "2097152"}, Options(size=2 << 20)),
    ],
)
def test_options_are_read(asked, found):
    assert volumes.options(asked) == found


def test_options_say_what_is_to_be_done():
    assert not Options().mounted and not Options().bound
    assert Options("none", "/x", ("rbind",)).bound and not Options("none", "/x", ("bind",)).mounted
    assert Options("nfs", ":/x", ("addr=a",)).mounted and Options(size=1).mounted


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"odd": "1"}, 'invalid option: "odd"'),
        ({"type": "nfs"}, 'missing required option: "device"'),
        ({"device": "x"}, 'missing required option: "type"'),
        ({"o": "ro"}, 'missing required option: "type"'),
        ({"type": "none", "device": "x", "o": "bind"}, "absolute"),
        ({"size": "5k"}, "invalid size: '5k'"),
        ({"size": "-1m"}, "invalid size"),
        ({**TMPFS, "size": "5m"}, "size does not belong"),
        ({**TMPFS, "o": "a\0b"}, "NUL"),
    ],
)
def test_what_is_no_option_is_refused(asked, reason):
    with pytest.raises(InvalidArgument, match=reason):
        volumes.options(asked)


# Directories ------------------------------------------------------------------------------------


class Known(dict[str, Mapping[str, str]]):
    """Options by name; who is not there has none."""

    def __missing__(self, name: str) -> Mapping[str, str]:
        return {}


@pytest.fixture
def asked():
    return Known()


@pytest.fixture
def driver(tmp_path, asked):
    """A driver that does its jobs in this process."""
    jobs: dict[str, Any] = {
        "remove": lambda args: remove_tree(args["path"]),
        "volume-mount": lambda args: volumes.attach(**args),
        "volume-unmount": lambda args: volumes.detach(args["directory"]),
    }

    def work(job, args, fds):
        jobs[job](args)
        return {}

    return LocalDriver(tmp_path / "volumes", work, asked.__getitem__)


def test_a_volume_is_a_directory(driver, tmp_path):
    assert driver.names() == []
    driver.create("data", {})
    path = Path(driver.mount("data", "c"))
    assert path == tmp_path / "volumes/data/_data" == Path(driver.path("data"))
    assert path.stat().st_mode & 0o777 == 0o755
    assert path.parent.stat().st_mode & 0o777 == 0o700
    (path / "f").touch()
    driver.unmount("data", "c")
    assert driver.names() == ["data"] and (path / "f").exists()
    driver.remove("data")
    assert driver.names() == []
    with pytest.raises(NotFound):
        driver.remove("data")


def test_what_lies_at_a_new_ones_place_is_not_in_it(driver, tmp_path):
    (tmp_path / "volumes/data/_data").mkdir(parents=True)
    (tmp_path / "volumes/data/_data/old").touch()
    driver.create("data", {})
    assert os.listdir(driver.path("data")) == []
    assert len(os.listdir(tmp_path / "trash")) == 1


def test_a_lost_directory_is_made_again(driver):
    driver.create("data", {})
    os.rmdir(driver.path("data"))
    assert os.path.isdir(driver.mount("data", "c"))


def test_a_bound_one_is_the_directory_itself(driver, asked, tmp_path):
    asked["data"] = {"type": "none", "device": str(tmp_path / "d"), "o": "bind"}
    driver.create("data", asked["data"])
    with pytest.raises(EngineError, match=f"{tmp_path}/d is no directory"):
        driver.mount("data", "c")
    (tmp_path / "d").mkdir()
    assert driver.mount("data", "c") == str(tmp_path / "d") == driver.source("data")
    driver.remove("data")
    assert (tmp_path / "d").is_dir()


def test_a_size_takes_root_and_programs(driver, monkeypatch):
    monkeypatch.setattr(volumes, "_PATH", "/nowhere")
    with pytest.raises(NotSupported, match="mkfs.ext4|only root"):
        driver.create("data", {"size": "10m"})
    assert driver.names() == []


# Mounts -----------------------------------------------------------------------------------------


@pytest.fixture
def private():
    """Mounts of this process that end with the test."""
    if os.geteuid():
        pytest.skip("needs root, to mount")
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.getcwd()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    yield
    syscalls.setns(before, syscalls.CLONE_NEWNS)
    os.close(before)
    os.chdir(here)


def test_a_tmpfs_is_there_from_mount_to_unmount(private, driver, asked):
    asked["data"] = TMPFS
    driver.create("data", TMPFS)
    path = Path(driver.mount("data", "c"))
    assert os.path.ismount(path) and path.stat().st_mode & 0o777 == 0o700
    (path / "f").touch()
    driver.mount("data", "d")
    assert (path / "f").exists()  # nothing was mounted over it
    driver.unmount("data", "c")
    assert not os.path.ismount(path) and os.listdir(path) == []
    driver.unmount("data", "c")
    driver.mount("data", "c")
    driver.remove("data")
    assert not path.parent.exists()


def test_one_with_a_size_is_full_at_some_time_and_keeps_what_it_has(private, driver, asked):
    asked["data"] = {"size": "4m"}
    try:
        driver.create("data", asked["data"])
        path = Path(driver.mount("data", "c"))
    except (NotSupported, EngineError) as error:
        pytest.skip(f"needs loop devices and mkfs.ext4: {error}")
    assert os.listdir(path) == []
    (path / "kept").write_text("kept")
    with pytest.raises(OSError, match="No space left"), (path / "big").open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    driver.unmount("data", "c")
    assert os.listdir(path) == []
    driver.mount("data", "c")
    assert (path / "kept").read_text() == "kept"
    driver.remove("data")
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    assert str(path.parent) not in loops


@pytest.mark.parametrize(
    "options", [{**TMPFS, "o": "odd=1"}, {"type": "oddfs", "device": "x"}, {**TMPFS, "o": "--help"}]
)
def test_what_cannot_be_mounted_is_one_sentence(private, driver, asked, options):
    asked["data"] = options
    driver.create("data", options)
    with pytest.raises(EngineError, match="^failed to mount local volume: [^\n]+$"):
        driver.mount("data", "c")
    assert not os.path.ismount(driver.path("data"))
    driver.remove("data")
