"""Networks as Docker tells them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.network import Endpoint, Network, NetworkSpec, Subnet
from cellbox.model.times import instant
from cellbox.wire.networks import network_from, network_json

SPEC = NetworkSpec(
    "n", subnets=(Subnet("10.0.0.0/8", "10.0.0.1", "10.1.0.0/16", {"x": "10.1.0.9"}),), ipv6=True,
    internal=True, attachable=True, options={"o": "1"}, labels={"l": ""}, ipam_options={"i": "2"},
)  # fmt: skip


def test_the_keys_and_empty_values_are_those_of_a_daemon(dockerd):
    told = network_json(Network("d" * 64, NetworkSpec("n"), 0.0))
    assert set(told) == set(dockerd["networks"][0])
    assert (told["Options"], told["Labels"], told["Containers"]) == ({}, {}, {})
    assert told["IPAM"] == {"Driver": "default", "Options": None, "Config": []}


def test_its_containers_have_their_addresses():
    endpoint = Endpoint(
        "e", "n", "d", "c", "web", "10.0.0.2/8", "fd::2/64", mac="02:42:0a:00:00:02"
    )
    told = network_json(Network("d", SPEC, 0.0, (endpoint,)))
    assert told["Containers"] == {
        "c": {
            "Name": "web",
            "EndpointID": "e",
            "MacAddress": "02:42:0a:00:00:02",
            "IPv4Address": "10.0.0.2/8",
            "IPv6Address": "fd::2/64",
        }
    }
    assert told["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"x": "10.1.0.9"}


def test_what_a_daemon_tells_is_told_again_as_it_was(dockerd):
    for theirs in dockerd["networks"]:
        told = network_json(network_from(theirs))
        told["IPAM"]["Options"] = theirs["IPAM"]["Options"]  # {} or null, by who asked
        ours, created = instant(told.pop("Created")), instant(theirs.pop("Created"))
        assert ours == pytest.approx(created, abs=1e-6)
        assert told == theirs


def test_the_built_in_ones_are_known_by_name(dockerd):
    found = {one["Name"]: network_from(one).built_in for one in dockerd["networks"]}
    assert found == {"net1": False, "net2": False, "bridge": True, "host": True, "none": True}


@given(st.lists(st.text("ab", min_size=1, max_size=3), unique=True, max_size=3), st.booleans())
def test_there_and_back(members, internal):
    endpoints = tuple(
        Endpoint(f"e{id}", "n", "d", id, f"name-{id}", "10.0.0.2/8", mac="m") for id in members
    )
    spec = SPEC if internal else NetworkSpec("n", driver="macvlan")
    facts = Network("d", spec, 1.5, endpoints)
    assert network_from(json.loads(json.dumps(network_json(facts)))) == facts


def test_values_of_the_wrong_type_are_refused():
    with pytest.raises(InvalidArgument):
        network_from({"Name": "n", "Containers": []})
