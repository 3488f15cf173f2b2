"""The process that does a store's network work, in a namespace of the test's own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.drivers.programs import program

from cellbox.drivers.places import Place
from cellbox.errors import EngineError, NotFound, rebuild
from cellbox.linux import process as processes
from cellbox.model.codec import to_json
from cellbox.model.network import Endpoint
from cellbox.networks import client, driven, links, owed, rules
from cellbox.networks.driven import Driver
from cellbox.networks.keeper import Keeper
from cellbox.networks.links import Routing
from cellbox.networks.rules import Bridge, Egress, Rules
from cellbox.networks.wiring import Plug

pytestmark = pytest.mark.root

BRIDGE = {"op": "bridge", "name": "cba", "addresses": ["10.1.0.1/24"], "mtu": 1400}
ONE = Plug("cba", "cbv1", ip="10.1.0.2/24", gateway="10.1.0.1", mac="02:42:0a:01:00:02")
FAR = Plug("", "", ip="10.5.0.2/24", endpoint=Endpoint("e1", "far", "n1", "c" * 64, "web"))


class Store:
    """A run directory and its keeper."""

    def __init__(self, run):
        self.run = str(run)

    def ask(self, op, fds=(), **facts):
        """The answer; raises what it says. Descriptors that come along are left in ``given``."""
        answer, self.given = client.ask_anew(self.run, {"op": op, **facts}, fds)
        if "error" in answer:
            raise rebuild(answer["error"])
        return answer

    def pid(self):
        return self.ask("ping")["pid"]

    def end(self):
        """Kill the keeper, if there is one, and wait for its end."""
        with contextlib.suppress(OSError):
            pid = client.ask(self.run, {"op": "ping"})[0]["pid"]
            started = processes.start_time(pid)
            os.kill(pid, signal.SIGKILL)
            assert processes.wait_gone(pid, started, 10)


@pytest.fixture
def store(apart, tmp_path):
    """``store(action)``: what ``action(store)`` returns, in a namespace apart."""

    def run(action):
        def inside():
            store = Store(tmp_path)
            try:
                return action(store)
            finally:
                store.end()

        return apart(inside)

    return run


def test_one_keeper_serves_many(store):
    def action(store):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(store.pid())) for _ in range(8)]
        # Who starts one is a single thread.
        first = store.pid()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return first, set(answers), len(answers)

    first, answers, count = store(action)
    assert answers == {first} and count == 8


def test_a_container_is_plugged_and_unplugged(store, space):
    def action(store):
        there, found = space(), {}
        store.ask(**BRIDGE)
        one = to_json(replace(ONE, mtu=1400))
        store.ask("plug", [there.fd], plugs=[one])
        with there.listen("10.1.0.2", 80):
            found["reached"] = space(new=False).reaches("10.1.0.2", 80)
        store.ask("unplug", [there.fd], plugs=[one])
        with Routing() as routing:
            found["left"] = [link.name for link in routing.links() if link.kind == "veth"]
            found["mtu"] = routing.find("cba").mtu
        store.ask("bridge", name="cba", remove=True)
        store.ask("bridge", name="cba", remove=True)
        with Routing() as routing:
            found["bridge"] = routing.find("cba")
        return found

    assert store(action) == {"reached": True, "left": [], "mtu": 1400, "bridge": None}


def test_the_sockets_for_names_come_along(store, space):
    def action(store):
        there = space()
        store.ask(**BRIDGE)
        answer = store.ask("plug", [there.fd], plugs=[to_json(ONE)], names=True)
        udp, tcp = (socket.socket(fileno=fd) for fd in store.given)
        return answer, udp.type, tcp.getsockname(), there.reaches("127.0.0.11", 53)

    assert store(action) == ({}, socket.SOCK_DGRAM, ("127.0.0.11", 53), True)


def test_what_is_taken_on_the_host(store):
    def action(store):
        with Routing() as routing:
            addresses = ["192.0.2.1/25", "fd00:9::1/64"]
            index = routing.ensure_bridge("other", addresses, mac="02:42:00:00:00:07").index
            routing.do(links.add_route(index, "10.20.0.0/16", "192.0.2.2"))
        return store.ask("routes")["routes"]

    assert store(action) == ["10.20.0.0/16", "192.0.2.0/25", "fd00:9::/64"]


def test_rules_and_forwarding(store, space):
    def action(store):
        outside, there = space(), space()
        with Routing() as routing:
            routing.do(links.new_veth("up", "eth0", outside.fd))
            routing.do(links.add_address(routing.find("up").index, "198.51.100.1/24"))
        with outside.entered(), Routing() as routing:
            index = routing.find("eth0").index
            routing.do(links.change(index), links.add_address(index, "198.51.100.2/24"))
        links.write_sysctl("net/ipv4/ip_forward", "0")
        store.ask(**BRIDGE)
        store.ask("plug", [there.fd], plugs=[to_json(ONE)])
        rules.note_bridge(store.run, "n1", Bridge("cba", ("10.1.0.0/24",)))
        with outside.listen("198.51.100.2", 80):
            before = there.reaches("198.51.100.2", 80, 0.3)
            store.ask("firewall")
            return before, there.reaches("198.51.100.2", 80), store.ask("check")

    assert store(action) == (False, True, {"firewall": "", "outlet": None})


def test_a_list_of_what_may_be_reached_grows(store, space):
    def action(store):
        there = space()
        store.ask(**BRIDGE)
        rules.note_bridge(store.run, "n1", Bridge("cba", ("10.1.0.0/24",)))
        one = Egress("a" * 12, ("cbv1",), ("10.1.0.2",))
        rules.note(store.run, "a" * 64, Rules(egress=one))
        store.ask("plug", [there.fd], plugs=[to_json(ONE)], rules=True)
        with space(new=False).listen("10.1.0.1", 80):
            before = there.reaches("10.1.0.1", 80, 0.5)
            store.ask("allow", container="a" * 12, addresses={"10.1.0.1": 60})
            return before, there.reaches("10.1.0.1", 80)

    assert store(action) == (False, True)


def test_networks_that_nobody_is_in_go_with_the_keeper(apart, tmp_path, space):
    def inside():
        there = space()
        keeper = Keeper(str(tmp_path))
        for network, name in (("n1", "cba"), ("n2", "cbb")):
            rules.note_bridge(str(tmp_path), network, Bridge(name, ("10.1.0.0/24",)))
            keeper.do({"op": "bridge", "name": name, "addresses": []}, [])
        keeper.do({"op": "plug", "plugs": [to_json(ONE)]}, [there.fd])
        keeper.tidy()
        with Routing() as routing:
            left = {one.name for one in routing.links() if one.kind == "bridge"}
        return sorted(left), sorted(rules.bridges(str(tmp_path)))

    assert apart(inside) == (["cba"], ["n1"])


@pytest.mark.parametrize(
    "request_",
    [
        b"{",
        b'"text"',
        b'{"op": "nonsense"}',
        b'{"op": "plug", "plugs": []}',
        b'{"op": "bridge", "name": "a name of far more than 15 characters", "addresses": []}',
        b'{"op": "allow", "container": "x }", "addresses": {"10.1.0.1": 60}}',
    ],
)
def test_what_is_wrong_is_told_and_the_next_is_served(store, request_):
    def action(store):
        pid = store.pid()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(f"{store.run}/{client.SOCKET}")
            connection.send(request_)
            answer = json.loads(connection.recv(4096))
        return "error" in answer, pid == store.pid()

    assert store(action) == (True, True)


def test_one_who_says_nothing_does_not_hold_it_up_for_long(store):
    def action(store):
        store.pid()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(f"{store.run}/{client.SOCKET}")
            started = time.monotonic()
            store.pid()
            return time.monotonic() - started

    assert store(action) < 10


def test_errors_keep_their_kind(store, space):
    def action(store):
        there = space()
        with pytest.raises(OSError) as caught:
            store.ask("plug", [there.fd], plugs=[to_json(ONE)])
        return caught.value.errno, caught.value.filename

    assert store(action) == (errno.ENODEV, "find bridge cba")


def test_descriptors_do_not_pile_up(store, space, until):
    def action(store):
        there = space()
        store.ask(**BRIDGE)
        folder = f"/proc/{store.pid()}/fd"
        store.ask("plug", [there.fd], plugs=[to_json(ONE)])
        store.ask("ping")  # by now the descriptors of before are closed
        before = len(os.listdir(folder))
        for _ in range(5):
            store.ask("plug", [there.fd], plugs=[to_json(ONE)])
            with contextlib.suppress(Exception):
                store.ask("nonsense", [there.fd, there.fd])
        until(lambda: len(os.listdir(folder)) <= before)

    store(action)


def test_another_takes_the_place_of_one_that_was_killed_at_work(store, space):
    def action(store):
        store.ask(**BRIDGE)
        there = space()
        for delay in range(12):
            pid = store.pid()
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.connect(f"{store.run}/{client.SOCKET}")
                request = {"op": "plug", "plugs": [to_json(ONE)]}
                socket.send_fds(connection, [json.dumps(request).encode()], [there.fd])
                time.sleep(delay * 0.0003)
                started = processes.start_time(pid)
                os.kill(pid, signal.SIGKILL)
                assert processes.wait_gone(pid, started, 10)
            store.ask("plug", [there.fd], plugs=[to_json(ONE)])
            with there.listen("10.1.0.2", 80):
                assert space(new=False).reaches("10.1.0.2", 80), delay
            store.ask("unplug", [there.fd], plugs=[to_json(ONE)])
        with Routing() as routing:
            return [link.name for link in routing.links() if link.kind == "veth"]

    assert store(action) == []


def test_it_ends_with_the_launcher(store):
    def action(store):
        held_read, held_write = os.pipe()
        launcher = os.fork()
        if launcher == 0:
            lock = os.open(f"{store.run}/launcher.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(lock, fcntl.LOCK_EX)
            os.write(held_write, b"x")
            signal.pause()
        os.read(held_read, 1)
        try:
            pid = store.pid()
            started = processes.start_time(pid)
            alive = processes.is_alive(pid, started)
        finally:
            os.kill(launcher, signal.SIGKILL)
            os.waitpid(launcher, 0)
        return alive, processes.wait_gone(pid, started, 10)

    assert store(action) == (True, True)


# Drivers that are not ours ------------------------------------------------------------------------


@contextlib.contextmanager
def far(store, **answers):
    """A program that has the network n1, and answers so; the calls that it gets."""
    path = f"{store.run}/far.sock"
    usual = {"CreateEndpoint": {}, "Join": {}, "Leave": {}, "DeleteEndpoint": {}}
    methods = {f"NetworkDriver.{name}": one for name, one in {**usual, **answers}.items()}
    driven.note(store.run, "n1", Driver("far", Place("far", f"unix://{path}", path)))
    store.pid()  # who starts one is a single thread
    with program(Path(path), methods) as calls:
        yield calls


class Slow:
    """An answer that takes until ``go``, and a request to the keeper that waits for it."""

    def __init__(self):
        self.asked, self.go, self.answers = threading.Event(), threading.Event(), []

    def __call__(self, _body):
        self.asked.set()
        self.go.wait(60)
        return {}

    @contextlib.contextmanager
    def awaited(self, store, fd):
        request = {"op": "drive", "plugs": [to_json(FAR)]}
        thread = threading.Thread(
            target=lambda: self.answers.append(client.ask(store.run, request, [fd])[0])
        )
        thread.start()
        try:
            assert self.asked.wait(20)
            yield
        finally:
            self.go.set()
            thread.join()


def test_a_driver_s_interface_comes_and_goes(store, space):
    def action(store):
        there, found = space(), []
        with Routing() as routing:
            routing.do(links.new_veth("other", "tap0", os.open("/proc/self/ns/net", os.O_RDONLY)))
        with far(store, Join={"InterfaceName": {"SrcName": "tap0"}}) as calls:
            for late in (False, True):
                assert store.ask("drive", [there.fd], plugs=[to_json(FAR)]) == {}
                with there.entered(), Routing() as routing:
                    found.append(routing.addresses(routing.find("eth0").index))
                used = owed.used(store.run, FAR.endpoint)
                store.ask("release", ended=used + 1, plugs=[to_json(FAR)])
                before = len(calls)
                gone = {"ended": used} if late else {"fds": [there.fd]}
                assert store.ask("release", plugs=[to_json(FAR)], **gone) == {}
                found.append([method.partition(".")[2] for method, _ in calls[before:]])
                found.append(owed.among(store.run, [FAR.endpoint]))
                with Routing() as routing:
                    found.append(routing.find("tap0") is not None)
        return found

    with_descriptor, ended = [True], [False]
    once = [["10.5.0.2/24"], ["Leave", "DeleteEndpoint"], []]
    assert store(action) == [*once, *with_descriptor, *once, *ended]


def test_a_slow_driver_keeps_nobody_else_waiting(store, space):
    def action(store):
        slow, there = Slow(), space()
        with far(store, CreateEndpoint=slow):
            pid = store.pid()
            with slow.awaited(store, there.fd):
                store.ask(**BRIDGE)
                others = store.pid() == pid, list(slow.answers)
        return others, slow.answers

    assert store(action) == ((True, []), [{}])


def test_who_waits_for_a_driver_is_no_keeper(store, space):
    def action(store):
        slow, there = Slow(), space()
        with far(store, CreateEndpoint=slow):
            pid = store.pid()
            with slow.awaited(store, there.fd):
                store.end()
                with pytest.raises(ConnectionRefusedError):
                    client.ask(store.run, {"op": "ping"})
                another = store.pid() != pid
            store.ask("release", [there.fd], plugs=[to_json(FAR)])
        return another, slow.answers, owed.among(store.run, [FAR.endpoint])

    assert store(action) == (True, [{}], [])


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({"Err": "no cable"}, EngineError, "the plugin far: NetworkDriver.Join: no cable"),
        ({"Gateway": "router"}, EngineError, "the driver of network far tells nonsense"),
        ({"InterfaceName": {"SrcName": "tap9"}}, EngineError, "has no interface tap9"),
        ({"InterfaceName": {"SrcName": "lo"}}, OSError, "move link 1 as eth0"),
    ],
)
def test_what_a_driver_fails_with_is_told(store, space, said, kind, words):
    def action(store):
        there = space()
        with far(store, Join=said):
            with pytest.raises(kind) as caught:
                store.ask("drive", [there.fd], plugs=[to_json(FAR)])
        return str(caught.value)

    assert words in store(action)


def test_what_goes_wrong_at_the_end_is_told_too(store, space):
    def action(store):
        there = space()
        with far(store, Leave={"Err": "stuck"}):
            store.ask("drive", [there.fd], plugs=[to_json(FAR)])
            with pytest.raises(EngineError, match="stuck"):
                store.ask("release", [there.fd], plugs=[to_json(FAR)])
            driven.note(store.run, "n1", Driver("gone"))
            with pytest.raises(NotFound, match=r"network\.gone"):
                store.ask("drive", [there.fd], plugs=[to_json(FAR)])
            pid = store.pid()
            with pytest.raises(Exception, match="plugs"):
                store.ask("release", [there.fd])
            return pid == store.pid()

    assert store(action)


def test_without_room_for_a_child_the_keeper_goes_on(store, space, monkeypatch):
    fork = os.fork

    def refused():
        if _name("self") == _name(os.getppid()) == "cellbox-network":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def action(store):
        there, pid = space(), store.pid()
        request = {"op": "drive", "plugs": [to_json(FAR)]}
        with pytest.raises(ConnectionResetError):
            client.ask(store.run, request, [there.fd])
        return pid == store.pid()

    monkeypatch.setattr(os, "fork", refused)
    assert store(action)


def _name(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()
