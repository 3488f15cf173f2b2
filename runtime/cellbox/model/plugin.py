"""A plugin: an implementation of one of the engine's seams, ours or anybody's.

Those that come as images have a :class:`PluginConfig`, which their maker wrote, and
:class:`PluginSettings`, which their user may change as far as that allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PluginKind(StrEnum):
    """The seams that a plugin can fill; ``other`` is what this engine has no use for."""

    SNAPSHOTTER = "snapshotter"
    NETWORK = "network"
    IPAM = "ipam"
    VOLUME = "volume"
    LOG = "log"
    AUTHZ = "authz"
    CREDENTIALS = "credentials"
    SCHEDULER = "scheduler"
    OTHER = "other"


@dataclass(frozen=True)
class PluginMount:
    """A mount of a plugin: ``source`` empty until it is set. ``settable`` names the fields that a
    user may set."""

    name: str = ""
    description: str = ""
    source: str = ""
    target: str = ""
    kind: str = "bind"
    options: tuple[str, ...] = ()
    settable: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginDevice:
    """A device of the host that a plugin has."""

    name: str = ""
    description: str = ""
    path: str = ""
    settable: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginVariable:
    """A variable of its environment; without a ``value`` it is not set."""

    name: str
    description: str = ""
    value: str | None = None
    settable: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginConfig:
    """What a plugin is, as its maker says (Docker's plugin config, version 0).

    ``types`` are ``PREFIX.CAPABILITY/VERSION``, ``socket`` is a file of /run/docker/plugins in it;
    ``network`` is ``none``, ``host`` or ``bridge``; what it mounts in ``propagated`` is for
    containers; ``arguments`` follow its ``entrypoint``.
    """

    description: str = ""
    documentation: str = ""
    types: tuple[str, ...] = ()
    socket: str = ""
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    network: str = ""
    capabilities: tuple[str, ...] = ()
    all_devices: bool = False
    devices: tuple[PluginDevice, ...] = ()
    mounts: tuple[PluginMount, ...] = ()
    propagated: str = ""
    host_ipc: bool = False
    host_pid: bool = False
    env: tuple[PluginVariable, ...] = ()
    arguments: tuple[str, ...] = ()
    arguments_name: str = ""
    arguments_description: str = ""
    arguments_settable: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginSettings:
    """What of it is set: ``env`` are lines ``NAME=value``; mount sources and devices are by the
    names that the config gives them."""

    env: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Privilege:
    """Something that a plugin wants of the host, to which its user has to agree."""

    name: str
    description: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Plugin:
    """``origin`` says where it comes from: ``built in`` for ours, ``socket PATH`` for a program
    that others run, ``image REF`` for one that this engine runs, else the distribution that
    registered the entry point. ``reference`` is what it is loaded or reached by. ``error`` says why
    it could not be, empty when it could. ``id`` (64 hex digits), ``config`` and ``settings`` are
    those of one from an image."""

    kind: PluginKind
    name: str
    origin: str
    reference: str
    error: str = ""
    enabled: bool = True
    id: str = ""
    config: PluginConfig | None = None
    settings: PluginSettings = PluginSettings()

    @property
    def managed(self) -> bool:
        """Does the engine run it?"""
        return self.config is not None

    @property
    def types(self) -> tuple[str, ...]:
        """What it implements, as in ``docker.volumedriver/1.0``."""
        if self.config is not None:
            return self.config.types
        return (f"docker.{CAPABILITIES.get(self.kind, self.kind)}/1.0",)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The same, as in ``volumedriver``."""
        return tuple(capability_of(one) for one in self.types)


CAPABILITIES: Mapping[PluginKind, str] = {
    PluginKind.VOLUME: "volumedriver",
    PluginKind.NETWORK: "networkdriver",
    PluginKind.IPAM: "ipamdriver",
    PluginKind.LOG: "logdriver",
    PluginKind.AUTHZ: "authz",
}
"""What Docker calls our kinds, where it has them."""


def capability_of(type: str) -> str:
    """``volumedriver`` of ``docker.volumedriver/1.0``."""
    return type.partition(".")[2].partition("/")[0]


def kind_of(types: Iterable[str]) -> PluginKind:
    """The first kind of ours among these types."""
    wanted = [capability_of(one) for one in types]
    return next((kind for kind, word in CAPABILITIES.items() if word in wanted), PluginKind.OTHER)
