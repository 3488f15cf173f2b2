"""A volume: files with a name of their own, which outlive the containers that use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellbox.errors import InvalidArgument

LOCAL = "local"
"""The driver of volumes that nobody says another one for."""

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Docker's mark on a volume that nobody gave a name."""


@dataclass(frozen=True)
class VolumeSpec:
    """What the user asked for; an empty name becomes 64 hex digits. ``options`` belong to the
    driver (``type``, ``o``, ``device``, ``size`` of the local one)."""

    name: str = ""
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Volume:
    """One volume. ``mountpoint`` is where its files are on the host, empty where only its driver
    knows; ``users`` the ids of the containers that have it."""

    name: str
    driver: str
    mountpoint: str
    created: float
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    users: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Did nobody give it a name?"""
        return ANONYMOUS_LABEL in self.labels


_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_LONGEST = 255  # it names a directory


def check_name(name: str) -> str:
    """The name, if a volume may have it: Docker's rule. Raises InvalidArgument."""
    if len(name) == 1:
        raise InvalidArgument(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    return name
