"""Control groups: what a container may use, what it has used, and holding all of it at once.

:func:`create` makes the :class:`Group` of a container, with limits; the shim puts each process in
before it runs anything. A group serves five things: limits, statistics, knowing that the kernel
killed for want of memory, pausing, and killing whatever is left.

Only what is needed is touched, since every directory costs 0.1 ms of a container's life on v1, and
every process put into one again 0.1 ms: memory, cpuacct and pids always (figures and the
out-of-memory count), cpu and cpuset when they are limited, freezer when the container is paused
for the first time. Where no group can be made, a container without limits runs without one.

Kernel's documentation: admin-guide/cgroup-v1/ and admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from cellbox.errors import NotSupported
from cellbox.linux import cgroup_files
from cellbox.linux.cgroup_files import fields, text, write
from cellbox.linux.cgroup_layout import CONTROLLERS, LEAF, Layout, find
from cellbox.linux.mounts import Mount
from cellbox.model.container import Limits, Stats

_ALWAYS = ("memory", "cpuacct", "pids")
_NEEDED_BY = {
    "memory": "memory",
    "memory_swap": "memory",
    "memory_reservation": "memory",
    "cpus": "cpu",
    "cpu_shares": "cpu",
    "cpuset": "cpuset",
    "pids": "pids",
}
_PATIENCE = 5.0
_known: Layout | None = None


def layout() -> Layout:
    """What this machine lets us use; looked up once in a process and its later children."""
    global _known
    if _known is None:
        _known = find()
    return _known


def create(name: str, limits: Limits) -> Group | None:
    """Make the group ``name`` with ``limits``; None where there is none and none is needed.

    Raises NotSupported with a way out for a limit that cannot be kept here, OSError for what the
    kernel refuses, with nothing left behind. A group that is there already is taken over.
    """
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a group")
    where = layout()
    wanted = _wanted(limits)
    _refuse_missing(where, wanted)
    used = [item for item in dict.fromkeys((*_ALWAYS, *wanted)) if item in where.directories]
    if not used:
        return None
    group = Group(name, where)
    try:
        group.use(used)
        group.set(limits)
    except BaseException:
        group.remove()
        raise
    return group


def refuse_missing(limits: Limits) -> None:
    """Raises NotSupported, with a way out, for a limit that cannot be kept here."""
    _refuse_missing(layout(), _wanted(limits))


def _wanted(limits: Limits) -> list[str]:
    return [controller for name, controller in _NEEDED_BY.items() if getattr(limits, name)]


def _refuse_missing(where: Layout, wanted: Iterable[str]) -> None:
    missing = sorted({name for name in wanted if name not in where.directories})
    if missing:
        raise NotSupported(
            f"this user may not limit {' and '.join(missing)} on this machine "
            f"(cgroup v{where.version}): {where.remedy or 'its kernel lacks the controller'}"
        )


def existing(name: str) -> Group | None:
    """The group ``name`` that an earlier process made, None where there is none."""
    where = layout()
    group = Group(name, where)
    return group if group.directories else None


def discard(name: str) -> None:
    """Kill whatever runs in the group ``name`` and take it away; nothing where there is none.
    Raises OSError (ETIMEDOUT, EBUSY) when a process in it does not go."""
    group = existing(name)
    if group:
        group.kill()
        group.remove()


def leftovers() -> list[str]:
    """The names of all groups of ours on this machine, whoever made them."""
    names: set[str] = set()
    for parent in set(layout().directories.values()):
        try:
            names |= {entry.name for entry in os.scandir(parent) if entry.is_dir()}
        except OSError:
            continue
    return sorted(names)


def freeze(group: Group | None, frozen: bool) -> None:
    """Stop or continue every process of a container. Raises NotSupported where there is no group to
    do it with, OSError (ETIMEDOUT) when one does not stop."""
    if group is None or not group.can_freeze:
        raise NotSupported(f"pausing needs a control group: {layout().remedy}")
    group.freeze(frozen)


def view(limits: Limits) -> tuple[Mount, ...]:
    """Mounts that show a container, in its cgroup namespace, the limits it has; none for no limits.

    Programs read there how much memory and how many processors they should count on.
    """
    where, wanted = layout(), set(_wanted(limits))
    flags = ("ro", "nosuid", "noexec", "nodev")
    shown = [name for name in where.controllers if name in wanted]
    if not shown:
        return ()
    if where.version == 2:
        return (Mount("cgroup2", "/sys/fs/cgroup", flags=flags),)
    parents: dict[str, list[str]] = {}
    for name in where.controllers:
        parents.setdefault(os.path.dirname(where.directories[name]), []).append(name)
    return (
        Mount("tmpfs", "/sys/fs/cgroup", flags=flags[1:], data="mode=755,size=64k"),
        *(
            Mount("cgroup", f"/sys/fs/cgroup/{names[0]}", flags=flags, data=",".join(names))
            for names in parents.values()
            if not wanted.isdisjoint(names)
        ),
    )


class Group:
    """One container's control group. ``directories`` maps a controller to where it is."""

    def __init__(self, name: str, where: Layout) -> None:
        self.name = name
        self._where = where
        self.directories: dict[str, str] = {
            controller: f"{parent}/{name}"
            for controller, parent in where.directories.items()
            if os.path.isdir(f"{parent}/{name}")
        }

    @property
    def can_freeze(self) -> bool:
        """Is there a freezer that we may use?"""
        return "freezer" in self._where.directories

    def use(self, controllers: Iterable[str]) -> None:
        """Make the directories for ``controllers``, and put the group's processes in there too."""
        present = list(self.pids())
        for controller in controllers:
            if controller in self.directories:
                continue
            path = f"{self._where.directories[controller]}/{self.name}"
            if path not in self.directories.values():
                _make(path, controller, self._where.version)
                _join(path, present)
            for other, parent in self._where.directories.items():
                if f"{parent}/{self.name}" == path:
                    self.directories[other] = path

    def add(self, pid: int) -> None:
        """Put a process in, with all that it will ever start."""
        for path in self._paths():
            write(f"{path}/cgroup.procs", str(pid))

    def descriptor(self) -> int:
        """An open directory for clone3(2) to be born in, -1 on v1, which has no such thing."""
        if self._where.version != 2:
            return -1
        return os.open(self._paths()[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def set(self, limits: Limits) -> None:
        """Change the limits that are not None. Raises NotSupported and OSError as
        :func:`create`."""
        wanted = _wanted(limits)
        _refuse_missing(self._where, wanted)
        self.use(wanted)
        if wanted:
            cgroup_files.set_limits(self._where.version, self.directories, limits)

    def pids(self) -> Iterator[int]:
        """The processes that are in now, as our own pid namespace sees them."""
        for path in self._paths()[:1]:
            for line in text(f"{path}/cgroup.procs").split():
                yield int(line)

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here because memory ran out."""
        file = "memory.events" if self._where.version == 2 else "memory.oom_control"
        return fields(f"{self.directories.get('memory', '')}/{file}").get("oom_kill", 0)

    def stats(self) -> Stats:
        """What is and was used; the network's figures are not known here."""
        return cgroup_files.stats(self._where.version, self.directories, self.pids())

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process, and wait until it is done."""
        if self._where.version == 2:
            path = self.directories["freezer"]
            write(f"{path}/cgroup.freeze", str(int(frozen)))
            _await(lambda: fields(f"{path}/cgroup.events").get("frozen") == int(frozen), path)
            return
        if frozen:
            self.use(("freezer",))
        path = self.directories.get("freezer", "")
        if path:
            self._freeze_v1(f"{path}/freezer.state", "FROZEN" if frozen else "THAWED")

    def _freeze_v1(self, file: str, state: str) -> None:
        def done() -> bool:
            # A process may have been born since those present were moved in.
            _join(os.path.dirname(file), self.pids())
            write(file, state)
            return text(file).strip() == state

        _await(done, file)

    def kill(self) -> None:
        """Kill every process, and wait until none is left. Raises OSError (ETIMEDOUT)."""
        if not self._populated():
            return
        if self._where.version == 2:
            self._kill_v2()
            return
        if "freezer" in self.directories:  # a frozen process would not die
            write(f"{self.directories['freezer']}/freezer.state", "THAWED")
        bound = f"{self.directories['pids']}/pids.max" if "pids" in self.directories else ""
        before = text(bound).strip()
        if before:  # nobody can be born while we go through them
            write(bound, "0")
        _await(self._kill_each, self.name)
        if before:
            write(bound, before)

    def _populated(self) -> bool:
        if self._where.version == 2:  # groups below count too
            return fields(f"{self._paths()[0]}/cgroup.events").get("populated", 0) > 0
        return any(self.pids())

    def _kill_v2(self) -> None:
        try:
            write(f"{self._paths()[0]}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14
            self.freeze(False)
            _await(self._kill_each, self.name)
        else:
            _await(lambda: not self._populated(), self.name)

    def _kill_each(self) -> bool:
        present = list(self.pids())
        for pid in present:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not present

    def remove(self) -> None:
        """Take the group away, with groups that were made in it. Raises OSError (EBUSY) when a
        process in it does not go. Repeating it does nothing."""
        for path in self._paths():
            _await(partial(_remove_tree, path), path, errno.EBUSY)
        self.directories.clear()

    def _paths(self) -> list[str]:
        return list(dict.fromkeys(self.directories.values()))


# Directories ----------------------------------------------------------------------------------


def _make(path: str, controller: str, version: int) -> None:
    """Make a group, and its parent where it is the first one there."""
    parent = os.path.dirname(path)
    try:
        _mkdir(path)
    except FileNotFoundError:
        _mkdir(parent)
        if version == 2:
            _enable(os.path.dirname(parent), spill=True)
        if controller == "cpuset" and version == 1:
            _inherit_cpuset(parent)
        _mkdir(path)
    if version == 2:
        _enable(parent)
    elif controller == "cpuset":
        _inherit_cpuset(path)


def _mkdir(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, 0o755)  # whatever our umask: a container's root is to see its own group


def _enable(path: str, spill: bool = False) -> None:
    """Give the controllers that ``path`` has to its children (v2); ``spill`` makes room for it."""
    enabled = text(f"{path}/cgroup.subtree_control").split()
    present = text(f"{path}/cgroup.controllers").split()
    for name in CONTROLLERS:
        if name in enabled or name not in present:
            continue
        try:
            write(f"{path}/cgroup.subtree_control", f"+{name}")
        except OSError as error:
            if error.errno == errno.EBUSY and spill:
                _spill(path)
                write(f"{path}/cgroup.subtree_control", f"+{name}")
            elif error.errno not in (errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
                raise


def _spill(path: str) -> None:
    """Move the processes of ``path`` into a leaf of it: a group with controllers has none
    itself."""
    leaf = f"{path}/{LEAF}"
    _mkdir(leaf)
    _join(leaf, (int(pid) for pid in text(f"{path}/cgroup.procs").split()))


def _inherit_cpuset(path: str) -> None:
    """A new v1 cpuset is empty and takes no process until it is filled."""
    parent = os.path.dirname(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not text(f"{path}/{name}").strip():
            write(f"{path}/{name}", text(f"{parent}/{name}").strip())


def _join(path: str, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            write(f"{path}/cgroup.procs", str(pid))
        except ProcessLookupError:
            continue


def _remove_tree(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
        return False
    return True


def _await(done: Callable[[], bool], what: str, number: int = errno.ETIMEDOUT) -> None:
    """Ask until it is so: at once, then ever more slowly. Raises OSError ``number`` in the end."""
    deadline, wait = time.monotonic() + _PATIENCE, 0.0005
    while not done():
        if time.monotonic() > deadline:
            raise OSError(number, os.strerror(number), what)
        time.sleep(wait)
        wait = min(wait * 2, 0.05)
