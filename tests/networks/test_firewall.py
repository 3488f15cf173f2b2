"""What may go where, as text and as the kernel does it."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from cellbox.errors import EngineError, InvalidArgument
from cellbox.model.codec import dumps, loads
from cellbox.networks import firewall, links
from cellbox.networks.links import Routing
from cellbox.networks.nft import Nft
from cellbox.networks.plug import plug as connect
from cellbox.networks.rules import Bridge, Egress, Published, Ruleset
from cellbox.networks.wiring import Plug

TABLE = firewall.table_of("/run/cellbox/test")
A = Bridge("cba", ("10.1.0.0/24", "fd00:1::/64"))
B = Bridge("cbb", ("10.2.0.0/24",))


def text(**facts) -> str:
    """The rules, one space between words."""
    rules = firewall.text(TABLE, Ruleset(**facts), guarded=False)
    return re.sub(r"\s+", " ", rules)


# Text -------------------------------------------------------------------------------------------


def test_the_table_is_made_anew_in_one_transaction():
    assert TABLE == "cellbox-8e6ca0f6" or re.fullmatch("cellbox-[0-9a-f]{8}", TABLE)
    assert text().startswith(
        f"table inet {TABLE} delete table inet {TABLE} table inet {TABLE} {{ chain forward"
    )
    assert firewall.table_of("/run/other") != TABLE


def test_what_leaves_a_subnet_not_by_its_bridge_is_masqueraded():
    rules = text(bridges=(A, replace(B, masquerade=False)))
    assert 'ip saddr 10.1.0.0/24 oifname != "cba" masquerade' in rules
    assert 'ip6 saddr fd00:1::/64 oifname != "cba" masquerade' in rules
    assert 'ip saddr 10.2.0.0/24 oifname != "cbb" masquerade' not in rules


def test_networks_are_apart():
    rules = text(bridges=(A, B))
    assert 'oifname { "cba", "cbb" } ct status dnat accept oifname { "cba", "cbb" } drop' in rules
    assert 'iifname "cba" oifname "cba" accept' in rules


def test_an_internal_network_has_no_way_out_or_in():
    rules = text(bridges=(A, replace(B, internal=True)))
    assert 'iifname { "cbb" } drop oifname { "cbb" } drop' in rules
    assert 'iifname "cbb" ip daddr != { 10.2.0.0/24 } drop' in rules
    assert 'iifname "cbb" meta nfproto ipv6 drop' in rules
    assert 'oifname != "cbb" masquerade' not in rules
    # before what is published is accepted
    assert rules.index('iifname { "cbb" } drop') < rules.index("} ct status dnat accept")


def test_neighbours_may_be_kept_apart_but_for_published_ports():
    rules = text(bridges=(replace(A, icc=False),))
    assert (
        'iifname "cba" oifname "cba" ct status dnat accept iifname "cba" oifname "cba" drop'
        in rules
    )


@pytest.mark.parametrize(
    ("port", "rule"),
    [
        (
            Published(8080, "10.1.0.2", 80),
            "meta nfproto ipv4 tcp dport 8080 dnat ip to 10.1.0.2:80",
        ),
        (
            Published(53, "10.1.0.2", 53, "udp", "0.0.0.0"),
            "meta nfproto ipv4 udp dport 53 dnat ip to 10.1.0.2:53",
        ),
        (
            Published(8080, "10.1.0.2", 80, "sctp", "192.0.2.9"),
            "ip daddr 192.0.2.9 sctp dport 8080 dnat ip to 10.1.0.2:80",
        ),
        (
            Published(80, "fd00:1::2", 8080, host_ip="::"),
            "meta nfproto ipv6 tcp dport 80 dnat ip6 to [fd00:1::2]:8080",
        ),
        (
            Published(80, "fd00:1::2", 8080, host_ip="2001:db8::1"),
            "ip6 daddr 2001:db8::1 tcp dport 80 dnat ip6 to [fd00:1::2]:8080",
        ),
    ],
)
def test_published_ports(port, rule):
    rules = text(bridges=(A,), published=(port,))
    assert rule in rules
    assert rules.count("ip daddr != 127.0.0.0/8 jump publish") == 2


def test_a_list_of_what_may_be_reached():
    one = Egress("0" * 12, ("cbv1",), ("10.1.0.2", "fd00:1::2"), ("10.0.0.0/8", "10.1.2.0/24"))
    rules = text(bridges=(A,), egress=(one,))
    assert "ip saddr vmap { 10.1.0.2 : jump egress-000000000000 }" in rules
    assert "ip6 saddr vmap { fd00:1::2 : jump egress-000000000000 }" in rules
    assert "ip daddr { 10.0.0.0/8 } return" in rules
    assert 'iifname vmap { "cbv1" : jump guard-000000000000 }' in rules
    assert "ether type ip ip saddr != { 10.1.0.2 } drop" in rules
    assert rules.index('oifname "cba" accept') < rules.index("jump egress ")


def test_interfaces_that_were_not_forwarded_between_stay_so():
    rules = text(closed=("eth0", "eth1"))
    assert 'meta nfproto ipv4 iifname { "eth0", "eth1" } oifname { "eth0", "eth1" } drop' in rules
    assert "ipv6" not in rules


@pytest.mark.parametrize(
    "facts",
    [
        {"bridges": (Bridge('a" accept #', ()),)},
        {"bridges": (Bridge("a b", (), internal=True),)},
        {"published": (Published(80, "10.1.0.2", 80, "tcp dport 1 accept;"),)},
        {"published": (Published(80, "fe80::1%x ; flush ruleset", 80),)},
        {"published": (Published(80, "10.1.0.2", 80, host_ip="10.0.0.1 accept"),)},
        {"egress": (Egress("a }", (), ("10.1.0.2",)),)},
        {"egress": (Egress("a", ('v" x',), ("10.1.0.2",)),)},
        {"egress": (Egress("a", ("v",), ("fe80::1%} accept",)),)},
        {"closed": ("eth0\n",)},
    ],
)
def test_nothing_that_was_asked_for_becomes_a_rule(facts):
    with pytest.raises((InvalidArgument, ValueError)):
        text(**facts)


def test_no_name_becomes_a_rule():
    with pytest.raises(InvalidArgument):
        firewall.allow_text(TABLE, "a", {"fe80::1%} ; flush ruleset": 5})


def test_the_facts_travel_as_json():
    rules = Ruleset(
        (A, B),
        (Published(80, "10.1.0.2", 80),),
        (Egress("0" * 12, ("cbv1",), ("10.1.0.2",)),),
        closed=("eth0",),
    )
    assert loads(Ruleset, dumps(rules)) == rules


# In the kernel ----------------------------------------------------------------------------------


class Site:
    """A host with the networks ``cba`` and ``cbb``, containers in them, and one neighbour on its
    link to the outside (198.51.100.0/24: the host .1, the neighbour .2), which has no route back.
    """

    def __init__(self, space):
        self.host, self.outside = space(new=False), space()
        self.one, self.two, self.other = space(), space(), space()
        self.nft = Nft()
        with Routing() as routing:
            routing.do(links.change(links.LOOPBACK), links.new_veth("up", "eth0", self.outside.fd))
            routing.do(links.add_address(routing.find("up").index, "198.51.100.1/24"))
            routing.ensure_bridge("cba", ["10.1.0.1/24", "fd00:1::1/64"], mac="02:42:00:00:00:01")
            routing.ensure_bridge("cbb", ["10.2.0.1/24"], mac="02:42:00:00:00:02")
        with self.outside.entered(), Routing() as routing:
            index = routing.find("eth0").index
            routing.do(links.change(index), links.add_address(index, "198.51.100.2/24"))
            links.write_sysctl("net/ipv4/conf/all/rp_filter", "0")
        self._plug(self.one, "cba", "10.1.0.2", "10.1.0.1")
        self._plug(self.two, "cba", "10.1.0.3", "10.1.0.1")
        self._plug(self.other, "cbb", "10.2.0.2", "10.2.0.1")
        links.write_sysctl("net/ipv4/ip_forward", "1")

    def _plug(self, there, bridge, ip, gateway):
        host = f"cbv{ip.replace('.', '')}"
        connect(there.fd, [Plug(bridge, host, ip=f"{ip}/24", gateway=gateway)])

    def apply(self, **facts):
        firewall.apply(self.nft, TABLE, Ruleset(**facts))

    def route_from_outside(self):
        """Let the neighbour send straight to the containers."""
        with self.outside.entered(), Routing() as routing:
            index = routing.find("eth0").index
            for subnet in ("10.1.0.0/24", "10.2.0.0/24"):
                routing.do(links.add_route(index, subnet, "198.51.100.1"))


@pytest.fixture
def site(apart, space):
    """``site(action)``: what ``action(site)`` returns."""
    return lambda action: apart(lambda: action(Site(space)))


@pytest.mark.root
def test_the_way_out_is_under_the_host_s_address(site):
    def action(site):
        with site.outside.listen("198.51.100.2", 80) as listener:
            before = site.one.reaches("198.51.100.2", 80, 0.3)
            site.apply(bridges=(A, B))
            listener.settimeout(3)
            after = site.one.reaches("198.51.100.2", 80)
            return before, after, listener.accept()[1][0]

    assert site(action) == (False, True, "198.51.100.1")


@pytest.mark.root
def test_networks_reach_neither_each_other_nor_are_reached(site):
    def action(site):
        site.apply(bridges=(A, B))
        site.route_from_outside()
        with site.other.listen("10.2.0.2", 80), site.two.listen("10.1.0.3", 80):
            return (
                site.one.reaches("10.1.0.3", 80),
                site.one.reaches("10.2.0.2", 80, 0.3),
                site.outside.reaches("10.1.0.3", 80, 0.3),
                site.host.reaches("10.1.0.3", 80),
            )

    assert site(action) == (True, False, False, True)


@pytest.mark.root
def test_an_internal_network_is_alone(site):
    def action(site):
        site.apply(
            bridges=(replace(A, internal=True), B), published=(Published(8080, "10.2.0.2", 80),)
        )
        site.route_from_outside()
        with (
            site.outside.listen("198.51.100.2", 80),
            site.other.listen("10.2.0.2", 80),
            site.two.listen("10.1.0.3", 80),
            site.host.listen("0.0.0.0", 90),
        ):
            return {
                "out": site.one.reaches("198.51.100.2", 80, 0.3),
                "host": site.one.reaches("198.51.100.1", 90, 0.3),
                "published": site.one.reaches("198.51.100.1", 8080, 0.3),
                "in": site.outside.reaches("10.1.0.3", 80, 0.3),
                "neighbour": site.one.reaches("10.1.0.3", 80),
                "gateway": site.one.reaches("10.1.0.1", 90),
            }

    found = site(action)
    assert {name for name, reached in found.items() if reached} == {"neighbour", "gateway"}


@pytest.mark.root
def test_published_ports_are_reached_from_everywhere(site):
    def action(site):
        site.apply(bridges=(A, B), published=(Published(8080, "10.1.0.2", 80),))
        with site.one.listen("10.1.0.2", 80):
            return {
                "outside": site.outside.reaches("198.51.100.1", 8080),
                "host": site.host.reaches("198.51.100.1", 8080),
                "neighbour": site.two.reaches("198.51.100.1", 8080),
                "itself": site.one.reaches("198.51.100.1", 8080),
                "other network": site.other.reaches("198.51.100.1", 8080),
                "loopback": site.host.reaches("127.0.0.1", 8080, 0.3),
            }

    found = site(action)
    assert {name for name, reached in found.items() if not reached} == {"loopback"}


@pytest.mark.root
def test_a_port_published_at_one_address(site):
    def action(site):
        site.apply(bridges=(A, B), published=(Published(8080, "10.1.0.2", 80, host_ip="10.2.0.1"),))
        with site.one.listen("10.1.0.2", 80):
            return (
                site.host.reaches("10.2.0.1", 8080),
                site.outside.reaches("198.51.100.1", 8080, 0.3),
            )

    assert site(action) == (True, False)


@pytest.mark.root
def test_a_container_with_a_list_reaches_what_is_on_it(site):
    one = Egress("a" * 12, ("cbv10102",), ("10.1.0.2",))

    def action(site):
        found = {}
        with (
            site.outside.listen("198.51.100.2", 80),
            site.host.listen("0.0.0.0", 90),
            site.two.listen("10.1.0.3", 80),
        ):
            site.apply(bridges=(A, B), egress=(one,))
            found["outside"] = site.one.reaches("198.51.100.2", 80, 0.5)
            found["host"] = site.one.reaches("10.1.0.1", 90, 0.5)
            found["neighbour"] = site.one.reaches("10.1.0.3", 80)
            found["of another"] = site.two.reaches("198.51.100.2", 80)
            site.apply(bridges=(A, B), egress=(replace(one, allowed=("198.51.100.0/28",)),))
            found["listed"] = site.one.reaches("198.51.100.2", 80)
            site.apply(bridges=(A, B), egress=(replace(one, allowed=("0.0.0.0/0", "::/0")),))
            found["all"] = site.one.reaches("198.51.100.2", 80)
            site.apply(bridges=(A, B))
            found["without"] = site.one.reaches("10.1.0.1", 90)
        return found

    found = site(action)
    assert {name for name, reached in found.items() if not reached} == {"outside", "host"}


@pytest.mark.root
def test_names_that_were_learned_outlive_other_changes_and_then_end(site):
    one = Egress("a" * 12, ("cbv10102",), ("10.1.0.2",))

    def action(site):
        found = []
        with site.outside.listen("198.51.100.2", 80):
            site.apply(bridges=(A, B), egress=(one,))
            for seconds in (1, 500):  # the second lengthens the first
                firewall.allow(site.nft, TABLE, one.container, {"198.51.100.2": seconds})
            firewall.allow(site.nft, TABLE, one.container, {"2001:db8::1": 60})
            site.apply(bridges=(A,), egress=(one,))
            learned = firewall._learned(site.nft.ask(f"list sets table inet {TABLE}"))
            found.append(site.one.reaches("198.51.100.2", 80))
            firewall.allow(site.nft, TABLE, one.container, {"198.51.100.2": 1})
            deadline = time.monotonic() + 10
            while site.one.reaches("198.51.100.2", 80) and time.monotonic() < deadline:
                time.sleep(0.05)
            found.append(site.one.reaches("198.51.100.2", 80, 0.5))
        return found, learned

    found, learned = site(action)
    assert found == [True, False]
    assert 490 < learned["named4-aaaaaaaaaaaa"]["198.51.100.2"] <= 500
    assert list(learned["named6-aaaaaaaaaaaa"]) == ["2001:db8::1"]


@pytest.mark.root
def test_a_list_holds_under_a_foreign_address_too(site):
    one = Egress("a" * 12, ("cbv10102",), ("10.1.0.2",))

    def action(site):
        with site.outside.listen("198.51.100.2", 80):
            with site.one.entered(), Routing() as routing:
                index = routing.find("eth0").index
                routing.do(links.remove_address(index, "10.1.0.2/24"))
                routing.do(links.add_address(index, "10.1.0.77/24"))
                routing.do(links.add_route(index, "default", "10.1.0.1"))
            site.apply(bridges=(A, B))
            before = site.one.reaches("198.51.100.2", 80)
            site.apply(bridges=(A, B), egress=(one,))
            return before, site.one.reaches("198.51.100.2", 80, 0.5)

    assert site(action) == (True, False)


@pytest.mark.root
def test_what_is_wrong_changes_nothing(site):
    def action(site):
        site.apply(bridges=(A, B))
        before = site.nft.ask(f"list table inet {TABLE}")
        with pytest.raises(EngineError, match="nftables refused the rules"):
            site.apply(bridges=(A, B), published=(Published(80, "10.1.0.2", 80, "nonsense"),))
        after = site.nft.ask(f"list table inet {TABLE}")
        site.apply()
        site.apply()
        return before == after != "", site.nft.ask(f"list table inet {TABLE}")

    assert site(action) == (True, "")


@pytest.mark.root
def test_how_long_it_takes(site, capsys):
    def action(site):
        facts = {
            "bridges": (A, B),
            "published": tuple(Published(8000 + n, "10.1.0.2", 80) for n in range(10)),
        }
        one = Egress("a" * 12, ("cbv10102",), ("10.1.0.2",), ("192.0.2.0/24",))
        found = {}
        for name, more in (("plain", {}), ("with a list", {"egress": (one,)})):
            times = []
            for _ in range(10):
                started = time.perf_counter()
                site.apply(**facts, **more)
                times.append(time.perf_counter() - started)
            found[name] = sorted(times)[5]
        return found

    found = site(action)
    with capsys.disabled():
        print("\n", {name: f"{seconds * 1000:.2f} ms" for name, seconds in found.items()})
    assert set(found) == {"plain", "with a list"}
