from __future__ import annotations

from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local import wirings
from cellbox.local.records import NetworkRecord
from cellbox.model.container import Container, Dns, PortSpec, RunSpec, Status
from cellbox.model.network import Endpoint, EndpointSpec, NetworkSpec, Subnet
from cellbox.networks.wiring import Place, Plug

SPEC = RunSpec("busybox", ("true",))
FOUR, SIX = Subnet("10.1.0.0/24", "10.1.0.1"), Subnet("fd00::/64", "fd00::1")
DEFAULT = NetworkSpec("bridge", subnets=(Subnet("172.17.0.0/16", "172.17.0.1"),))
BRIDGE = NetworkRecord("b" * 64, DEFAULT, 1.0)
OWN = NetworkRecord("a" * 64, NetworkSpec("own", subnets=(FOUR, SIX)), 2.0)
BY_ID = {one.id: one for one in (BRIDGE, OWN)}


def place(network=OWN, wanted=None, taken=(), name="web") -> Endpoint:
    spec = wanted or EndpointSpec(network.spec.name)
    return wirings.endpoint(network, spec, set(taken), container="c" * 64, name=name)


# Which networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["none", "host", "container:web"])
def test_some_modes_are_in_no_network(network):
    assert wirings.planned(replace(SPEC, network=network), "bridge") == ()


def test_the_default_is_what_the_engine_says():
    assert wirings.planned(SPEC, "bridge") == (EndpointSpec("bridge"),)
    assert wirings.planned(SPEC, "none") == ()


def test_the_first_network_is_that_of_the_mode_with_what_is_said_of_it():
    endpoints = (EndpointSpec("other"), EndpointSpec("own", aliases=("db",)))
    spec = replace(SPEC, network="own", endpoints=endpoints, links=("a:b",))
    first, second = wirings.planned(spec, "bridge")
    assert first == EndpointSpec("own", aliases=("db",), links=("a:b",))
    assert second == EndpointSpec("other")


def test_what_is_said_of_the_default_is_found():
    spec = replace(SPEC, endpoints=(EndpointSpec("default", mac="02:00:00:00:00:01"),))
    assert wirings.planned(spec, "bridge") == (EndpointSpec("bridge", mac="02:00:00:00:00:01"),)


def test_no_network_beside_the_hosts():
    spec = replace(SPEC, network="host", endpoints=(EndpointSpec("own"),))
    with pytest.raises(InvalidArgument, match="further networks"):
        wirings.planned(spec, "bridge")


# Places -----------------------------------------------------------------------------------------


def test_a_place_has_addresses_of_both_families_and_names():
    made = place(wanted=EndpointSpec("own", aliases=("db", "web")), taken={"10.1.0.2"})
    assert (made.ip, made.ip6) == ("10.1.0.3/24", "fd00::2/64")
    assert (made.gateway, made.gateway6) == ("10.1.0.1", "fd00::1")
    assert made.mac == "02:42:0a:01:00:03"
    assert made.names == ("web", "db", "c" * 12)


def test_what_was_asked_for_is_given():
    wanted = EndpointSpec("own", ip="10.1.0.77", ip6="fd00::9", mac="02:AA:00:00:00:01")
    made = place(wanted=wanted)
    assert (made.ip, made.ip6, made.mac) == ("10.1.0.77/24", "fd00::9/64", "02:aa:00:00:00:01")


@pytest.mark.parametrize(
    "wanted", [EndpointSpec("bridge", ip="172.17.0.9"), EndpointSpec("bridge", aliases=("db",))]
)
def test_the_default_network_gives_no_wishes(wanted):
    with pytest.raises(InvalidArgument, match="user"):
        place(BRIDGE, wanted)


def test_an_internal_network_leads_nowhere():
    closed = replace(OWN, spec=replace(OWN.spec, internal=True))
    assert (place(closed).gateway, place(closed).gateway6) == ("", "")


# Wiring -----------------------------------------------------------------------------------------


def wired(*endpoints, spec=SPEC, links=None):
    return wirings.wiring(spec, endpoints, BY_ID, links=links or {}, servers=("9.9.9.9",))


def test_a_user_made_network_resolves_names_and_the_default_one_does_not():
    one = place()
    wiring = wired(one)
    assert wiring.places == (
        Place("own", f"networks/{OWN.id}", one.id, one.names, "10.1.0.2", "fd00::2"),
    )
    assert wiring.resolves
    assert (wiring.servers, wiring.inside) == (("9.9.9.9",), False)
    assert not wired(place(BRIDGE)).resolves


def test_cables_are_numbered_and_one_leads_out():
    first, second = place(BRIDGE), place(OWN)
    plugs = wired(first, second).plugs
    assert [(one.interface, one.default_route) for one in plugs] == [
        ("eth0", True),
        ("eth1", False),
    ]
    assert plugs[0] == Plug(
        bridge=f"cb-{'b' * 12}",
        host=f"cbv{first.id[:12]}",
        mac=first.mac,
        ip="172.17.0.2/16",
        gateway="172.17.0.1",
    )


def test_the_highest_priority_leads_out():
    second = place(OWN, EndpointSpec("own", priority=5))
    assert [one.default_route for one in wired(place(BRIDGE), second).plugs] == [False, True]


def test_no_way_out_of_internal_networks():
    closed = place(replace(OWN, spec=replace(OWN.spec, internal=True)))
    assert [one.default_route for one in wired(closed).plugs] == [False]


def test_servers_of_its_own_are_asked_from_inside():
    spec = replace(SPEC, dns=Dns(servers=("10.9.9.9",)), ports=(PortSpec(80),))
    wiring = wired(place(), spec=spec)
    assert (wiring.servers, wiring.inside, wiring.ports) == (("10.9.9.9",), True, spec.ports)


def test_links_are_aliases_and_in_the_default_network_lines_of_hosts():
    other = Container(
        "d" * 64, "db", "sha256:0", SPEC, ("true",), Status.RUNNING, 1.0,
        endpoints=(place(BRIDGE, name="db"),),
    )  # fmt: skip
    wiring = wired(place(BRIDGE), links={"store": other})
    assert wiring.aliases == {"store": "db"}
    assert wiring.hosts == ("store:172.17.0.2", "db:172.17.0.2")
    assert wired(place(), links={"store": other}).hosts == ()


def test_all_that_is_exposed_is_published_once():
    asked = (PortSpec(80, host_port=8080),)
    found = wirings.published(asked, ["80/tcp", "53/udp", "81", "53/udp"])
    assert found == (*asked, PortSpec(53, "udp"), PortSpec(81))


# Bridges ----------------------------------------------------------------------------------------


def test_a_bridge_is_what_the_network_says():
    options = {
        "com.docker.network.bridge.name": "mine",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
    }
    record = replace(OWN, spec=replace(OWN.spec, options=options, internal=True))
    bridge = wirings.bridge(record)
    assert (bridge.name, wirings.mtu_of(record), bridge.internal) == ("mine", 1400, True)
    assert (bridge.icc, bridge.masquerade) == (False, False)
    assert bridge.subnets == ("10.1.0.0/24", "fd00::/64")
    assert wirings.addresses(record) == ["10.1.0.1/24", "fd00::1/64"]
    plain = wirings.bridge(OWN)
    assert (plain.name, plain.icc, plain.masquerade) == ("cb-" + "a" * 12, True, True)
    assert wirings.mtu_of(OWN) == 0
