"""From what a container wants of its networks, and the addresses that it got, to how it is
connected; pure.

A container is in the networks that its request names, in that order: the first is the one of
``--network``. Interfaces are numbered in the same order. Its own resolver answers it in networks
that a user has made; in the default one it asks the host's servers, as Docker has it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cellbox.errors import InvalidArgument
from cellbox.local.records import NetworkRecord
from cellbox.model.container import Container, PortSpec, RunSpec
from cellbox.model.network import Endpoint, EndpointSpec
from cellbox.networks import ipam
from cellbox.networks.rules import Bridge
from cellbox.networks.wiring import Place, Plug, Wiring, bridge_name, host_name

DEFAULT = "bridge"
WITHOUT = frozenset({"none", "host"})
"""Modes in which a container is in no network of ours."""

OWN_DRIVERS = frozenset({"bridge", "host", "null"})
OWN_IPAM = frozenset({"", "default", "null"})
"""Drivers and address managers that are the engine's own; all others are plugins."""

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_BRIDGE_NAME = "com.docker.network.bridge.name"
_MTU = "com.docker.network.driver.mtu"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_ICC = "com.docker.network.bridge.enable_icc"


@dataclass(frozen=True)
class Given:
    """What an address manager that is not the engine's own has given an endpoint."""

    ip: str = ""
    ip6: str = ""
    mac: str = ""


def planned(spec: RunSpec, default: str) -> tuple[EndpointSpec, ...]:
    """What the container wants of each network, the main one first; ``default`` is the engine's.
    Raises InvalidArgument."""
    mode = default if spec.network in ("", "default") else spec.network
    if mode in WITHOUT or mode.startswith("container:"):
        if any(one.network not in (mode, spec.network) for one in spec.endpoints):
            raise InvalidArgument(
                f"a container of the network mode {mode} cannot be in further networks"
            )
        return ()
    wanted = {one.network: one for one in spec.endpoints}
    first = wanted.pop(mode, None) or wanted.pop(spec.network, None) or EndpointSpec(mode)
    first = replace(first, network=mode, links=(*first.links, *spec.links))
    return (first, *wanted.values())


def endpoint(
    network: NetworkRecord,
    wanted: EndpointSpec,
    taken: set[str],
    *,
    container: str,
    name: str,
    given: Given | None = None,
) -> Endpoint:
    """A place in ``network``, of whose addresses ``taken`` are others'; what another address
    manager has ``given`` is as it is. Raises InvalidArgument, PermissionDenied, Conflict."""
    subnets, user_made = network.spec.subnets, network.spec.name != DEFAULT
    if (wanted.ip or wanted.ip6) and not user_made:
        raise InvalidArgument(
            "user specified IP address is supported on user defined networks only"
        )
    if wanted.aliases and not user_made:
        raise InvalidArgument("network-scoped aliases are only supported for user-defined networks")
    if given is None:
        ip = ipam.pick(subnets, taken, wanted.ip, v6=False)
        ip6 = ipam.pick(subnets, taken, wanted.ip6, v6=True)
        given = Given(ip, ip6)
    mac = wanted.mac.lower() or given.mac
    gateways = {":" in one.gateway: one.gateway for one in subnets}
    if network.spec.internal or is_driven(network):  # whose driver says where the way out is
        gateways = {}
    elif not mac:
        mac = ipam.mac_of(given.ip or given.ip6) if given.ip or given.ip6 else ipam.any_mac()
    return Endpoint(
        id=secrets.token_hex(32),
        network=network.spec.name,
        network_id=network.id,
        container=container,
        container_name=name,
        ip=given.ip,
        ip6=given.ip6,
        gateway=gateways.get(False, ""),
        gateway6=gateways.get(True, ""),
        mac=mac,
        names=tuple(dict.fromkeys((name, *wanted.aliases, container[:12]))),
        spec=wanted,
    )


def bridge_of(network: NetworkRecord) -> str:
    """The name of the network's bridge."""
    return network.spec.options.get(_BRIDGE_NAME) or bridge_name(network.id)


def mtu_of(network: NetworkRecord) -> int:
    """The network's MTU, 0 for the kernel's."""
    text = network.spec.options.get(_MTU, "")
    return int(text) if text.isdecimal() else 0


def is_driven(network: NetworkRecord) -> bool:
    """Has a driver the network that is not the engine's own?"""
    return network.spec.driver not in OWN_DRIVERS


def as_told(one: Endpoint, network: NetworkRecord) -> Endpoint:
    """An endpoint as the network's driver is to hear of it: without what it has itself chosen
    before."""
    versions = {":" in subnet.subnet for subnet in network.spec.subnets}
    return replace(
        one,
        ip=one.ip if False in versions else "",
        ip6=one.ip6 if True in versions else "",
        gateway="",
        gateway6="",
    )


def talks(network: NetworkRecord) -> bool:
    """May its containers reach each other?"""
    return network.spec.options.get(_ICC, "true").lower() in ("true", "1")


