"""The machine and the store: what ``info``, ``version``, ``system df`` and ``doctor`` tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing the machine can or cannot do. ``remedy`` is the one command that would change it,
    empty where all is well or nothing can be done."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Info:
    """The engine at a glance; ``mode`` is ``root``, ``rootless`` (a range of ids) or ``rootless,
    single id``."""

    id: str
    version: str
    root: str
    mode: str
    kernel: str
    architecture: str
    operating_system: str
    cpus: int
    memory: int
    snapshotter: str
    cgroup_version: str
    cgroup_controllers: tuple[str, ...]
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUsage:
    """One row of ``system df``: ``size`` and ``reclaimable`` in bytes."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


@dataclass(frozen=True)
class Damage:
    """One fault that ``system check`` found: ``kind`` and ``ref`` name the object; ``repaired``
    says what was done about it, empty when nothing was."""

    kind: str
    ref: str
    detail: str
    repaired: str = ""
