"""The findings for machines of all kinds, and for this one."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cellbox.linux.cgroup_layout import Layout
from cellbox.local import doctor
from cellbox.local.doctor import Machine
from cellbox.model.system import Finding
from cellbox.volumes import PROGRAMS

ROOT = Path("/var/lib/cellbox")
FINE = {"userns": 0, "overlay": 0, "proc": 0, "idmap": 0}
ALL = {name: f"/c/{name}/cellbox" for name in ("memory", "cpu", "cpuacct", "pids", "freezer")}
GOOD = Machine(
    uid=0,
    user="root",
    probe=FINE,
    cgroups=Layout(2, ALL),
    seccomp="2.5.4",
    tools=frozenset({"pasta", "nft", *PROGRAMS}),
    libraries=frozenset({"isal", "pyarrow"}),
    filesystem="ext4",
    free_bytes=100 << 30,
    free_files=10**6,
)
USER = replace(GOOD, uid=1000, user="ada", lent=65536, helpers=True)


def find(machine: Machine, subject: str) -> Finding:
    (found,) = (one for one in doctor.report(machine, ROOT) if one.subject == subject)
    return found


@pytest.mark.parametrize("machine", [GOOD, USER])
def test_a_machine_on_which_all_is_well(machine: Machine) -> None:
    found = doctor.report(machine, ROOT)
    assert [one.subject for one in found if not one.ok] == []
    assert [one.remedy for one in found if one.remedy] == []
    assert len({one.subject for one in found}) == len(found)


def refuse(**numbers: int) -> Mapping[str, int]:
    return {**FINE, **numbers}


NO_NAMESPACES = dict.fromkeys(FINE, errno.EPERM)


@pytest.mark.parametrize(
    ("machine", "subject", "detail", "remedy"),
    [
        (
            replace(USER, probe=NO_NAMESPACES, sysctls={"user/max_user_namespaces": "0"}),
            "user namespaces",
            "no container can start",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
        (
            replace(USER, probe=NO_NAMESPACES, sysctls={"kernel/unprivileged_userns_clone": "0"}),
            "user namespaces",
            "Operation not permitted",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            replace(
                USER,
                probe=NO_NAMESPACES,
                sysctls={"kernel/apparmor_restrict_unprivileged_userns": "1"},
            ),
            "overlayfs",
            "layers are copied",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            replace(USER, probe=NO_NAMESPACES),
            "process view",
            "masks its own",
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        ),
        (
            replace(GOOD, probe=refuse(overlay=errno.ENODEV)),
            "overlayfs",
            "No such device",
            "sudo modprobe overlay",
        ),
        (
            replace(GOOD, probe=refuse(overlay=errno.EINVAL)),
            "overlayfs",
            "/var/lib/cellbox",
            "export CELLBOX_ROOT=",
        ),
        (
            replace(GOOD, probe=refuse(proc=errno.EPERM)),
            "process view",
            "outer container",
            "systempaths=unconfined",
        ),
        (
            replace(GOOD, probe=refuse(idmap=errno.EINVAL), filesystem="zfs"),
            "ID-mapped mounts",
            "zfs cannot have them: Invalid argument",
            "export CELLBOX_ROOT=",
        ),
        (
            replace(USER, helpers=False),
            "subordinate ids",
            "newuidmap and newgidmap are missing",
            "sudo apt-get install uidmap",
        ),
        (
            replace(USER, lent=0),
            "subordinate ids",
            "0 are lent to ada; images need 65536",
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
        ),
        (
            replace(USER, cgroups=Layout(1, {}, "run as root")),
            "control groups",
            "version 1, none that this user may write",
            "run as root",
        ),
        (
            replace(USER, cgroups=Layout(0, {}, "mount them")),
            "control groups",
            "none are mounted",
            "mount them",
        ),
        (
            replace(USER, cgroups=Layout(2, {"memory": "/c"}, "Delegate=cpu")),
            "delegation",
            "cpu and pids cannot be limited",
            "Delegate=cpu",
        ),
        (
            replace(GOOD, seccomp=""),
            "seccomp",
            "libseccomp is missing",
            "sudo apt-get install libseccomp2",
        ),
        (
            replace(USER, tools=frozenset({"nft"})),
            "network",
            "neither pasta nor slirp4netns",
            "sudo apt-get install passt",
        ),
        (
            replace(GOOD, tools=frozenset(PROGRAMS)),
            "network",
            "nft is missing",
            "apt-get install nftables",
        ),
        (
            replace(GOOD, tools=frozenset({"nft", "mount"})),
            "volumes",
            "losetup and mkfs.ext4 cannot be found",
            "apt-get install e2fsprogs",
        ),
        (
            replace(GOOD, filesystem="overlay"),
            "store",
            "on top of an overlay",
            "export CELLBOX_ROOT=",
        ),
        (replace(GOOD, filesystem="nfs4"), "store", "locks", "export CELLBOX_ROOT="),
        (
            replace(GOOD, filesystem="fuse.sshfs", probe=refuse(overlay=errno.EINVAL)),
            "store",
            "fuse.sshfs",
            "export CELLBOX_ROOT=",
        ),
        (replace(USER, writable=False), "store", "ada may not write", "export CELLBOX_ROOT="),
        (replace(GOOD, free_bytes=1 << 20), "space", "only 0.0 GiB", "cellbox system prune"),
        (replace(GOOD, free_files=5), "space", "and 5 files", "cellbox system prune"),
        (
            replace(GOOD, libraries=frozenset({"pyarrow"})),
            "fast gzip",
            "isal is missing",
            "pip install 'cellbox[fast]'",
        ),
        (
            replace(GOOD, libraries=frozenset({"isal"})),
            "tables",
            "pyarrow is missing",
            "pip install 'cellbox[tables]'",
        ),
    ],
)
def test_what_is_wrong_and_what_would_change_it(
    machine: Machine, subject: str, detail: str, remedy: str
) -> None:
    found = find(machine, subject)
    assert not found.ok
    assert detail in found.detail
    assert remedy in found.remedy


def test_an_ordinary_user_needs_no_mapped_mounts() -> None:
    found = find(replace(USER, probe=refuse(idmap=errno.EPERM)), "ID-mapped mounts")
    assert found.ok and "not needed" in found.detail


def test_a_fuse_file_system_that_can_hold_an_overlay_will_do() -> None:
    assert find(replace(GOOD, filesystem="fuse.ext4"), "store").ok


MOUNTINFO = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:5 / /home rw shared:1 - nfs4 server:/home rw
31 30 0:6 / /home/ada/my\\040disk rw - xfs /dev/vdb rw
32 27 0:7 / /over rw - ext4 /dev/vdc rw
33 27 0:8 / /over rw - tmpfs tmpfs rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/home", "nfs4"),
        ("/homer", "ext4"),
        ("/home/ada/my disk/x", "xfs"),
        ("/over/x", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert doctor.filesystem_of(Path(path), MOUNTINFO) == kind


def test_this_machine_is_examined_and_left_as_it_was(tmp_path: Path) -> None:
    store = tmp_path / "not" / "there"
    machine = doctor.examine(store)
    assert set(machine.probe) == set(FINE)
    assert machine.filesystem
    assert machine.free_bytes > 0
    assert not list(tmp_path.iterdir())
    assert len(doctor.findings(store)) >= 12


def test_a_probe_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "executable", "/bin/false")
    assert set(doctor._probe(tmp_path).values()) == {errno.EIO}
    monkeypatch.setattr(doctor.sys, "executable", "/not/there")
    assert set(doctor._probe(tmp_path).values()) == {errno.ENOENT}
    assert not list(tmp_path.iterdir())