def wiring(
    spec: RunSpec,
    endpoints: Sequence[Endpoint],
    networks: Mapping[str, NetworkRecord],
    *,
    links: Mapping[str, Container],
    servers: Sequence[str],
    dns: str = "",
) -> Wiring:
    """How a container with these ``endpoints`` is connected. ``networks`` are those by id,
    ``links`` those whom it calls by names of its own, ``servers`` the host's name servers, ``dns``
    who stands in for these inside."""
    if spec.egress and (named := next(filter(is_driven, networks.values()), None)):
        raise InvalidArgument(
            f"--egress cannot be kept to in the network {named.spec.name}, as its driver "
            f"{named.spec.driver} connects containers by itself: use a bridge network"
        )
    default = _default_route(endpoints)
    plugs = [
        _plug(one, networks[one.network_id], f"eth{number}", default=number == default)
        for number, one in enumerate(endpoints)
    ]
    return Wiring(
        plugs=tuple(plugs),
        ports=spec.ports,
        places=tuple(_place(one) for one in endpoints if one.network != DEFAULT),
        aliases={alias: other.name for alias, other in links.items()},
        hosts=tuple(_hosts(links)) if endpoints[0].network == DEFAULT else (),
        servers=tuple(spec.dns.servers or servers),
        inside=bool(spec.dns.servers),
        dns=spec.dns.servers or ((dns,) if dns else ()),
        **_policy(spec.egress),
    )


def _policy(egress: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``--egress``: the names that may be asked for, and the CIDR that may be reached. Raises
    InvalidArgument."""
    if not egress:
        return {}
    if "none" in egress and len(egress) > 1:
        raise InvalidArgument("--egress none excludes all others")
    names = [word.removeprefix("dns:") for word in egress if word.startswith("dns:")]
    rest = [word for word in egress if word != "none" and not word.startswith("dns:")]
    return {"allow": tuple(map(_name, names)), "egress": tuple(map(_block, rest))}


def _name(name: str) -> str:
    bare = name.removeprefix("*.")
    if not _NAME.fullmatch(bare):
        raise InvalidArgument(f"--egress dns:{name}: this is no name such as example.org")
    return name.lower()


def _block(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise InvalidArgument(
            f"--egress {text}: write none, dns:NAME, or an address or CIDR such as 10.0.0.0/8"
        ) from None


def _hosts(links: Mapping[str, Container]) -> Iterator[str]:
    """In the default network nobody resolves names: those of links stand in the file of hosts."""
    for alias, other in links.items():
        address = next((one.ip.partition("/")[0] for one in other.endpoints if one.ip), "")
        if address:
            yield from (f"{name}:{address}" for name in dict.fromkeys((alias, other.name)))


def addresses(network: NetworkRecord) -> list[str]:
    """The bridge's own addresses: the network's gateways, with prefix length."""
    subnets = network.spec.subnets
    return [f"{one.gateway}/{one.subnet.partition('/')[2]}" for one in subnets if one.gateway]


def bridge(network: NetworkRecord) -> Bridge:
    """What the firewall is to know of the network."""
    subnets, options = network.spec.subnets, network.spec.options
    return Bridge(
        name=bridge_of(network),
        subnets=tuple(one.subnet for one in subnets),
        internal=network.spec.internal,
        icc=talks(network),
        masquerade=options.get(_MASQUERADE, "true").lower() in ("true", "1"),
    )


def published(ports: Sequence[PortSpec], exposed: Iterable[str]) -> tuple[PortSpec, ...]:
    """``ports``, and any free one of the host for each that is ``exposed`` (``80/tcp``) and not
    among them."""
    known = {(one.port, one.protocol) for one in ports}
    found = []
    for name in dict.fromkeys(exposed):
        number, _, protocol = name.partition("/")
        if (int(number), protocol or "tcp") not in known:
            found.append(PortSpec(int(number), protocol or "tcp"))
    return (*ports, *found)


def _default_route(endpoints: Sequence[Endpoint]) -> int:
    """Which of them leads out: the highest priority, then the first by name, as Docker has it."""
    able = [number for number, one in enumerate(endpoints) if one.gateway or one.gateway6]
    ranked = sorted(able, key=lambda number: (-endpoints[number].spec.priority, number))
    return ranked[0] if ranked else -1


def _plug(one: Endpoint, network: NetworkRecord, interface: str, *, default: bool) -> Plug:
    driven = is_driven(network)
    return Plug(
        bridge="" if driven else bridge_of(network),
        host="" if driven else host_name(one.id),
        interface=interface,
        mac=one.mac,
        ip=one.ip,
        ip6=one.ip6,
        gateway=one.gateway,
        gateway6=one.gateway6,
        default_route=default,
        mtu=mtu_of(network),
        isolated=not talks(network),
        endpoint=as_told(one, network) if driven else None,
    )


def _place(one: Endpoint) -> Place:
    return Place(
        network=one.network,
        directory=f"networks/{one.network_id}",
        endpoint=one.id,
        names=one.names,
        ip=one.ip.partition("/")[0],
        ip6=one.ip6.partition("/")[0],
    )
