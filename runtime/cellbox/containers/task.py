"""One process of a container as its shim sees it: from being started to being reaped.

A task is made by :class:`Unborn` (the container's first process) or :func:`start_exec` (a further
one). It is *starting* until its channel closes, which happens by itself at exec; then it *runs*; it
has *ended* when its pidfd is readable and it was reaped. The shim polls the descriptors and calls
the methods.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from cellbox.containers import init, starter
from cellbox.containers.messages import Bundle, Failure, Kind, Preparation, Process, packet
from cellbox.containers.program import Failed, become, step
from cellbox.containers.streams import Sink, Streams
from cellbox.linux import idmap, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import from_json, to_json

_PATIENCE = 10.0
"""Seconds for a starter to take away a control group, which the kernel may be slow to."""


class Task:
    """A process; ``pid`` is the host's number for it, 0 until it is known."""

    def __init__(self, channel: socket.socket | None, streams: Streams) -> None:
        self.channel = channel
        self.streams = streams
        self.pid = 0
        self.pidfd = -1
        self.failure: Failure | None = None
        self.exit_code: int | None = None
        self.helper = 0
        # Its container ended before it could run: as if it had run, and died with it.
        self.overtaken = False
        self._held: list[int] = []
        self.on_end: Callable[[Task], None] | None = None

    @property
    def ended(self) -> bool:
        """Was the process reaped, or did it never come to run?"""
        return self.exit_code is not None

    def hear(self) -> bool:
        """The channel is readable; True when the start is decided (``failure`` says how)."""
        assert self.channel is not None
        try:
            data, fds, _, _ = socket.recv_fds(self.channel, 65536, 4)
        except ConnectionError:  # it ended with something of ours unread
            data, fds = b"", []
        message: dict[str, Any] = json.loads(data) if data else {}
        if "terminal" in message:
            self.streams.use_terminal(fds[0])
            return False
        if "pid" in message:
            self.pid, self.pidfd = message["pid"], fds[0]
            if signal.SIGKILL in self._held:
                self.signal(signal.SIGKILL)
            return False
        if "failure" in message:
            # Decided only at the end of the channel, when the pid is known too.
            self.failure = from_json(Failure, message["failure"])
            return False
        if not self.pid and not self.failure:
            self.failure = Failure("init", errno.ESRCH, "the process ended before it could start")
        if self.helper:
            os.waitpid(self.helper, 0)
        self.channel.close()
        self.channel = None
        for number in self._held:
            self.signal(number)
        return True

    def announce(self) -> None:
        """Tell the clients how the start went."""
        if self.failure:
            failure = json.dumps(to_json(self.failure)).encode()
            self.streams.broadcast(packet(Kind.FAILED, failure))
        else:
            self.streams.broadcast(packet(Kind.STARTED, str(self.pid).encode()))

    def reap(self) -> None:
        """Take the exit status; the process has ended, or is killed if its start failed."""
        if self.failure and self.pidfd >= 0:
            self.signal(signal.SIGKILL)
        if self.pidfd >= 0:
            _, status = os.waitpid(self.pid, 0)
            self.exit_code = processes.exit_code(status)
            os.close(self.pidfd)
            self.pidfd = -1
        if self.overtaken:
            self.exit_code = 128 + signal.SIGKILL
        elif self.failure:
            self.exit_code = self.failure.exit_code

    def finish(self) -> None:
        """All output has been passed on: tell the clients the exit code and let them go."""
        self.streams.close()
        self.streams.broadcast(packet(Kind.EXITED, str(self.exit_code).encode()))

    def signal(self, number: int) -> None:
        """Send a signal; a process that is gone is no error. One that is being started gets it when
        it runs, but SIGKILL at once: before, it would be lost on the first process of a pid
        namespace. Raises OSError for a number that is no signal's."""
        if self.channel is not None and (self.pidfd < 0 or number != signal.SIGKILL):
            self._held.append(number)
        elif self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass


