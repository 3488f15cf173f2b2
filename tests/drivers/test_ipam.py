"""The protocol of address managers: what is sent, and what is made of the answers."""

from __future__ import annotations

import pytest
from tests.drivers.programs import ledger

from cellbox.drivers.ipam import IpamProgram
from cellbox.errors import EngineError, NotSupported
from cellbox.model.network import Subnet

POOL = "10.77.0.0/24"
GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


def managed(served, pool=POOL, **answers):
    """A client of a manager of one pool, what that has given, and the manager."""
    usual, given = ledger(pool)
    client = served({**usual, **{f"IpamDriver.{name}": one for name, one in answers.items()}})
    return client, given, IpamProgram(client)


def methods(client):
    """What was called, each with the address that it was about, if any."""
    return [
        (method.removeprefix("IpamDriver."), *filter(None, [body.get("Address")]))
        for method, body in client.calls
    ]


def pool_of(told, **data):
    """An answer to RequestPool."""
    return {"PoolID": "p", "Pool": told, "Data": data}


# Pools --------------------------------------------------------------------------------------------


def test_any_pool_and_any_gateway(served):
    client, given, manager = managed(served)
    found = manager.take_pool(Subnet(), {"site": "a"}, v6=False)
    assert found == Subnet(POOL, "10.77.0.1", pool="pool one")
    assert given == {POOL, "10.77.0.1"}
    request = {"AddressSpace": "near", "Pool": "", "SubPool": "", "Options": {"site": "a"}}
    assert client.calls == [
        ("IpamDriver.GetDefaultAddressSpaces", {}),
        ("IpamDriver.RequestPool", {**request, "V6": False}),
        ("IpamDriver.RequestAddress", {"PoolID": "pool one", "Address": "", "Options": GATEWAY}),
    ]


def test_the_pool_that_is_asked_for_with_all_that_is_in_it(served):
    client, given, manager = managed(served)
    reserved = {"router": "10.77.0.8", "printer": "10.77.0.9"}
    asked = Subnet(POOL, "10.77.0.254", "10.77.0.128/25", reserved)
    found = manager.take_pool(asked, {}, v6=False)
    assert found == Subnet(POOL, "10.77.0.254", "10.77.0.128/25", reserved, "pool one")
    assert given == {POOL, "10.77.0.254", "10.77.0.8", "10.77.0.9"}
    _, (_, request), (_, gateway), (_, first), _ = client.calls
    assert (request["Pool"], request["SubPool"]) == (POOL, "10.77.0.128/25")
    assert gateway == {"PoolID": "pool one", "Address": "10.77.0.254", "Options": GATEWAY}
    assert first == {"PoolID": "pool one", "Address": "10.77.0.8", "Options": {}}
    client.calls.clear()
    manager.drop_pool(found)
    assert given == set()
    assert methods(client)[-1] == ("ReleasePool",)
    assert sorted(client.calls[:-1], key=str) == [
        ("IpamDriver.ReleaseAddress", {"PoolID": "pool one", "Address": address})
        for address in ("10.77.0.254", "10.77.0.8", "10.77.0.9")
    ]


def test_a_pool_of_ipv6(served):
    answers = {
        "RequestPool": lambda body: pool_of("FD00:0:1::/64" if body["V6"] else POOL),
        "RequestAddress": {"Address": "fd00:0:1:0::1/64"},
    }
    _, _, manager = managed(served, **answers)
    found = manager.take_pool(Subnet(), {}, v6=True)
    assert found == Subnet("fd00:0:1::/64", "fd00:0:1::1", pool="p")


def test_a_pool_that_has_a_gateway_by_itself(served):
    own = pool_of(POOL, **{"com.docker.network.gateway": "10.77.0.200/24"})
    client, _, manager = managed(served, RequestPool=own)
    assert manager.take_pool(Subnet(), {}, v6=False).gateway == "10.77.0.200"
    assert methods(client) == [("GetDefaultAddressSpaces",), ("RequestPool",)]
    # The one that is asked for is taken all the same, as Docker does.
    asked = Subnet(gateway="10.77.0.3")
    assert manager.take_pool(asked, {}, v6=False).gateway == "10.77.0.3"
    assert methods(client)[-1] == ("RequestAddress", "10.77.0.3")


@pytest.mark.parametrize("spaces", [{}, {"LocalDefaultAddressSpace": None}])
def test_one_without_address_spaces(served, spaces):
    client, _, manager = managed(served, GetDefaultAddressSpaces=spaces)
    manager.take_pool(Subnet(), {}, v6=False)
    assert client.calls[1][1]["AddressSpace"] == ""


def test_a_pool_that_it_has_not(served):
    client, given, manager = managed(served)
    with pytest.raises(EngineError, match=r"IpamDriver\.RequestPool: 10\.9\.0\.0/16 is not ours"):
        manager.take_pool(Subnet("10.9.0.0/16"), {}, v6=False)
    assert methods(client)[-1] == ("RequestPool",)
    assert given == set()


def test_what_was_taken_is_given_back_if_a_pool_cannot_be_had_whole(served):
    client, given, manager = managed(served)
    given.add("10.77.0.9")  # somebody else's
    reserved = {"mine": "10.77.0.8", "theirs": "10.77.0.9", "never": "10.77.0.10"}
    with pytest.raises(EngineError, match=r"10\.77\.0\.9 is taken"):
        manager.take_pool(Subnet(reserved=reserved), {}, v6=False)
    assert given == {"10.77.0.9"}
    assert ("ReleaseAddress", "10.77.0.9") not in methods(client)


