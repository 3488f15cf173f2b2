"""The network namespace of a store of a user without rights, and its way out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import stat
import tempfile
import time
from pathlib import Path

import pytest

from cellbox.linux import namespaces, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import dumps, to_json
from cellbox.networks import client, links, rootless, rules
from cellbox.networks.links import Routing
from cellbox.networks.rules import Bridge
from cellbox.networks.wiring import Plug

pytestmark = pytest.mark.root

USER = 54322
ONE = Plug("cba", "cbv1", ip="10.1.0.2/24", gateway="10.1.0.1")
TWO = Plug("cba", "cbv2", ip="10.1.0.3/24", gateway="10.1.0.1")


@pytest.fixture
def folder():
    """A run directory that an ordinary user reaches, which below ``tmp_path`` they do not."""
    made = Path(tempfile.mkdtemp(prefix="cellbox-test-"))
    made.chmod(0o755)
    (made / "run").mkdir()
    os.chown(made / "run", USER, USER)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def as_user(apart, space, folder):
    """``as_user(action)``: what ``action(run)`` returns, as root of an ordinary user's user
    namespace, with the host's network in a namespace apart: 198.51.100.1 is its own, .2 is a
    neighbour's, behind which is its default route."""

    def run(action):
        def inside():
            outside = space()
            with Routing() as routing:
                routing.do(links.change(links.LOOPBACK), links.new_veth("up", "eth0", outside.fd))
                index = routing.find("up").index
                routing.do(
                    links.add_address(index, "198.51.100.1/24"),
                    links.add_route(index, "default", "198.51.100.2"),
                )
            with outside.entered(), Routing() as routing:
                index = routing.find("eth0").index
                routing.do(links.change(index), links.add_address(index, "198.51.100.2/24"))
            listener = outside.listen("198.51.100.2", 80)
            _open_tun(folder)
            _become(USER)
            try:
                namespaces.enter_private()
            except PermissionError:
                return None
            try:
                return action(str(folder / "run"))
            finally:
                listener.close()
                _end(str(folder / "run"))

        answer = apart(inside)
        if answer is None:
            pytest.skip("this machine does not let ordinary users make user namespaces")
        return answer

    return run


