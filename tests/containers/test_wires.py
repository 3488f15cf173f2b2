"""What a shim does for its container's networks when that ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from cellbox.containers.wires import Wires
from cellbox.linux import process as processes
from cellbox.linux import syscalls
from cellbox.model.network import Endpoint
from cellbox.networks import client, driven, owed
from cellbox.networks.driven import Driver
from cellbox.networks.wiring import Plug, Wiring
from cellbox.plugins import Joined, Registered, Registry

pytestmark = pytest.mark.root

ONE = Endpoint("e" * 64, "far", "n" * 64, "c" * 64, "web")
WIRED = Wiring(plugs=(Plug("", "", endpoint=ONE),))


class Cables:
    """A network driver of a package; in which process ever it is, its file has what it hears."""

    heard = Path()

    def create(self, network, spec):
        raise AssertionError("nobody here makes a network")

    remove = create

    def join(self, endpoint):
        return self._note(f"join {endpoint.id[0]}") or Joined()

    def leave(self, endpoint):
        self._note(f"leave {endpoint.id[0]}")

    def _note(self, line):
        with self.heard.open("a") as file:
            file.write(f"{line}\n")


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Cables, as a package's that has the network of ``ONE``."""
    one = Registered("network.cables", f"{__name__}:Cables", "cables-for-all")
    monkeypatch.setattr(driven, "REGISTRY", Registry({}, lambda: [one]))
    monkeypatch.setattr(f"{__name__}.Cables.heard", tmp_path / "heard")
    driven.note(str(tmp_path), ONE.network_id, Driver("cables"))
    return Cables


@pytest.fixture
def apart(in_child, tmp_path):
    """``apart(action)``: in a child with a network namespace of its own; its keeper ends with
    it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")

    def inside(action):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            return action()
        finally:
            with contextlib.suppress(OSError):
                pid = client.ask(str(tmp_path), {"op": "ping"})[0]["pid"]
                started = processes.start_time(pid)
                os.kill(pid, signal.SIGKILL)
                assert processes.wait_gone(pid, started, 10)

    return lambda action: in_child(lambda: inside(action))


def begun(run, *, later):
    """The wires of a container that runs, connected ``later`` or before that."""
    wires = Wires(ONE.container, Wiring() if later else WIRED, [], run)
    wires.begin(os.getpid(), [])
    if later:
        wires.rewire(WIRED, [])
    return wires


def finish(wires):
    """Do as a shim does, until nobody works for the container any more."""
    while wires.children:
        watched = {}
        wires.watch(watched)
        poll = select.poll()
        for fd, (events, _) in watched.items():
            poll.register(fd, events)
        ready = poll.poll(20_000)
        assert ready, "it did not end in time"
        for fd, _ in ready:
            watched[fd][1]()


def plugged(run):
    """The driver believes that the container runs in the namespace of now."""
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    driven.plug(run, namespace, WIRED.plugs[0])
    os.close(namespace)


@pytest.mark.parametrize("later", [False, True])
def test_a_driver_hears_of_the_end(apart, driver, tmp_path, later):
    run = str(tmp_path)

    def action():
        plugged(run)
        wires = begun(run, later=later)
        wires.end()
        wires.close()
        finish(wires)
        return driver.heard.read_text().splitlines(), owed.among(run, [ONE])

    assert apart(action) == (["join e", "leave e"], [])


@pytest.mark.parametrize("later", [False, True])
def test_a_run_that_began_meanwhile_is_not_ended(apart, driver, tmp_path, later):
    run = str(tmp_path)

    def action():
        plugged(run)
        wires = begun(run, later=later)
        wires.end()
        syscalls.unshare(syscalls.CLONE_NEWNET)  # the next one
        plugged(run)
        wires.close()
        finish(wires)
        return driver.heard.read_text().splitlines(), owed.among(run, [ONE])

    assert apart(action) == (["join e", "leave e", "join e"], [ONE])


def test_one_that_has_ended_at_once_ends_no_later_run(apart, driver, tmp_path):
    run = str(tmp_path)

    def action():
        plugged(run)
        ended = os.fork()
        if ended == 0:
            os._exit(0)
        os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
        wires = Wires(ONE.container, WIRED, [], run)
        wires.begin(ended, [])
        wires.end()
        driven.leave(run, ONE)  # somebody has looked
        driven.join(run, ONE)  # and starts it again
        wires.close()
        finish(wires)
        return driver.heard.read_text().splitlines(), owed.among(run, [ONE])

    assert apart(action) == (["join e", "leave e", "join e"], [ONE])


@pytest.mark.parametrize("far", [False, True])
def test_a_driver_hears_of_one_that_never_ran(apart, driver, tmp_path, far):
    """Whether it failed before or after it was connected."""
    run = str(tmp_path)

    def action():
        driven.join(run, ONE)
        if far:
            plugged(run)
        wires = Wires(ONE.container, WIRED, [], run)
        wires.close()
        finish(wires)
        return driver.heard.read_text().splitlines(), owed.among(run, [ONE])

    assert apart(action) == (["join e", "leave e"], [])


def test_cables_of_ours_need_nobody(apart, driver, tmp_path):
    def action():
        own = replace(WIRED.plugs[0], bridge="cba", host="cbv1", endpoint=None)
        wires = Wires(ONE.container, Wiring(plugs=(own,)), [], str(tmp_path))
        wires.begin(os.getpid(), [])
        wires.end()
        wires.close()
        return wires.children, (tmp_path / client.SOCKET).exists()

    assert apart(action) == (set(), False)
