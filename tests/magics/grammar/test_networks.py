"""The verbs of networks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cellbox.errors import AlreadyExists, CellboxError, InvalidArgument, NotFound, NotSupported
from cellbox.model.network import Endpoint, EndpointSpec, NetworkSpec, Subnet


@pytest.fixture
def shop(engine):
    """A network of the user's."""
    return engine.networks.create(NetworkSpec("shop", labels={"a": "1"}))


def test_create_tells_the_id(engine, say):
    said = say(
        "%container network create --subnet 10.0.0.0/16,fd00::/64 --gateway 10.0.0.1 "
        "--ip-range 10.0.5.0/24 --aux-address door=10.0.0.8 --ipv6 --internal --attachable "
        "-o com.docker.network.driver.mtu=1400 --label a=1 --label b --ipam-opt x=y shop"
    )
    made = engine.networks.get("shop")
    assert said == [made.id]
    assert made.spec == NetworkSpec(
        "shop",
        subnets=(
            Subnet("10.0.0.0/16", "10.0.0.1", "10.0.5.0/24", {"door": "10.0.0.8"}),
            Subnet("fd00::/64"),
        ),
        ipv6=True,
        internal=True,
        attachable=True,
        options={"com.docker.network.driver.mtu": "1400"},
        labels={"a": "1", "b": ""},
        ipam_options={"x": "y"},
    )


def test_create_leaves_the_rest_to_the_engine(engine, say):
    say("%container network create --driver weave --ipam-driver dhcp --scope local mine")
    spec = NetworkSpec("mine", driver="weave", ipam_driver="dhcp")
    assert engine.networks.get("mine").spec == spec
    with pytest.raises(AlreadyExists):
        say("%container network create mine")
    with pytest.raises(NotSupported, match="--scope swarm"):
        say("%container network create --scope swarm other")
    with pytest.raises(InvalidArgument, match="corresponding subnet"):
        say("%container network create --gateway 10.0.0.1 other")


def test_ls_is_a_list_of_handles(engine, shop, say):
    found = say("%container network ls --filter driver=bridge")
    assert [handle.name for handle in found] == ["bridge", "host", "none", "shop"]
    assert engine.named("networks")[-1] == ("networks", {"driver": ["bridge"]})
    assert found.titles == ("NETWORK ID", "NAME", "DRIVER", "SCOPE")
    assert found.rows[3] == (shop.short_id, "shop", "bridge", "local")
    assert say("%container network ls -q")[3] == shop.short_id
    assert say("%container network list -q --no-trunc")[3] == shop.id
    lines = say("%container network ls --format '{{.Name}} {{.Internal}} {{.Label \"a\"}}'")
    assert lines[3] == "shop false 1"


def test_inspect_is_dockers_json(shop, say):
    told = say("%container network inspect shop host")
    assert [one["Name"] for one in json.loads(repr(told))] == ["shop", "host"]
    assert say("%container network inspect -f '{{.Driver}}' shop") == ["bridge"]
    assert say("%container inspect --type network -f '{{.Id}}' shop") == [shop.id]
    with pytest.raises(NotFound, match="network: nothing"):
        say("%container network inspect nothing")


def test_rm_takes_several(engine, shop, say):
    engine.networks.create(NetworkSpec("two"))
    assert say("%container network rm shop two") == ["shop", "two"]
    with pytest.raises(NotFound):
        say("%container network rm shop")
    say("%container network rm -f shop")


def test_connect_says_what_the_container_wants(engine, shop, say):
    say("%container network connect shop web")
    assert engine.named("connect") == [("connect", "shop", "web", EndpointSpec("shop"))]
    say(
        "%container network connect --alias a,b --alias c --ip 10.0.0.9 --ip6 fd00::9 "
        "--link db:d --driver-opt x=y --gw-priority 5 shop web"
    )
    assert engine.named("connect")[-1][-1] == EndpointSpec(
        "shop",
        aliases=("a", "b", "c"),
        ip="10.0.0.9",
        ip6="fd00::9",
        links=("db:d",),
        driver_options={"x": "y"},
        priority=5,
    )
    with pytest.raises(InvalidArgument, match="IPv4"):
        say("%container network connect --ip x shop web")


def test_disconnect(engine, shop, say):
    say("%container network disconnect shop web")
    say("%container network disconnect -f shop web")
    assert [call[-1] for call in engine.named("disconnect")] == [False, True]


def test_prune_takes_those_of_the_user_that_nobody_is_in(engine, shop, say, monkeypatch):
    engine.networks.create(NetworkSpec("full"))
    member = Endpoint("e", "full", "f", "c", "web")
    engine.networks.facts["full"] = replace(engine.networks.get("full"), endpoints=(member,))
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    with pytest.raises(Exception, match="nothing was removed"):
        say("%container network prune")
    assert say("%container network prune -f --filter label=b") == []
    assert say("%container network prune -f --filter until=0s") == ["Deleted Networks:", "shop"]
    assert sorted(engine.networks.facts) == ["bridge", "full", "host", "none"]
    with pytest.raises(CellboxError, match="Invalid filter"):
        say("%container network prune -f --filter x=y")