def _open_tun(folder):
    """A device file that all may open, as most systems have it, seen in here only."""
    if not os.path.exists("/dev/net/tun") or os.stat("/dev/net/tun").st_mode & 0o002:
        return
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    os.mknod(folder / "tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(folder / "tun", 0o666)
    syscalls.mount(str(folder / "tun"), "/dev/net/tun", "", 4096)  # MS_BIND


def _become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # as after an exec


def _end(run):
    """Kill the keeper, and wait for the holder to end by itself."""
    with contextlib.suppress(OSError):
        pid = client.ask(run, {"op": "ping"})[0]["pid"]
        _kill(pid)
    outlet = rootless._recorded(run)
    if outlet:
        assert processes.wait_gone(outlet.pid, outlet.started, 10)
        assert processes.wait_gone(outlet.tool_pid, outlet.tool_started, 10)
        assert rootless._recorded(run) is None


def _kill(pid):
    started = processes.start_time(pid)
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_gone(pid, started, 10)


def ask(run, op, fds=(), **facts):
    answer, _ = client.ask_anew(run, {"op": op, **facts}, fds)
    assert "error" not in answer, answer
    return answer


def need(tool):
    if not shutil.which(tool, path=rootless._PATH):
        pytest.skip(f"needs {tool}")


def only(monkeypatch, tool):
    """Let ``tool`` be the only one that is found."""
    which = shutil.which

    def find(name, path=None):
        return which(name, path=path) if name == tool or "idmap" in name else None

    monkeypatch.setattr(rootless.shutil, "which", find)


def enter(run):
    """Enter the namespace as a keeper does, which has a lock."""
    lock = open(f"{run}/{client.LOCK}", "w")  # noqa: SIM115
    fcntl.lockf(lock, fcntl.LOCK_EX)
    return rootless.enter(run), lock


@pytest.mark.parametrize("tool", ["pasta", "slirp4netns"])
def test_a_container_reaches_its_neighbour_and_the_world(as_user, space, monkeypatch, tool):
    need(tool)
    only(monkeypatch, tool)

    def action(run):
        ask(run, "bridge", name="cba", addresses=["10.1.0.1/24"])
        rules.note_bridge(run, "n1", Bridge("cba", ("10.1.0.0/24",)))
        ask(run, "firewall")
        one, two = space(), space()
        ask(run, "plug", [one.fd], plugs=[to_json(ONE)])
        ask(run, "plug", [two.fd], plugs=[to_json(TWO)])
        outlet = ask(run, "check")
        with one.listen("10.1.0.2", 80):
            neighbour = two.reaches("10.1.0.2", 80)
        world = one.reaches("198.51.100.2", 80, 5)
        taken = ask(run, "routes")["routes"]
        for there, plug in ((one, ONE), (two, TWO)):
            ask(run, "unplug", [there.fd], plugs=[to_json(plug)])
        return outlet, neighbour, world, taken

    outlet, neighbour, world, taken = as_user(action)
    assert outlet["firewall"] == ""
    assert outlet["outlet"].get("tool") == tool, outlet
    assert outlet["outlet"]["dns"] == "10.0.2.3"
    assert neighbour and world
    assert {"198.51.100.0/24", "10.1.0.0/24", "10.0.2.0/24"} <= set(taken)


@pytest.mark.parametrize("tool", ["pasta", "slirp4netns"])
def test_the_host_s_loopback_is_not_reached(as_user, space, monkeypatch, tool):
    need(tool)
    only(monkeypatch, tool)

    def action(run):
        with socket.create_server(("127.0.0.1", 8099)):
            outlet, lock = enter(run)
            here = space(new=False)
            ours = ("10.0.2.2", "127.0.0.1", "10.0.2.100")
            reached = [here.reaches(at, 8099, 0.5) for at in ours]
            lock.close()
            return outlet.tool, reached

    assert as_user(action) == (tool, [False, False, False])


def test_without_a_tool_there_is_a_sentence(as_user, space, monkeypatch):
    only(monkeypatch, "nothing")

    def action(run):
        ask(run, "bridge", name="cba", addresses=["10.1.0.1/24"])
        return ask(run, "check")["outlet"]

    outlet = as_user(action)
    assert "apt-get install passt" in outlet["missing"]
    assert "tool" not in outlet


def test_a_tool_that_fails_is_quoted(as_user, monkeypatch, folder):
    fake = folder / "pasta"
    fake.write_text("#!/bin/sh\necho the reason >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(rootless.shutil, "which", lambda name, path=None: path and str(fake))

    def action(run):
        outlet, lock = enter(run)
        lock.close()
        return outlet.missing

    assert as_user(action) == "containers have no way out: pasta failed: the reason"


def test_what_is_plugged_outlives_the_keeper(as_user, space):
    def action(run):
        ask(run, "bridge", name="cba", addresses=["10.1.0.1/24"])
        one, two = space(), space()
        ask(run, "plug", [one.fd], plugs=[to_json(ONE)])
        first = ask(run, "ping")["pid"]
        _kill(first)
        ask(run, "plug", [two.fd], plugs=[to_json(TWO)])
        with one.listen("10.1.0.2", 80):
            reached = two.reaches("10.1.0.2", 80)
        second = ask(run, "ping")["pid"]
        _kill(second)
        outlet = rootless._recorded(run)
        time.sleep(1.5)  # over a second passes, and the holder has looked
        alive = processes.is_alive(outlet.pid, outlet.started)
        for there, plug in ((one, ONE), (two, TWO)):
            ask(run, "unplug", [there.fd], plugs=[to_json(plug)])
        return first != second, reached, alive

    assert as_user(action) == (True, True, True)


def test_a_new_namespace_takes_the_place_of_one_whose_holder_was_killed(as_user):
    def action(run):
        ask(run, "bridge", name="cba", addresses=["10.1.0.1/24"])
        outlet = rootless._recorded(run)
        _kill(ask(run, "ping")["pid"])
        _kill(outlet.pid)
        ask(run, "bridge", name="cba", addresses=["10.1.0.1/24"])
        fresh = rootless._recorded(run)
        gone = processes.wait_gone(outlet.tool_pid, outlet.tool_started, 10)
        return fresh.pid != outlet.pid, gone

    assert as_user(action) == (True, True)


def test_who_holds_a_lock(tmp_path):
    path = str(tmp_path / "lock")
    assert client.locked_by(path) == 0
    with open(path, "w"):
        assert client.locked_by(path) == 0
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        file = open(path, "w")  # noqa: SIM115
        fcntl.lockf(file, fcntl.LOCK_EX)
        os.write(ready_write, b"x")
        signal.pause()
    os.read(ready_read, 1)
    assert client.locked_by(path) == child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert client.locked_by(path) == 0


def test_who_holds_the_networks_is_found_by_a_record(tmp_path):
    run = str(tmp_path)
    assert client.holder(run) == -1
    record = Path(run, client.HOLDER)
    mine = processes.start_time(os.getpid())
    for text in ("", "{}", "[]", dumps(rootless.Outlet(os.getpid(), mine + 1))):
        record.write_text(text)
        assert client.holder(run) == -1
    record.write_text(dumps(rootless.Outlet(os.getpid(), mine)))
    pidfd = client.holder(run)
    signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
