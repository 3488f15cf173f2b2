"""One process of a container as its shim sees it: from being started to being reaped.

A task is made by :func:`begun` (the container's first process) or :func:`start_exec` (a further
one). It is *starting* until its channel closes, which happens by itself at exec; then it *runs*; it
has *ended* when its pidfd is readable and it was reaped. The shim polls the descriptors and calls
the methods.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from cellbox.containers import init, starter, starts
from cellbox.containers.messages import (
    Bundle,
    Failure,
    Kind,
    Preparation,
    Process,
    packet,
    preparation,
)
from cellbox.containers.program import Failed, become, step
from cellbox.containers.streams import Sink, Streams
from cellbox.linux import idmap, sockets, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import from_json, to_json


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
        self.names: list[int] = []
        self._held: list[int] = []
        self.on_end: Callable[[Task], None] | None = None

    @cached_property
    def root(self) -> int:
        """What the root of its user namespace is here."""
        return idmap.root_of(self.pid)

    @property
    def ended(self) -> bool:
        """Was the process reaped, or did it never come to run?"""
        return self.exit_code is not None

    def hear(self) -> bool:
        """The channel is readable; True when the start is decided (``failure`` says how)."""
        assert self.channel is not None
        message, fds = starts.hear(self.channel)
        if "terminal" in message:
            self.streams.use_terminal(fds[0])
            return False
        if "names" in message:
            self.names = fds
            return False
        if "failure" in message:
            # Decided only at the end of the channel, when the process is done with it.
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


def begun(pid: int, pidfd: int, pipes: list[int], sink: Sink) -> Task:
    """The task of an init that a starter has seen through its start. ``pipes`` are our ends of
    standard input, output and error, or the master of a terminal."""
    task = _task(None, pipes, sink)
    task.pid, task.pidfd = pid, pidfd
    return task


def start(bundle: Bundle, slot: int, restarts: int, sink: Sink, enter: Callable[[], None]) -> Task:
    """Start a container without the launcher: with a starter that is forked for it, and an init of
    its own. ``enter`` is called between: who is born before is outside the namespaces that the
    container shares. Raises OSError, and what ``enter`` raises."""
    theirs, ours = starts.stdio(bundle.process.tty, bundle.process.stdin)
    connection, starters = sockets.pair()
    feed, to_init = sockets.pair()
    channel, from_init = sockets.pair()
    _come_back()
    helper = os.fork()
    if helper == 0:
        try:
            for end in (connection, feed, channel):
                end.close()
            unborn = starts.Unborn(starters, to_init, from_init, preparation(bundle))
            os.chdir(os.pardir)
            starter.serve_one(unborn, bundle.directory, slot, restarts, theirs)
        finally:
            os._exit(0)
    starts.close(theirs)
    for end in (starters, to_init):
        end.close()
    ends = [end.detach() for end in (connection, feed, channel)]
    try:
        enter()
    except BaseException:
        starts.close((*ends, *ours))
        from_init.close()
        os.waitpid(helper, 0)
        raise
    flags = starts.clone_flags(bundle.namespaces)
    pid, pidfd = bear(ends, flags, preparation(bundle))
    os.close(ends[0])
    task = _task(from_init, ours, sink)
    task.pid, task.pidfd, task.helper = pid, pidfd, helper
    return task


def _come_back() -> None:
    """Let children be born into our own pid namespace again, where we have the rights to: after an
    earlier start they would be born into the one that the container shares."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    with suppress(PermissionError):
        syscalls.setns(own, syscalls.CLONE_NEWPID)
    os.close(own)


def bear(ends: Sequence[int], flags: int, prepared: Preparation) -> tuple[int, int]:
    """Clone an init that waits for its order, and tell the starter: (pid, pidfd). ``ends`` lead
    there: the shim's own, and two of init's, which are closed here. Raises OSError."""
    connection, feed, channel = ends
    pid, pidfd = syscalls.clone3(flags)
    if pid == 0:
        os.close(connection)
        init.run(sockets.blocking(feed), sockets.blocking(channel), prepared)
    os.close(feed)
    os.close(channel)
    os.write(connection, b"%d %d" % (pid, os.getpid()))
    return pid, pidfd