def test_a_gateway_that_is_taken(served):
    client, given, manager = managed(served)
    given.add("10.77.0.3")
    with pytest.raises(EngineError, match=r"10\.77\.0\.3 is taken"):
        manager.take_pool(Subnet(gateway="10.77.0.3", reserved={"a": "10.77.0.4"}), {}, v6=False)
    assert given == {"10.77.0.3"}
    assert methods(client)[-1] == ("ReleasePool",)


def test_what_failed_first_is_told(served):
    failing = {"Error": "nor that"}
    answers = {"RequestAddress": {"Error": "full"}, "ReleasePool": failing}
    _, _, manager = managed(served, **answers)
    with pytest.raises(EngineError, match=r"IpamDriver\.RequestAddress: full"):
        manager.take_pool(Subnet(), {}, v6=False)


def test_all_is_given_back_whatever_fails(served):
    client, given, manager = managed(served, ReleaseAddress=lambda body: {"Err": "no"})
    pool = manager.take_pool(Subnet(reserved={"a": "10.77.0.8"}), {}, v6=False)
    client.calls.clear()
    with pytest.raises(EngineError, match=r"IpamDriver\.ReleaseAddress: no"):
        manager.drop_pool(pool)
    assert POOL not in given
    assert {one[0] for one in methods(client)[:2]} == {"ReleaseAddress"}
    assert methods(client)[2:] == [("ReleasePool",)]


@pytest.mark.parametrize(
    "told", ["", "10.77.0.0", "10.77.0.5/24", "pool", 5, None, ["10.77.0.0/24"], "10.0.0.0/33"]
)
def test_a_pool_that_is_none_is_given_back(served, told):
    client, _, manager = managed(served, RequestPool=pool_of(told))
    with pytest.raises(EngineError) as caught:
        manager.take_pool(Subnet(), {}, v6=False)
    assert str(caught.value) == (
        "the plugin shelf does not answer IpamDriver.RequestPool with a pool such as 10.0.0.0/16"
    )
    assert client.calls[2:] == [("IpamDriver.ReleasePool", {"PoolID": "p"})]


@pytest.mark.parametrize("id", ["", None, 5, ["p"]])
def test_a_pool_without_an_id(served, id):
    client, _, manager = managed(served, RequestPool={"PoolID": id, "Pool": POOL})
    with pytest.raises(EngineError, match="with the id of a pool"):
        manager.take_pool(Subnet(), {}, v6=False)
    assert methods(client)[-1] == ("RequestPool",)  # it cannot be called anything


@pytest.mark.parametrize("gateway", ["10.77.0.1", "x", 5, ["10.77.0.1/24"]])
def test_a_gateway_of_its_own_that_is_none(served, gateway):
    own = pool_of(POOL, **{"com.docker.network.gateway": gateway})
    client, _, manager = managed(served, RequestPool=own)
    with pytest.raises(EngineError, match="an address such as"):
        manager.take_pool(Subnet(), {}, v6=False)
    assert methods(client)[-1] == ("ReleasePool",)


@pytest.mark.parametrize("data", [None, [], "text", {"com.docker.network.gateway": ""}])
def test_data_that_has_no_gateway(served, data):
    answers = {"RequestPool": {"PoolID": "p", "Pool": POOL, "Data": data}}
    _, _, manager = managed(served, **answers)
    assert manager.take_pool(Subnet(), {}, v6=False).gateway == "10.77.0.1"


# Addresses ----------------------------------------------------------------------------------------


def test_addresses_come_and_go(served):
    client, given, manager = managed(served)
    pool = Subnet(POOL, pool="pool one")
    assert manager.take(pool) == "10.77.0.1/24"
    assert manager.take(pool, "10.77.0.40", mac="02:42:0a:4d:00:28") == "10.77.0.40/24"
    manager.drop(pool, "10.77.0.1")
    assert given == {"10.77.0.40"}
    mac = {"com.docker.network.endpoint.macaddress": "02:42:0a:4d:00:28"}
    asked = {"PoolID": "pool one", "Address": "10.77.0.40", "Options": mac}
    assert client.calls == [
        ("IpamDriver.RequestAddress", {"PoolID": "pool one", "Address": "", "Options": {}}),
        ("IpamDriver.RequestAddress", asked),
        ("IpamDriver.ReleaseAddress", {"PoolID": "pool one", "Address": "10.77.0.1"}),
    ]
    with pytest.raises(EngineError, match="is taken"):
        manager.take(pool, "10.77.0.40")


@pytest.mark.parametrize(
    "answer",
    [{}, *({"Address": one} for one in ("", "10.77.0.2", "x/24", 5, None, ["10.77.0.2/24"]))],
)
def test_an_address_that_is_none(served, answer):
    _, _, manager = managed(served, RequestAddress=answer)
    with pytest.raises(EngineError) as caught:
        manager.take(Subnet(POOL, pool="p"))
    assert str(caught.value) == (
        "the plugin shelf does not answer IpamDriver.RequestAddress with an address such as "
        "10.0.0.2/16"
    )


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"RequiresMACAddress": True}, True),
        ({"RequiresMACAddress": False, "RequiresRequestReplay": True}, False),
        ({"RequiresMACAddress": "yes"}, False),
        ({}, False),
        ((404, b"404 page not found\n"), False),
    ],
)
def test_must_it_know_the_hardware_address(served, answer, wanted):
    _, _, manager = managed(served, GetCapabilities=answer)
    assert manager.wants_mac() is wanted


def test_a_method_that_it_must_have(served):
    with pytest.raises(NotSupported, match=r"has no IpamDriver\.RequestAddress"):
        IpamProgram(served({})).take(Subnet(POOL, pool="p"))
