"""Who brings a container's first process into the world, and is gone when it runs.

The shim stays for as long as the container does, so it must stay small: every page that a forked
process writes to is one of its own. So the work of a start is done by a child of its own, the
starter: it clones init into new namespaces (as the shim's child, CLONE_PARENT), and when it hears
what to run, writes the id maps, joins the cgroup, opens the sources of the mounts, and hands all of
it to init.

A starter can wait for its order. The launcher keeps one shim in reserve whose starter has cloned
init already, mapped its ids, and let it prepare what the last container needed (its namespaces,
/proc, /sys and /dev), so that a start pays for no fork and little more than the overlay.

::

    shim  --order: directory, standard streams-->  starter  --preparation, bundle, sources-->  init
      ^---------- pid, then failure or end of file (it runs) --------------------------------'
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from typing import Any, NoReturn

from cellbox.containers import init, records
from cellbox.containers.messages import (
    Bundle,
    Failure,
    Namespaces,
    Preparation,
    Process,
    RunState,
    preparation,
)
from cellbox.containers.program import Failed, step
from cellbox.linux import cgroups, idmap, mounts, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import to_json

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


def run(
    channel: socket.socket, prepared: Preparation, slot: int, launcher: socket.socket | None
) -> NoReturn:
    """Clone init, let it make what is ``prepared``, and wait for the order on ``channel``.

    ``launcher`` is told what to prepare the next time. Never returns.
    """
    try:
        ours, theirs = pair()
        flags = clone_flags(prepared.namespaces) | syscalls.CLONE_PARENT
        pid, pidfd = syscalls.clone3(flags, exit_signal=0)
        if pid == 0:
            ours.close()
            if launcher is not None:
                launcher.close()
            init.run(theirs, channel, prepared)
        theirs.close()
        socket.send_fds(channel, [json.dumps({"pid": pid}).encode()], [pidfd])
        os.close(pidfd)
        with step("namespaces"):
            userns = _map_ids(prepared.namespaces, pid, slot)
        ours.send(b"mapped")
        if launcher is not None:
            init.rehearse()
        data, stdio, _, _ = socket.recv_fds(channel, 65536, 3)
        if data:
            bundle = _hand_over(json.loads(data), pid, stdio, ours, userns)
            if launcher is not None:
                launcher.send(json.dumps(to_json(preparation(bundle))).encode())
    except Failed as failed:
        init.report(channel, failed.failure)
    except BaseException as error:
        number = getattr(error, "errno", None) or errno.EIO
        init.report(channel, Failure("start", number, str(error)))
    os._exit(0)


def _hand_over(
    wanted: dict[str, Any], pid: int, stdio: list[int], feed: socket.socket, userns: int
) -> Bundle:
    directory = wanted["directory"]
    bundle_fd = os.open(os.path.join(directory, records.BUNDLE), os.O_RDONLY | os.O_CLOEXEC)
    bundle = records.read_bundle(directory)
    assert bundle is not None
    fds = [bundle_fd]
    if bundle.process.seccomp:
        with step("seccomp", bundle.process.seccomp):
            fds.append(os.open(bundle.process.seccomp, os.O_RDONLY | os.O_CLOEXEC))
    _adjust_oom(pid, bundle.process)
    with step("cgroup"):
        group = cgroups.create(bundle.cgroup, bundle.limits) if bundle.cgroup else None
        if group:
            group.add(pid)
    with step("rootfs"):
        sources = mounts.open_sources(bundle.mounts, userns)
    _record(bundle, pid, wanted["restarts"])
    order = {"program": bool(bundle.process.seccomp), "stdio": bool(stdio)}
    socket.send_fds(feed, [json.dumps(order).encode()], [*fds, *stdio, *sources])
    return bundle


def _record(bundle: Bundle, pid: int, restarts: int) -> None:
    """``state.json``; written here and not by the shim, which stays the smaller for it."""
    shim = os.getppid()
    state = RunState(
        shim=shim,
        shim_start=processes.start_time(shim),
        pid=pid,
        pid_start=processes.start_time(pid),
        started=time.time(),
        restarts=restarts,
    )
    records.write(os.path.join(bundle.run_directory, records.STATE), state)


def _map_ids(namespaces: Namespaces, pid: int, slot: int) -> int:
    """Write the id maps of the new process; a descriptor of its user namespace, -1 where ids on
    disk need no mapping."""
    if namespaces.user != "private":
        return -1
    wanted = [idmap.slot_range(slot)]
    own = idmap.nested_map("uid", wanted)
    idmap.write_maps(pid, own, idmap.nested_map("gid", wanted))
    if own != wanted:
        return -1
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _adjust_oom(pid: int, process: Process) -> None:
    if process.oom_score_adj is not None:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(process.oom_score_adj).encode())
        os.close(fd)
