"""Bodies of network requests."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet
from cellbox.wire.fields import Fields
from cellbox.wire.network_requests import (
    endpoint_body,
    endpoint_spec,
    endpoints_body,
    ipam_json,
    network_body,
    network_spec,
    read_endpoints,
)

NETWORKS = [
    NetworkSpec("n"),
    NetworkSpec("n", subnets=(Subnet(),)),
    NetworkSpec(
        "n", "macvlan",
        (Subnet("10.7.0.0/16", "10.7.0.1", "10.7.1.0/24", {"r": "10.7.0.9"}), Subnet("fd00::/64")),
        ipv6=True, internal=True, attachable=True, options={"parent": "eth0"}, labels={"l": "1"},
        ipam_driver="mine", ipam_options={"a": "b"},
    ),
]  # fmt: skip
ENDPOINTS = [
    EndpointSpec("n"),
    EndpointSpec(
        "n", ("a", "b"), "10.0.0.5", "fd00::5", "02:42:ac:11:00:09", ("db:database",),
        {"k": "v"}, 3,
    ),
    EndpointSpec("n", ip6="fd00::5"),
]  # fmt: skip


@pytest.mark.parametrize("spec", NETWORKS)
def test_a_network_is_told_and_read(spec):
    assert network_spec(network_body(spec)) == spec


@pytest.mark.parametrize("spec", ENDPOINTS)
def test_an_endpoint_is_told_and_read(spec):
    assert endpoint_spec("n", endpoint_body(spec)) == spec


def test_empty_words_are_the_defaults():
    told = {"Name": "n", "Driver": "", "IPAM": {"Driver": "", "Config": None, "Options": None}}
    assert network_spec(told) == NetworkSpec("n")
    assert ipam_json(NetworkSpec("n"))["Config"] == []


def test_an_address_that_was_only_chosen_is_no_wish():
    told = {"IPAddress": "10.0.0.7", "MacAddress": "", "NetworkID": "x", "IPAMConfig": None}
    assert endpoint_spec("n", told) == EndpointSpec("n")
    assert endpoint_spec("n", None) == EndpointSpec("n")


def test_several_networks_in_their_order():
    specs = (EndpointSpec("b", ("x",)), EndpointSpec("a"))
    request = Fields({"NetworkingConfig": endpoints_body(specs)}, "CreateRequest")
    assert read_endpoints(request) == specs
    sdk = Fields({"NetworkingConfig": {"a": None}}, "CreateRequest")
    assert read_endpoints(sdk) == ()
    nothing = Fields({"NetworkingConfig": {"EndpointsConfig": {"a": None}}}, "CreateRequest")
    assert read_endpoints(nothing) == (EndpointSpec("a"),)


def test_wrong_types_are_refused():
    with pytest.raises(InvalidArgument, match="CreateRequest.Name of type string"):
        network_spec({"Name": 5})
    with pytest.raises(InvalidArgument, match="EndpointSettings.EndpointConfig.Aliases"):
        endpoint_spec("n", {"Aliases": "a"})
    with pytest.raises(InvalidArgument, match=r"IPAMConfig.IPAM.Config.Subnet"):
        network_spec({"IPAM": {"Config": [{"Subnet": []}]}})
