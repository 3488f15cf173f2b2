"""The starter: what it makes of namespaces, and what it does for a start that fails."""

from __future__ import annotations

import json
import os
import socket

import pytest

from cellbox.containers import records, starter
from cellbox.containers.messages import Namespaces
from cellbox.errors import StartError
from cellbox.linux import syscalls
from cellbox.linux.mounts import Mount

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
    assert starter.clone_flags(namespaces) == flags


def test_those_that_are_shared():
    assert starter.shared(Namespaces()) == []
    assert starter.shared(Namespaces(network="7", ipc="8", uts="host")) == [
        (7, syscalls.CLONE_NEWNET),
        (8, syscalls.CLONE_NEWIPC),
    ]


def test_every_namespace_is_the_containers_own(store):
    box = store.begin("sleep", "1000")
    for name in ("net", "pid", "ipc", "uts", "user", "mnt", "cgroup"):
        path = f"/proc/{box.state.pid}/ns/{name}"
        assert os.readlink(path) != os.readlink(f"/proc/self/ns/{name}")


def test_pipes_belong_to_the_containers_root_and_nothing_else_does(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to give something away")
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    starter.give_streams([null, read, file], 70000)
    assert [os.fstat(fd).st_uid for fd in (null, read, file)] == [0, 70000, 0]
    starter.give_streams([write], 0)
    assert os.fstat(write).st_uid == 70000
    for fd in (read, write, null, file):
        os.close(fd)


def test_the_state_names_shim_and_process(store):
    box = store.begin("sleep", "1000")
    state = box.state
    assert state.pid in store.children(state.shim)
    assert records.read_state(str(box.run)) == state


@pytest.mark.parametrize(
    ("how", "stage"),
    [
        ({"root": {"lowers": ("/no/such/layer",)}}, "rootfs"),
        ({"mounts": (Mount("bind", "/d", source="/no/such/place"),)}, "rootfs"),
        ({"mounts": (Mount("no-such-kind", "/d"),)}, "mounts"),
        ({"process": {"seccomp": "/no/such/filter"}}, "seccomp"),
        ({"sysctls": {"net.no.such.thing": "1"}}, "names"),
    ],
)
def test_what_goes_wrong_is_told_by_its_stage(store, how, stage):
    with pytest.raises(StartError) as caught:
        store.begin("true", **how)
    assert caught.value.stage == stage
    assert store.result("echo", "x") == (b"x\n", 0)


def test_a_starter_of_one_ends_when_its_shim_does():
    ours, theirs = starter.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        starter.serve_one(theirs)
    theirs.close()
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_starter_tells_init_what_went_wrong():
    """Its maps cannot be written for a process that has none of its own to write."""
    ours, theirs = starter.pair()
    mine, feed = starter.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        mine.close()
        starter.serve_one(theirs)
    theirs.close()
    told = {"pid": 2**22 + 1, "shim": os.getpid(), "userns": True, "slot": 0, "group": "none"}
    socket.send_fds(ours, [json.dumps(told).encode()], [feed.fileno()])
    feed.close()
    failure = json.loads(mine.recv(65536))["failure"]
    assert failure["stage"] in ("namespaces", "start", "cgroup")
    assert os.waitpid(pid, 0)[1] == 0
    ours.close()
    mine.close()
