"""What is mounted in a container, as people see it; pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from cellbox.containers.spec import PROPAGATION
from cellbox.model.container import MountKind, MountPoint, MountSpec
from cellbox.model.volume import LOCAL


def points(mounts: Sequence[MountSpec], directory: str) -> tuple[MountPoint, ...]:
    """Where each of ``mounts`` is; the volumes of the local driver are in ``directory``, of others
    nothing is known."""
    return tuple(_point(mount, directory) for mount in mounts)


def volume_path(directory: str, name: str) -> str:
    """Where the files of a volume of the local driver are."""
    return f"{directory}/{name}/_data"


def _point(mount: MountSpec, directory: str) -> MountPoint:
    target = posixpath.normpath(mount.target)
    if mount.kind is MountKind.VOLUME:
        source = volume_path(directory, mount.source) if mount.driver == LOCAL else ""
        return MountPoint(mount.kind, target, source, mount.read_only, mount.source, mount.driver)
    bind = mount.kind is MountKind.BIND
    propagation = (mount.propagation or PROPAGATION) if bind else ""
    return MountPoint(mount.kind, target, mount.source, mount.read_only, propagation=propagation)
