"""A plugin: an implementation of one of the engine's seams, ours or anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PluginKind(StrEnum):
    """The seams that a plugin can fill."""

    SNAPSHOTTER = "snapshotter"
    NETWORK = "network"
    VOLUME = "volume"
    LOG = "log"
    CREDENTIALS = "credentials"
    SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Plugin:
    """``origin`` says where it comes from: ``built in`` for ours, else the distribution that
    registered the entry point. ``error`` says why it could not be loaded, empty when it could."""

    kind: PluginKind
    name: str
    origin: str
    reference: str
    error: str = ""
