"""Origins: whom a URL talks to, and where one may lead.

An origin is scheme, host and port (RFC 6454). A registry may send us elsewhere, by a redirect of a
blob to an object store and by the realm of its tokens. What it may not: send our credentials to
another origin, turn https into http, or make this machine talk to what only this machine can reach
(itself, and the link-local addresses where clouds keep their metadata), unless the registry lives
there too. Names are judged by the address they really connect to (``transport``), so a name that
resolves differently the second time gains nothing.

URLs are parsed by urllib3, which also makes the connection: two parsers would be two opinions.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from cellbox.errors import Unavailable

MAX_URL = 8192
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host (an IPv6 address in brackets) and port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """``host[:port]``, the port left out where the scheme implies it."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of ``url``.

    Raises Unavailable for what is not plain http or https, and for user names in it.
    """
    try:
        parts = parse_url(url) if len(url) <= MAX_URL else None
    except LocationParseError:
        parts = None
    if parts is None or parts.scheme not in _PORTS or not parts.host or parts.auth is not None:
        raise Unavailable("the registry leads to an address that is no plain http or https URL")
    return Origin(parts.scheme, parts.host.lower(), parts.port or _PORTS[parts.scheme])


def next_url(url: str, location: str) -> str:
    """Where a redirect from ``url`` to ``location`` leads. Raises Unavailable if it may not."""
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    check_lead(origin_of(url), origin_of(target))
    return target


def check_lead(source: Origin, target: Origin) -> None:
    """Raises Unavailable where following from ``source`` to ``target`` would give up encryption."""
    if source.scheme == "https" and target.scheme != "https":
        raise Unavailable(
            f"{source.authority} leads from https to plain http ({target.authority}); refused"
        )


def reach(address: str) -> str:
    """How far an IP address reaches: ``loopback``, ``link-local`` or ``wide``."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    return "link-local" if ip.is_link_local else "wide"


def reach_of_address(host: str, otherwise: str) -> str:
    """The reach of ``host`` if it is written as an IP address, else ``otherwise``."""
    try:
        return reach(host.strip("[]"))
    except ValueError:
        return otherwise


def reaches_of(host: str) -> frozenset[str]:
    """The reaches of all addresses of ``host``; none for a name that does not resolve."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(reach(str(entry[4][0])) for entry in found)


def is_loopback(host: str) -> bool:
    """Docker's rule for hosts that may speak plain http: localhost, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
