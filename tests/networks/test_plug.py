"""Cables between containers and bridges, in namespaces of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace

import pytest

from cellbox.model.codec import dumps, loads
from cellbox.networks import plug as plugging
from cellbox.networks.links import Routing
from cellbox.networks.plug import (
    identity,
    open_names,
    unplug,
)
from cellbox.networks.plug import plug as connect
from cellbox.networks.wiring import Plug, bridge_name, host_name

pytestmark = pytest.mark.root

ONE = Plug(
    "br0",
    "cbv000000000001",
    mac="02:42:0a:01:00:02",
    ip="10.1.0.2/24",
    gateway="10.1.0.1",
)
TWO = replace(ONE, host="cbv000000000002", mac="02:42:0a:01:00:03", ip="10.1.0.3/24")


def bridge(name="br0", *addresses):
    with Routing() as routing:
        routing.ensure_bridge(name, addresses or ["10.1.0.1/24"], mac="02:42:00:00:00:01")


def seen(space):
    """The interfaces in a namespace: name -> (mac, mtu, addresses), without lo."""
    with space.entered(), Routing() as routing:
        return {
            one.name: (
                one.mac,
                one.mtu,
                [a for a in routing.addresses(one.index) if a[:4] != "fe80"],
            )
            for one in routing.links()
            if one.name != "lo" and one.kind == "veth"
        }


def ports():
    with Routing() as routing:
        return sorted(one.name for one in routing.links() if one.kind == "veth")


@pytest.mark.parametrize("before_5_14", [False, True])
def test_a_namespace_is_told_from_others(apart, space, monkeypatch, before_5_14):
    if before_5_14:
        monkeypatch.setattr(plugging, "_NETNS_COOKIE", 9999)

    def action():
        here, there, other = space(new=False), space(), space()
        ids = [identity(one.fd) for one in (here, there, other)]
        with there.entered():
            again = identity(here.fd), identity(space(new=False).fd)
        return ids, again, here.fd, os.fstat(there.fd).st_ino

    ids, again, _, inode = apart(action)
    assert len({*ids, 0}) == 4
    assert again == (ids[0], ids[1])
    assert (ids[1] == inode) is before_5_14


def test_a_later_namespace_is_another_one_whatever_its_inode(apart, space):
    def action():
        found = []
        for _ in range(8):
            there = space()
            found.append(identity(there.fd))
            os.close(there.fd)
        return found

    assert len(set(apart(action))) == 8


def test_what_is_no_namespace_has_no_identity(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="setns"):
        identity(file.fileno())


def test_two_containers_reach_each_other(apart, space):
    def action():
        bridge()
        first, second = space(), space()
        connect(first.fd, [ONE])
        connect(second.fd, [TWO])
        with first.listen("10.1.0.2", 80):
            reached = second.reaches("10.1.0.2", 80), space(new=False).reaches("10.1.0.2", 80)
        return reached, seen(first), len(ports()), first.run("ip", "route", "show", "default")

    reached, interfaces, count, route = apart(action)
    assert reached == (True, True)
    assert interfaces == {"eth0": (ONE.mac, 1500, ["10.1.0.2/24"])}
    assert count == 2
    assert "default via 10.1.0.1 dev eth0" in route


def test_several_networks_and_one_default_route(apart, space):
    def action():
        bridge("br0")
        bridge("br1", "10.2.0.1/24", "fd00:2::1/64")
        there = space()
        other = replace(
            ONE,
            bridge="br1",
            host="cbvb",
            interface="eth1",
            mac="02:42:0a:02:00:02",
            ip="10.2.0.2/24",
            ip6="fd00:2::2/64",
            gateway="10.2.0.1",
            gateway6="fd00:2::1",
            mtu=1300,
        )
        connect(there.fd, [replace(ONE, default_route=False), other])
        with there.listen("fd00:2::2", 80):
            reached = space(new=False).reaches("fd00:2::2", 80)
        routes = there.run("ip", "route"), there.run("ip", "-6", "route")
        v6 = there.run("cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        return seen(there), reached, routes, v6

    interfaces, reached, (routes, routes6), without_v6 = apart(action)
    assert reached
    assert interfaces["eth0"] == (ONE.mac, 1500, ["10.1.0.2/24"])
    assert interfaces["eth1"][1:] == (1300, ["10.2.0.2/24", "fd00:2::2/64"])
    assert routes.count("default") == 1 and "default via 10.2.0.1 dev eth1" in routes
    assert "default via fd00:2::1 dev eth1" in routes6
    assert without_v6.strip() == "1"


def test_plugging_again_and_to_another_bridge(apart, space):
    def action():
        bridge("br0")
        bridge("br1", "10.1.0.1/24")
        there = space()
        connect(there.fd, [ONE])
        connect(there.fd, [ONE])
        connect(there.fd, [replace(ONE, bridge="br1")])
        with Routing() as routing:
            master = routing.find(ONE.host).master == routing.find("br1").index
        return master, seen(there), ports()

    master, interfaces, names = apart(action)
    assert master and list(interfaces) == ["eth0"] and names == [ONE.host]


def test_ends_that_do_not_belong_together_make_room(apart, space):
    def action():
        bridge()
        there, stale = space(), space()
        connect(stale.fd, [ONE])  # the namespace of a run before, which is not gone yet
        connect(there.fd, [replace(ONE, host="cbvother")])  # a cable under another name
        connect(there.fd, [ONE])
        with there.listen("10.1.0.2", 80):
            reached = space(new=False).reaches("10.1.0.2", 80)
        return reached, seen(stale), ports()

    assert apart(action) == (True, {}, [ONE.host])


def test_unplugging_twice(apart, space):
    def action():
        bridge()
        there = space()
        connect(there.fd, [ONE])
        unplug(there.fd, ONE)
        unplug(there.fd, ONE)
        return seen(there), ports()

    assert apart(action) == ({}, [])


def test_a_bridge_that_is_not_there_is_named(apart, space):
    def action():
        there = space()
        with pytest.raises(OSError) as caught:
            connect(there.fd, [ONE])
        return caught.value.filename

    assert apart(action) == "find bridge br0"


def test_we_come_back_from_a_namespace_whatever_happens(apart, space):
    def action():
        bridge()
        there = space()
        before = os.readlink("/proc/thread-self/ns/net")
        with pytest.raises(OSError):
            connect(there.fd, [replace(ONE, ip="10.1.0.2/24", gateway="10.99.0.1")])
        return before == os.readlink("/proc/thread-self/ns/net")

    assert apart(action)


def test_what_a_killed_one_left_is_mended(apart, space):
    def action():
        bridge()
        there = space()
        for delay in range(40):
            pid = os.fork()
            if pid == 0:
                connect(there.fd, [ONE])
                os._exit(0)
            time.sleep(delay * 0.0002)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            connect(there.fd, [ONE])
            assert seen(there) == {"eth0": (ONE.mac, 1500, ["10.1.0.2/24"])}, delay
            if delay % 2:
                unplug(there.fd, ONE)
        return ports()

    assert apart(action) in ([], [ONE.host])


def test_a_container_reaches_itself_through_the_bridge_only_with_hairpin(apart, space):
    def action():
        bridge()
        there = space()
        found = {}
        for hairpin, isolated in ((True, False), (False, True)):
            connect(there.fd, [replace(ONE, hairpin=hairpin, isolated=isolated)])
            shown = space(new=False).run("bridge", "-d", "link", "show")
            found[hairpin] = (
                f"hairpin {'on' if hairpin else 'off'}" in shown,
                "isolated on" in shown,
            )
        return found

    assert apart(action) == {True: (True, False), False: (True, True)}


def test_isolated_neighbours_do_not_reach_each_other(apart, space):
    def action():
        bridge()
        first, second = space(), space()
        connect(first.fd, [replace(ONE, isolated=True)])
        connect(second.fd, [replace(TWO, isolated=True)])
        with first.listen("10.1.0.2", 80):
            return second.reaches("10.1.0.2", 80, 0.3), space(new=False).reaches("10.1.0.2", 80)

    assert apart(action) == (False, True)


def test_names_are_asked_for_at_the_resolver_s_address(apart, space):
    def action():
        there = space()
        udp, tcp = (socket.socket(fileno=fd) for fd in open_names(there.fd))
        udp.settimeout(5)
        with there.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"question", ("127.0.0.11", 53))
            asked, address = udp.recvfrom(64)
            udp.sendto(b"answer", address)
            answer = client.recv(64)
        reached = there.reaches("127.0.0.11", 53)
        port = there.run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
        with pytest.raises(OSError):
            open_names(there.fd)  # they are taken
        return asked, answer, reached, tcp.getsockname(), port.strip()

    assert apart(action) == (b"question", b"answer", True, ("127.0.0.11", 53), "0")


def test_a_plug_travels_as_json():
    assert loads(Plug, dumps(ONE)) == ONE
    assert bridge_name("f" * 64) == "cb-ffffffffffff"
    assert len(host_name("a" * 64)) == 15
