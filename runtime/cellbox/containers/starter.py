"""Who does for a container's first process what takes more than the container's own privileges.

The shim stays for as long as the container does, so it must stay small: every page that a forked
process writes to is one of its own, and a start pays 3.5 microseconds for each. So the shim clones
init and no more; writing the id maps, making the cgroup and opening the sources of the mounts is
done by a starter, which is asked twice::

    shim --born: pid, feed-->  starter --"mapped"--> init        the shim may wait in reserve now
    shim --order: directory--> starter --the order-> init        bundle, streams, mounts' sources

What goes wrong is told to init as a failure, which passes it on to the shim over the channel
between them. The launcher keeps one starter for all its shims, whose pages are long its own; a shim
that has outlived its launcher, or wants other namespaces than were prepared, forks one itself.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

from cellbox.containers import init, records
from cellbox.containers.messages import (
    Bundle,
    Failure,
    Namespaces,
    Process,
    RunState,
    group_name,
    preparation,
)
from cellbox.containers.program import Failed, step
from cellbox.linux import cgroups, idmap, mounts, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import to_json
from cellbox.model.container import Limits

_FLAGS = {
    "network": syscalls.CLONE_NEWNET,
    "pid": syscalls.CLONE_NEWPID,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "user": syscalls.CLONE_NEWUSER,
}
_ALWAYS = syscalls.CLONE_NEWNS


def clone_flags(namespaces: Namespaces) -> int:
    """CLONE_NEW* of the namespaces that init is born into; init makes that of its control groups
    itself, when it is in the group that is to be seen as the root."""
    return _ALWAYS | sum(
        flag for name, flag in _FLAGS.items() if getattr(namespaces, name) == "private"
    )


def shared(namespaces: Namespaces) -> list[tuple[int, int]]:
    """(pid, CLONE_NEW*) of those that the container shares with another one."""
    return [
        (int(owner), flag)
        for name, flag in _FLAGS.items()
        if (owner := getattr(namespaces, name)).isdecimal()
    ]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def own_group() -> str:
    """The name of this shim's group; a shim stays in the folder ``mnt`` of the run directory."""
    return group_name(os.path.dirname(os.getcwd()), os.getpid())


@dataclass
class _Birth:
    """An init that waits for its order: what the first request told."""

    pid: int
    shim: int
    group: str
    feed: socket.socket
    userns: int = -1
    root: int = 0


def serve(launcher: socket.socket) -> NoReturn:
    """Be the starter of a launcher, which sends one end of a connection for each shim, and is told
    what to prepare for the next. Ends with the launcher."""
    births: dict[int, tuple[socket.socket, _Birth | None]] = {}
    init.rehearse()
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    while True:
        # What was ordered before the launcher ended is done before we end with it; the shims that
        # wait see that we are gone, and see to their inits and groups.
        for fd in sorted((fd for fd, _ in poll.poll()), key=launcher.fileno().__eq__):
            if fd == launcher.fileno():
                _, fds, _, _ = socket.recv_fds(launcher, 16, 1)
                if not fds:
                    os._exit(0)
                births[fds[0]] = (socket.socket(fileno=fds[0]), None)
                poll.register(fds[0], select.POLLIN)
                continue
            connection, birth = births.pop(fd)
            birth = _heed(connection, birth, launcher)
            if birth is not None:
                births[fd] = (connection, birth)
                continue
            poll.unregister(fd)
            connection.close()


def serve_one(connection: socket.socket) -> NoReturn:
    """Be the starter of one shim, for one start."""
    birth = _heed(connection, None, None)
    if birth is not None:
        _heed(connection, birth, None)
    os._exit(0)


def _heed(
    connection: socket.socket, birth: _Birth | None, launcher: socket.socket | None
) -> _Birth | None:
    """Do what the next request on ``connection`` asks; None when there will be no further one."""
    try:
        data, fds, _, _ = socket.recv_fds(connection, 65536, 3)
    except OSError:
        data, fds = b"", []
    if not data:  # the shim is gone, or its init is not wanted
        if birth is not None:
            _forget(birth)
            cgroups.discard(birth.group)
        return None
    request = json.loads(data)
    if birth is None:
        feed = socket.socket(fileno=fds[0])
        birth = _Birth(request["pid"], request["shim"], request["group"], feed)
        return birth if _told(birth, lambda one: _map(one, request)) else None
    _told(birth, lambda one: _hand_over(one, request, fds, launcher))
    for fd in fds:
        os.close(fd)
    _forget(birth)
    return None


