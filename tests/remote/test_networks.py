"""Networks behind the API."""

from __future__ import annotations

import pytest

from cellbox.errors import PermissionDenied
from cellbox.model.network import EndpointSpec, Network, NetworkSpec, Subnet
from cellbox.wire.networks import network_json

ID = "c3" * 32
NET = Network(ID, NetworkSpec("net", subnets=(Subnet("10.9.0.0/24", "10.9.0.1"),)), 1e9)


@pytest.fixture
def net(tells):
    for ref in ("net", ID):
        tells(f"GET /networks/{ref}", network_json(NET))


def test_create(engine, tells, daemon, net):
    tells("POST /networks/create", {"Id": ID}, 201)
    assert engine.networks.create(NET.spec) == NET
    assert b'"CheckDuplicate": true' in daemon.asked[0].body
    assert b"10.9.0.0/24" in daemon.asked[0].body


def test_lists_are_by_name(engine, tells, told, net):
    other = "d4" * 32
    tells(f"GET /networks/{other}", network_json(Network(other, NetworkSpec("a"), 1e9)))
    tells("GET /networks", [{"Id": ID}, {"Id": other}])
    assert [one.name for one in engine.networks.list(filters={"driver": ["bridge"]})] == [
        "a",
        "net",
    ]


def test_connect_and_disconnect(engine, tells, told):
    tells("POST /networks/net/connect")
    tells("POST /networks/net/disconnect")
    engine.networks.connect("net", "web")
    assert told()[2] == {"Container": "web", "EndpointConfig": {}}
    engine.networks.connect("net", "web", EndpointSpec("net", aliases=("db",), ip="10.9.0.5"))
    config = told()[2]["EndpointConfig"]
    assert config["Aliases"] == ["db"] and config["IPAMConfig"]["IPv4Address"] == "10.9.0.5"
    engine.networks.disconnect("net", "web", force=True)
    assert told()[2] == {"Container": "web", "Force": True}


def test_remove(engine, tells, told):
    tells("DELETE /networks/net", None, 204)
    engine.networks.remove("net")
    words = "bridge is a pre-defined network and cannot be removed"
    tells("DELETE /networks/bridge", {"message": words}, 403)
    with pytest.raises(PermissionDenied, match=words):
        engine.networks.remove("bridge")
