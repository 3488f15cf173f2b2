"""Links, addresses and routes, in namespaces of the test's own."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from cellbox.networks import links
from cellbox.networks.links import LOOPBACK, Routing

pytestmark = pytest.mark.root
MAC, OTHER = "02:42:00:00:00:01", "02:42:00:00:00:02"


def test_a_bridge_is_made_once_and_has_exactly_its_addresses(apart):
    def action():
        with Routing() as routing:
            first = routing.ensure_bridge("br", ["10.1.0.1/24", "fd00:1::1/64"], mac=MAC, mtu=1400)
            again = routing.ensure_bridge("br", ["10.2.0.1/24"], mac="02:42:00:00:00:09")
            found = routing.find("br")
            addresses = [one for one in routing.addresses(found.index) if one[:4] != "fe80"]
            return first.index == again.index, found, addresses, routing.routes()

    same, found, addresses, routes = apart(action)
    assert same and found.up and found.kind == "bridge"
    assert (found.mac, found.mtu) == (MAC, 1400)
    assert addresses == ["10.2.0.1/24"]
    assert routes == [] or routes == ["10.2.0.0/24"]


def test_a_name_that_is_no_bridge_is_not_taken_over(apart):
    def action():
        with Routing() as routing:
            routing.do(links.new_veth("other", "peer", os.open("/proc/self/ns/net", os.O_RDONLY)))
            with pytest.raises(FileExistsError) as caught:
                routing.ensure_bridge("other", [], mac=MAC)
            return caught.value.filename

    assert apart(action) == "add bridge other"


def test_a_veth_is_born_in_two_namespaces(apart, space):
    def action():
        there = space()
        with there.entered():
            inside = Routing()  # which stays there
        with Routing() as routing:
            bridge = routing.ensure_bridge("br", ["10.1.0.1/24"], mac=MAC)
            routing.do(
                links.new_veth("v0", "eth0", there.fd, master=bridge.index, mtu=1300, mac=OTHER)
            )
            outer, inner = routing.find("v0"), inside.find("eth0")
            inside.do(
                links.change(LOOPBACK),
                links.change(inner.index, name="eth7"),
                links.add_address(inner.index, "10.1.0.2/24"),
                links.add_route(inner.index, "default", "10.1.0.1"),
                links.add_route(inner.index, "10.9.0.0/16"),
            )
            addresses, routes = inside.addresses(), inside.routes()
            listener = there.listen("10.1.0.2", 80)
            reached = space(new=False).reaches("10.1.0.2", 80)
            listener.close()
            routing.do(links.remove_link("v0"), links.remove_link("v0"))
            gone = routing.find("v0"), inside.find("eth7")
            return bridge, outer, inner, addresses, routes, reached, gone

    bridge, outer, inner, addresses, routes, reached, gone = apart(action)
    assert (outer.master, outer.kind, outer.up, outer.mtu) == (bridge.index, "veth", True, 1300)
    assert (inner.peer, inner.mac, inner.mtu, inner.up) == (outer.index, OTHER, 1300, False)
    assert "10.1.0.2/24" in addresses
    assert {"10.1.0.0/24", "10.9.0.0/16"} == set(routes)
    assert reached
    assert gone == (None, None)


def test_ipv6_can_be_used_at_once(apart, space):
    def action():
        there = space()
        with there.entered():
            inside = Routing()
        with Routing() as routing:
            bridge = routing.ensure_bridge("br", ["fd00:1::1/64"], mac=MAC)
            routing.do(links.new_veth("v0", "eth0", there.fd, master=bridge.index))
            index = inside.find("eth0").index
            inside.do(
                links.change(index),
                links.add_address(index, "fd00:1::2/64"),
                links.add_route(index, "default", "fd00:1::1"),
            )
            with there.listen("fd00:1::2", 80):
                reached = space(new=False).reaches("fd00:1::2", 80)
            return reached, inside.routes(), inside.addresses()

    reached, routes, addresses = apart(action)
    assert reached
    assert "fd00:1::/64" in routes
    assert "fd00:1::2/64" in addresses


def test_an_interface_is_moved(apart, space):
    def action():
        there, home = space(), os.open("/proc/self/ns/net", os.O_RDONLY)
        with there.entered():
            inside = Routing()
        with Routing() as routing:
            routing.do(links.new_veth("tap0", "other", home, mtu=1300))
            found = routing.find("tap0")
            routing.do(
                links.add_address(found.index, "10.1.0.9/24"),
                links.move(found.index, there.fd, "eth0"),
            )
            away, moved = routing.find("tap0"), inside.find("eth0")
            addresses = inside.addresses(moved.index)
            inside.do(links.change(moved.index), links.move(moved.index, home, "tap1"))
            back = routing.find("tap1")
            return found, away, moved, addresses, back, inside.find("eth0"), routing.find("other")

    found, away, moved, addresses, back, left, other = apart(action)
    assert (away, left, addresses) == (None, None, [])
    assert (moved.mac, moved.mtu, moved.up, moved.kind) == (found.mac, 1300, False, "veth")
    assert (back.mac, back.up, back.peer) == (found.mac, False, other.index)


@pytest.mark.parametrize(("index", "code"), [(4711, errno.ENODEV), (LOOPBACK, errno.EINVAL)])
def test_an_interface_that_cannot_be_moved(apart, space, index, code):
    def action():
        there = space()
        with Routing() as routing:
            with pytest.raises(OSError) as caught:
                routing.do(links.move(index, there.fd, "eth0"))
            return caught.value.errno, caught.value.filename, routing.find("lo").index

    assert apart(action) == (code, f"move link {index} as eth0", LOOPBACK)


def test_a_failure_names_the_call_and_the_rest_is_tried(apart):
    def action():
        with Routing() as routing:
            with pytest.raises(OSError) as caught:
                routing.do(
                    links.add_address(4711, "10.1.0.1/24"),
                    links.change(LOOPBACK),
                    links.add_address(LOOPBACK, "10.3.0.1/32"),
                )
            return caught.value.errno, caught.value.filename, routing.addresses(LOOPBACK)

    number, call, addresses = apart(action)
    assert (number, call) == (errno.ENODEV, "add address 10.1.0.1/24")
    assert "10.3.0.1/32" in addresses and "127.0.0.1/8" in addresses


def test_repeating_is_no_error(apart):
    def action():
        with Routing() as routing:
            link = routing.ensure_bridge("br", ["10.1.0.1/24"], mac=MAC)
            for _ in range(2):
                routing.do(
                    links.add_address(link.index, "10.1.0.2/24"),
                    links.add_route(link.index, "10.8.0.0/16", "10.1.0.9"),
                )
            for _ in range(2):
                routing.do(links.remove_address(link.index, "10.1.0.2/24"))
            return routing.addresses(link.index)

    assert "10.1.0.2/24" not in apart(action)


def test_many_links_are_listed(apart):
    def action():
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        with Routing() as routing:
            routing.do(*(links.new_veth(f"a{n}", f"b{n}", here) for n in range(60)))
            found = routing.links()
            index = {one.name: one.index for one in found}
            pairs = all(
                one.peer == index["b" + one.name[1:]] for one in found if one.name[0] == "a"
            )
            return len(found), pairs

    count, pairs = apart(action)
    assert count >= 121 and pairs


def test_it_works_below_a_running_event_loop(apart):
    async def ask():
        with Routing() as routing:
            return routing.find("lo").index

    assert apart(lambda: asyncio.run(ask())) == LOOPBACK


def test_a_default_route_needs_a_gateway():
    with pytest.raises(ValueError, match="gateway"):
        links.add_route(1, "default")
