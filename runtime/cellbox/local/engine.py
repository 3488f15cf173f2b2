"""The embedded engine: a :class:`~cellbox.engine.Engine` with no daemon behind it.

Any number of them, in any number of processes, may share one store.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cellbox
from cellbox.engine import Containers, Files, Filters, Images, Networks, Plugins, Volumes
from cellbox.linux import cgroups, idmap
from cellbox.local import check as checks
from cellbox.local import doctor as machine
from cellbox.local import usage
from cellbox.local.build_caches import BuildCaches
from cellbox.local.containers import LocalContainers
from cellbox.local.files import LocalFiles
from cellbox.local.images import LocalImages
from cellbox.local.places import root_directory, run_directory
from cellbox.local.plugins import LocalPlugins
from cellbox.local.store import Store
from cellbox.model.container import Status
from cellbox.model.event import Event
from cellbox.model.system import Damage, DiskUsage, Finding, Info

if TYPE_CHECKING:
    from cellbox.drivers.finder import Finder


class LocalEngine:
    """The engine of the store at ``root`` (default: this user's). Nothing is touched before it is
    first used, but that the two directories are made."""

    def __init__(self, root: Path | None = None, run: Path | None = None) -> None:
        where = root or root_directory()
        self._store = Store(where, run or run_directory(where))
        self._containers = LocalContainers(self._store)
        self._images = LocalImages(self._store, self._containers)
        self._files = LocalFiles(self._store, self._containers)

    @property
    def url(self) -> str:
        return f"local:{self._store.root}"

    @property
    def images(self) -> Images:
        return self._images

    @property
    def containers(self) -> Containers:
        return self._containers

    @property
    def files(self) -> Files:
        return self._files

    @property
    def networks(self) -> Networks:
        return self._containers.networks

    @property
    def volumes(self) -> Volumes:
        return self._containers.mounting.volumes

    @property
    def plugins(self) -> Plugins:
        return LocalPlugins(self._store)

    @property
    def drivers(self) -> Finder:
        """The programs that speak Docker's plugin protocol."""
        return self._store.drivers

    def info(self) -> Info:
        counts = [container.status for container in self._containers.list(all=True)]
        running = sum(status in (Status.RUNNING, Status.RESTARTING) for status in counts)
        paused = counts.count(Status.PAUSED)
        layout = cgroups.layout()
        warnings = [f"{one.subject}: {one.detail}" for one in self.doctor() if not one.ok]
        reach = self._containers.networks.known_reach()
        if reach and reach.obstacle:
            warnings.append(f"containers have no network: {reach.obstacle}")
        elif reach and reach.missing:
            warnings.append(reach.missing)
        kernel = os.uname()
        return Info(
            id=self._store.state.id(),
            version=cellbox.__version__,
            root=str(self._store.root),
            mode=_mode(),
            kernel=kernel.release,
            architecture=kernel.machine,
            operating_system=_operating_system(),
            cpus=os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            snapshotter=self._store.snapshotter.name,
            cgroup_version=str(layout.version),
            cgroup_controllers=layout.controllers,
            containers=len(counts),
            containers_running=running,
            containers_paused=paused,
            containers_stopped=len(counts) - running - paused,
            images=len(self._store.state.images.all()),
            warnings=tuple(warnings),
        )

    def disk_usage(self) -> list[DiskUsage]:
        return usage.measure(self._store, self._containers)

    def prune_build_cache(self) -> dict[str, int]:
        with self._store.told("prune the build cache"):
            return BuildCaches(self._store).prune()

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Filters | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        ended = stop or (lambda: False)
        return self._store.events.follow(since=since, until=until, filters=filters, ended=ended)

    def doctor(self) -> list[Finding]:
        return machine.findings(self._store.root)

    def check(self, *, repair: bool = False) -> list[Damage]:
        with self._store.told("check"):
            return checks.check(self._store, self._containers, repair=repair)

    def close(self) -> None:
        self._containers.close()
        self._store.close()


def _mode() -> str:
    if os.geteuid() == 0:
        return "root"
    uid = os.geteuid()
    ranges = idmap.subordinate(uid, "/etc/subuid") and idmap.subordinate(uid, "/etc/subgid")
    return "rootless" if ranges and idmap.helpers() else "rootless, single id"


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
