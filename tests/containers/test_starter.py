"""The starter: what it makes of namespaces, and what it does for a start that fails."""

from __future__ import annotations

import json
import os
import signal

import pytest

from cellbox.containers import records, starter, starts
from cellbox.containers.messages import Preparation
from cellbox.errors import StartError
from cellbox.linux import sockets
from cellbox.linux.mounts import Mount


def test_every_namespace_is_the_containers_own(store):
    box = store.begin("sleep", "1000")
    for name in ("net", "pid", "ipc", "uts", "user", "mnt", "cgroup"):
        path = f"/proc/{box.state.pid}/ns/{name}"
        assert os.readlink(path) != os.readlink(f"/proc/self/ns/{name}")


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


def unborn():
    """A shim that was forked, and its ends: (what the starter knows, the shim's, init's feed)."""
    ours, theirs = sockets.pair()
    feed, to_init = sockets.pair()
    channel, from_init = sockets.pair()
    channel.close()
    return starts.Unborn(theirs, to_init, from_init, Preparation()), ours, feed


def test_a_starter_of_one_gives_up_when_its_shim_has_gone():
    one, shim, feed = unborn()
    shim.close()
    starter.serve_one(one, "/no/such/place", 0, 0, [])
    for end in (one.connection, one.feed, one.channel, feed):
        end.close()


def test_a_starter_tells_init_what_went_wrong():
    """The maps of a process that has no namespace of its own cannot be written."""
    one, shim, feed = unborn()
    child = os.fork()
    if child == 0:
        signal.pause()
    shim.send(b"%d %d" % (child, os.getpid()))
    starter.serve_one(one, "/no/such/place", 0, 0, [])
    failure = json.loads(feed.recv(65536))["failure"]
    assert failure["stage"] == "namespaces"
    for end in (one.connection, one.feed, one.channel, feed, shim):
        end.close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
