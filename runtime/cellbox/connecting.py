"""From a URL to an engine."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cellbox.errors import InvalidArgument

if TYPE_CHECKING:
    from cellbox.engine import Engine
    from cellbox.remote.address import Address

HOST = "CELLBOX_HOST"
"""The environment variable that names an engine where no URL does. Docker's DOCKER_HOST is not
asked: without a word of ours the engine is the embedded one."""

CONTEXT = "CELLBOX_CONTEXT"
"""The environment variable that names a context where neither a URL nor CELLBOX_HOST does."""

_EMBEDDED = "context:embedded"
_FORMS = (
    "leave it out for the embedded engine, or write local:PATH, unix:///PATH, tcp://HOST:PORT, "
    "ssh://USER@HOST or context:NAME"
)


def connect(url: str = "", *, certs: str = "") -> Engine:
    """The engine at ``url``; nothing is asked of it yet.

    ::

        (nothing)                     what CELLBOX_HOST says, else what CELLBOX_CONTEXT says, else
                                      the embedded engine
        local:PATH                    the embedded engine with its store there
        unix:///run/docker.sock       a cellbox daemon, or a dockerd
        tcp://HOST:PORT               with TLS where ``certs`` (a directory with ca.pem, cert.pem,
                                      key.pem) or DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say so
        ssh://USER@HOST               over the system's ssh
        context:NAME                  one of ``docker context ls``; ``context:`` is the current one,
                                      ``context:embedded`` the embedded engine

    Raises InvalidArgument for what is no such URL, NotFound for an unknown context. RuntimeWarning
    for a connection that others could read.
    """
    url = url or from_environment()
    scheme, colon, rest = url.partition(":")
    if url == _EMBEDDED:
        return _local("")
    if not url or (scheme == "local" and rest):
        return _local(rest)
    if not colon or scheme not in ("context", "unix", "tcp", "http", "https", "ssh"):
        raise InvalidArgument(f"{url!r} is no engine: {_FORMS}")
    return _remote(_address(url, certs))


def from_environment() -> str:
    """The URL that the environment names; empty where it names none."""
    context = os.environ.get(CONTEXT, "")
    return os.environ.get(HOST, "") or (f"context:{context}" if context else "")


def _local(path: str) -> Engine:
    from cellbox.local.engine import LocalEngine

    return LocalEngine(Path(path).absolute() if path else None)


def _address(url: str, certs: str) -> Address:
    if url.startswith("context:"):
        from cellbox.remote.contexts import address_of

        return address_of(url.removeprefix("context:"))
    from cellbox.remote.address import parse

    return parse(url, certs=certs)


def _remote(address: Address) -> Engine:
    from cellbox.remote.engine import RemoteEngine

    if address.in_the_clear:
        warnings.warn(
            f"{address} is neither encrypted nor does it ask who calls: use ssh:// or TLS",
            RuntimeWarning,
            stacklevel=3,
        )
    return RemoteEngine(address)
