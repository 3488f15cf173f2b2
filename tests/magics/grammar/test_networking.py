"""--network and the flags beside it."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import Dns
from cellbox.model.network import EndpointSpec
from cellbox_magics.grammar import networking

MAC = "02:42:0a:00:00:01"


def flags(**given):
    """The flags of ``run`` that are about networks, as click gives them."""
    lists = ("network", "network_alias", "link", "dns", "dns_search", "dns_option")
    single = ("ip", "ip6", "mac_address")
    return {**dict.fromkeys(lists, ()), **dict.fromkeys(single), **given}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("net", EndpointSpec("net")),
        ("container:web", EndpointSpec("container:web")),
        ("name=net", EndpointSpec("net")),
        ("alias=a,name=net,alias=b", EndpointSpec("net", aliases=("a", "b"))),
        (
            "name=net, ip=10.0.0.9 ,ip6=FD00::9,mac-address=02-42-0A-00-00-01",
            EndpointSpec("net", ip="10.0.0.9", ip6="fd00::9", mac=MAC),
        ),
        (
            'name=net,"driver-opt=a=b,c",driver-opt=d=e,gw-priority=-2',
            EndpointSpec("net", driver_options={"a": "b,c", "d": "e"}, priority=-2),
        ),
    ],
)
def test_a_network_is_a_name_or_a_line_of_csv(text, made):
    assert networking.network(text) == made


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no name set for network"),
        ("alias=x", "network name/id is not specified"),
        ("name=", "network name/id is not specified"),
        ("name=a,foo=b", "invalid field key foo"),
        ("name=a,foo", "invalid field foo"),
        ("name=a,ip=zz", "invalid IPv4 address: zz"),
        ("name=a,ip=::1", "invalid IPv4 address: ::1"),
        ("name=a,ip6=10.0.0.1", "invalid IPv6 address: 10.0.0.1"),
        ("name=a,mac-address=zz", "zz is not a valid mac address"),
        ("name=a,gw-priority=x", "invalid gw-priority (x)"),
        ("name=a,driver-opt=x", "driver-opt x: write it as key=value"),
    ],
)
def test_what_is_no_network(text, sentence):
    with pytest.raises(InvalidArgument) as caught:
        networking.network(text)
    assert sentence in str(caught.value)


def test_link_local_addresses_are_refused():
    with pytest.raises(NotSupported, match="link-local"):
        networking.network("name=a,link-local-ip=169.254.1.1")


def test_who_names_no_network_gets_the_engines():
    assert networking.attached(flags()) == ("default", (), ())


def test_the_first_network_is_the_main_one():
    found = networking.attached(flags(network=("a", "name=b,alias=x"), ip="10.0.0.9"))
    assert found.network == "a"
    assert found.endpoints == (
        EndpointSpec("a", ip="10.0.0.9"), EndpointSpec("b", aliases=("x",)),
    )  # fmt: skip
    plain = networking.attached(flags(network=("a", "b")))
    assert (plain.network, plain.endpoints) == ("a", (EndpointSpec("b"),))


def test_links_belong_to_a_network_of_the_users_or_to_the_container():
    mine = networking.attached(flags(network=("a",), link=("web:w", "db")))
    assert mine == ("a", (EndpointSpec("a", links=("web:w", "db")),), ())
    assert networking.attached(flags(link=("web:w",))) == ("default", (), ("web:w",))


@pytest.mark.parametrize("written", ["02:42:0A:00:00:01", "02-42-0a-00-00-01", "0242.0a00.0001"])
def test_a_mac_address_has_one_spelling(written):
    (found,) = networking.attached(flags(mac_address=written)).endpoints
    assert found == EndpointSpec("default", mac=MAC)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"network": ("a", "b", "a")}, 'network "a" is specified multiple times'),
        ({"network": ("default", "bridge")}, 'network "bridge" is specified multiple times'),
        ({"network": ("a", "host")}, "cannot attach both user-defined and non-user-defined"),
        ({"network": ("name=a,alias=x",), "network_alias": ("y",)}, "both --network-alias and"),
        ({"network": ("name=a,ip=10.0.0.1",), "ip": "10.0.0.2"}, "both --ip and per-network IPv4"),
        ({"network": ("name=a,ip6=fd00::1",), "ip6": "fd00::2"}, "both --ip6 and"),
        ({"network": (f"name=a,mac-address={MAC}",), "mac_address": MAC}, "both --mac-address"),
        ({"network_alias": ("x",)}, "only supported for user-defined networks"),
        ({"network": ("host",), "ip": "10.0.0.1"}, "supported on user defined networks only"),
        ({"network": ("container:web",), "ip6": "fd00::1"}, "user defined networks only"),
        ({"ip": "1.2.3.4.5"}, "invalid IPv4 address: 1.2.3.4.5"),
        ({"mac_address": "zz"}, "zz is not a valid mac address"),
        ({"link": ("a:b:c",)}, "bad format for links: a:b:c"),
        ({"link": (":b",)}, "bad format for links: :b"),
    ],
)
def test_flags_that_contradict_each_other(given, sentence):
    with pytest.raises(InvalidArgument) as caught:
        networking.attached(flags(**given))
    assert sentence in str(caught.value)


def test_a_resolver_of_ones_own():
    given = flags(dns=("1.1.1.1", "FD00::1"), dns_search=("a.b", "."), dns_option=("ndots:2",))
    assert networking.dns(given) == Dns(("1.1.1.1", "fd00::1"), ("a.b", "."), ("ndots:2",))
    with pytest.raises(InvalidArgument, match="IP address is not correctly formatted: ns"):
        networking.dns(flags(dns=("ns",)))
    for wrong in ("a=b", "12", "-a", "a" * 256, ""):
        with pytest.raises(InvalidArgument, match="not a valid domain"):
            networking.dns(flags(dns_search=(wrong,)))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("db:10.0.0.1", "db:10.0.0.1"),
        ("db=10.0.0.1", "db:10.0.0.1"),
        ("db:FD00::1", "db:fd00::1"),
        ("db=[fd00::1]", "db:fd00::1"),
        ("host:host-gateway", "host:host-gateway"),
    ],
)
def test_a_host_has_an_address(text, made):
    assert networking.extra_host(text) == made


def test_what_is_no_host():
    with pytest.raises(InvalidArgument, match='bad format for add-host: "db"'):
        networking.extra_host("db")
    with pytest.raises(InvalidArgument, match='invalid IP address in add-host: "zz"'):
        networking.extra_host("db:zz")


def test_egress_lists_what_may_be_reached():
    found = networking.egress(["dns:PyPI.org.,10.1.2.3/8", "fd00::/8", "1.1.1.1"], "default")
    assert found == ("dns:pypi.org", "10.0.0.0/8", "fd00::/8", "1.1.1.1/32")
    assert networking.egress(["none"], "mine") == ("none",)
    assert networking.egress([], "host") == ()


@pytest.mark.parametrize("word", ["pypi.org", "dns:", "dns:a b", "10.0.0.0/33", "all"])
def test_what_cannot_be_reached_has_a_way_out(word):
    with pytest.raises(InvalidArgument, match="write it as none, dns:pypi.org or 10.0.0.0/8"):
        networking.egress([word], "default")


def test_egress_contradicts_itself_and_the_network():
    with pytest.raises(InvalidArgument, match="none and what may be reached"):
        networking.egress(["none,10.0.0.0/8"], "default")
    for network in ("host", "container:web"):
        with pytest.raises(InvalidArgument, match=f"container's own, not {network}"):
            networking.egress(["none"], network)
