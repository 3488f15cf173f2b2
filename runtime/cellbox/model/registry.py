"""A registry as its users see it: what they show it, and what it says of an image."""

from __future__ import annotations

from dataclasses import dataclass, field

from cellbox.model.image import Descriptor, Platform


@dataclass(frozen=True)
class Credential:
    """A user name and password, or an ``identity_token`` that is exchanged for others, or a
    ``registry_token`` that is sent as it is. Secrets do not show in the repr; one without any is
    for who comes without a name."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Distribution:
    """What a registry has under a name: the manifest or index, and what platforms it is for."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...] = ()
