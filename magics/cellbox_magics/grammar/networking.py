"""The flags about networks to what a :class:`~cellbox.model.container.RunSpec` and an
:class:`~cellbox.model.network.EndpointSpec` hold; pure.

``--network`` says where a container is, each time it is given: as a name, or as a line of CSV
(``name=net,alias=db,ip=10.0.0.9``). What the single flags say (``--ip``, ``--network-alias``, ...)
belongs to the first one. Sentences of errors are Docker's.

Source: docker/cli ``container/opts.go`` (parseNetworkOpts), ``opts/network.go``.
"""

from __future__ import annotations

import csv
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import Dns
from cellbox.model.network import EndpointSpec

from . import values

DEFAULT = "default"
"""The network of a container that names none: the engine's choice."""

_FIELDS = ("name", "alias", "ip", "ip6", "mac-address", "driver-opt", "gw-priority")
_LINK_LOCAL = "this engine gives no link-local addresses: use ip or ip6"
_BUILT_IN = frozenset({DEFAULT, "bridge", "host", "none"})
_JOINED = "container:"
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}", re.ASCII)
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?=.*[a-zA-Z]){_LABEL}(\.{_LABEL})*\.?", re.ASCII)
_LONGEST_DOMAIN = 255


class Attached(NamedTuple):
    """Where a container is to be, as the fields of a RunSpec of these names."""

    network: str
    endpoints: tuple[EndpointSpec, ...]
    links: tuple[str, ...]


def attached(flags: Mapping[str, Any]) -> Attached:
    """What ``--network`` and the flags beside it say. Raises InvalidArgument, NotSupported."""
    first, *others = map(network, flags["network"] or [DEFAULT])
    links = tuple(map(_link, flags["link"]))
    own = _is_own(first.network)
    first = _with_flags(first, flags, links if own else ())
    found = [first, *others]
    _check(found)
    endpoints = tuple(one for one in found if one != EndpointSpec(first.network))
    return Attached(first.network, endpoints, () if own else links)


def network(text: str) -> EndpointSpec:
    """One ``--network``: a name, or ``name=net,alias=...,ip=...,ip6=...,mac-address=...,
    driver-opt=KEY=VALUE,gw-priority=...``."""
    if "=" not in text:
        if not text.strip():
            raise InvalidArgument("no name set for network")
        return EndpointSpec(text)
    told: dict[str, list[str]] = {name: [] for name in _FIELDS}
    for word in next(csv.reader([text])):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not key or not equals:
            raise InvalidArgument(f"--network {text}: invalid field {word}")
        if key == "link-local-ip":
            raise NotSupported(f"--network {text}: {_LINK_LOCAL}")
        if key not in told:
            raise InvalidArgument(f"--network {text}: invalid field key {key}")
        told[key].append(value)
    last = {key: found[-1] if found else "" for key, found in told.items()}
    if not last["name"]:
        raise InvalidArgument(f"--network {text}: network name/id is not specified")
    return endpoint(
        last["name"],
        aliases=told["alias"],
        ip=last["ip"],
        ip6=last["ip6"],
        mac=last["mac-address"],
        driver_options=told["driver-opt"],
        priority=last["gw-priority"],
    )


def endpoint(
    network: str,
    *,
    aliases: Iterable[str] = (),
    ip: str = "",
    ip6: str = "",
    mac: str = "",
    links: Iterable[str] = (),
    driver_options: Iterable[str] = (),
    priority: str = "",
) -> EndpointSpec:
    """A place in a network, of words. Raises InvalidArgument for what is no address, no
    ``CONTAINER[:ALIAS]``, no ``KEY=VALUE`` or no number."""
    return EndpointSpec(
        network,
        aliases=tuple(aliases),
        ip=_address(ip, 4),
        ip6=_address(ip6, 6),
        mac=_mac(mac),
        links=tuple(map(_link, links)),
        driver_options=values.pairs(driver_options, "driver-opt"),
        priority=_priority(priority),
    )


