"""The mounts of RUN: what ``--mount`` says, as typed facts; pure.

Source: Dockerfile reference, *RUN --mount*; the sentences are BuildKit's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from posixpath import basename, normpath
from typing import Any

from cellbox.build.suggestions import suggestion
from cellbox.errors import InvalidArgument

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_SECRETS = "/run/secrets/"
_FLAGS = frozenset({"readonly", "ro", "readwrite", "rw", "required"})
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "true", "True", "TRUE", "T"), True),
    **dict.fromkeys(("0", "f", "false", "False", "FALSE", "F"), False),
}


class Kind(StrEnum):
    """``type=``."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Sharing(StrEnum):
    """What happens to a cache that two steps want at once: both have it, each has one of its own,
    or one waits for the other."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


_NAMED = frozenset({Kind.SECRET, Kind.SSH})
_OWNED = frozenset({*_NAMED, Kind.CACHE})


@dataclass(frozen=True)
class Mount:
    """One ``--mount``. ``origin`` is a stage or an image, empty for the context (and, of a cache,
    for nothing); ``id`` names a cache, secret or agent; ``size`` is in bytes; ``variable`` is what
    holds a secret in the environment. None is what the kind has for itself."""

    kind: Kind = Kind.BIND
    target: str = ""
    source: str = ""
    origin: str = ""
    id: str = ""
    read_only: bool | None = None
    sharing: Sharing | None = None
    required: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    variable: str | None = None

    @property
    def writable(self) -> bool:
        """May the command write there?"""
        if self.read_only is None:
            return self.kind in (Kind.CACHE, Kind.TMPFS)
        return not self.read_only

    @property
    def name(self) -> str:
        """The id, or what stands for it where it is not given."""
        if self.kind is Kind.SSH:
            return self.id or "default"
        if self.kind is Kind.SECRET:
            return self.id or self.source or basename(self.target)
        return self.id or normpath(self.target)

    @property
    def place(self) -> str:
        """Where a secret is mounted; empty where it is only in the environment."""
        if self.target or self.variable is not None:
            return self.target
        return _SECRETS + basename(self.name)


def origin_of(text: str) -> str:
    """``from=`` of a mount as it is written. Raises InvalidArgument where it has a variable."""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            if re.search(r"\$.", value):
                raise InvalidArgument(
                    f"'{key.lower()}' doesn't support variable expansion, "
                    "define alias stage instead"
                )
            return value
    return ""


def parse(text: str, expand: Callable[[str], str]) -> Mount:
    """The mount that ``text`` says, its variables put in their places by ``expand``. Raises
    InvalidArgument."""
    found = Mount()
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in _FLAGS:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        reader = _READERS.get(key)
        if reader is None:
            told = f"unexpected key '{key}' in '{field}'"
            raise InvalidArgument(told + suggestion(key, _READERS))
        value = expand(value) if equals else "true"
        if key == "type" and value.lower() not in tuple(Kind):
            raise InvalidArgument(f'unsupported mount type "{value}"' + suggestion(value, Kind))
        if key == "sharing" and value.lower() not in tuple(Sharing):
            raise InvalidArgument(
                f'unsupported sharing value "{value}"' + suggestion(value, Sharing)
            )
        found = replace(found, **reader(found, key, value))
    _check(found)
    return found


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as error:
        raise InvalidArgument(f"failed to parse csv mounts: {error}") from None


def _check(mount: Mount) -> None:
    for name in ("mode", "uid", "gid"):
        if getattr(mount, name) is not None and mount.kind not in _OWNED:
            raise InvalidArgument(f'{name} not allowed for "{mount.kind}" type mounts')
    if mount.kind is Kind.SECRET:
        _check_secret(mount)
    if mount.sharing and mount.kind is not Kind.CACHE:
        raise InvalidArgument(f"invalid cache sharing set for {mount.kind} mount")
    if not mount.target and mount.kind not in _NAMED:
        raise InvalidArgument('invalid mount target ""')


def _check_secret(mount: Mount) -> None:
    if mount.origin:
        raise InvalidArgument("secret mount should not have a from")
    if mount.sharing:
        raise InvalidArgument("secret mount should not define sharing")
    if not (mount.source or mount.target or mount.id):
        raise InvalidArgument("invalid secret mount. one of source, target required")
    if mount.source and mount.id:
        raise InvalidArgument("both source and id can't be set")


# Values ------------------------------------------------------------------------------------------


def _text(name: str) -> Callable[[Mount, str, str], dict[str, Any]]:
    return lambda mount, key, value: {name: value}


def _only(mount: Mount, key: str, kinds: Iterable[Kind]) -> None:
    if mount.kind not in kinds:
        raise InvalidArgument(f"unexpected key '{key}' for mount type '{mount.kind}'")


def _boolean(key: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise InvalidArgument(f"invalid value for {key}: {value}")
    return _BOOLEANS[value]


def _required(mount: Mount, key: str, value: str) -> dict[str, Any]:
    _only(mount, key, _NAMED)
    return {"required": _boolean(key, value)}


def _size(mount: Mount, key: str, value: str) -> dict[str, Any]:
    _only(mount, key, (Kind.TMPFS,))
    match = _SIZE.fullmatch(value)
    if match is None:
        raise InvalidArgument(f"invalid value for {key}: {value}")
    return {"size": int(float(match[1]) * (1 << _UNITS[match[2].lower()]))}


def _variable(mount: Mount, key: str, value: str) -> dict[str, Any]:
    _only(mount, key, (Kind.SECRET,))
    return {"variable": value}


def _number(base: int) -> Callable[[Mount, str, str], dict[str, Any]]:
    digits = re.compile("[0-7]+" if base == 8 else "[0-9]+", re.ASCII)

    def read(mount: Mount, key: str, value: str) -> dict[str, Any]:
        if not digits.fullmatch(value) or int(value, base) >= 1 << 32:
            raise InvalidArgument(f"invalid value {value} for {key}")
        return {key: int(value, base)}

    return read


_READERS: dict[str, Callable[[Mount, str, str], dict[str, Any]]] = {
    "type": lambda mount, key, value: {"kind": Kind(value.lower())},
    "from": _text("origin"),
    **dict.fromkeys(("source", "src"), _text("source")),
    **dict.fromkeys(("target", "dst", "destination"), _text("target")),
    **dict.fromkeys(
        ("readonly", "ro"), lambda mount, key, value: {"read_only": _boolean(key, value)}
    ),
    **dict.fromkeys(
        ("readwrite", "rw"), lambda mount, key, value: {"read_only": not _boolean(key, value)}
    ),
    "required": _required,
    "size": _size,
    "id": _text("id"),
    "sharing": lambda mount, key, value: {"sharing": Sharing(value.lower())},
    "mode": _number(8),
    "uid": _number(10),
    "gid": _number(10),
    "env": _variable,
}
