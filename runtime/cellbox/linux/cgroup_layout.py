"""Which control groups this machine has, and where we may make some.

Linux has two interfaces (cgroups(7)). *v1* mounts a hierarchy for each controller, or a few; only
root may make groups there. *v2* is one tree for all; a part of it can be delegated to a user,
which systemd does for ``user@UID.service``. Some machines mount both and give the controllers to
v1 (*hybrid*).

Our groups are children of one group named ``cellbox``: on v1 at the top of each hierarchy, on v2
in the topmost directory that we may write, counted from the one we are in. A process may be moved
only by somebody who may write to a common ancestor of both places, so a session outside of what is
delegated cannot use it; :attr:`Layout.remedy` says what can be done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "cpuset", "freezer", "blkio", "io")
"""Those that matter to us. On v2 cpuacct and freezer are part of every group."""

PARENT = "cellbox"
"""The group that holds all of ours."""

LEAF = "cellbox-host"
"""Where processes of a group go that must have none itself (v2, "no internal processes")."""

_NONE = "mount the control groups: mount -t cgroup2 none /sys/fs/cgroup"
_V1 = "run as root, or boot with systemd.unified_cgroup_hierarchy=1"
_V2 = "start the notebook with: systemd-run --user --scope -p Delegate=yes jupyter lab"


@dataclass(frozen=True)
class Mounts:
    """The hierarchies: ``v1`` maps a controller to its mount point, ``v2`` is that of the one tree,
    empty for none; ``own`` is the directory there that this process is in."""

    v1: Mapping[str, str] = field(default_factory=dict)
    v2: str = ""
    own: str = ""

    @property
    def version(self) -> int:
        """2, 1 (hybrid too: v2 without controllers serves nothing here), or 0 for none."""
        return 1 if self.v1 else 2 if self.v2 else 0


@dataclass(frozen=True)
class Layout:
    """What can be used: ``directories`` maps each usable controller to the directory of our group.

    ``version`` is 0, 1 or 2. ``remedy`` is what would let us use (more) controllers, empty where
    all is well.
    """

    version: int
    directories: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""

    @property
    def controllers(self) -> tuple[str, ...]:
        """The usable ones, in the order of :data:`CONTROLLERS`."""
        return tuple(name for name in CONTROLLERS if name in self.directories)


def read_mounts(mountinfo: str, own: str) -> Mounts:
    """From the texts of /proc/self/mountinfo and /proc/self/cgroup (proc_pid_mountinfo(5))."""
    v1: dict[str, str] = {}
    v2 = root = ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind, options = before.split(), *_kind(after)
        if len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        if kind == "cgroup2" and not v2:
            v2, root = point, fields[3]
        elif kind == "cgroup":
            for name in set(options) & set(CONTROLLERS):
                v1.setdefault(name, point)
    return Mounts(v1, v2, _own_directory(v2, root, own) if v2 else "")


def _kind(after: str) -> tuple[str, list[str]]:
    fields = after.split()
    return (fields[0], fields[2].split(",")) if len(fields) >= 3 else ("", [])


def _own_directory(point: str, root: str, own: str) -> str:
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]  # the mount shows a part of the tree only
    if path.startswith("/.."):  # we are outside of what this cgroup namespace shows
        path = "/"
    return point + path.rstrip("/")


def find() -> Layout:
    """What this process can use now. Changes nothing."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = file.read()
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = file.read()
    except OSError:  # a kernel without control groups
        own = ""
    return choose(read_mounts(mountinfo, own))


def choose(mounts: Mounts) -> Layout:
    """Where we may make groups in ``mounts``."""
    if mounts.version == 2:
        return _choose_v2(mounts)
    if mounts.version == 0:
        return Layout(0, {}, _NONE)
    usable = {
        name: f"{point}/{PARENT}"
        for name, point in mounts.v1.items()
        if _writable(f"{point}/{PARENT}") or _writable(point)
    }
    return Layout(1, usable, "" if usable else _V1)


def _choose_v2(mounts: Mounts) -> Layout:
    base = _topmost(mounts.own, mounts.v2)
    if not base:
        return Layout(2, {}, _V2)
    names = _read(f"{base}/cgroup.controllers").split()
    found = {name: f"{base}/{PARENT}" for name in CONTROLLERS if name in names}
    found["freezer"] = found["cpuacct"] = f"{base}/{PARENT}"
    missing = [name for name in ("cpu", "memory", "pids") if name not in found]
    unit = "'[Service]\\nDelegate=cpu cpuset io memory pids\\n'"
    remedy = f"printf {unit} | sudo systemctl edit --stdin user@.service" if missing else ""
    return Layout(2, found, remedy)


def _topmost(own: str, top: str) -> str:
    """The highest directory from ``own`` up to ``top`` of an unbroken row that we may write."""
    found, path = "", own
    while path.startswith(top) and path != "/":
        if not all(_writable(f"{path}{name}") for name in ("", "/cgroup.procs")):
            break
        # The root of the whole tree has no cgroup.type and needs none: processes may stay there.
        if _writable(f"{path}/cgroup.subtree_control"):
            found = path
        path = os.path.dirname(path)
    return found


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