def _with_flags(
    first: EndpointSpec, flags: Mapping[str, Any], links: tuple[str, ...]
) -> EndpointSpec:
    asked: dict[str, tuple[Any, str]] = {
        "aliases": (tuple(flags["network_alias"]), "--network-alias and per-network alias"),
        "ip": (_address(flags["ip"] or "", 4), "--ip and per-network IPv4 address"),
        "ip6": (_address(flags["ip6"] or "", 6), "--ip6 and per-network IPv6 address"),
        "mac": (_mac(flags["mac_address"] or ""), "--mac-address and per-network MAC address"),
        "links": (links, ""),
    }
    for name, (value, both) in asked.items():
        if value and getattr(first, name):
            raise InvalidArgument(f"conflicting options: cannot specify both {both}")
    return replace(first, **{name: value for name, (value, _) in asked.items() if value})


def _check(found: Sequence[EndpointSpec]) -> None:
    names = ["bridge" if one.network == DEFAULT else one.network for one in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f'network "{name}" is specified multiple times')
    if len({_is_own(name) for name in names}) > 1:
        raise InvalidArgument(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    for one in found:
        if _is_own(one.network):
            continue
        if one.aliases:
            raise InvalidArgument(
                "network-scoped aliases are only supported for user-defined networks"
            )
        if one.ip or one.ip6:
            raise InvalidArgument(
                "user specified IP address is supported on user defined networks only"
            )


def _is_own(network: str) -> bool:
    """Is it a network that a user has made?"""
    return network not in _BUILT_IN and not network.startswith(_JOINED)


# Names and what may be reached -------------------------------------------------------------------


def dns(flags: Mapping[str, Any]) -> Dns:
    """``--dns``, ``--dns-search``, ``--dns-option``."""
    return Dns(
        servers=tuple(map(_server, flags["dns"])),
        search=tuple(map(_search, flags["dns_search"])),
        options=tuple(flags["dns_option"]),
    )


def extra_host(text: str) -> str:
    """``NAME:ADDRESS`` of ``--add-host``; ``NAME=ADDRESS`` is the same, and ``host-gateway`` is the
    host as the container sees it."""
    separator = "=" if "=" in text.partition(":")[0] else ":"
    name, _, address = text.partition(separator)
    if not name or not address:
        raise InvalidArgument(f'bad format for add-host: "{text}": write it as name:address')
    if address == "host-gateway":
        return f"{name}:{address}"
    try:
        return f"{name}:{ipaddress.ip_address(address.removeprefix('[').removesuffix(']'))}"
    except ValueError:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None


def egress(words: Iterable[str], network: str) -> tuple[str, ...]:
    """``none``, ``dns:NAME`` and CIDR of ``--egress``, each a list with commas. Raises
    InvalidArgument, also where ``network`` is not the container's own."""
    found = tuple(dict.fromkeys(map(_reachable, values.listed(words))))
    if found and (network == "host" or network.startswith(_JOINED)):
        raise InvalidArgument(
            f"conflicting options: --egress needs a network of the container's own, not {network}"
        )
    if "none" in found and len(found) > 1:
        raise InvalidArgument("conflicting options: --egress none and what may be reached")
    return found


def _reachable(word: str) -> str:
    if word == "none":
        return word
    kind, _, name = word.partition(":")
    if kind == "dns" and _DOMAIN.fullmatch(name) and len(name) <= _LONGEST_DOMAIN:
        return f"dns:{name.lower().removesuffix('.')}"
    try:
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        raise InvalidArgument(
            f"--egress {word}: write it as none, dns:pypi.org or 10.0.0.0/8"
        ) from None


def _server(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise InvalidArgument(f"--dns: IP address is not correctly formatted: {text}") from None


def _search(text: str) -> str:
    domain = text.strip()
    if domain != "." and not (_DOMAIN.fullmatch(domain) and len(domain) <= _LONGEST_DOMAIN):
        raise InvalidArgument(f"--dns-search: {text} is not a valid domain")
    return domain


# Words -------------------------------------------------------------------------------------------


def _address(text: str, version: int) -> str:
    if not text:
        return ""
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise InvalidArgument(f"invalid IPv{version} address: {text}")
    return str(found)


def _mac(text: str) -> str:
    """With colons, in lower case."""
    if not text:
        return ""
    if not _MAC.fullmatch(text.strip().lower()):
        raise InvalidArgument(f"{text} is not a valid mac address")
    digits = re.sub("[^0-9a-f]", "", text.lower())
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))


def _link(text: str) -> str:
    name, _, alias = text.partition(":")
    if not name or ":" in alias:
        raise InvalidArgument(f"bad format for links: {text}")
    return text


def _priority(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise InvalidArgument(f"invalid gw-priority ({text}): write a whole number") from None
