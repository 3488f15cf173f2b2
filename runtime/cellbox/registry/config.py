"""Which servers stand for a registry's name: mirrors, and who may speak plain http.

::

    # $XDG_CONFIG_HOME/cellbox/config.toml, as root before it /etc/cellbox/config.toml
    [registries]
    mirrors = ["http://127.0.0.1:5000"]     # asked before docker.io itself, in this order
    insecure = ["lab.example:5000"]         # any certificate, or plain http

``CELLBOX_REGISTRY_MIRROR`` (mirrors with commas between) takes the place of ``mirrors``. Mirrors
stand for docker.io only, as in Docker. The loopback addresses are always insecure, as in Docker.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from cellbox.errors import InvalidArgument, Unavailable
from cellbox.model.reference import DEFAULT_DOMAIN
from cellbox.registry.origins import is_loopback, origin_of

HUB = "registry-1.docker.io"
"""The server behind the name docker.io."""

_KEYS = ("mirrors", "insecure")


@dataclass(frozen=True)
class Endpoint:
    """One server: ``host[:port]``, the schemes to try in order, and whether it is a mirror."""

    host: str
    schemes: tuple[str, ...] = ("https",)
    verify: bool = True
    mirror: bool = False


@dataclass(frozen=True)
class Settings:
    """The ``[registries]`` table: ``mirrors`` are URLs, ``insecure`` is ``host[:port]``."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()

    def endpoints(self, domain: str) -> tuple[Endpoint, ...]:
        """The servers to ask for images of ``domain``, in order."""
        if domain != DEFAULT_DOMAIN:
            return (self._endpoint(domain),)
        return (*(self._mirror(url) for url in self.mirrors), Endpoint(HUB))

    def _endpoint(self, host: str) -> Endpoint:
        if host in self.insecure or is_loopback(_without_port(host)):
            return Endpoint(host, ("https", "http"), verify=False)
        return Endpoint(host)

    def _mirror(self, url: str) -> Endpoint:
        origin = origin_of(url)
        verify = self._endpoint(origin.authority).verify
        return Endpoint(origin.authority, (origin.scheme,), verify, mirror=True)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """What the configuration files and the environment say.

    Raises InvalidArgument naming the file and the line or key that is wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, tuple[str, ...]] = {}
    for path in _files(environ):
        values |= _read(path)
    mirrors = environ.get("CELLBOX_REGISTRY_MIRROR", "")
    if mirrors:
        parts = [part.strip() for part in mirrors.split(",") if part.strip()]
        values["mirrors"] = _checked(parts, "mirrors", "CELLBOX_REGISTRY_MIRROR")
    return Settings(**values)


def _files(environ: Mapping[str, str]) -> list[Path]:
    home = environ.get("XDG_CONFIG_HOME", "")
    user = Path(home) / "cellbox" if home else platformdirs.user_config_path("cellbox")
    system = [Path("/etc/cellbox")] if os.geteuid() == 0 else []
    return [folder / "config.toml" for folder in (*system, user)]


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path}: {error}") from error
    table = document.get("registries", {})
    if not isinstance(table, dict):
        raise InvalidArgument(f"{path}: registries must be a table")
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise InvalidArgument(f"{path}: unknown key registries.{unknown[0]}")
    return {key: _checked(value, key, str(path)) for key, value in table.items()}


def _checked(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidArgument(f"{where}: registries.{key} must be a list of strings")
    for item in value:
        if not isinstance(item, str) or not (_is_mirror if key == "mirrors" else _is_host)(item):
            form = "a URL (https://host:port)" if key == "mirrors" else "host or host:port"
            raise InvalidArgument(f"{where}: registries.{key}: each entry must be {form}")
    return tuple(value)


def _is_mirror(url: str) -> bool:
    try:
        origin_of(url)
    except Unavailable:
        return False
    return not set("/?#") & set(url.partition("://")[2].removesuffix("/"))


def _is_host(text: str) -> bool:
    try:
        origin_of(f"http://{text}")
    except Unavailable:
        return False
    return "/" not in text and bool(text)


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host
