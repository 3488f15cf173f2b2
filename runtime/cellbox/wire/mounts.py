"""``Binds``, ``Mounts``, ``Tmpfs`` and ``Volumes``: Docker's four lists of mounts and ours; pure.

Each MountSpec is told in the list that says it shortest: ``-v`` in Binds, ``--tmpfs`` in Tmpfs, an
anonymous volume in ``Config.Volumes``, and in Mounts what takes more words. Read back they come in
the order Binds, Mounts, Tmpfs, Volumes; the engine mounts by depth, so order says nothing.

Source: Engine API 1.45, ``HostConfig`` and ``Mount``; moby ``volume/mounts/linux_parser.go``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

from cellbox.errors import InvalidArgument
from cellbox.model.container import MountKind, MountSpec
from cellbox.wire.fields import Fields, Json

_PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_WORDS_OF_A_BIND = (
    frozenset({"ro", "rw"}),
    frozenset({"z", "Z"}),
    frozenset({"consistent", "cached", "delegated"}),
    frozenset({"nocopy"}),
    _PROPAGATIONS,
)
"""The options after the second colon, by kind; of each kind one at most."""

_FLAGS_OF_A_TMPFS = frozenset(
    ("defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async")
    + ("dirsync", "remount", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime")
    + ("bind", "rbind", "private", "rprivate", "shared", "rshared", "slave", "rslave")
    + ("unbindable", "runbindable", "relatime", "norelatime", "strictatime", "nostrictatime")
)
_DATA_OF_A_TMPFS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_SIZE = re.compile(r"(\d{1,18})([kmg]?)b?", re.ASCII | re.IGNORECASE)
_OCTAL = re.compile("[0-7]{1,5}")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def mounts_json(mounts: Iterable[MountSpec]) -> Json:
    """``Binds``, ``Mounts`` and ``Tmpfs`` of a HostConfig; see :func:`volumes_json` for the
    rest."""
    binds, others, tmpfs = [], [], {}
    for mount in mounts:
        if mount.kind is MountKind.TMPFS:
            tmpfs[mount.target] = _tmpfs_options(mount)
        elif _is_bind(mount):
            binds.append(_bind(mount))
        elif not _is_anonymous(mount):
            others.append(_mount(mount))
    return {"Binds": binds or None, "Mounts": others or None, "Tmpfs": tmpfs or None}


def volumes_json(mounts: Iterable[MountSpec]) -> Json | None:
    """``Config.Volumes``: the anonymous ones, as ``{"/data": {}}``."""
    return {mount.target: {} for mount in mounts if _is_anonymous(mount)} or None


def read_mounts(config: Fields, host_config: Fields) -> tuple[MountSpec, ...]:
    """The inverse of both. A path of ``Config.Volumes`` where something else is mounted says
    nothing: clients name there what they bind."""
    asked = [
        *(_read_bind(word) for word in host_config.texts("Binds")),
        *(_read_mount(mount) for mount in host_config.items("Mounts", "Mount")),
        *(_read_tmpfs(*pair) for pair in host_config.text_map("Tmpfs").items()),
    ]
    taken = {posixpath.normpath(mount.target) for mount in asked}
    return (*asked, *_anonymous(config.names("Volumes"), taken))


# Binds ----------------------------------------------------------------------------------------


def _is_bind(mount: MountSpec) -> bool:
    """Can ``SOURCE:TARGET:OPTIONS`` say all of it?"""
    if not mount.source or ":" in mount.source + mount.target:
        return False
    if mount.kind is MountKind.BIND:
        return mount.make_source and mount.recursive and not mount.shallow
    return not (mount.subpath or mount.driver or mount.driver_options or mount.labels)


def _bind(mount: MountSpec) -> str:
    options = [
        *(["ro"] if mount.read_only else []),
        *([mount.propagation] if mount.propagation else []),
        *(["nocopy"] if mount.no_copy else []),
    ]
    return ":".join([mount.source, mount.target, *([",".join(options)] if options else [])])


def _read_bind(text: str) -> MountSpec:
    source, target, mode = _parts(text)
    words = mode.split(",") if mode else []
    if not _is_mode(words):
        raise InvalidArgument(f"invalid mode: {mode}")
    is_path = source.startswith("/")
    kind = MountKind.BIND if is_path else MountKind.VOLUME
    if not target.startswith("/"):
        reason = _bad_mount(kind, f"invalid mount path: '{target}' mount path must be absolute")
        raise InvalidArgument(f"invalid volume specification: '{text}': {reason}")
    return MountSpec(
        kind,
        target,
        source,
        read_only="ro" in words,
        propagation="".join(_PROPAGATIONS.intersection(words)),
        make_source=is_path,
        no_copy="nocopy" in words,
    )


def _parts(text: str) -> tuple[str, str, str]:
    """Source, target and mode of a bind; a target alone is an anonymous volume."""
    match text.split(":"):
        case [target] if target:
            return "", target, ""
        # /data:ro is refused: it would be a volume whose target is the mode
        case [source, target] if source and target and not _is_mode(target.split(",")):
            return source, target, ""
        case [source, target, mode] if source and target:
            return source, target, mode
    raise InvalidArgument(f"invalid volume specification: '{text}'")


def _is_mode(words: list[str]) -> bool:
    known = [kind.intersection(words) for kind in _WORDS_OF_A_BIND]
    return sum(map(len, known)) == len(words) and all(len(kind) <= 1 for kind in known)


# Mounts ---------------------------------------------------------------------------------------


def _mount(mount: MountSpec) -> Json:
    told: Json = {"Type": str(mount.kind), "Target": mount.target}
    if mount.source:
        told["Source"] = mount.source
    if mount.read_only:
        told["ReadOnly"] = True
    options = _bind_options(mount) if mount.kind is MountKind.BIND else _volume_options(mount)
    name = "BindOptions" if mount.kind is MountKind.BIND else "VolumeOptions"
    return {**told, **({name: options} if options else {})}


def _bind_options(mount: MountSpec) -> Json:
    return {
        **({"Propagation": mount.propagation} if mount.propagation else {}),
        **({} if mount.recursive else {"NonRecursive": True}),
        **({"ReadOnlyNonRecursive": True} if mount.shallow else {}),
        **({"CreateMountpoint": True} if mount.make_source else {}),
    }


def _volume_options(mount: MountSpec) -> Json:
    driver = {
        **({"Name": mount.driver} if mount.driver else {}),
        **({"Options": dict(mount.driver_options)} if mount.driver_options else {}),
    }
    return {
        **({"NoCopy": True} if mount.no_copy else {}),
        **({"Labels": dict(mount.labels)} if mount.labels else {}),
        **({"DriverConfig": driver} if driver else {}),
        **({"Subpath": mount.subpath} if mount.subpath else {}),
    }


_OPTIONS = {
    "bind": "BindOptions",
    "volume": "VolumeOptions",
    "tmpfs": "TmpfsOptions",
}
"""For each type of mount the member with its options; those of another type are refused."""


def _read_mount(mount: Fields) -> MountSpec:
    kind, source, target = mount.text("Type"), mount.text("Source"), mount.text("Target")
    if kind not in _OPTIONS:
        raise _bad_mount(kind, "mount type unknown")
    if not target:
        raise _bad_mount(kind, "field Target must not be empty")
    for other, name in _OPTIONS.items():
        if other != kind and mount.given(name):
            raise _bad_mount(kind, f"field {name} must not be specified")
    options = mount.inner(_OPTIONS[kind], _OPTIONS[kind])
    found = _READERS[kind](options, source)
    return MountSpec(MountKind(kind), target, source, read_only=mount.flag("ReadOnly"), **found)


def _read_bind_options(options: Fields, source: str) -> dict[str, Any]:
    propagation = options.text("Propagation")
    if not source:
        raise _bad_mount("bind", "field Source must not be empty")
    if propagation and propagation not in _PROPAGATIONS:
        raise _bad_mount("bind", f"invalid propagation mode: {propagation}")
    return {
        "propagation": propagation,
        "recursive": not options.flag("NonRecursive"),
        "shallow": options.flag("ReadOnlyNonRecursive"),
        "make_source": options.flag("CreateMountpoint"),
    }


def _read_volume_options(options: Fields, source: str) -> dict[str, Any]:
    driver, subpath = options.inner("DriverConfig", "Driver"), options.text("Subpath")
    if subpath and not source:
        raise _bad_mount("volume", "must not set Subpath when using anonymous volumes")
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise _bad_mount("volume", "subpath must be a relative path within the volume")
    return {
        "no_copy": options.flag("NoCopy"),
        "labels": options.text_map("Labels"),
        "driver": driver.text("Name"),
        "driver_options": driver.text_map("Options"),
        "subpath": subpath,
    }


def _read_tmpfs_options(options: Fields, source: str) -> dict[str, Any]:
    return {
        "size": options.whole("SizeBytes") or None,
        "mode": options.whole("Mode") or 0o1777,
    }


_READERS = {
    "bind": _read_bind_options,
    "volume": _read_volume_options,
    "tmpfs": _read_tmpfs_options,
}


def _bad_mount(kind: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f'invalid mount config for type "{kind}": {reason}')


# Tmpfs ----------------------------------------------------------------------------------------


def _tmpfs_options(mount: MountSpec) -> str:
    words = [
        *(["ro"] if mount.read_only else []),
        *([f"size={mount.size}"] if mount.size is not None else []),
        *([f"mode={mount.mode:o}"] if mount.mode != 0o1777 else []),
    ]
    return ",".join(words)


def _read_tmpfs(target: str, options: str) -> MountSpec:
    words = [word for word in options.split(",") if word]
    values = dict(word.partition("=")[::2] for word in words)
    for name in values:
        if name not in _FLAGS_OF_A_TMPFS | _DATA_OF_A_TMPFS:
            raise InvalidArgument(f'Invalid tmpfs option "{name}"')
    return MountSpec(
        MountKind.TMPFS,
        target,
        read_only="ro" in values,
        size=_size(values["size"]) if "size" in values else None,
        mode=_mode(values.get("mode", "1777")),
    )


def _size(text: str) -> int:
    """Bytes; a unit is a power of 1024, as in tmpfs(5)."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise InvalidArgument(f'Invalid tmpfs option "size={text}"')
    return int(found[1]) << _UNITS[found[2].lower()]


def _mode(text: str) -> int:
    if not _OCTAL.fullmatch(text):
        raise InvalidArgument(f'Invalid tmpfs option "mode={text}"')
    return int(text, 8)


# Volumes --------------------------------------------------------------------------------------


def _is_anonymous(mount: MountSpec) -> bool:
    return mount == MountSpec(MountKind.VOLUME, mount.target)


def _anonymous(paths: Iterable[str], taken: set[str]) -> Iterator[MountSpec]:
    for path in paths:
        if posixpath.normpath(path) not in taken:
            yield MountSpec(MountKind.VOLUME, path)