class Unborn:
    """An init that was cloned and waits for its order. Made by the shim, whose child it is.

    ``starter`` is a connection to the launcher's starter; without one the shim forks its own.
    """

    def __init__(
        self, prepared: Preparation, slot: int, connection: socket.socket | None = None
    ) -> None:
        self.namespaces = prepared.namespaces
        self._helper = 0
        if connection is None:
            connection, self._helper = _fork_starter()
        self._starter = connection
        self._channel, channel = starter.pair()
        theirs, feed = starter.pair()
        self._pid, self._pidfd = syscalls.clone3(starter.clone_flags(prepared.namespaces))
        if self._pid == 0:
            for end in (self._channel, self._starter, theirs):
                end.close()
            init.run(feed, channel, prepared)
        channel.close()
        feed.close()
        private = prepared.namespaces.user == "private"
        told = {
            "pid": self._pid,
            "shim": os.getpid(),
            "userns": private,
            "slot": slot,
            "group": starter.own_group(),
        }
        self._ask(told, [theirs.fileno()])
        theirs.close()

    def _ask(self, request: Mapping[str, Any], fds: list[int]) -> None:
        try:
            socket.send_fds(self._starter, [json.dumps(request).encode()], fds)
        except OSError:
            pass  # the starter has died: init sees the end of its feed, and ends

    def start(self, directory: str, process: Mapping[str, Any], restarts: int, sink: Sink) -> Task:
        """Order the start of the container in ``directory``, whose ``process`` (of the bundle, as
        JSON) says whether there is a terminal and standard input."""
        tty, stdin = bool(process.get("tty")), bool(process.get("stdin"))
        theirs, ours = _stdio(tty, stdin)
        self._ask({"directory": directory, "restarts": restarts}, theirs)
        self._starter.close()
        _close(theirs)
        task = _task(self._channel, ours, sink)
        task.pid, task.pidfd, task.helper = self._pid, self._pidfd, self._helper
        return task

    @property
    def lost(self) -> bool:
        """Is the starter gone, so that no order can be given?"""
        return self._hears_the_end(0)

    def _hears_the_end(self, seconds: float) -> bool:
        """Has the starter closed the connection, on which it never says anything?"""
        poll = select.poll()
        poll.register(self._starter, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def dismiss(self) -> None:
        """Nothing is to be started after all: init ends, and is reaped, and the starter has let go
        of the control group, which the next init of this shim will have too."""
        self._channel.close()
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._starter.shutdown(socket.SHUT_WR)
        self._hears_the_end(_PATIENCE)
        self._starter.close()
        if self._helper:
            os.waitpid(self._helper, 0)


def _fork_starter() -> tuple[socket.socket, int]:
    ours, theirs = starter.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        starter.serve_one(theirs)
    theirs.close()
    return ours, pid


def start_exec(
    bundle: Bundle,
    process: Process,
    target: Task,
    sink: Sink,
    join: Callable[[], None],
) -> Task:
    """Start a further process in the container whose first process is ``target``.

    A forked child enters the namespaces; only its own child can be in the pid namespace, and is
    born as the shim's child (CLONE_PARENT), so that the shim can wait for it. ``join`` is called in
    the child and puts it into the cgroup.
    """
    ours, theirs = starter.pair()
    child_stdio, our_stdio = _stdio(process.tty, process.stdin)
    try:
        pid = os.fork()
    except OSError:
        _close([*child_stdio, *our_stdio])
        raise
    if pid == 0:
        ours.close()
        _use_stdio(child_stdio, our_stdio)
        _enter(bundle, process, target, theirs, join)
    theirs.close()
    _close(child_stdio)
    task = _task(ours, our_stdio, sink)
    task.helper = pid
    return task


def _enter(
    bundle: Bundle,
    process: Process,
    target: Task,
    channel: socket.socket,
    join: Callable[[], None],
) -> NoReturn:
    try:
        _join(bundle, process, target, channel, join)
    except Failed as failed:
        init.report(channel, failed.failure)
    except BaseException as error:
        init.report(channel, Failure("exec", getattr(error, "errno", None) or 5, repr(error)))
    finally:  # whatever happens, this must not go on as a copy of the shim
        os._exit(125)


def _join(
    bundle: Bundle,
    process: Process,
    target: Task,
    channel: socket.socket,
    join: Callable[[], None],
) -> None:
    with step("seccomp", process.seccomp):
        program = init.read_program(process.seccomp)
    with step("cgroup"):
        join()
    with step("namespaces", "the container's namespaces"):
        if bundle.namespaces.user == "private" and not process.tty:
            starter.give_streams([0, 1, 2], idmap.root_of(target.pid))
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        own = starter.clone_flags(bundle.namespaces) | syscalls.CLONE_NEWCGROUP
        syscalls.setns(target.pidfd, own)
        if bundle.namespaces.user == "private":
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        pid, pidfd = syscalls.clone3(syscalls.CLONE_PARENT, exit_signal=0)
    if pid:
        socket.send_fds(channel, [json.dumps({"pid": pid}).encode()], [pidfd])
        os._exit(0)
    with step("namespaces"):
        os.setsid()
        init.renew_keyring()
    if process.tty:
        with step("terminal"):
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            init.give_terminal(root, channel)
    become(process, program, channel.fileno())


def _stdio(tty: bool, stdin: bool) -> tuple[list[int], list[int]]:
    """Three descriptors for the child and three for us (-1: none); empty lists for a terminal."""
    if tty:
        return [], []
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    if stdin:
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
    else:
        in_read, in_write = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    return [in_read, out_write, err_write], [in_write, out_read, err_read]


def _use_stdio(theirs: list[int], ours: list[int]) -> None:
    _close(ours)
    for number, fd in enumerate(theirs):
        os.dup2(fd, number)


def _task(channel: socket.socket, ours: list[int], sink: Sink) -> Task:
    streams = Streams(sink)
    if ours:
        streams.use_pipes(*ours)
    return Task(channel, streams)


def _close(fds: list[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
