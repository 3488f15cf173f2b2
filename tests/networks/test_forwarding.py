"""Letting the kernel forward, and others' rules."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cellbox.networks import forwarding, links
from cellbox.networks.links import Routing
from cellbox.networks.nft import Nft

pytestmark = pytest.mark.root


@pytest.fixture
def iptables():
    if not shutil.which("iptables", path=forwarding._PATH):
        pytest.skip("needs iptables")
    return "iptables"


def links_of_a_host():
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    with Routing() as routing:
        routing.ensure_bridge("cba", ["10.1.0.1/24"], mac="02:42:00:00:00:01")
        routing.ensure_bridge("virbr0", [], mac="02:42:00:00:00:02")
        routing.do(links.new_veth("v0", "v1", here))


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_not_forwarded_before_is_noted(apart, tmp_path, version):
    def action():
        links_of_a_host()
        links.write_sysctl(forwarding._SYSCTL[version], "0")
        run = str(tmp_path)
        first = forwarding.closed(run, version, ["cba"])
        before = forwarding.forwards(version)
        forwarding.enable(version)
        forwarding.enable(version)
        return first, before, forwarding.forwards(version), forwarding.closed(run, version, [])

    first, before, after, again = apart(action)
    assert "virbr0" in first and not {"cba", "lo", "v0", "v1"} & set(first)
    assert (before, after, again) == (False, True, first)
    assert [one.name for one in tmp_path.iterdir()] == [f"forwarding{version}.json"]


def test_a_host_that_forwards_stays_as_it_is(apart, tmp_path):
    def action():
        links_of_a_host()
        links.write_sysctl("net/ipv4/ip_forward", "1")
        return forwarding.closed(str(tmp_path), 4, ["cba"])

    assert apart(action) == ()
    assert not list(tmp_path.iterdir())


def test_routers_are_heard_of_as_before(apart):
    def action():
        links_of_a_host()
        links.write_sysctl("net/ipv6/conf/virbr0/accept_ra", "1")
        links.write_sysctl("net/ipv6/conf/v0/accept_ra", "0")
        forwarding.enable(6)
        conf = Path("/proc/sys/net/ipv6/conf")
        return [(conf / name / "accept_ra").read_text().strip() for name in ("virbr0", "v0")]

    assert apart(action) == ["2", "0"]


@pytest.mark.parametrize("chain", ["DOCKER-USER", "FORWARD"])
def test_iptables_lets_our_bridges_pass(apart, space, iptables, chain):
    def action():
        here = space(new=False)
        here.run(iptables, "-P", "FORWARD", "DROP")
        if chain == "DOCKER-USER":
            here.run(iptables, "-N", chain)
            here.run(iptables, "-A", "FORWARD", "-j", chain)
        nft, found = Nft(), []
        for bridges in (["cba", "cbb"], ["cba", "cbb"], ["cbb"], []):
            forwarding.pass_through(nft, "cellbox-1", bridges)
            forwarding.pass_through(nft, "cellbox-2", ["other"])
            rules = here.run(iptables, "-S", chain).splitlines()
            found.append(sorted(line for line in rules if "cellbox-1" in line))
        return found

    found = apart(action)
    assert [len(lines) for lines in found] == [4, 4, 2, 0]
    assert found[2] == [
        f"-A {chain} {flag} cbb -m comment --comment cellbox-1 -j ACCEPT" for flag in ("-i", "-o")
    ]


def test_iptables_that_drops_nothing_is_left_alone(apart, space, iptables):
    def action():
        here = space(new=False)
        here.run(iptables, "-P", "FORWARD", "ACCEPT")
        forwarding.pass_through(Nft(), "cellbox-1", ["cba"])
        return here.run(iptables, "-S", "FORWARD")

    assert apart(action).strip() == "-P FORWARD ACCEPT"
