"""One start: its namespaces, its pipes, and a shim that is lost on the way."""

from __future__ import annotations

import os
import signal

import pytest

from cellbox.containers import starts
from cellbox.containers.messages import Namespaces, Preparation
from cellbox.linux import cgroups, sockets, syscalls

ALL = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWUSER
)


@pytest.mark.parametrize(
    ("namespaces", "flags"),
    [
        (Namespaces(), ALL),
        (Namespaces(network="host"), ALL & ~syscalls.CLONE_NEWNET),
        (Namespaces(network="1234"), ALL & ~syscalls.CLONE_NEWNET),
        (Namespaces(pid="host", user="host"), ALL & ~0x30000000),
        (Namespaces("host", "host", "host", "host", "host"), syscalls.CLONE_NEWNS),
    ],
)
def test_the_namespaces_that_are_made(namespaces, flags):
    assert starts.clone_flags(namespaces) == flags


def test_those_that_are_shared():
    assert starts.shared(Namespaces()) == []
    assert starts.shared(Namespaces(network="7", ipc="8", uts="host")) == [
        (7, syscalls.CLONE_NEWNET),
        (8, syscalls.CLONE_NEWIPC),
    ]


def test_pipes_belong_to_the_containers_root_and_nothing_else_does(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to give something away")
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    starts.give_streams([null, read, file], 70000)
    assert [os.fstat(fd).st_uid for fd in (null, read, file)] == [0, 70000, 0]
    starts.give_streams([write], 0)
    assert os.fstat(write).st_uid == 70000
    for fd in (read, write, null, file):
        os.close(fd)


@pytest.mark.parametrize("stdin", [True, False])
def test_pipes(stdin):
    before = os.listdir("/proc/self/fd")
    theirs, ours = starts.stdio(False, stdin)
    assert len(theirs) == 3 and (ours[0] >= 0) is stdin
    assert not any(os.get_inheritable(fd) for fd in [*theirs, *ours] if fd >= 0)
    if not stdin:
        assert os.read(theirs[0], 1) == b""
    for fd in [*theirs, *ours]:
        if fd >= 0:
            os.close(fd)
    assert os.listdir("/proc/self/fd") == before
    assert starts.stdio(True, stdin) == ([], [])


@pytest.fixture
def born():
    """A process that stands in for an init, and the birth that its shim told of; afterwards it is
    reaped."""
    pairs = [sockets.pair() for _ in range(3)]
    unborn = starts.Unborn(*(pair[0] for pair in pairs), Preparation(Namespaces(user="host")))
    child = os.fork()
    if child == 0:
        signal.pause()
    birth = starts.Birth.told(b"%d %d" % (child, os.getpid()), unborn, 3, -1)
    yield birth
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cgroups.discard(birth.group)
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_birth_knows_the_run_that_is_to_be(born):
    assert born.state.shim == os.getpid() and born.state.pid == born.pid
    assert born.state.shim_start and born.state.pid_start
    born.forget()


def test_an_init_whose_shim_is_gone_ends(born):
    born.end()
    assert os.waitid(os.P_PIDFD, born.pidfd, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL
    born.forget()


def test_what_is_no_birth():
    with pytest.raises(ValueError):
        starts.Birth.told(b"", None, 0, -1)
