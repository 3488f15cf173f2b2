"""One small process per store that holds the privileges and forks whoever does the work.

It is started on demand (:mod:`cellbox.containers.client`), in two steps: :func:`enter` makes its
namespaces and executes the interpreter again from a directory that is read-only there, which
becomes :func:`main`. It is one thread, holds little memory, and does nothing but fork: a warm
process is copied in under a millisecond where a new interpreter takes thirty. It keeps no state:
killing it loses nothing, and it ends by itself when nobody has asked for anything for a while.

On ``launcher.sock`` listens the workshop (:mod:`cellbox.containers.worker`), which takes ``{"op":
"ping"}`` (``{"pid", "protocol"}``), ``{"op": "networks"}`` (``{}``, when their keeper runs) and
``{"op": "work", "job", "args"}`` with descriptors. On ``start.sock`` listens the starter
(:mod:`cellbox.containers.starter`), which takes ``{"directory", "owned", "attach"}`` with one
descriptor a stream, and answers ``{"pid"}`` or ``{"failure"}``. Shims
are kept in reserve, forked ahead of time with all their namespaces made; when one has been used,
the launcher forks the next.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

from cellbox.containers import init, reserve, starter, starts, worker
from cellbox.containers.messages import (
    MAX_REQUEST,
    ExitRecord,
    Failure,
    Preparation,
    RunState,
    group_shim,
)
from cellbox.linux import cgroups, namespaces, sockets, syscalls
from cellbox.model.codec import from_json, to_json
from cellbox.networks import client

PROTOCOL = 1
SOCKET, START_SOCKET = "launcher.sock", "start.sock"
LOCK, LOG, SCRATCH = "launcher.lock", "launcher.log", "mnt"
IDLE_SECONDS = 300.0
MOUNTS = "/proc/self/mounts"


def enter(run_directory: str, source: str, store: str) -> None:
    """First step: namespaces, then the same interpreter again from where nobody can write to it."""
    try:
        # Networks of a launcher of before can be reached from its user namespace alone.
        namespaces.enter_private(beside=client.holder(run_directory))
        namespaces.protect_executable(sys.executable, store)
    except OSError as error:
        os.write(1, json.dumps({"error": worker.describe(error)}).encode())
        sys.exit(1)
    if os.fork():  # the engine that asked is not to find a child of its own in us
        os._exit(0)
    words = [sys.executable, *FLAGS, bootstrap("main"), run_directory, source, store]
    os.execv(os.path.realpath(sys.executable), words)


FLAGS = ("-I", "-S", "-X", "frozen_modules=on", "-c")


def bootstrap(function: str) -> str:
    """The program text that calls ``function`` of this module with (run directory, source, store).

    Isolated mode leaves out the environment, all sites and the current directory, so the folders of
    the package and of the libraries that workers need travel as an argument.
    """
    return (
        "import sys; sys.path += sys.argv[2].split(':'); "
        f"from cellbox.containers.launcher import {function}; {function}(*sys.argv[1:])"
    )


def main(run_directory: str, source: str, store: str) -> None:
    """Second step: serve requests until idle. Standard output tells the client that we listen."""
    lock = os.open(os.path.join(run_directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Of this process alone (fcntl(2)): one of flock(2) would live on in every shim.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another one was faster
        os.write(1, b'{"ready": true}')
        return
    os.chdir(run_directory)
    os.umask(0o077)
    os.makedirs(SCRATCH, exist_ok=True)
    os.chmod(SCRATCH, 0o755)  # init, root of another user namespace, mounts its scratch on it
    syscalls.set_name("cellbox-launch")
    with suppress(FileNotFoundError):
        os.unlink(LOG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm(run_directory)
    # Children are nobody's business here; shims and workers take their own back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collector writes to pages that children share
    _sweep_groups()
    launcher = Launcher(store)
    os.write(1, b'{"ready": true}')
    _detach_output()
    launcher.serve()
    os.unlink(SOCKET)
    os.unlink(START_SOCKET)


def _warm(run: str) -> None:
    """Use everything before the first fork, so that every child finds it worked out."""
    os.chdir(SCRATCH)
    reserve.rehearse(run)
    os.chdir(run)
    for _ in range(10):
        init.rehearse()
    cgroups.layout()
    for fact in (RunState(1, 1, health="a"), ExitRecord(1, 1.0, 1.0), Failure("a", 1, "b")):
        from_json(type(fact), json.loads(json.dumps(to_json(fact))))


def _sweep_groups() -> None:
    """Take away the groups of shims that were killed with their launcher."""
    for name in cgroups.leftovers():
        shim_pid = group_shim(os.getcwd(), name)
        if shim_pid and not os.path.exists(f"/proc/{shim_pid}"):
            cgroups.discard(name)


def _listen(name: str) -> socket.socket:
    """A socket, in a directory that only its owner can enter; made under another name and renamed,
    so that a client never meets one that does not listen yet."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    temporary = f"{name}.{os.getpid()}"
    listener.bind(temporary)
    listener.listen(128)
    os.rename(temporary, name)
    return listener


