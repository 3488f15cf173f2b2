"""Names in the path of a request: quoted, so that none can lead to another request."""

from __future__ import annotations

import urllib.parse

from cellbox.errors import InvalidReference, NotFound


def container(ref: str, rest: str = "") -> str:
    """The path of a container, by name (a leading slash is none of it) or id."""
    return _named("container", "/containers", ref.removeprefix("/"), rest)


def network(ref: str, rest: str = "") -> str:
    """The path of a network."""
    return _named("network", "/networks", ref, rest)


def volume(name: str, rest: str = "") -> str:
    """The path of a volume."""
    return _named("volume", "/volumes", name, rest)


def image(ref: str, rest: str = "") -> str:
    """The path of an image; the slashes of its name are as they are."""
    return f"/images/{_image_name(ref)}{rest}"


def distribution(ref: str) -> str:
    """The path of what a registry says of an image."""
    return f"/distribution/{_image_name(ref)}/json"


def plugin(ref: str, rest: str = "") -> str:
    """The path of a plugin, whose name is as an image's."""
    return f"/plugins/{_image_name(ref)}{rest}"


def _image_name(ref: str) -> str:
    if any(part in ("", ".", "..") for part in ref.split("/")):
        raise InvalidReference("invalid reference format")
    return urllib.parse.quote(ref, safe="/:@")


def _named(kind: str, collection: str, ref: str, rest: str) -> str:
    if not ref.strip("./"):
        raise NotFound(kind, ref)
    return f"{collection}/{urllib.parse.quote(ref, safe='')}{rest}"
