"""Where an engine is: a URL, read together with Docker's environment variables; pure.

::

    unix:///run/docker.sock            a socket of this machine
    tcp://host[:port]                  2375 in the clear, 2376 with TLS; https:// is always TLS
    tcp://host?certs=DIR&verify=0      ca.pem, cert.pem and key.pem of DIR; do not ask who answers
    ssh://[user@]host[:port][/socket]  the system's ssh, and ``docker system dial-stdio`` over there

TLS is on where ``certs`` or DOCKER_TLS_VERIFY say so. The files come from ``certs``, else from
DOCKER_CERT_PATH, else from ~/.docker. Source: Docker's command line, *Environment variables*.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellbox.errors import InvalidArgument

SCHEMES = frozenset({"unix", "tcp", "http", "https", "ssh"})
"""What this room can reach."""

_PLAIN, _TLS = 2375, 2376
_LONGEST = 107
"""Bytes that sockaddr_un has for a path (unix(7))."""


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files: who signs the daemon's certificate (empty: the system's authorities),
    and our own certificate and key (empty: none). ``verify`` False believes any daemon."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


@dataclass(frozen=True)
class Address:
    """``scheme`` is ``unix``, ``tcp`` or ``ssh``; ``path`` a socket's, here or over there; a
    ``port`` of 0 is left to ssh."""

    scheme: str
    host: str = ""
    port: int = 0
    user: str = ""
    path: str = ""
    tls: Tls | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    @property
    def in_the_clear(self) -> bool:
        """May others on the way read and change what is said?"""
        return self.scheme == "tcp" and self.tls is None and not _is_loopback(self.host)


def parse(
    url: str, *, certs: str = "", environ: Mapping[str, str] = os.environ, tls: Tls | None = None
) -> Address:
    """The address that ``url`` means; ``certs`` is a directory with PEM files, ``tls`` says what is
    known from elsewhere. Raises InvalidArgument."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"{url!r} is no address of an engine: {error}") from None
    query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(query) - {"certs", "verify"})
    if unknown or parts.fragment:
        raise InvalidArgument(f"{url!r}: only certs=DIR and verify=0 may follow the '?'")
    if parts.scheme == "unix":
        return _unix(url)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.password:
        raise InvalidArgument(f"{url!r} is no address of an engine: {_FORMS}")
    if parts.scheme == "ssh":
        return _ssh(url, parts.username or "", parts.hostname, port or 0, parts.path)
    if parts.path not in ("", "/"):
        raise InvalidArgument(f"{url!r}: an engine over TCP has no path")
    tls = tls or _tls(parts.scheme == "https", certs or query.get("certs", ""), query, environ)
    return Address("tcp", parts.hostname, port or (_TLS if tls else _PLAIN), tls=tls)


_FORMS = "write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"


def _unix(url: str) -> Address:
    path = urllib.parse.unquote(url.removeprefix("unix:").partition("?")[0])
    path = "/" + path.lstrip("/") if path.startswith("//") else path
    if not path.startswith("/") or path == "/" or "\0" in path:
        raise InvalidArgument(f"{url!r} names no socket: {_FORMS}")
    if len(os.fsencode(path)) > _LONGEST:
        raise InvalidArgument(f"{url!r}: the path of a socket has at most {_LONGEST} bytes")
    return Address("unix", path=path)


def _ssh(url: str, user: str, host: str, port: int, path: str) -> Address:
    if host.startswith("-") or user.startswith("-"):  # ssh would take it for an option
        raise InvalidArgument(f"{url!r} is no address of an engine: {_FORMS}")
    return Address("ssh", host, port, user, path.rstrip("/"))


def _tls(
    wanted: bool, certs: str, query: Mapping[str, str], environ: Mapping[str, str]
) -> Tls | None:
    asked = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not (wanted or certs or asked or "verify" in query):
        return None
    verify = query.get("verify", "1").lower() not in ("0", "false", "no")
    folder = certs or environ.get("DOCKER_CERT_PATH", "")
    if not folder and asked:
        folder = environ.get("DOCKER_CONFIG", "") or str(Path.home() / ".docker")
    return from_folder(folder, verify=verify) if folder else Tls(verify=verify)


def from_folder(folder: str, *, verify: bool = True) -> Tls:
    """The PEM files of ``folder`` by Docker's names, those that are there. Raises InvalidArgument
    for a certificate without its key."""
    found = {
        name: str(path) if (path := Path(folder).expanduser() / f"{name}.pem").is_file() else ""
        for name in ("ca", "cert", "key")
    }
    if bool(found["cert"]) != bool(found["key"]) or not any(found.values()):
        raise InvalidArgument(f"{folder} must hold ca.pem, or cert.pem and key.pem, or all three")
    return Tls(**found, verify=verify)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