def _detach_output() -> None:
    """Nobody hears what this process says but its log, which begins anew with every launcher."""
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


def _has_volumes(store: str) -> bool:
    """Is a volume mounted here? A later launcher would not have it, but mount another one."""
    below = os.path.join(store, "volumes", "").replace(" ", "\\040")
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ", 2)[1].startswith(below) for line in file)


class Launcher:
    """The parent of all: of the starter, of the one who forks workers, and of shims, a further one
    whenever the starter says so."""

    def __init__(self, store: str) -> None:
        self._store = store
        ping = {"pid": os.getpid(), "protocol": PROTOCOL}
        self.starter = self._fork(START_SOCKET, partial(starter.serve, store))
        self.workshop = self._fork(SOCKET, partial(worker.serve, ping))
        self._prepare(Preparation())

    def _prepare(self, wanted: Preparation) -> None:
        self.prepared = wanted
        self.flags = starts.clone_flags(wanted.namespaces)

    def _fork(
        self, name: str, serve: Callable[[socket.socket, socket.socket], NoReturn]
    ) -> socket.socket:
        """Fork who serves clients on the socket ``name``; a connection with it."""
        ours, theirs = sockets.pair()
        listener = _listen(name)
        if os.fork() == 0:
            _detach_output()
            for end in (ours, *vars(self).values()):
                if isinstance(end, socket.socket):
                    end.close()  # or who is at the other end would not see the launcher's end
            serve(theirs, listener)
        theirs.close()
        listener.close()
        return ours

    def serve(self) -> None:
        """Fork shims until nobody has asked for anything for a while, or a child has ended."""
        poll = select.poll()
        poll.register(self.starter, select.POLLIN)
        poll.register(self.workshop, select.POLLIN)
        while (ready := poll.poll(IDLE_SECONDS * 1000)) or _has_volumes(self._store):
            for fd, _ in ready:
                hear = self._fork_shim if fd == self.starter.fileno() else self._hear_workshop
                if not hear():
                    return

    def _hear_workshop(self) -> bool:
        """It tells of every request; False when it is gone."""
        return bool(starts.receive(self.workshop, 16)[0])

    def _fork_shim(self) -> bool:
        """Fork the next shim in reserve, whom the starter sends three ends of channels; False when
        the starter is gone.

        Whatever is written to here, the shims of before have to themselves from then on: so the
        shim does all that it can do as well.
        """
        said, ends = starts.receive(self.starter, MAX_REQUEST)
        if said not in (b"", starter.MORE):
            self._prepare(from_json(Preparation, json.loads(said)))
        if said and os.fork() == 0:
            os.close(self.starter.detach())
            os.close(self.workshop.detach())
            reserve.be(ends, self.flags, self.prepared)
        starts.close(ends)
        return bool(said)