def _told(birth: _Birth, action: Callable[[_Birth], None]) -> bool:
    """Do it; a failure is told to init, which passes it on."""
    try:
        action(birth)
        return True
    except Failed as failed:
        failure = failed.failure
    except Exception as error:
        number = getattr(error, "errno", None) or errno.EIO
        failure = Failure("start", number, str(error))
    try:
        birth.feed.send(json.dumps({"failure": to_json(failure)}).encode())
    except OSError:
        pass  # init is gone, and the shim sees that
    return False


def _forget(birth: _Birth) -> None:
    birth.feed.close()
    if birth.userns >= 0:
        os.close(birth.userns)


def _map(birth: _Birth, request: Mapping[str, Any]) -> None:
    with step("namespaces"):
        birth.userns, birth.root = _map_ids(bool(request["userns"]), birth.pid, request["slot"])
    birth.feed.send(b"mapped")
    # Moving a process into a group of v1 waits for all processors to pass a quiet state, up to ten
    # milliseconds; here nobody waits for it.
    with step("cgroup"):
        cgroups.discard(birth.group)  # of an earlier process with this pid, which was killed
        group = cgroups.create(birth.group, Limits())
        if group:
            _join(group, birth.pid)


def _hand_over(
    birth: _Birth, request: Mapping[str, Any], stdio: list[int], launcher: socket.socket | None
) -> None:
    directory = request["directory"]
    bundle = records.read_bundle(directory)
    assert bundle is not None
    with open(os.path.join(directory, records.BUNDLE), "rb") as file, ExitStack() as program:
        fds = [file.fileno()]
        if bundle.process.seccomp:
            with step("seccomp", bundle.process.seccomp):
                fds.append(program.enter_context(open(bundle.process.seccomp, "rb")).fileno())
        _adjust_oom(birth.pid, bundle.process)
        with step("cgroup"):
            _limit(birth, bundle.limits)
        with step("rootfs"):
            sources = mounts.open_sources(bundle.mounts, birth.userns)
        give_streams(stdio, birth.root)
        _record(bundle, birth, request["restarts"])
        order = {"program": bool(bundle.process.seccomp), "stdio": bool(stdio)}
        socket.send_fds(birth.feed, [json.dumps(order).encode()], [*fds, *stdio, *sources])
    for fd in sources:
        os.close(fd)
    if launcher is not None:
        launcher.send(json.dumps(to_json(preparation(bundle))).encode())


def give_streams(stdio: list[int], root: int) -> None:
    """Let pipes belong to the container's root, who may then hand them to the program's user."""
    for fd in stdio:
        if root and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, root, root)


def _join(group: cgroups.Group, pid: int) -> None:
    try:
        group.add(pid)
    except OSError:  # it was not wanted after all, and is gone
        group.remove()
        raise


def _limit(birth: _Birth, limits: Limits) -> None:
    group = cgroups.existing(birth.group)
    if group:
        group.set(limits)
    else:
        cgroups.refuse_missing(limits)


def _record(bundle: Bundle, birth: _Birth, restarts: int) -> None:
    """``state.json``; written here and not by the shim, which stays the smaller for it."""
    state = RunState(
        shim=birth.shim,
        shim_start=processes.start_time(birth.shim),
        pid=birth.pid,
        pid_start=processes.start_time(birth.pid),
        started=time.time(),
        restarts=restarts,
    )
    records.write(os.path.join(bundle.run_directory, records.STATE), state)


def _map_ids(private: bool, pid: int, slot: int) -> tuple[int, int]:
    """Write the id maps of the new process: a descriptor of its user namespace, -1 where ids on
    disk need no mapping, and what its root is here."""
    if not private:
        return -1, 0
    wanted = [idmap.slot_range(slot)]
    own = idmap.nested_map("uid", wanted)
    idmap.write_maps(pid, own, idmap.nested_map("gid", wanted))
    if own != wanted:
        return -1, 0
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), own[0][1]


def _adjust_oom(pid: int, process: Process) -> None:
    if process.oom_score_adj is not None:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(process.oom_score_adj).encode())
        os.close(fd)
