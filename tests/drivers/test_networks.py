"""The network protocol: what is sent, and what is made of the answers."""

from __future__ import annotations

import pytest

from cellbox.drivers.networks import NetworkProgram
from cellbox.errors import EngineError, NotSupported
from cellbox.model.network import Endpoint, EndpointSpec, NetworkSpec, Subnet
from cellbox.plugins import Joined

WHO = {"NetworkID": "n" * 64, "EndpointID": "e" * 64}
ONE = Endpoint(
    WHO["EndpointID"],
    "far",
    WHO["NetworkID"],
    "c" * 64,
    "web",
    ip="10.1.0.2/24",
    spec=EndpointSpec("far", driver_options={"vlan": "7"}),
)
TOLD = {"InterfaceName": {"SrcName": "tap0", "DstPrefix": "eth"}}
DONE = {"NetworkDriver.Leave": {}, "NetworkDriver.DeleteEndpoint": {"Err": ""}}


def speaking(served, made=None, joined=None, **answers):
    """A client of a program that answers CreateEndpoint and Join so."""
    made = {"Interface": {}} if made is None else made
    joined = TOLD if joined is None else joined
    methods = {"CreateEndpoint": made, "Join": joined, **answers}
    return served({**DONE, **{f"NetworkDriver.{name}": one for name, one in methods.items()}})


def methods(client):
    """What was called, without the name of the interface."""
    return [method.removeprefix("NetworkDriver.") for method, _ in client.calls]


# Networks -----------------------------------------------------------------------------------------


def test_a_network_is_made_and_taken_away(served):
    client = speaking(served, CreateNetwork={}, DeleteNetwork={})
    subnets = (
        Subnet("10.1.0.0/24", "10.1.0.1", "10.1.0.128/25", {"router": "10.1.0.9"}, pool="p1"),
        Subnet("fd00:1::/64", "fd00:1::1"),
        Subnet("10.2.0.0/24"),
    )
    spec = NetworkSpec("far", subnets=subnets, ipv6=True, internal=True, options={"parent": "eth0"})
    driver = NetworkProgram(client)
    driver.create(WHO["NetworkID"], spec)
    driver.remove(WHO["NetworkID"])
    made = {
        "NetworkID": WHO["NetworkID"],
        "Options": {
            "com.docker.network.enable_ipv6": True,
            "com.docker.network.internal": True,
            "com.docker.network.generic": {"parent": "eth0"},
        },
        "IPv4Data": [
            {
                "AddressSpace": "",
                "Pool": "10.1.0.0/24",
                "Gateway": "10.1.0.1/24",
                "AuxAddresses": {"router": "10.1.0.9/24"},
            },
            {"AddressSpace": "", "Pool": "10.2.0.0/24"},
        ],
        "IPv6Data": [{"AddressSpace": "", "Pool": "fd00:1::/64", "Gateway": "fd00:1::1/64"}],
    }
    assert client.calls == [
        ("NetworkDriver.CreateNetwork", made),
        ("NetworkDriver.DeleteNetwork", {"NetworkID": WHO["NetworkID"]}),
    ]


def test_a_network_without_addresses_has_the_pool_of_docker_s_null_manager(served):
    client = speaking(served, CreateNetwork={})
    NetworkProgram(client).create("n", NetworkSpec("far"))
    ((_, body),) = client.calls
    assert body["IPv4Data"] == [{"AddressSpace": "", "Pool": "0.0.0.0/0"}]
    assert body["IPv6Data"] == []


def test_a_network_that_it_refuses(served):
    client = speaking(served, CreateNetwork={"Err": "no such parent"})
    with pytest.raises(EngineError, match=r"NetworkDriver\.CreateNetwork: no such parent"):
        NetworkProgram(client).create("n", NetworkSpec("far"))


# Endpoints ----------------------------------------------------------------------------------------


def test_a_container_joins_and_leaves(served):
    client = speaking(served)
    driver = NetworkProgram(client)
    assert driver.join(ONE) == Joined("tap0")
    driver.leave(ONE)
    asked = {"Address": "10.1.0.2/24", "AddressIPv6": "", "MacAddress": ""}
    options = {"Options": {"vlan": "7"}}
    assert client.calls == [
        ("NetworkDriver.CreateEndpoint", {**WHO, "Interface": asked, **options}),
        ("NetworkDriver.Join", {**WHO, "SandboxKey": "c" * 64, **options}),
        ("NetworkDriver.Leave", WHO),
        ("NetworkDriver.DeleteEndpoint", WHO),
    ]


