"""What a container has written: its writable layer compared with its image's layers.

A container's file system is one overlay as a rule, or a plain copy, or, for the image ``host``,
several overlays side by side; each is a :class:`Part`. Names that were made only to mount something
on them (/etc/hostname, the targets of volumes) are no changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cellbox.containers import records
from cellbox.containers.messages import Bundle
from cellbox.errors import WrongState
from cellbox.linux.mounts import Mount
from cellbox.local.containers import LocalContainers
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.container import FileChange, MountKind


@dataclass(frozen=True)
class Part:
    """A writable directory ``upper`` (host path), seen at ``target`` over ``lowers`` (topmost
    first); ``copied``: it holds what they hold too. ``points`` are the paths in it, without a
    leading slash, on which something is mounted."""

    target: str
    upper: str
    lowers: tuple[str, ...]
    copied: bool
    points: tuple[str, ...]


def root_mounts(containers: LocalContainers, record: ContainerRecord) -> tuple[Mount, ...]:
    """The mounts of the container's own file system, as its bundle has them; the root first."""
    bundle = _bundle(containers, record)
    return tuple(one for one in bundle.mounts if one.target == "/" or one.kind == "overlay")


def seen_mounts(containers: LocalContainers, record: ContainerRecord) -> tuple[Mount, ...]:
    """Those, and what the user has bound there: volumes, and what is there of the host's."""
    asked = record.mounts or record.spec.mounts
    bound = {os.path.normpath(one.target) for one in asked if one.kind is not MountKind.TMPFS}
    return tuple(
        one
        for one in _bundle(containers, record).mounts
        if one.target == "/"
        or one.kind == "overlay"
        or (one.target in bound and os.path.exists(one.source))
    )


def parts(store: Store, containers: LocalContainers, record: ContainerRecord) -> Iterator[Part]:
    """All writable parts of the container's file system."""
    snapshotter = store.snapshotter
    mounts = root_mounts(containers, record)
    targets = [mount.target for mount in _bundle(containers, record).mounts]
    if mounts[0].kind == "bind":
        image = store.state.images.get(record.image_id)
        lowers = tuple(map(str, store.layers.paths([one.diff_id for one in image.layers])[::-1]))
        upper = str(containers.layer(record.id) / snapshotter.upper)
        yield Part("/", upper, lowers, snapshotter.copies, _below("/", targets))
        return
    for mount in mounts:
        if mount.kind == "overlay" and mount.upper:
            points = _below(mount.target, targets)
            yield Part(mount.target, mount.upper, mount.lowers, False, points)


def changes(store: Store, containers: LocalContainers, record: ContainerRecord) -> list[FileChange]:
    """What differs from the image, by path."""
    found: dict[str, str] = {}
    for part in parts(store, containers, record):
        pairs: list[tuple[str, str]] = _compare(store, part)["changes"]
        for kind, path in pairs:
            found[part.target.rstrip("/") + path] = kind
    return [FileChange(kind, path) for path, kind in sorted(found.items())]


def made_points(store: Store, part: Part) -> list[str]:
    """The paths in ``part``, without a leading slash, that are there for mounts only."""
    return list(_compare(store, part)["points"])


def _compare(store: Store, part: Part) -> dict[str, Any]:
    args = {
        "upper": part.upper,
        "lowers": part.lowers,
        "copied": part.copied,
        "points": part.points,
    }
    return store.launcher.work("diff", args)


def _below(target: str, others: list[str]) -> tuple[str, ...]:
    prefix = target.rstrip("/") + "/"
    below = (one.removeprefix(prefix) for one in others if one.startswith(prefix))
    return tuple(one for one in below if one)


def _bundle(containers: LocalContainers, record: ContainerRecord) -> Bundle:
    bundle = records.read_bundle(str(containers.directory(record.id)))
    if bundle is None:
        raise WrongState(f"Container {record.name} has just gone")
    return bundle
