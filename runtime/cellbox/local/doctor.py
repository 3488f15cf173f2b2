"""What this machine can and cannot do, each with the one command that would change it.

Every check is a function of plain facts (:class:`Machine`), so that the sentences can be tested on
machines of all kinds; :func:`examine` collects the facts of this one. What can be tried is tried,
in a process of its own, rather than read off a setting (``linux.probe``).
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cellbox.errors import NotSupported
from cellbox.linux import cgroup_layout, idmap, seccomp
from cellbox.linux import probe as probes
from cellbox.linux.cgroup_layout import Layout
from cellbox.model.system import Finding
from cellbox.volumes import PROGRAMS

LEAST_BYTES = 1 << 30
LEAST_FILES = 20_000
PROBE_SECONDS = 20.0

_SYSCTLS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_TOOLS = ("pasta", "slirp4netns", "nft", *PROGRAMS)
_LIBRARIES = ("isal", "pyarrow")
# File systems on which the store cannot live, and what they lack.
_REFUSED = {
    "nfs": "its locks and owners are the server's",
    "nfs4": "its locks and owners are the server's",
    "cifs": "it has no owners and no device nodes",
    "smb3": "it has no owners and no device nodes",
    "9p": "it has no extended attributes that an overlay needs",
    "vfat": "it has no owners and no links",
    "exfat": "it has no owners and no links",
    "overlay": "an overlay cannot be written on top of an overlay",
    "squashfs": "it is read only",
}


@dataclass(frozen=True)
class Machine:
    """The facts that the findings are made of.

    ``sysctls`` maps a path below /proc/sys to its text, where there is one. ``probe`` holds the
    errno of each attempt of ``linux.probe``. ``lent`` counts the ids that /etc/subuid and
    /etc/subgid lend.
    """

    uid: int
    user: str
    probe: Mapping[str, int]
    cgroups: Layout
    sysctls: Mapping[str, str] = field(default_factory=dict)
    lent: int = 0
    helpers: bool = False
    seccomp: str = ""
    tools: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    filesystem: str = ""
    free_bytes: int = 0
    free_files: int = 0
    writable: bool = True


def findings(root: Path) -> list[Finding]:
    """All findings for a store at ``root``, which need not exist yet."""
    return report(examine(root), root)


def report(machine: Machine, root: Path) -> list[Finding]:
    """What ``machine`` can and cannot do for a store at ``root``; pure."""
    return [
        _user_namespaces(machine),
        _overlay(machine, root),
        _proc(machine),
        _id_mapping(machine),
        _ids(machine),
        *_control_groups(machine),
        _seccomp(machine),
        *_network(machine),
        _volumes(machine),
        _store(machine, root),
        _space(machine, root),
        *_libraries(machine),
    ]


# Facts ----------------------------------------------------------------------------------------


def examine(root: Path) -> Machine:
    """The facts of this machine, for a store at ``root``."""
    uid = os.geteuid()
    near = _nearest(root)
    room = os.statvfs(near)
    lent = [
        sum(count for _, count in idmap.subordinate(uid, file))
        for file in ("/etc/subuid", "/etc/subgid")
    ]
    return Machine(
        uid=uid,
        user=_user_name(uid),
        probe=_probe(near),
        cgroups=cgroup_layout.find(),
        sysctls={name: text for name in _SYSCTLS if (text := _sysctl(name))},
        lent=min(lent),
        helpers=idmap.helpers() is not None,
        seccomp=_seccomp_version(),
        tools=frozenset(name for name in _TOOLS if shutil.which(name, path=_search_path())),
        libraries=frozenset(name for name in _LIBRARIES if importlib.util.find_spec(name)),
        filesystem=filesystem_of(near, Path("/proc/self/mountinfo").read_text(errors="replace")),
        free_bytes=room.f_bavail * room.f_frsize,
        free_files=room.f_favail if room.f_files else LEAST_FILES,
        writable=os.access(near, os.W_OK | os.X_OK),
    )


def _nearest(path: Path) -> Path:
    """``path``, or the directory above that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.is_dir())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _seccomp_version() -> str:
    try:
        return ".".join(str(number) for number in seccomp.version())
    except NotSupported:
        return ""


