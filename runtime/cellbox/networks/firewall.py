"""What may go where between containers, networks and the rest: nftables rules, as text.

A :class:`~cellbox.networks.rules.Ruleset` is all that a store wants. It becomes one table of its
own, made anew as a whole in one transaction (:func:`apply`), so that it is the same whatever was
there before:

* from a network out: under the host's address (masquerade), unless the network is internal;
* into a network: answers, and what arrives at a published port of the host; nothing else, from
  wherever it comes, so networks are apart from each other. The host itself may;
* within a network: all, unless it has been made without (``icc``);
* a container with a list of what it may reach: that, and nothing else outside its network, the host
  included. Addresses that stand for names are added while it runs (:func:`allow`) and end by
  themselves. A second table looks at what such a container sends into its bridge, and drops what is
  not from its own addresses: with NET_RAW it could take those of another.

Connections to a published port at a loopback address do not come by here; a proxy takes them.
"""

from __future__ import annotations

import ipaddress
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from cellbox.errors import InvalidArgument
from cellbox.networks.nft import Nft
from cellbox.networks.rules import Egress, Published, Ruleset

Learned = Mapping[str, Mapping[str, int]]
"""Set -> address -> seconds for which it is still in there."""

_ND = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
_FAMILIES = ((4, "ip"), (6, "ip6"))
_WORD = re.compile(r"[A-Za-z0-9_.@-]{1,15}").fullmatch


def table_of(run_directory: str) -> str:
    """The table of the store with this run directory."""
    return f"cellbox-{zlib.crc32(run_directory.encode()):08x}"


# The edge ---------------------------------------------------------------------------------------


def apply(nft: Nft, table: str, rules: Ruleset) -> None:
    """Make the rules those and no others; where there is nothing to say, there is no table. What
    containers have learned about names they keep. Raises NotSupported, EngineError."""
    if rules == Ruleset():
        remove(nft, table)
        return
    learned = _learned(nft.ask(f"list sets table inet {table}\n")) if rules.egress else {}
    guarded = bool(rules.egress) or bool(nft.ask(f"list table bridge {table}\n"))
    nft.apply(text(table, rules, learned, guarded=guarded))


def allow(nft: Nft, table: str, container: str, addresses: Mapping[str, int]) -> None:
    """Let a container that has a list reach these too, each for so many seconds from now."""
    if addresses:
        nft.apply(allow_text(table, container, addresses))


def remove(nft: Nft, table: str) -> None:
    """Take all of a store's rules away."""
    guarded = bool(nft.ask(f"list table bridge {table}\n"))
    nft.apply("".join(_deleted(family, table) for family in ("inet", "bridge")[: 1 + guarded]))


def _learned(answer: str) -> Learned:
    """What a listing of sets as JSON says (libnftables-json(5))."""
    sets = [one["set"] for one in json.loads(answer or "{}").get("nftables", ()) if "set" in one]
    return {
        one["name"]: {
            elem["elem"]["val"]: int(elem["elem"]["expires"])
            for elem in one.get("elem", ())
            if isinstance(elem, dict) and "expires" in elem.get("elem", {})
        }
        for one in sets
    }


# Text -------------------------------------------------------------------------------------------


def text(table: str, rules: Ruleset, learned: Learned | None = None, *, guarded: bool) -> str:
    """The transaction that makes ``rules`` of the table, whether it is there or not. ``guarded``:
    the table that looks at single cables is made anew too."""
    parts = [
        _deleted("inet", table),
        _block(f"table inet {table}", _inet(rules, learned or {})),
    ]
    if guarded:
        parts.append(_deleted("bridge", table))
    if rules.egress:
        parts.append(_block(f"table bridge {table}", _block_of_guard(rules.egress)))
    return "".join(parts)


