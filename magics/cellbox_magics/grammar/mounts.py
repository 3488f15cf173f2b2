"""``-v``, ``--mount`` and ``--tmpfs`` to :class:`~cellbox.model.container.MountSpec`; pure.

Three spellings of one thing: ``-v /host:/inside[:ro]``, ``--mount type=bind,src=/host,dst=/inside``
(a line of CSV) and ``--tmpfs /inside[:size=64m]``. Named and anonymous volumes are known and
refused with a sentence, since this engine has bind mounts and tmpfs only.
"""

from __future__ import annotations

import csv
import posixpath

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import MountKind, MountSpec

from . import values

NO_VOLUMES = (
    "named and anonymous volumes are not in this engine yet: "
    "give a host directory (/host:/inside) or use --tmpfs /inside"
)
_IDLE_BIND = frozenset({"rw", "z", "Z", "rprivate", "consistent", "cached", "delegated"})
_IDLE_TMPFS = frozenset({"rw", "noexec", "nosuid", "nodev"})
_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_TRUE = {"", "1", "true"}
_FALSE = {"0", "false"}


def volume(text: str, cwd: str, home: str = "") -> MountSpec:
    """The mount of ``-v SOURCE:TARGET[:OPTIONS]``; ``./x`` is below ``cwd``, ``~/x`` below
    ``home``."""
    source, colon, rest = text.partition(":")
    if not colon:
        raise NotSupported(f"-v {text}: {NO_VOLUMES}")
    target, _, words = rest.partition(":")
    options = {word for word in words.split(",") if word}
    unknown = options - _IDLE_BIND - {"ro"}
    if unknown:
        raise InvalidArgument(f"-v {text}: {min(unknown)!r} is not a mount option: use ro or rw")
    return _bind(_host_path(source, cwd, home, f"-v {text}"), target, "ro" in options, f"-v {text}")


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


def mount(text: str, cwd: str, home: str = "") -> MountSpec:
    """The mount of ``--mount type=bind|tmpfs,source=...,target=...[,readonly]``."""
    flag = f"--mount {text}"
    fields = _fields(text, flag)
    kind = fields.pop("type", "volume")
    target = fields.pop("target", "")
    read_only = _bool(fields.pop("readonly", "false"), flag)
    if kind == "bind":
        source = _host_path(fields.pop("source", ""), cwd, home, flag)
        if fields.pop("bind-propagation", "rprivate") != "rprivate":
            raise NotSupported(f"{flag}: only bind-propagation=rprivate is in this engine")
        made = _bind(source, target, read_only, flag)
    elif kind == "tmpfs":
        size = fields.pop("tmpfs-size", "")
        mode = _mode(fields.pop("tmpfs-mode", "1777"), flag)
        where = _inside(target, flag)
        made = MountSpec(
            MountKind.TMPFS, where, "", read_only, values.size(size) if size else None, mode
        )
    elif kind == "volume":
        raise NotSupported(f"{flag}: {NO_VOLUMES}")
    else:
        raise InvalidArgument(f"{flag}: type={kind} is not known: use type=bind or type=tmpfs")
    if fields:
        raise InvalidArgument(f"{flag}: {min(fields)!r} does not belong to a {kind} mount")
    return made


def _fields(text: str, flag: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for word in next(csv.reader([text]), []):
        key, _, value = word.partition("=")
        key = key.strip().lower()
        fields[_KEYS.get(key, key)] = value
    if not fields:
        raise InvalidArgument(f"{flag}: write it as type=bind,source=/host,target=/inside")
    return fields


def _bind(source: str, target: str, read_only: bool, flag: str) -> MountSpec:
    return MountSpec(MountKind.BIND, _inside(target, flag), source, read_only)


def _inside(path: str, flag: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(f"{flag}: the path in the container must be absolute, as in /data")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidArgument(f"{flag}: the path in the container must not be /")
    return clean


def _host_path(path: str, cwd: str, home: str, flag: str) -> str:
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    if path.startswith("/"):
        return posixpath.normpath("/" + path.lstrip("/"))
    if path in (".", "..") or path.startswith(("./", "../")):
        return posixpath.normpath(posixpath.join(cwd, path))
    if not path:
        raise InvalidArgument(f"{flag}: the source of a bind mount is missing")
    raise NotSupported(f"{flag}: {NO_VOLUMES}")


def _mode(text: str, flag: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidArgument(f"{flag}: {text!r} is not an octal mode such as 1777") from None


def _bool(text: str, flag: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise InvalidArgument(f"{flag}: {text!r} is neither true nor false")