def test_what_it_has_chosen_itself(served):
    made = {"AddressIPv6": "fd00:1::5/64", "MacAddress": "02:42:0A:01:00:02"}
    routes = [
        {"Destination": "10.8.0.0/16", "RouteType": 0, "NextHop": "10.1.0.9"},
        {"Destination": "10.9.0.0/16", "RouteType": 1, "NextHop": "", "InterfaceID": 0},
        {"Destination": "10.7.0.0/16", "RouteType": 1, "NextHop": "10.1.0.9"},
    ]
    joined = {
        **TOLD,
        "Gateway": "10.1.0.1",
        "GatewayIPv6": "fd00:1::1",
        "StaticRoutes": routes,
        "DisableGatewayService": True,
    }
    client = speaking(served, {"Interface": {**made, "Address": ONE.ip}}, joined)
    assert NetworkProgram(client).join(ONE) == Joined(
        interface="tap0",
        ip6="fd00:1::5/64",
        mac="02:42:0A:01:00:02",
        gateway="10.1.0.1",
        gateway6="fd00:1::1",
        routes={"10.8.0.0/16": "10.1.0.9", "10.9.0.0/16": "", "10.7.0.0/16": ""},
    )


@pytest.mark.parametrize(
    ("made", "joined"),
    [({}, {}), ({"Interface": None}, {"InterfaceName": None, "StaticRoutes": None}), (b"", b"")],
)
def test_one_that_says_nothing_leaves_all_to_the_engine(served, made, joined):
    assert NetworkProgram(speaking(served, made, joined)).join(ONE) == Joined()


@pytest.mark.parametrize("mac", ["02:42:0a:01:00:02", "02:42:0A:01:00:02"])
def test_what_was_asked_for_may_be_repeated(served, mac):
    asked = Endpoint(**{**vars(ONE), "mac": "02:42:0a:01:00:02"})
    made = {"Interface": {"Address": asked.ip, "MacAddress": mac}}
    assert NetworkProgram(speaking(served, made)).join(asked) == Joined("tap0")


@pytest.mark.parametrize("given", ["10.1.0.3/24", "10.1.0.2/16", "nonsense"])
def test_one_that_changes_what_was_asked_for(served, given):
    client = speaking(served, {"Interface": {"Address": given}})
    with pytest.raises(EngineError) as caught:
        NetworkProgram(client).join(ONE)
    assert str(caught.value) == (
        f"the plugin shelf gives the endpoint {given} instead of 10.1.0.2/24"
    )
    assert methods(client) == ["CreateEndpoint", "Leave", "DeleteEndpoint"]


@pytest.mark.parametrize(
    ("made", "joined"),
    [
        ({"Interface": 5}, TOLD),
        ({"Interface": {"Address": 5}}, TOLD),
        ({}, {"InterfaceName": "tap0"}),
        ({}, {"InterfaceName": {"SrcName": ["tap0"]}}),
        ({}, {**TOLD, "Gateway": {}}),
        ({}, {**TOLD, "StaticRoutes": {"10.0.0.0/8": "10.1.0.1"}}),
        ({}, {**TOLD, "StaticRoutes": [{"RouteType": "0"}]}),
        ({}, {**TOLD, "StaticRoutes": [5]}),
    ],
)
def test_members_of_another_type(served, made, joined):
    client = speaking(served, made, joined)
    with pytest.raises(EngineError, match="the plugin shelf: json: cannot unmarshal"):
        NetworkProgram(client).join(ONE)
    assert methods(client)[-2:] == ["Leave", "DeleteEndpoint"]


@pytest.mark.parametrize(
    ("joined", "error", "words"),
    [
        ({"Err": "no cable"}, EngineError, r"NetworkDriver\.Join: no cable"),
        ((500, b"no cable"), EngineError, r"NetworkDriver\.Join: no cable"),
        ((404, b""), NotSupported, r"has no NetworkDriver\.Join"),
        (b"{", EngineError, r"does not answer NetworkDriver\.Join with JSON"),
        ([], EngineError, r"does not answer NetworkDriver\.Join with an object"),
    ],
)
@pytest.mark.parametrize("left", [{}, {"Err": "it is not joined"}])
def test_an_endpoint_that_cannot_be_joined_is_deleted(served, joined, error, words, left):
    client = speaking(served, joined=joined, Leave=left)
    with pytest.raises(error, match=words):
        NetworkProgram(client).join(ONE)
    assert methods(client) == ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]


def test_the_failure_is_told_even_if_it_cannot_be_deleted(served):
    failing = {"Err": "nor that"}
    client = speaking(served, joined={"Err": "no cable"}, Leave=failing, DeleteEndpoint=failing)
    with pytest.raises(EngineError, match="no cable"):
        NetworkProgram(client).join(ONE)


def test_an_endpoint_that_is_not_made_is_not_deleted(served):
    client = speaking(served, {"Err": "full"})
    with pytest.raises(EngineError, match="full"):
        NetworkProgram(client).join(ONE)
    assert methods(client) == ["CreateEndpoint"]


def test_one_that_cannot_be_left_is_deleted_all_the_same(served):
    client = speaking(served, Leave={"Err": "stuck"})
    with pytest.raises(EngineError, match=r"NetworkDriver\.Leave: stuck"):
        NetworkProgram(client).leave(ONE)
    assert methods(client) == ["Leave", "DeleteEndpoint"]
