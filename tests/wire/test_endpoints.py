"""Where a container is in its networks."""

from __future__ import annotations

import pytest

from cellbox.model.container import Container, PortSpec, RunSpec, Status
from cellbox.model.network import Endpoint, EndpointSpec
from cellbox.wire.endpoints import (
    network_settings_json,
    networks_json,
    ports_summary,
    read_networks,
    read_ports,
)
from cellbox.wire.fields import Fields

ID = "f" * 64
BRIDGE = Endpoint(
    "e" * 64, "bridge", "d" * 64, ID, "web", "172.17.0.2/16", "fd00::2/64", "172.17.0.1", "fd00::1",
    "02:42:ac:11:00:02",
)  # fmt: skip


def container(spec: RunSpec, **changes: object) -> Container:
    facts = {"status": Status.RUNNING, "created": 0.0, "pid": 7} | changes
    return Container(ID, "web", "sha256:a", spec, ("x",), **facts)  # type: ignore


def test_the_keys_are_those_of_a_daemon(dockerd):
    theirs = dockerd["container web"]["NetworkSettings"]
    ours = network_settings_json(container(RunSpec("i"), endpoints=(BRIDGE,)), ())
    assert set(ours) == set(theirs)
    assert set(theirs["Networks"]["net1"]) <= set(ours["Networks"]["bridge"])


def test_addresses_on_the_bridge_are_there_twice():
    told = network_settings_json(container(RunSpec("i"), endpoints=(BRIDGE,)), ())
    inner = told["Networks"]["bridge"]
    assert (told["IPAddress"], told["IPPrefixLen"], told["Gateway"]) == (
        "172.17.0.2", 16, "172.17.0.1",
    )  # fmt: skip
    assert (inner["GlobalIPv6Address"], inner["GlobalIPv6PrefixLen"]) == ("fd00::2", 64)
    assert (inner["Aliases"], inner["DNSNames"]) == (None, None)
    assert told["SandboxKey"] == "/proc/7/ns/net"


def test_a_network_of_the_users_knows_names():
    spec = EndpointSpec("n", aliases=("al",), ip="10.0.0.9", links=("x:y",), priority=3)
    endpoint = Endpoint("e", "n", "d", ID, "web", "10.0.0.9/8", names=("web", "al"), spec=spec)
    told = networks_json(container(RunSpec("i", network="n"), endpoints=(endpoint,)))["n"]
    assert told["Aliases"] == ["al", ID[:12]]
    assert told["DNSNames"] == ["web", "al"]
    assert told["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}
    assert (told["Links"], told["GwPriority"]) == (["x:y"], 3)


def test_before_it_starts_its_networks_are_those_of_the_request():
    spec = RunSpec("i", endpoints=(EndpointSpec("n", aliases=("al",)), EndpointSpec("default")))
    told = networks_json(container(spec, status=Status.CREATED))
    assert list(told) == ["n", "bridge"]
    assert (told["n"]["Aliases"], told["n"]["IPAddress"]) == (["al", ID[:12]], "")
    assert list(networks_json(container(RunSpec("i", network="none")))) == ["none"]


def test_a_shared_network_is_the_other_containers():
    told = network_settings_json(container(RunSpec("i", network="container:x")), ())
    assert (told["Networks"], told["IPAddress"], told["Ports"]) == ({}, "", {})


def test_ports_are_told_with_their_addresses():
    ports = (PortSpec(80, "tcp", "", 8080), PortSpec(80, "tcp", "127.0.0.1", 81))
    facts = container(RunSpec("i"), ports=ports)
    assert network_settings_json(facts, ["53/udp", "80"])["Ports"] == {
        "53/udp": None,
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
            {"HostIp": "127.0.0.1", "HostPort": "81"},
        ],
    }
    listed = ports_summary(facts, ["53/udp", "80"])
    assert listed[0] == {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
    assert listed[3:] == [{"PrivatePort": 53, "Type": "udp"}]


def test_one_that_does_not_run_publishes_nothing():
    facts = container(RunSpec("i"), status=Status.EXITED)
    assert network_settings_json(facts, ["80"])["Ports"] == {}
    assert ports_summary(facts, ["80"]) == []


@pytest.mark.parametrize(
    ("bindings", "ports"),
    [
        ([("0.0.0.0", "8080"), ("::", "8080")], [PortSpec(80, "tcp", "", 8080)]),
        ([("0.0.0.0", "8080")], [PortSpec(80, "tcp", "0.0.0.0", 8080)]),
        ([("0.0.0.0", "1"), ("::", "2")],
         [PortSpec(80, "tcp", "0.0.0.0", 1), PortSpec(80, "tcp", "::", 2)]),
        ([("127.0.0.1", "x")], [PortSpec(80, "tcp", "127.0.0.1", 0)]),
        (None, []),
    ],
)  # fmt: skip
def test_ports_are_read_back(bindings, ports):
    told = bindings and [{"HostIp": ip, "HostPort": port} for ip, port in bindings]
    assert list(read_ports(Fields({"Ports": {"80/tcp": told}}, "NetworkSettings"))) == ports


def test_networks_of_a_daemon_are_read(dockerd):
    settings = Fields(dockerd["container web"]["NetworkSettings"], "NetworkSettings")
    id = dockerd["container web"]["Id"]
    first, second = read_networks(settings, id, "web")
    assert (first.network, first.ip, first.gateway) == ("net1", "10.231.7.77/24", "10.231.7.254")
    assert first.spec == EndpointSpec("net1", aliases=("al",), ip="10.231.7.77")
    assert first.names == ("web", "al", id[:12])
    assert (second.network, second.spec.aliases) == ("net2", ("late",))
