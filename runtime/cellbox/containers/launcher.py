"""One small process per store that holds the privileges and forks whoever does the work.

It is started on demand (:mod:`cellbox.containers.client`), in two steps: :func:`enter` makes its
namespaces and executes the interpreter again from a directory that is read-only there, which
becomes :func:`main`. It is one thread, holds little memory, and forks for every request: a warm
process is copied in under a millisecond where a new interpreter takes thirty. It keeps no state:
killing it loses nothing, and it ends by itself when nobody has asked for anything for a while.

``launcher.sock`` takes ``{"op": "ping"}`` (``{"pid", "protocol"}``) and ``{"op": "work", "job",
"args"}`` with descriptors, which a worker answers. On ``start.sock`` listens a shim in reserve,
forked ahead of time with all its namespaces made; it takes ``{"directory", "owned", "attach"}``
with one descriptor a stream, and answers ``{"pid"}`` or ``{"failure"}``. The launcher then forks
the next one.
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

from cellbox.containers import control, init, shim, starter, worker
from cellbox.containers.messages import ExitRecord, Failure, Preparation, RunState, group_shim
from cellbox.linux import cgroups, namespaces, syscalls
from cellbox.model.codec import from_json, to_json

PROTOCOL = 1
SOCKET, START_SOCKET = "launcher.sock", "start.sock"
LOCK, SCRATCH = "launcher.lock", "mnt"
IDLE_SECONDS = 300.0
_MOST_DEATHS = 10
"""Shims in reserve that may die one after the other before the launcher gives up."""


def enter(run_directory: str, source: str, store: str) -> None:
    """First step: namespaces, then the same interpreter again from where nobody can write to it."""
    try:
        namespaces.enter_private()
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
    # Children are nobody's business here; shims and workers take their own back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm()
    gc.collect()
    gc.freeze()
    gc.disable()  # a collector writes to pages that children share
    _sweep_groups()
    launcher = Launcher()
    os.write(1, b'{"ready": true}')
    _detach_output()
    launcher.serve()
    os.unlink(SOCKET)
    os.unlink(START_SOCKET)


def _warm() -> None:
    """Use everything once before the first fork, so that every child finds it worked out."""
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
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open("launcher.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


class Launcher:
    """The two sockets, and the shim in reserve that listens on the second."""

    def __init__(self) -> None:
        self.starter = self._fork_starter()
        self.work = _listen(SOCKET)
        self.starts = _listen(START_SOCKET)
        self.starts.setblocking(False)
        self.prepared = Preparation()
        self.deaths = 0
        self._fill()

    def _fork_starter(self) -> socket.socket:
        ours, theirs = starter.pair()
        if os.fork() == 0:
            ours.close()
            starter.serve(theirs)
        theirs.close()
        return ours

    def _fill(self) -> None:
        """Fork the next shim in reserve; it does the rest by itself."""
        self.reserve, theirs = starter.pair()
        self.taken = False
        mine, starters = starter.pair()
        socket.send_fds(self.starter, [b"shim"], [starters.fileno()])
        starters.close()
        if os.fork():
            theirs.close()
            mine.close()
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self.work, self.reserve, self.starter):
            end.close()
        run = os.getcwd()
        os.chdir(SCRATCH)
        shim.reserve(self.starts, theirs, mine, run, self.prepared)

    def serve(self) -> None:
        """Answer requests until nobody has asked for anything for a while."""
        while self.deaths < _MOST_DEATHS:
            poll = select.poll()
            for end in (self.work, self.reserve, self.starter):
                poll.register(end, select.POLLIN)
            if self.taken:
                poll.register(self.starts, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(IDLE_SECONDS * 1000)}
            if not ready:
                return
            if self.starter.fileno() in ready and not self._prepare():
                return
            if self.reserve.fileno() in ready:
                self._hear()
            elif self.taken and self.starts.fileno() in ready:
                self._refill()
            if self.work.fileno() in ready:
                self._accept()

    def _prepare(self) -> bool:
        """A start was ordered: the next one may well want the same. False when the starter is
        gone."""
        said = self.starter.recv(control.MAX_REQUEST)
        if not said:
            return False
        wanted = from_json(Preparation, json.loads(said))
        if not any(name.isdecimal() for name in vars(wanted.namespaces).values()):
            self.prepared = wanted
        return True

    def _hear(self) -> None:
        """The shim in reserve was taken, or it has started its container, or it is gone."""
        if self.reserve.recv(16) == b"taken":
            self.taken = True
            self.deaths = 0
            return
        if not self.taken:
            self.deaths += 1
        self._refill()

    def _refill(self) -> None:
        self.reserve.close()
        self._fill()

    def _accept(self) -> None:
        connection, _ = self.work.accept()
        with connection:
            fds: list[int] = []
            connection.settimeout(control.PATIENCE)
            try:
                data, fds, _, _ = socket.recv_fds(connection, control.MAX_REQUEST, control.MAX_FDS)
                if data:
                    self._answer(connection, json.loads(data), fds)
            except Exception as error:  # whatever was sent, the others are to be served
                worker.send(connection, {"error": worker.describe(error)})
            for fd in fds:
                os.close(fd)

    def _answer(
        self, connection: socket.socket, request: dict[str, object], fds: list[int]
    ) -> None:
        if request["op"] == "ping":
            worker.send(connection, {"pid": os.getpid(), "protocol": PROTOCOL})
            return
        # Now that there is work, every further worker finds the modules loaded.
        from cellbox.images import jobs  # noqa: F401

        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self.work, self.starts, self.reserve, self.starter):
                end.close()
            worker.run(connection, request, fds)
