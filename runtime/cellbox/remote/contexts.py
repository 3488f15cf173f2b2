"""Docker's contexts: names for engines, as ``docker context`` keeps them.

Source: docker/cli, ``cli/context/store``: ``~/.docker/contexts/meta/SHA256(NAME)/meta.json``, and
PEM files below ``contexts/tls``; DOCKER_CONFIG names another directory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from cellbox.errors import InvalidArgument, NotFound
from cellbox.remote.address import Address, Tls, from_folder, parse

DEFAULT = "default"
"""The context that is always there: Docker's own socket."""

_SOCKET = "unix:///var/run/docker.sock"


def address_of(name: str = "") -> Address:
    """Where the engine of context ``name`` is; an empty name is the current context.

    Raises NotFound, and InvalidArgument for a context that says nothing usable.
    """
    from docker.context import ContextAPI
    from docker.context.config import get_current_context_name

    chosen = name or get_current_context_name()
    if chosen == DEFAULT:
        return parse(_SOCKET, environ={})
    try:
        context = ContextAPI.get_context(chosen)
    except Exception as error:  # the SDK raises a bare Exception for a file it cannot read
        raise InvalidArgument(f"the context {chosen} cannot be read: {error}") from error
    if context is None:
        raise NotFound("context", chosen, "`docker context ls` lists them")
    endpoint: dict[str, Any] = context.endpoints.get("docker") or {}
    url = endpoint.get("Host") or ""
    if not url:
        raise InvalidArgument(f"the context {chosen} names no Docker endpoint")
    verify = not endpoint.get("SkipTLSVerify")
    found = _tls(Path(context.tls_path) / "docker", verify=verify)
    return parse(url, tls=found, environ={})


def _tls(folder: Path, *, verify: bool) -> Tls | None:
    """Read by us: the SDK knows a context's files only where all three are there."""
    with contextlib.suppress(InvalidArgument):
        return from_folder(str(folder), verify=verify)
    return None
