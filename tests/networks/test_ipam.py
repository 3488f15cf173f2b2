"""Which addresses networks and containers get."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import Conflict, InvalidArgument, PermissionDenied
from cellbox.model.network import NetworkSpec, Subnet
from cellbox.networks import ipam

PREFIXES = st.integers(20, 30)


def spec(*subnets: Subnet, ipv6: bool = False) -> NetworkSpec:
    return NetworkSpec("n", subnets=subnets, ipv6=ipv6)


def test_the_default_pools_come_in_docker_s_order():
    taken: list[str] = []
    for _ in range(31):
        (chosen,) = ipam.choose(spec(), taken)
        taken.append(chosen.subnet)
    assert taken[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert taken[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    with pytest.raises(InvalidArgument, match="fully subnetted"):
        ipam.choose(spec(), taken)


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 255), st.integers(12, 32)), max_size=20)
)
def test_what_is_chosen_overlaps_neither_networks_nor_routes(parts):
    blocks = [
        str(ipaddress.ip_network(f"172.{16 + second}.{third}.0/{prefix}", strict=False))
        for second, third, prefix in parts
    ]
    half = len(blocks) // 2
    (chosen,) = ipam.choose(spec(), blocks[:half], routes=blocks[half:])
    pool = ipaddress.ip_network(chosen.subnet)
    assert not any(pool.overlaps(ipaddress.ip_network(block)) for block in blocks)
    assert chosen.gateway == str(pool[1])


def test_a_route_that_leads_everywhere_leaves_nothing_to_choose():
    with pytest.raises(InvalidArgument):
        ipam.choose(spec(), [], routes=["0.0.0.0/0"])


def test_an_ipv6_pool_is_local_and_belongs_to_the_seed():
    four, six = ipam.choose(spec(ipv6=True), [], seed="a")
    _, other = ipam.choose(spec(ipv6=True), [six.subnet], seed="a")
    _, foreign = ipam.choose(spec(ipv6=True), [], seed="b")
    assert four.subnet == "172.17.0.0/16"
    pools = [ipaddress.ip_network(one.subnet) for one in (six, other, foreign)]
    assert all(one.prefixlen == 64 and one.subnet_of(_local()) for one in pools)
    assert pools[0].supernet(new_prefix=48) == pools[1].supernet(new_prefix=48)
    assert len(set(pools)) == 3
    assert pools[0].supernet(new_prefix=48) != pools[2].supernet(new_prefix=48)


def _local() -> ipaddress.IPv6Network:
    return ipaddress.IPv6Network("fd00::/8")


def test_what_is_asked_for_is_kept():
    asked = Subnet("10.1.0.0/16", "10.1.0.254", "10.1.5.0/24", {"router": "10.1.5.1"})
    assert ipam.choose(spec(asked), []) == (asked,)
    (gateway,) = ipam.choose(spec(Subnet("10.1.0.0/16", "", "10.1.5.0/24")), [])
    assert gateway.gateway == "10.1.5.1"


def test_an_ipv6_subnet_alone_gets_an_ipv4_pool_too():
    four, six = ipam.choose(spec(Subnet("FD00:1:0::/64")), [])
    assert (four.subnet, six.subnet) == ("172.17.0.0/16", "fd00:1::/64")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Subnet("10.0.0.5/24"), "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"),
        (Subnet("10.0.0.0"), "invalid CIDR block notation"),
        (Subnet("ten/8"), "invalid CIDR block notation"),
        (Subnet("10.0.0.0/33"), "invalid CIDR block notation"),
        (Subnet("10.0.0.0/24", "x"), "invalid gateway x: invalid address"),
        (Subnet("10.0.0.0/24", "10.0.1.1"), "doesn't contain this address"),
        (Subnet("10.0.0.0/24", "fd00::1"), "parent subnet is an IPv4 block"),
        (Subnet("10.0.0.0/24", "", "10.0.0.0/16"), "bigger than its parent subnet"),
        (Subnet("10.0.0.0/24", "", "10.0.1.0/25"), "doesn't contain ip-range"),
        (Subnet("10.0.0.0/24", "", "fd00::/96"), "parent subnet is an IPv4 block"),
        (Subnet("10.0.0.0/24", "", "10.0.0.3/25"), "it should be 10.0.0.0/25"),
        (Subnet("10.0.0.0/24", "", "", {"a": "10.0.9.9"}), "invalid auxiliary address 10.0.9.9"),
        (Subnet("10.0.0.0/24", "10.0.0.9", "", {"a": "10.0.0.9"}), "already in use"),
        (Subnet("", "10.0.0.1"), "needs a subnet"),
    ],
)
def test_a_wrong_subnet_is_refused(asked, words):
    with pytest.raises(InvalidArgument) as caught:
        ipam.choose(spec(asked), [])
    assert words in str(caught.value)


@pytest.mark.parametrize("other", ["10.0.0.0/8", "10.0.0.128/25", "10.0.0.0/24"])
def test_an_overlap_is_refused_as_docker_does(other):
    with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address"):
        ipam.choose(spec(Subnet("10.0.0.0/24")), [other])
    with pytest.raises(PermissionDenied):
        ipam.choose(spec(Subnet(other), Subnet("10.0.0.0/24")), [])


def test_what_is_asked_for_may_lie_on_a_route_of_the_host():
    asked = Subnet("10.0.0.0/24", "10.0.0.1")
    assert ipam.choose(spec(asked), [], routes=["10.0.0.0/8"]) == (asked,)


@pytest.mark.parametrize("other", ["10.0.0.0/8", "10.0.0.128/25", "fd00::1/128"])
def test_pools_of_another_manager_are_to_be_free_too(other):
    pools = [Subnet("10.0.0.0/24", pool="p1"), Subnet("fd00::/64", pool="p2")]
    ipam.check_free(pools, [])
    ipam.check_free(pools, ["10.0.1.0/24", "fd00:1::/64", "0.0.0.0/32"])
    with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address"):
        ipam.check_free(pools, ["10.0.1.0/24", other])


# Containers -------------------------------------------------------------------------------------


@given(PREFIXES, st.sets(st.integers(0, 40)), st.integers(0, 3))
def test_the_lowest_free_address_is_picked(prefix, used, gateway):
    pool = ipaddress.ip_network(f"10.0.0.0/{prefix}")
    subnet = ipam.check(Subnet(str(pool), str(pool[gateway])))
    taken = [f"{pool[one]}/{prefix}" for one in used if one < pool.num_addresses]
    free = [
        one for one in pool.hosts() if str(one) != subnet.gateway and f"{one}/{prefix}" not in taken
    ]
    if free:
        assert ipam.pick([subnet], taken, v6=False) == f"{free[0]}/{prefix}"
    else:
        with pytest.raises(Conflict, match="no available IPv4 addresses"):
            ipam.pick([subnet], taken, v6=False)


@given(st.integers(25, 32))
def test_every_address_is_given_once(prefix):
    subnet = ipam.check(Subnet(f"10.0.0.0/{prefix}", f"10.0.0.{0 if prefix == 32 else 1}"))
    taken: list[str] = []
    with pytest.raises(Conflict):
        while True:
            taken.append(ipam.pick([subnet], taken, v6=False))
    assert len(set(taken)) == len(taken) == {31: 1, 32: 0}.get(prefix, 2 ** (32 - prefix) - 3)


def test_a_range_and_what_is_reserved_are_heeded():
    subnet = ipam.check(Subnet("10.0.0.0/24", "10.0.0.1", "10.0.0.64/30", {"a": "10.0.0.65"}))
    taken: list[str] = []
    for expected in ("10.0.0.64/24", "10.0.0.66/24", "10.0.0.67/24"):
        taken.append(ipam.pick([subnet], taken, v6=False))
        assert taken[-1] == expected
    with pytest.raises(Conflict):
        ipam.pick([subnet], taken, v6=False)
    # What is asked for may lie outside the range.
    assert ipam.pick([subnet], taken, "10.0.0.9", v6=False) == "10.0.0.9/24"


def test_a_second_pool_is_used_when_the_first_is_full():
    pools = [ipam.check(Subnet("10.0.0.0/30")), ipam.check(Subnet("10.0.1.0/30"))]
    assert ipam.pick(pools, ["10.0.0.2"], v6=False) == "10.0.1.2/30"


def test_ipv6_addresses():
    pools = [ipam.check(Subnet("10.0.0.0/24")), ipam.check(Subnet("fd00:1::/64"))]
    assert pools[1].gateway == "fd00:1::1"
    assert ipam.pick(pools, [], v6=True) == "fd00:1::2/64"
    assert ipam.pick(pools, ["fd00:1::2/64"], v6=True) == "fd00:1::3/64"
    assert ipam.pick(pools, [], "fd00:1:0::ff", v6=True) == "fd00:1::ff/64"
    assert ipam.pick(pools[:1], [], v6=True) == ""


@pytest.mark.parametrize("asked", ["10.0.0.0", "10.0.0.1", "10.0.0.7", "10.0.0.9", "10.0.0.255"])
def test_an_address_that_is_not_free_is_refused(asked):
    subnet = ipam.check(Subnet("10.0.0.0/24", "", "", {"a": "10.0.0.9"}))
    with pytest.raises(PermissionDenied, match="Address already in use"):
        ipam.pick([subnet], ["10.0.0.7/24"], asked, v6=False)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("10.0.1.1", "It does not belong to any of this network's subnets"),
        ("fd00::1", "invalid IPv4 address: fd00::1"),
        ("10.0.0", "invalid IPv4 address: 10.0.0"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(asked, words):
    with pytest.raises(InvalidArgument, match=words):
        ipam.pick([ipam.check(Subnet("10.0.0.0/24"))], [], asked, v6=False)


def test_mac_addresses_are_docker_s():
    assert ipam.mac_of("172.17.0.2") == "02:42:ac:11:00:02"
    assert ipam.mac_of("172.17.0.2/16") == "02:42:ac:11:00:02"
    assert ipam.mac_of("fd00::1:2") == "02:42:00:01:00:02"


def test_who_has_no_address_gets_any_mac_of_the_same_kind():
    found = {ipam.any_mac() for _ in range(8)}
    assert len(found) == 8
    assert all(re.fullmatch(r"02:42(:[0-9a-f]{2}){4}", one) for one in found)
