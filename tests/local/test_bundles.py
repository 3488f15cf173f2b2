"""What of a bundle depends on the machine: devices, directories to bind, mounts for who looks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument
from cellbox.linux.mounts import Mount
from cellbox.local import bundles
from cellbox.model.container import DeviceSpec, MountKind, MountSpec, RunSpec
from cellbox.model.image import Image, ImageConfig, Platform

OVERLAY = Mount("overlay", "/", lowers=("/l",), upper="/u", work="/w", data="x", idmap=True)


def test_whoever_looks_is_not_acted_on():
    found = bundles.harmless(OVERLAY)
    assert (set(found.flags), found.data, found.upper) == ({"nosuid", "nodev"}, "", "/u")
    assert found.lowers == OVERLAY.lowers and found.idmap


def test_an_export_reads_changes_as_one_more_layer():
    found = bundles.read_only_view(OVERLAY)
    assert (found.lowers, found.upper, found.work) == (("/u", "/l"), "", "")
    assert set(found.flags) == {"nosuid", "nodev"}
    assert bundles.read_only_view(Mount("bind", "/", source="/s")).source == "/s"


# Binds ------------------------------------------------------------------------------------------


def bound(source: object, make: bool = False) -> RunSpec:
    mount = MountSpec(MountKind.BIND, "/b", str(source), make_source=make)
    return RunSpec("x", mounts=(mount,))


def test_what_is_to_be_bound_is_there_or_is_made(tmp_path):
    absent = tmp_path / "a" / "b"
    with pytest.raises(InvalidArgument, match=f"bind source path does not exist: {absent}"):
        bundles.check_binds(bound(absent))
    bundles.make_binds(bound(absent))
    assert not absent.exists()
    bundles.check_binds(bound(absent, make=True))
    bundles.make_binds(bound(absent, make=True))
    assert stat.S_IMODE(absent.stat().st_mode) & 0o700 == 0o700
    (tmp_path / "file").touch()
    bundles.make_binds(bound(tmp_path / "file", make=True))
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize(
    ("spec", "volumes", "wanted"),
    [
        (RunSpec("x"), (), False),
        (RunSpec("x", mounts=(MountSpec(MountKind.TMPFS, "/t"),)), (), False),
        (RunSpec("x", mounts=(MountSpec(MountKind.VOLUME, "/t"),)), (), True),
        (RunSpec("x", volumes_from=("y",)), (), True),
        (RunSpec("x"), ("/v",), True),
    ],
)
def test_who_wants_volumes(spec, volumes, wanted):
    image = Image("i", (), (), (), ImageConfig(volumes=volumes), Platform(), 0)
    assert bundles.wants_volumes(spec, image) is wanted


# Devices ----------------------------------------------------------------------------------------


def test_a_directory_stands_for_the_nodes_below_it(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, to make device nodes")
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("d/full", "d/e/zero"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    (tmp_path / "d" / "file").touch()
    os.symlink("full", tmp_path / "d" / "link")
    spec = RunSpec("x", devices=(DeviceSpec(str(tmp_path / "d"), "/dev/d", "r"),))
    assert list(bundles._found_devices(spec)) == [
        DeviceSpec(str(tmp_path / "d/e/zero"), "/dev/d/e/zero", "r"),
        DeviceSpec(str(tmp_path / "d/full"), "/dev/d/full", "r"),
    ]


@pytest.mark.parametrize(
    ("path", "reason"), [("/none", "no such file"), ("/etc/passwd", "not a device node")]
)
def test_what_is_no_device_is_refused(path, reason):
    with pytest.raises(InvalidArgument, match=f'custom device "{path}": {reason}'):
        list(bundles._found_devices(RunSpec("x", devices=(DeviceSpec(path, path),))))


def test_nodes_have_the_owner_of_the_hosts_or_nobody(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, to make device nodes")
    devices = (DeviceSpec("/dev/full", "/a"), DeviceSpec("/dev/full", "/b", "w"))
    bundles._make_nodes(Path(tmp_path / "n"), RunSpec("x", devices=devices))
    bundles._make_nodes(Path(tmp_path / "n"), RunSpec("x", devices=devices))
    facts = [os.stat(tmp_path / "n" / name) for name in ("0", "1")]
    assert [one.st_rdev for one in facts] == [os.stat("/dev/full").st_rdev] * 2
    modes = [stat.S_IMODE(one.st_mode) for one in facts]
    assert modes == [stat.S_IMODE(os.stat("/dev/full").st_mode), 0o2]
