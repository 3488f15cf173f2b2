"""Docker's contexts: names for engines, as ``docker context`` keeps them.

Source: docker/cli, ``cli/context/store``: ``~/.docker/contexts/meta/SHA256(NAME)/meta.json``, and
PEM files below ``contexts/tls``; DOCKER_CONFIG names another directory. Nothing is written there:
which context the ``cellbox`` command uses stands in a file of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from cellbox.errors import CellboxError, InvalidArgument, NotFound, PermissionDenied
from cellbox.remote.address import Address, Tls, from_folder, parse

DEFAULT = "default"
"""The context that is always there: Docker's own socket."""

EMBEDDED = "embedded"
"""The context of ours that is always there: the engine in this process, with no daemon."""

_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Context:
    """A name for an engine: ``url`` is where it is, empty for the embedded one; ``error`` says why
    it cannot be used."""

    name: str
    description: str = ""
    url: str = ""
    error: str = ""


def contexts() -> list[Context]:
    """Ours, Docker's own socket, and those of ``docker context``, by name."""
    always = [
        Context(EMBEDDED, "The engine in this process"),
        Context(DEFAULT, "Docker's own socket", _SOCKET),
    ]
    return always + sorted(_docker(), key=lambda one: one.name)


def _docker() -> Iterator[Context]:
    for path in (_folder() / "meta").glob("*/meta.json"):
        try:
            meta = _read(path, path.parent.name[:12])
        except InvalidArgument as error:
            yield Context(path.parent.name[:12], error=str(error))
            continue
        name, facts = str(meta.get("Name", "")), meta.get("Metadata") or {}
        description = str(facts.get("Description", ""))
        try:
            yield Context(name, description, str(address_of(name)))
        except CellboxError as error:
            yield Context(name, description, error=str(error))


def current_context() -> str:
    """The context that the ``cellbox`` command uses; the embedded one where none was chosen."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _file().read_text("utf-8").strip() or EMBEDDED
    return EMBEDDED


def use_context(name: str) -> None:
    """Let the ``cellbox`` command use context ``name`` from now on.

    Raises NotFound, InvalidArgument for one that says nothing usable, PermissionDenied.
    """
    check_context(name)
    path = _file()
    try:
        if name == EMBEDDED:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n", "utf-8")
    except OSError as error:
        raise PermissionDenied(f"cannot write {path}: {error.strerror}") from error


def check_context(name: str) -> None:
    """Raises NotFound or InvalidArgument where ``name`` leads to no engine."""
    if name != EMBEDDED:
        address_of(name)


def _file() -> Path:
    return user_config_path("cellbox") / "context"


def address_of(name: str = "") -> Address:
    """Where the engine of context ``name`` is; an empty name is the current context.

    Raises NotFound, and InvalidArgument for a context that says nothing usable.
    """
    chosen = name or _dockers_own()
    if chosen == DEFAULT:
        return parse(_SOCKET, environ={})
    id = hashlib.sha256(chosen.encode()).hexdigest()
    meta = _folder() / "meta" / id / "meta.json"
    if not meta.exists():
        raise NotFound("context", chosen, "`docker context ls` lists them")
    endpoint = (_read(meta, chosen).get("Endpoints") or {}).get("docker") or {}
    url = endpoint.get("Host") or ""
    if not url:
        raise InvalidArgument(f"the context {chosen} names no Docker endpoint")
    verify = not endpoint.get("SkipTLSVerify")
    found = _tls(_folder() / "tls" / id / "docker", verify=verify)
    return parse(url, tls=found, environ={})


def _dockers_own() -> str:
    """What ``docker context use`` has chosen; ``docker`` too makes nothing of a file it cannot
    read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads((_folder().parent / "config.json").read_text("utf-8"))
        return str(config.get("currentContext") or DEFAULT)
    return DEFAULT


def _folder() -> Path:
    """Where contexts are. (The SDK would look in the current directory where there is no
    config.json.)"""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "contexts"


def _read(path: Path, name: str) -> dict[str, Any]:
    """The facts of context ``name``. Raises InvalidArgument."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"the context {name} cannot be read: {error}: {path}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"the context {name} cannot be read: no object is in {path}")
    return found


def _tls(folder: Path, *, verify: bool) -> Tls | None:
    """None where there are no files."""
    with contextlib.suppress(InvalidArgument):
        return from_folder(str(folder), verify=verify)
    return None