def start_exec(
    bundle: Bundle,
    process: Process,
    target: Task,
    sink: Sink,
    join: Callable[[], None],
) -> Task:
    """Start a further process in the container whose first process is ``target``: a child that is
    born into its pid namespace, and enters the others. ``join`` is called in the child and puts it
    into the cgroup. Raises OSError."""
    ours, theirs = sockets.pair()
    child_stdio, our_stdio = starts.stdio(process.tty, process.stdin)
    private = bundle.namespaces.user == "private"
    flags = starts.clone_flags(bundle.namespaces) | syscalls.CLONE_NEWCGROUP
    pid, pidfd = 0, -1
    try:
        # What the shim can do itself is not done in a child that copies every page it writes to.
        with step("seccomp", process.seccomp):
            program = init.read_program(process.seccomp)
        with step("namespaces", "the container's namespaces"):
            if private:
                starts.give_streams(child_stdio, target.root)
            pid, pidfd = _clone_beside(target.pidfd, flags & syscalls.CLONE_NEWPID)
        if pid == 0:
            entry = _Entry(target.pidfd, flags & ~syscalls.CLONE_NEWPID, private, join)
            _be(process, program, entry, theirs, (ours, child_stdio, our_stdio))
    except Failed as failed:
        init.report(theirs, failed.failure)
    theirs.close()
    starts.close(child_stdio)
    task = _task(ours, our_stdio, sink)
    task.pid, task.pidfd = pid, pidfd
    return task


def _clone_beside(pidfd: int, other: int) -> tuple[int, int]:
    """clone3(2) as a fork, whose child is in the pid namespace of the process behind ``pidfd``;
    ``other`` is CLONE_NEWPID where that is not ours. Nobody there can look into the child. Raises
    OSError."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    born = -1
    try:
        if not other:
            born, born_fd = syscalls.clone3(0)
        else:
            born, born_fd = _clone_into(pidfd, other)
        return born, born_fd
    finally:
        if born:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def _clone_into(pidfd: int, other: int) -> tuple[int, int]:
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(own, other)
    except PermissionError:  # who is root of a user namespace only could not come back
        os.close(own)
        return _clone_by_helper(pidfd, other)
    born = -1
    try:
        syscalls.setns(pidfd, other)  # of children only (pid_namespaces(7))
        born, born_fd = syscalls.clone3(0)
        return born, born_fd
    finally:
        if born:
            syscalls.setns(own, other)
        os.close(own)


def _clone_by_helper(pidfd: int, other: int) -> tuple[int, int]:
    """As :func:`_clone_into`, by a child that goes there and whose own child is born as ours."""
    ours, theirs = sockets.pair()
    helper = os.fork()
    if helper == 0:
        try:
            syscalls.setns(pidfd, other)
            born, born_fd = syscalls.clone3(syscalls.CLONE_PARENT, exit_signal=0)
            if born == 0:
                ours.close()
                theirs.close()
                return 0, -1
            socket.send_fds(theirs, [b"%d" % born], [born_fd])
        except OSError as error:
            theirs.send(b"%d" % -(error.errno or errno.EIO))
        os._exit(0)
    theirs.close()
    data, fds = starts.receive(ours, 64)
    ours.close()
    os.waitpid(helper, 0)
    number = int(data or -errno.ESRCH)
    if number < 0:
        raise OSError(-number, os.strerror(-number), "clone3")
    return number, fds[0]


@dataclass(frozen=True)
class _Entry:
    """How a process gets into a container: the namespaces ``flags`` of the process behind
    ``pidfd``, ``private`` if one of users is among them, and its cgroup, by ``join``."""

    pidfd: int
    flags: int
    private: bool
    join: Callable[[], None]


def _be(
    process: Process,
    program: bytes,
    entry: _Entry,
    channel: socket.socket,
    ends: tuple[socket.socket, list[int], list[int]],
) -> NoReturn:
    """Become ``process``, with ``program`` as its filter; ``ends`` are the shim's own end of the
    ``channel``, the standard streams, and the shim's ends of these."""
    try:
        ours, theirs, others = ends
        ours.close()
        starts.close(others)
        for number, fd in enumerate(theirs):
            os.dup2(fd, number)
        with step("cgroup"):
            entry.join()
        with step("namespaces", "the container's namespaces"):
            syscalls.setns(entry.pidfd, entry.flags)
            if entry.private:
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            os.setsid()
            init.renew_keyring()
        if process.tty:
            with step("terminal"):
                root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                init.give_terminal(root, channel)
        become(process, program, channel.fileno())
    except Failed as failed:
        init.report(channel, failed.failure)
    except BaseException as error:
        init.report(channel, Failure("exec", getattr(error, "errno", None) or 5, repr(error)))
    finally:  # whatever happens, this must not go on as a copy of the shim
        os._exit(125)


def _task(channel: socket.socket | None, ours: list[int], sink: Sink) -> Task:
    streams = Streams(sink)
    if len(ours) == 1:
        streams.use_terminal(ours[0])
    elif ours:
        streams.use_pipes(*ours)
    return Task(channel, streams)
