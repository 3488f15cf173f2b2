"""How much of the disk a store uses, and how much of that could be had back: ``system df``."""

from __future__ import annotations

import os

from cellbox.local.build_caches import BuildCaches
from cellbox.local.containers import LocalContainers
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.container import Status
from cellbox.model.system import DiskUsage
from cellbox.model.volume import LOCAL

_ACTIVE = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def measure(store: Store, containers: LocalContainers) -> list[DiskUsage]:
    """Images, containers, local volumes and what builds have cached, in Docker's order; a shared
    layer counts once."""
    return [
        _images(store),
        _containers(store, containers),
        _volumes(store, containers),
        _build_caches(store),
    ]


def _build_caches(store: Store) -> DiskUsage:
    """The caches that RUN mounts; cached steps are images."""
    found = BuildCaches(store).sizes().values()
    active = sum(in_use for _, in_use in found)
    idle = sum(size for size, in_use in found if not in_use)
    return DiskUsage("Build Cache", len(found), active, sum(size for size, _ in found), idle)


def _images(store: Store) -> DiskUsage:
    images = store.state.images.all()
    used = {image.id for image in images if store.state.images.users(image.id)}
    sizes = {layer.diff_id: layer.size for image in images for layer in image.layers}
    needed = {layer.diff_id for image in images if image.id in used for layer in image.layers}
    free = sum(size for diff_id, size in sizes.items() if diff_id not in needed)
    return DiskUsage("Images", len(images), len(used), sum(sizes.values()), free)


def _containers(store: Store, containers: LocalContainers) -> DiskUsage:
    found = containers.list(all=True)
    sizes = {one.id: written(store, containers, one.id) for one in found}
    active = [one.id for one in found if one.status in _ACTIVE]
    idle = sum(size for id, size in sizes.items() if id not in active)
    return DiskUsage("Containers", len(found), len(active), sum(sizes.values()), idle)


def _volumes(store: Store, containers: LocalContainers) -> DiskUsage:
    """Those of the local driver; only theirs are known."""
    if not store.state.volumes.all():
        return DiskUsage("Local Volumes", 0, 0, 0, 0)
    volumes = containers.mounting.volumes
    found = volumes.list(filters={"driver": [LOCAL]})
    sizes = {one.name: volumes.size(one.name) for one in found}
    used = [one.name for one in found if one.users]
    idle = sum(size for name, size in sizes.items() if name not in used)
    return DiskUsage("Local Volumes", len(found), len(used), sum(sizes.values()), idle)


def container_size(
    store: Store, containers: LocalContainers, record: ContainerRecord
) -> tuple[int, int]:
    """Bytes that the container has written, and of these and its image together."""
    own = written(store, containers, record.id)
    return own, own + store.state.images.get(record.image_id).size


def written(store: Store, containers: LocalContainers, id: str) -> int:
    """Bytes of the container's writable layer."""
    layer = containers.layer(id)
    if not os.path.isdir(layer):
        return 0
    return int(store.launcher.work("usage", {"path": str(layer)})["size"])