def _probe(near: Path) -> dict[str, int]:
    """Try what ``linux.probe`` tries, in a directory of ``near`` that is gone afterwards (or
    elsewhere, where nothing can be written there)."""
    place = near if os.access(near, os.W_OK | os.X_OK) else None
    source = str(Path(probes.__file__).parents[2])
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from cellbox.linux.probe import main; main(sys.argv[2])"
    )
    failed = dict.fromkeys(probes.NAMES, errno.EIO)
    try:
        with tempfile.TemporaryDirectory(prefix="cellbox-probe-", dir=place) as directory:
            words = [sys.executable, "-I", "-S", "-c", program, source, directory]
            done = subprocess.run(words, capture_output=True, timeout=PROBE_SECONDS, check=True)
            return {**failed, **json.loads(done.stdout)}
    except OSError as error:
        return dict.fromkeys(probes.NAMES, error.errno or errno.EIO)
    except (subprocess.SubprocessError, ValueError):
        return failed


def filesystem_of(path: Path, mountinfo: str) -> str:
    """The type of the file system that ``path`` is on (proc_pid_mountinfo(5)); pure."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, words = before.split(), after.split()
        if len(fields) < 5 or not words:
            continue
        point = Path(fields[4].replace("\\040", " "))
        depth = len(point.parts)
        if (point == path or point in path.parents) and depth >= best:
            best, kind = depth, words[0]
    return kind


# Findings -------------------------------------------------------------------------------------


def _says(number: int) -> str:
    return os.strerror(number)


def _user_namespaces(machine: Machine) -> Finding:
    number = machine.probe["userns"]
    if number == 0:
        return Finding("user namespaces", True, "a container can have ids of its own")
    sysctls = machine.sysctls
    if sysctls.get("user/max_user_namespaces") == "0":
        remedy = "sudo sysctl -w user.max_user_namespaces=15000"
    elif sysctls.get("kernel/unprivileged_userns_clone") == "0":
        remedy = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    elif sysctls.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedy = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    else:
        remedy = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    detail = f"this user may not make one: {_says(number)}; no container can start"
    return Finding("user namespaces", False, detail, remedy)


def _overlay(machine: Machine, root: Path) -> Finding:
    number = machine.probe["overlay"]
    if number == 0:
        return Finding("overlayfs", True, "layers are stacked by the kernel, nothing is copied")
    detail = f"it cannot be mounted on {root}: {_says(number)}; layers are copied instead"
    if number == errno.ENODEV:
        return Finding("overlayfs", False, detail, "sudo modprobe overlay")
    if machine.probe["userns"]:
        return Finding("overlayfs", False, detail, _user_namespaces(machine).remedy)
    return Finding("overlayfs", False, detail, _move_store())


def _proc(machine: Machine) -> Finding:
    number = machine.probe["proc"]
    if number == 0:
        return Finding("process view", True, "a container sees its own processes only")
    detail = f"a new /proc cannot be mounted: {_says(number)}; an outer container masks its own"
    if machine.probe["userns"]:
        return Finding("process view", False, detail, _user_namespaces(machine).remedy)
    return Finding(
        "process view", False, detail, "docker run --security-opt systempaths=unconfined"
    )


def _id_mapping(machine: Machine) -> Finding:
    if machine.uid != 0:
        return Finding("ID-mapped mounts", True, "not needed: files belong to this user's own ids")
    number = machine.probe["idmap"]
    if number == 0:
        return Finding("ID-mapped mounts", True, "containers share layers and no ids")
    detail = f"{machine.filesystem or 'the file system'} cannot have them: {_says(number)}"
    return Finding("ID-mapped mounts", False, detail, _move_store())


def _ids(machine: Machine) -> Finding:
    if machine.uid == 0:
        return Finding("subordinate ids", True, "not needed: root has all of them")
    if not machine.helpers:
        detail = "newuidmap and newgidmap are missing; every file in a container has one owner"
        return Finding("subordinate ids", False, detail, "sudo apt-get install uidmap")
    if machine.lent < idmap.RANGE:
        detail = f"{machine.lent} are lent to {machine.user}; images need {idmap.RANGE}"
        ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        return Finding("subordinate ids", False, detail, f"sudo usermod {ranges} {machine.user}")
    return Finding("subordinate ids", True, f"{machine.lent} are lent to {machine.user}")


def _control_groups(machine: Machine) -> Iterator[Finding]:
    found = machine.cgroups
    usable = ", ".join(found.controllers)
    version = f"version {found.version}" if found.version else "none are mounted"
    if not usable:
        detail = f"{version}, none that this user may write: no limits, no figures, no pause"
        yield Finding("control groups", False, detail, found.remedy)
        return
    yield Finding("control groups", True, f"{version}: {usable}")
    missing = [name for name in ("memory", "cpu", "pids") if name not in found.controllers]
    if missing:
        detail = f"{' and '.join(missing)} cannot be limited"
        yield Finding("delegation", False, detail, found.remedy)


def _seccomp(machine: Machine) -> Finding:
    if machine.seccomp:
        return Finding("seccomp", True, f"libseccomp {machine.seccomp} makes the filters")
    detail = "libseccomp is missing: containers start only with --security-opt seccomp=unconfined"
    return Finding("seccomp", False, detail, "sudo apt-get install libseccomp2")


def _network(machine: Machine) -> Iterator[Finding]:
    if machine.uid != 0:
        helper = next((name for name in ("pasta", "slirp4netns") if name in machine.tools), "")
        if helper:
            yield Finding("network", True, f"{helper} is there, for networks of containers")
        else:
            detail = "neither pasta nor slirp4netns is there, for networks of containers"
            yield Finding("network", False, detail, "sudo apt-get install passt")
    elif "nft" in machine.tools:
        yield Finding("network", True, "nftables is there, for networks of containers")
    else:
        detail = "nft is missing, for networks of containers"
        yield Finding("network", False, detail, "apt-get install nftables")


def _volumes(machine: Machine) -> Finding:
    if machine.uid != 0:
        return Finding("volumes", True, "directories, and tmpfs; only root can limit their size")
    missing = [name for name in PROGRAMS if name not in machine.tools]
    if missing:
        detail = f"{' and '.join(missing)} cannot be found: no volume can have a size"
        return Finding("volumes", False, detail, "apt-get install e2fsprogs mount")
    return Finding("volumes", True, "directories, and whatever the kernel can mount")


def _store(machine: Machine, root: Path) -> Finding:
    why = _REFUSED.get(machine.filesystem, "")
    if machine.filesystem.startswith("fuse") and machine.probe["overlay"]:
        why = "the program behind it does not offer what an overlay needs"
    if why:
        return Finding("store", False, f"{root} is on {machine.filesystem}: {why}", _move_store())
    if not machine.writable:
        return Finding("store", False, f"{machine.user} may not write to {root}", _move_store())
    return Finding("store", True, f"{root} is on {machine.filesystem or 'an unknown file system'}")


def _move_store() -> str:
    return "export CELLBOX_ROOT=/a/directory/on/a/local/disk"


def _space(machine: Machine, root: Path) -> Finding:
    free = f"{machine.free_bytes / (1 << 30):.1f} GiB and {machine.free_files} files are free"
    enough = machine.free_bytes >= LEAST_BYTES and machine.free_files >= LEAST_FILES
    detail = free if enough else f"only {free} for {root}"
    return Finding("space", enough, detail, "" if enough else "cellbox system prune")


def _libraries(machine: Machine) -> Iterator[Finding]:
    uses = {
        "isal": ("fast gzip", "isal unpacks layers", "layers unpack at half the speed", "fast"),
        "pyarrow": ("tables", "pyarrow passes tables", "tables do not pass to cells", "tables"),
    }
    for name, (subject, good, bad, extra) in uses.items():
        if name in machine.libraries:
            yield Finding(subject, True, good)
        else:
            remedy = f"pip install 'cellbox[{extra}]'"
            yield Finding(subject, False, f"{name} is missing: {bad}", remedy)
