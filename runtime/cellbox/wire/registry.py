"""Credentials and what a registry has, as they travel.

Source: Engine API 1.45, section *Authentication* (``AuthConfig`` in the header ``X-Registry-Auth``,
base64 with the URL alphabet) and ``DistributionInspect``.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from cellbox.errors import InvalidArgument
from cellbox.model.image import Descriptor, Platform
from cellbox.model.registry import Credential, Distribution
from cellbox.wire.fields import Fields

Json = dict[str, Any]

AUTH_HEADER = "X-Registry-Auth"

_FIELDS = {
    "username": "username",
    "password": "password",
    "identitytoken": "identity_token",
    "registrytoken": "registry_token",
}


def credential_from(body: Json) -> Credential:
    """An ``AuthConfig``. Raises InvalidArgument for values that are not text."""
    fields = Fields(body, "AuthConfig")
    found = {name: fields.text(key) for key, name in _FIELDS.items()}
    username, colon, password = _decoded(fields.text("auth")).partition(":")
    if colon and not found["username"]:
        found |= {"username": username, "password": password}
    return Credential(**found)


def credential_json(credential: Credential, server: str = "") -> Json:
    """The inverse, with the registry that it is for."""
    found = {key: getattr(credential, name) for key, name in _FIELDS.items()}
    found["serveraddress"] = server
    return {key: value for key, value in found.items() if value}


def credential_from_header(text: str) -> Credential:
    """What ``X-Registry-Auth`` says; an empty one names nobody. Raises InvalidArgument."""
    try:
        body = json.loads(_decoded(text) or "{}")
    except (ValueError, RecursionError):
        raise InvalidArgument(f"invalid {AUTH_HEADER} header: it must hold JSON") from None
    return credential_from(body)


def credential_header(credential: Credential, server: str = "") -> str:
    """The value of ``X-Registry-Auth``."""
    text = json.dumps(credential_json(credential, server))
    return base64.urlsafe_b64encode(text.encode()).decode()


def distribution_json(facts: Distribution) -> Json:
    """``DistributionInspect``."""
    descriptor = facts.descriptor
    return {
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        },
        "Platforms": [_platform_json(platform) for platform in facts.platforms],
    }


def distribution_from(body: Json) -> Distribution:
    """The inverse."""
    fields = Fields(body, "DistributionInspect")
    told = fields.inner("Descriptor", "Descriptor")
    platforms = [
        Platform(*map(each.text, ("os", "architecture", "variant")))
        for each in fields.items("Platforms", "Platform")
    ]
    descriptor = Descriptor(told.text("mediaType"), told.text("digest"), told.whole("size"))
    return Distribution(descriptor, tuple(platforms))


def _platform_json(platform: Platform) -> Json:
    found = {"architecture": platform.architecture, "os": platform.os}
    return found | ({"variant": platform.variant} if platform.variant else {})


def _decoded(text: str) -> str:
    """Base64 of either alphabet, with or without its padding; empty for what is none."""
    data = text.replace("+", "-").replace("/", "_").rstrip("=")
    try:
        return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
