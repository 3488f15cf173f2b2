"""Keeping web pages out; pure.

A page that a user of this machine looks at can make his browser send requests to any address, and
to any socket that something forwards to: across origins (the browser then says so), or under a name
of its own that suddenly resolves to this machine (DNS rebinding; then ``Host`` is that name). No
client of the Docker API does either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from cellbox.errors import PermissionDenied

_OVER_SSH = "docker.example.com"
"""What Docker's clients write where ssh carries them (docker/cli, ``connhelper``); nobody can have
that name (RFC 2606)."""

_OWN_SITE = frozenset({"same-origin", "none"})


def admit(headers: Mapping[str, str], *, encrypted: bool) -> None:
    """Raise PermissionDenied for what a web page may have sent.

    Over TLS the client has checked that the certificate is for the name in ``Host``, so that may be
    any name.
    """
    host = headers.get("host", "")
    if not encrypted and not _is_local(host):
        raise PermissionDenied(
            f"requests for the host {host!r} are refused: it is not this machine"
        )
    origin = headers.get("origin")
    if origin is not None and not _is_same(origin, host):
        raise PermissionDenied(f"requests from the web page {origin!r} are refused")
    if headers.get("sec-fetch-site", "none") not in _OWN_SITE:
        raise PermissionDenied("requests from other web pages are refused")


def _is_same(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


def _is_local(host: str) -> bool:
    """Is it a name that no domain of the internet can be: one word (``docker``, what clients write
    for a socket), below ``localhost``, a quoted path, or an address?"""
    name = host.rpartition(":")[0] if host[-1:].isdigit() and ":" in host else host
    if name == _OVER_SSH:
        return True
    if "." not in name or name.startswith("%2") or name.lower().endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
