"""``-v``, ``--mount``, ``--tmpfs`` and ``--device`` to what a
:class:`~cellbox.model.container.RunSpec` holds; pure.

Three spellings of one thing: ``-v SOURCE:/inside[:ro]``, ``--mount type=bind,src=/host,dst=/b``
(a line of CSV) and ``--tmpfs /inside[:size=64m]``. A source that begins with ``/``, ``./``, ``../``
or ``~`` is a path of the host, any other one the name of a volume.
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cellbox.errors import CellboxError, InvalidArgument
from cellbox.model.container import DeviceSpec, MountKind, MountSpec
from cellbox.model.volume import check_name

from . import values

_IDLE = frozenset({"rw", "z", "Z", "consistent", "cached", "delegated"})
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_IDLE_TMPFS = frozenset({"rw", "noexec", "nosuid", "nodev"})
_SHORT = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_TRUE = {"", "1", "true"}
_FALSE = {"0", "false"}


def volume(text: str, cwd: str, home: str = "") -> MountSpec:
    """The mount of ``-v [SOURCE:]TARGET[:OPTIONS]``; ``./x`` is below ``cwd``, ``~/x`` below
    ``home``."""
    flag = f"-v {text}"
    source, colon, rest = text.partition(":")
    if not colon:
        return MountSpec(MountKind.VOLUME, _inside(text, flag))
    target, _, words = rest.partition(":")
    options = {word for word in words.split(",") if word}
    path = _host_path(source, cwd, home, flag)
    propagations = sorted(options & set(_PROPAGATIONS))
    known = {"ro", *_IDLE, *(propagations[:1] if path else ["nocopy"])}
    if unknown := options - known:
        raise InvalidArgument(f"{flag}: {min(unknown)!r} is not a mount option: use ro or rw")
    common: dict[str, Any] = {"target": _inside(target, flag), "read_only": "ro" in options}
    if path:
        propagation = "".join(propagations)
        return MountSpec(
            MountKind.BIND, source=path, propagation=propagation, make_source=True, **common
        )
    name = _volume_name(source, flag)
    return MountSpec(MountKind.VOLUME, source=name, no_copy="nocopy" in options, **common)


def tmpfs(text: str) -> MountSpec:
    """The mount of ``--tmpfs TARGET[:size=64m,mode=1777,ro]``."""
    target, _, words = text.partition(":")
    read_only, size, mode = False, None, 0o1777
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        if word == "ro":
            read_only = True
        elif key == "size":
            size = values.size(value)
        elif key == "mode":
            mode = _mode(value, f"--tmpfs {text}")
        elif word not in _IDLE_TMPFS:
            raise InvalidArgument(
                f"--tmpfs {text}: {word!r} is not known: use size, mode, ro or rw"
            )
    return MountSpec(MountKind.TMPFS, _inside(target, f"--tmpfs {text}"), "", read_only, size, mode)


def device(text: str) -> DeviceSpec:
    """The device of ``--device SOURCE[:TARGET][:rwm]``."""
    parts = text.split(":")
    rights = parts.pop() if len(parts) > 1 and _are_rights(parts[-1]) else "rwm"
    source, target = parts[0], parts[1] if len(parts) == 2 else parts[0]
    if len(parts) > 2 or not source.startswith("/") or not target.startswith("/"):
        raise InvalidArgument(
            f"--device {text}: write it as /dev/host[:/dev/inside][:rwm], with absolute paths"
        )
    return DeviceSpec(source, target, rights)


def _are_rights(word: str) -> bool:
    return bool(word) and set(word) <= set("rwm")


# --mount ----------------------------------------------------------------------------------------


@dataclass
class _Fields:
    """The fields of one ``--mount``; the ones that may come more than once are lists."""

    flag: str
    cwd: str
    home: str
    single: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def take(self, name: str, default: str = "") -> str:
        return self.single.pop(name, default)

    def flagged(self, name: str) -> bool:
        word = self.single.pop(name, "false")
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        raise InvalidArgument(f"{self.flag}: {word!r} is neither true nor false")

    def fail(self, reason: str) -> InvalidArgument:
        return InvalidArgument(f"{self.flag}: {reason}")


def mount(text: str, cwd: str, home: str = "") -> MountSpec:
    """The mount of ``--mount type=bind|volume|tmpfs,source=...,target=...[,readonly]``."""
    fields = _read(text, cwd, home)
    kind = fields.take("type", "volume")
    if kind not in _KINDS:
        raise fields.fail(f"type={kind} is not known: use type=bind, type=volume or type=tmpfs")
    common = {
        "kind": MountKind(kind),
        "target": _inside(fields.take("target"), fields.flag),
        "read_only": fields.flagged("readonly"),
    }
    fields.take("consistency")
    made = _KINDS[kind](fields, common)
    left = [*fields.single, *(["volume-opt"] if fields.options else [])]
    left += ["volume-label"] if fields.labels else []
    if left:
        raise fields.fail(f"{min(left)!r} does not belong to a {kind} mount")
    return made


def _read(text: str, cwd: str, home: str) -> _Fields:
    fields = _Fields(f"--mount {text}", cwd, home)
    for word in next(csv.reader([text]), []):
        key, equals, value = word.partition("=")
        key = key.strip().lower()
        if key == "volume-opt":
            fields.options.append(value)
        elif key == "volume-label":
            fields.labels.append(value)
        else:
            fields.single[_SHORT.get(key, key)] = value if equals else ""
    if not fields.single:
        raise fields.fail("write it as type=bind,source=/host,target=/inside")
    return fields


def _bind(fields: _Fields, common: dict[str, Any]) -> MountSpec:
    source = fields.take("source")
    path = _host_path(source, fields.cwd, fields.home, fields.flag)
    if not path:
        path = posixpath.normpath(posixpath.join(fields.cwd, source))
    propagation = fields.take("bind-propagation")
    if propagation not in ("", *_PROPAGATIONS):
        raise fields.fail(f"bind-propagation={propagation} is not known: use rprivate or rslave")
    recursive = fields.take("bind-recursive", "enabled")
    if fields.flagged("bind-nonrecursive"):
        recursive = "disabled"
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise fields.fail(
            f"bind-recursive={recursive} is not known: use enabled, disabled, writable or readonly"
        )
    if recursive in ("writable", "readonly") and not common["read_only"]:
        raise fields.fail(f"bind-recursive={recursive} needs readonly beside it")
    if recursive == "readonly" and propagation not in ("", "rprivate"):
        raise fields.fail("bind-recursive=readonly needs bind-propagation=rprivate beside it")
    return MountSpec(
        source=path,
        propagation=propagation,
        recursive=recursive != "disabled",
        shallow=recursive == "writable",
        **common,
    )


def _volume(fields: _Fields, common: dict[str, Any]) -> MountSpec:
    source, subpath = fields.take("source"), fields.take("volume-subpath")
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise fields.fail("the subpath must be a relative path within the volume")
    if subpath and not source:
        raise fields.fail("a volume without a name has no subpath")
    options = values.pairs(fields.options, f"{fields.flag}: volume-opt")
    labels = values.labels(fields.labels)
    fields.options, fields.labels = [], []
    return MountSpec(
        source=_volume_name(source, fields.flag) if source else "",
        no_copy=fields.flagged("volume-nocopy"),
        subpath=subpath,
        driver=fields.take("volume-driver"),
        driver_options=options,
        labels=labels,
        **common,
    )


def _tmpfs(fields: _Fields, common: dict[str, Any]) -> MountSpec:
    size = fields.take("tmpfs-size")
    mode = _mode(fields.take("tmpfs-mode", "1777"), fields.flag)
    return MountSpec(size=values.size(size) if size else None, mode=mode, **common)


_KINDS: dict[str, Callable[[_Fields, dict[str, Any]], MountSpec]] = {
    "bind": _bind,
    "volume": _volume,
    "tmpfs": _tmpfs,
}


# Words ------------------------------------------------------------------------------------------


def _inside(path: str, flag: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(f"{flag}: the path in the container must be absolute, as in /data")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidArgument(f"{flag}: the path in the container must not be /")
    return clean


def _host_path(path: str, cwd: str, home: str, flag: str) -> str:
    """An absolute path of the host; empty for what is no path but a name."""
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    if path.startswith("/"):
        return posixpath.normpath("/" + path.lstrip("/"))
    if path in (".", "..") or path.startswith(("./", "../")):
        return posixpath.normpath(posixpath.join(cwd, path))
    if not path:
        raise InvalidArgument(f"{flag}: the source of the mount is missing")
    return ""


def _volume_name(name: str, flag: str) -> str:
    try:
        return check_name(name)
    except CellboxError as error:
        raise InvalidArgument(f"{flag}: {error}") from None


def _mode(text: str, flag: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidArgument(f"{flag}: {text!r} is not an octal mode such as 1777") from None