def allow_text(table: str, container: str, addresses: Mapping[str, int]) -> str:
    """The transaction behind :func:`allow`. An element that is there would keep its time, so each
    is taken out first, which needs it to be there."""
    lines = []
    for address, seconds in addresses.items():
        name = _set_name(container, ipaddress.ip_address(address).version)
        element = f"element inet {table} {name} {{ {_address(address)}"
        lines += [f"add {element} }}", f"delete {element} }}"]
        lines += [f"add {element} timeout {max(1, seconds)}s }}"]
    return "\n".join((*lines, ""))


def _deleted(family: str, table: str) -> str:
    """An empty one is added first, since what is not there cannot be deleted."""
    return f"table {family} {table}\ndelete table {family} {table}\n"


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join((f"{head} {{", *(f"  {line}" for line in lines), "}", ""))


def _chain(name: str, hook: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    if hook:
        yield f"  type {hook}; policy accept;"
    yield from (f"  {line}" for line in lines)
    yield "}"


def _inet(rules: Ruleset, learned: Learned) -> Iterator[str]:
    for one in rules.egress:
        yield from _egress_sets(one, learned)
        yield from _chain(f"egress-{one.container}", "", _egress(one))
    if rules.egress:
        yield from _chain("egress", "", _egress_map(rules.egress))
    yield from _chain("forward", "filter hook forward priority filter", _forward(rules))
    yield from _chain("input", "filter hook input priority filter", _input(rules))
    if rules.published:
        yield from _chain("publish", "", (_dnat(one) for one in rules.published))
        local = (
            "fib daddr type local ip daddr != 127.0.0.0/8 jump publish",
            "fib daddr type local ip6 daddr != ::1 jump publish",
        )
        yield from _chain("prerouting", "nat hook prerouting priority dstnat", local)
        yield from _chain("output", "nat hook output priority -100", local)
    yield from _chain("postrouting", "nat hook postrouting priority srcnat", _masquerade(rules))


def _answers() -> Iterator[str]:
    yield "ct state established ct direction reply accept"
    yield "ct state related accept"


def _forward(rules: Ruleset) -> Iterator[str]:
    bridges = rules.bridges
    yield from _answers()
    for one in bridges:
        # Bridged traffic comes by here where br_netfilter is on, as Docker wants it.
        within = f"iifname {_name(one.name)} oifname {_name(one.name)}"
        yield f"{within} ct status dnat accept"
        yield f"{within} {'accept' if one.icc else 'drop'}"
    if rules.egress:
        yield "jump egress"
    if internal := [one.name for one in bridges if one.internal]:
        yield f"iifname {_names(internal)} drop"
        yield f"oifname {_names(internal)} drop"
    if bridges:
        ours = _names(one.name for one in bridges)
        yield f"oifname {ours} ct status dnat accept"
        yield f"oifname {ours} drop"
    for family, names in (("ipv4", rules.closed), ("ipv6", rules.closed6)):
        if names:
            yield f"meta nfproto {family} iifname {_names(names)} oifname {_names(names)} drop"


def _input(rules: Ruleset) -> Iterator[str]:
    yield from _answers()
    if rules.egress:
        yield _ND
        yield "jump egress"
    for one in rules.bridges:
        if one.internal:
            from_it = f"iifname {_name(one.name)}"
            yield f"{from_it} {_ND}"
            yield from (f"{from_it} {rule}" for rule in _elsewhere(one.subnets))


def _elsewhere(subnets: Collection[str]) -> Iterator[str]:
    """Drop what is not for one of these."""
    for version, family in _FAMILIES:
        own = _of(version, subnets)
        yield f"{family} daddr != {_set(own)} drop" if own else f"meta nfproto ipv{version} drop"


def _masquerade(rules: Ruleset) -> Iterator[str]:
    for one in rules.bridges:
        for version, family in _FAMILIES:
            for subnet in _of(version, one.subnets):
                source = f"{family} saddr {subnet}"
                # A neighbour that was reached by a port of the host must answer by way of it.
                yield f"{source} oifname {_name(one.name)} ct status dnat masquerade"
                if one.masquerade and not one.internal:
                    yield f"{source} oifname != {_name(one.name)} masquerade"


def _dnat(one: Published) -> str:
    ip = _address(one.ip)
    version, family, target = (6, "ip6", f"[{ip}]") if ":" in ip else (4, "ip", ip)
    host_ip = _address(one.host_ip) if one.host_ip else "::"
    everywhere = ipaddress.ip_address(host_ip).is_unspecified
    at = f"meta nfproto ipv{version}" if everywhere else f"{family} daddr {host_ip}"
    return f"{at} {_word(one.protocol)} dport {one.host_port} dnat {family} to {target}:{one.port}"


# Egress -----------------------------------------------------------------------------------------


def _set_name(container: str, version: int) -> str:
    return f"named{version}-{_word(container)}"


def _egress_sets(one: Egress, learned: Learned) -> Iterator[str]:
    for version, _ in _FAMILIES:
        name = _set_name(one.container, version)
        yield f"set {name} {{"
        yield f"  type ipv{version}_addr; flags timeout;"
        if known := learned.get(name):
            elements = (f"{at} timeout {max(1, left)}s" for at, left in known.items())
            yield f"  elements = {{ {', '.join(elements)} }}"
        yield "}"


def _egress(one: Egress) -> Iterator[str]:
    for version, family in _FAMILIES:
        if allowed := _of(version, one.allowed):
            yield f"{family} daddr {_set(allowed)} return"
        yield f"{family} daddr @{_set_name(one.container, version)} return"
    yield "reject with icmpx admin-prohibited"


def _egress_map(egress: Collection[Egress]) -> Iterator[str]:
    for version, family in _FAMILIES:
        entries = [
            f"{_address(address)} : jump egress-{one.container}"
            for one in egress
            for address in one.addresses
            if ipaddress.ip_address(address).version == version
        ]
        if entries:
            yield f"{family} saddr vmap {{ {', '.join(entries)} }}"


def _block_of_guard(egress: Collection[Egress]) -> Iterator[str]:
    for one in egress:
        yield from _chain(f"guard-{one.container}", "", _guard(one))
    hosts = (f"{_name(host)} : jump guard-{one.container}" for one in egress for host in one.hosts)
    rule = f"iifname vmap {{ {', '.join(hosts)} }}"
    yield from _chain("prerouting", "filter hook prerouting priority -300", [rule])


def _guard(one: Egress) -> Iterator[str]:
    yield "ether type != { arp, ip, ip6 } drop"
    own = [_address(address) for address in one.addresses if ":" not in address]
    yield f"ether type arp arp saddr ip != {_set([*own, '0.0.0.0'])} drop"
    yield f"ether type ip ip saddr != {_set(own)} drop" if own else "ether type ip drop"
    yield f"ether type ip6 {_ND}"
    own6 = [_address(address) for address in one.addresses if ":" in address]
    yield f"ether type ip6 ip6 saddr != {_set(own6)} drop" if own6 else "ether type ip6 drop"


# Words ------------------------------------------------------------------------------------------


def _of(version: int, blocks: Iterable[str]) -> list[str]:
    """Those of one family, without what another contains: nftables wants no overlaps."""
    networks = (ipaddress.ip_network(one, strict=False) for one in blocks)
    own: Any = [one for one in networks if one.version == version]
    return [str(one) for one in ipaddress.collapse_addresses(own)]


def _set(members: Iterable[str]) -> str:
    return f"{{ {', '.join(members)} }}"


def _names(names: Iterable[str]) -> str:
    return _set(_name(name) for name in names)


def _name(interface: str) -> str:
    """In quotes, which the name itself may not have, although the kernel lets it."""
    return f'"{_word(interface)}"'


def _word(text: str) -> str:
    if not _WORD(text):
        raise InvalidArgument(f"{text!r} cannot stand in a rule of the firewall")
    return text


def _address(text: str) -> str:
    """In its normal spelling; without a scope, which may be any text."""
    address = ipaddress.ip_address(text)
    if getattr(address, "scope_id", None):
        raise InvalidArgument(f"{text} is an address of a single link")
    return str(address)
