"""The files of /etc that a container gets from its engine: hostname, hosts and resolv.conf.

Each function returns the content of one; they are written into the container's directory and bound
over the image's. Names and addresses are checked again here, at the last place where a newline
could forge a line (resolv.conf(5), hosts(5)).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from cellbox.containers import checks
from cellbox.errors import InvalidArgument

FILES = ("hostname", "hosts", "resolv.conf")
"""Their names, below /etc as in the container's directory."""

_LOOPBACK = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)
# What Docker falls back to when the host names no server that a container can reach.
_PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4")


def sources(directory: str) -> Mapping[str, str]:
    """The file in a container's ``directory`` that is bound to each, by where that is inside."""
    return {f"/etc/{name}": f"{directory}/{name}" for name in FILES}


def hostname(name: str) -> str:
    """/etc/hostname."""
    return checks.hostname(name) + "\n"


def hosts(
    name: str,
    domain: str = "",
    addresses: Sequence[str] = (),
    extra: Iterable[str] = (),
    gateway: str = "",
    neighbours: Iterable[str] = (),
) -> str:
    """/etc/hosts: loopback, ``extra`` and ``neighbours`` (``NAME:ADDRESS``), and the container at
    its ``addresses``.

    ``gateway`` stands in for ``host-gateway``. Raises InvalidArgument, also where a gateway is
    asked for and there is none.
    """
    lines = list(_LOOPBACK)
    for entry in (*extra, *neighbours):
        alias, address = checks.extra_host(entry)
        if address == "host-gateway":
            if not gateway:
                raise InvalidArgument(f"there is no gateway for the host name {alias}")
            address = _address(gateway)
        lines.append(f"{address}\t{alias}")
    checks.hostname(name)
    names = f"{name}.{checks.hostname(domain, 'domain name')} {name}" if domain else name
    lines += [f"{_address(address)}\t{names}" for address in addresses]
    return "\n".join(lines) + "\n"


def resolv_conf(
    host: str,
    *,
    own_network: bool,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """/etc/resolv.conf from the host's (its text).

    ``servers``, ``search`` and ``options`` replace what the host has. In a network of its own a
    container cannot reach a server on the host's loopback, so those are left out, and where none is
    left Docker's choice of public ones stands in.
    """
    words = [line.split() for line in host.splitlines() if line[:1] not in ("#", ";")]
    found = [word[1] for word in words if word[:1] == ["nameserver"] and len(word) > 1]
    named = [_address(server) for server in servers] or _reachable(found, own_network)
    domains = list(search) or [
        name for word in words if word[:1] == ["search"] for name in word[1:]
    ]
    asked = options or [name for word in words if word[:1] == ["options"] for name in word[1:]]
    lines = [f"nameserver {server}" for server in named]
    if domains and domains != ["."]:
        lines.append("search " + " ".join(_domain(name) for name in domains))
    if asked:
        lines.append("options " + " ".join(map(_option, asked)))
    return "\n".join(lines) + "\n"


def _reachable(servers: Iterable[str], own_network: bool) -> list[str]:
    usable = []
    for server in servers:
        try:
            # A zone (fe80::1%eth0) names an interface of the host.
            address = ipaddress.ip_address(server)
        except ValueError:
            continue
        if not own_network or not (address.is_loopback or "%" in server):
            usable.append(server)
    return usable or list(_PUBLIC_SERVERS)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text!r}") from None


def _domain(name: str) -> str:
    if not name or any(not (c.isascii() and (c.isalnum() or c in "-_.")) for c in name):
        raise InvalidArgument(f"invalid search domain: {name!r}")
    return name


def _option(name: str) -> str:
    if not name or any(not (c.isascii() and (c.isalnum() or c in "-_.:")) for c in name):
        raise InvalidArgument(f"invalid option of the resolver: {name!r}")
    return name
