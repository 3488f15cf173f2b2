"""One process as its shim sees it, with a channel and children of our own."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from cellbox.containers import task as tasks
from cellbox.containers.messages import Failure, Kind, unpack
from cellbox.containers.streams import Client, Streams
from cellbox.containers.task import Task
from cellbox.linux import syscalls
from cellbox.model.codec import to_json

FAILURE = Failure("exec", 2, "nope", 127)


@pytest.fixture
def made():
    """A task, and the far end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    task = Task(ours, Streams(lambda stream, data: None))
    yield task, theirs
    theirs.close()
    if task.channel:
        task.channel.close()
    if task.pidfd >= 0:
        task.signal(signal.SIGKILL)
        task.reap()


def child(action=lambda: signal.pause()):
    pid = os.fork()
    if pid == 0:
        syscalls.close_range(3)  # the channel above all, whose end is waited for
        action()
        os._exit(0)
    return pid, os.pidfd_open(pid)


def send(channel, message, fds=()):
    socket.send_fds(channel, [json.dumps(message).encode()], fds)


def born(task, action=lambda: signal.pause()):
    task.pid, task.pidfd = child(action)
    return task.pid


def attached(task):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    task.streams.add(Client(theirs, False))
    return ours


def test_it_runs_when_its_channel_closes(made):
    task, channel = made
    pid = born(task)
    channel.close()
    assert task.hear()
    assert (task.pid, task.failure, task.channel, task.ended) == (pid, None, None, False)
    client = attached(task)
    task.announce()
    assert unpack(client.recv(100)) == (Kind.STARTED, str(pid).encode())
    client.close()


def test_a_failure_is_decided_at_the_end_of_the_channel(made):
    task, channel = made
    born(task)
    send(channel, {"failure": to_json(FAILURE)})
    assert not task.hear()
    channel.close()
    assert task.hear()
    client = attached(task)
    task.announce()
    task.reap()
    task.finish()
    kind, payload = unpack(client.recv(1000))
    assert (kind, json.loads(payload)["exit_code"]) == (Kind.FAILED, 127)
    assert unpack(client.recv(100)) == (Kind.EXITED, b"127")
    assert task.ended and task.exit_code == 127 and task.pidfd == -1
    client.close()


def test_a_failure_before_there_was_a_process(made):
    task, channel = made
    send(channel, {"failure": to_json(FAILURE)})
    channel.close()
    assert [task.hear(), task.hear()] == [False, True]
    task.reap()
    assert (task.pid, task.exit_code) == (0, 127)


def test_an_end_without_a_word(made):
    task, channel = made
    channel.close()
    assert task.hear()
    assert task.failure.stage == "init"


def test_an_end_with_something_of_ours_unread(made):
    """Which the kernel tells as a reset."""
    task, channel = made
    task.channel.send(b"never read")
    channel.close()
    assert task.hear()
    assert task.failure


def test_the_exit_code(made):
    task, channel = made
    born(task, lambda: os._exit(5))
    channel.close()
    task.hear()
    task.reap()
    assert task.exit_code == 5
    with pytest.raises(ChildProcessError):
        os.waitpid(task.pid, os.WNOHANG)


def test_signals_before_it_runs_wait_for_that(made):
    task, channel = made
    pid = born(task)
    task.signal(signal.SIGTERM)
    task.signal(signal.SIGUSR1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    channel.close()
    task.hear()
    task.reap()
    assert task.exit_code in (128 + signal.SIGTERM, 128 + signal.SIGUSR1)


def test_killing_does_not_wait(made):
    task, channel = made
    born(task)
    task.signal(signal.SIGKILL)
    task.reap()
    assert task.exit_code == 137


def test_signals_to_one_that_is_gone(made):
    task, channel = made
    born(task, lambda: os._exit(0))
    channel.close()
    task.hear()
    os.waitid(os.P_PIDFD, task.pidfd, os.WEXITED | os.WNOWAIT)
    task.signal(signal.SIGTERM)
    task.reap()
    task.signal(signal.SIGTERM)
    assert task.exit_code == 0


def test_what_is_no_signal(made):
    task, channel = made
    born(task)
    channel.close()
    task.hear()
    with pytest.raises(OSError):
        task.signal(200)


def test_a_terminal_that_is_handed_over(made):
    task, channel = made
    master, slave = os.openpty()
    send(channel, {"terminal": True}, [master])
    os.close(master)
    assert not task.hear()
    assert task.streams.terminal >= 0
    os.close(slave)
    task.streams.close()


@pytest.mark.parametrize("way", [tasks._clone_into, tasks._clone_by_helper])
def test_a_child_that_is_born_in_another_pid_namespace(store, way):
    """Who may come back goes there; who is root of a user namespace only sends another."""
    box = store.begin("sleep", "1000")
    target = os.pidfd_open(box.state.pid)
    mine = os.readlink("/proc/self/ns/pid_for_children")
    ours, theirs = os.pipe()
    pid, pidfd = way(target, syscalls.CLONE_NEWPID)
    if pid == 0:
        os.write(theirs, b"%d" % os.getpid())
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert int(os.read(ours, 100)) == 2
    assert os.readlink("/proc/self/ns/pid_for_children") == mine
    for fd in (target, pidfd, ours, theirs):
        os.close(fd)
    box.stream.close()
    box.owner.close()


@pytest.mark.parametrize("way", [tasks._clone_into, tasks._clone_by_helper])
def test_nobody_is_born_where_all_have_ended(store, until, way):
    box = store.begin("sleep", "1000")
    target = os.pidfd_open(box.state.pid)
    box.shim.ask({"op": "kill", "signal": 9})
    until(lambda: not box.run.exists())
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError):
        way(target, syscalls.CLONE_NEWPID)
    assert os.listdir("/proc/self/fd") == before
    os.close(target)
