"""PortBindings and ExposedPorts."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import PortSpec, RunSpec
from cellbox.wire.fields import Fields
from cellbox.wire.ports import (
    exposed_ports_json,
    port_bindings_json,
    port_name,
    read_exposed_ports,
    read_port_bindings,
)


def bindings(told: object) -> tuple[PortSpec, ...]:
    return read_port_bindings(Fields({"PortBindings": told}, "HostConfig"))


@pytest.mark.parametrize(
    ("port", "binding"),
    [
        (PortSpec(80), {"HostIp": "", "HostPort": ""}),
        (PortSpec(80, host_port=8080), {"HostIp": "", "HostPort": "8080"}),
        (PortSpec(80, host_ip="::1", host_port=1), {"HostIp": "::1", "HostPort": "1"}),
        (PortSpec(80, "udp", "", 7000, 7010), {"HostIp": "", "HostPort": "7000-7010"}),
    ],
)
def test_a_port_is_told_and_read(port, binding):
    told = {f"80/{port.protocol}": [binding]}
    assert port_bindings_json([port]) == told
    assert bindings(told) == (port,)


def test_one_port_may_be_published_twice():
    ports = (PortSpec(80, host_port=1), PortSpec(80, host_port=2))
    assert list(port_bindings_json(ports)) == ["80/tcp"]
    assert bindings(port_bindings_json(ports)) == ports


@pytest.mark.parametrize("none", [None, [], [{}], [{"HostPort": "0"}]])
def test_a_binding_that_says_nothing_is_any_free_port(none):
    assert bindings({"80": none}) == (PortSpec(80),)


@pytest.mark.parametrize(
    ("text", "name"), [("80", "80/tcp"), ("80/", "80/tcp"), ("80/UDP", "80/udp"), ("9/sctp",) * 2]
)
def test_names_of_ports(text, name):
    assert port_name(text) == name


@pytest.mark.parametrize("text", ["", "0", "x", "65536", "80-90/tcp", "-1", "٣", "8 0", "000080"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(InvalidArgument, match=f'invalid port specification: "{text}"'):
        port_name(text)


@pytest.mark.parametrize("text", ["x", "70000", "2-1", "1-", "-1", "1-2-3", "1-70000"])
def test_what_is_no_port_of_the_host_is_refused(text):
    with pytest.raises(InvalidArgument, match=f'invalid port specification: "{text}"'):
        bindings({"80/tcp": [{"HostPort": text}]})


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InvalidArgument, match="invalid proto: icmp"):
        port_name("80/icmp")


def test_what_is_published_is_exposed_and_not_read_as_asked_for():
    spec = RunSpec("w", ports=(PortSpec(80),), exposed=("53/udp",))
    told = exposed_ports_json(spec, ("443/tcp",))
    assert told == {"443/tcp": {}, "53/udp": {}, "80/tcp": {}}
    config = Fields({"ExposedPorts": {"53/udp": {}, "80": {}, "80/tcp": {}}}, "Config")
    assert read_exposed_ports(config, spec.ports) == spec.exposed
    assert exposed_ports_json(RunSpec("w")) is None
