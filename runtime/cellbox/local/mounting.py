"""What is mounted in the containers of a store: binds, volumes, devices.

:func:`merged` (pure) puts together what a request, its image and other containers say. Of that
:class:`Mounting` makes a :class:`Plan` before anything is there; the plan's volumes are made in the
transaction that makes the container, and filled from the image before its bundle is written.
Containers without volumes have no plan, and cost nothing here.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellbox.containers import checks
from cellbox.containers.messages import Bundle
from cellbox.errors import CellboxError, InvalidArgument
from cellbox.linux.mounts import Mount
from cellbox.local.bundles import read_only_view
from cellbox.local.claim import claimed
from cellbox.local.observer import Observer
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.local.volumes import LocalVolumes
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.image import Image
from cellbox.model.volume import ANONYMOUS_LABEL, LOCAL, VolumeSpec
from cellbox.volumes import unfinished

_WAIT = 600.0
"""Seconds that who wants a filled volume waits for another one who is filling it."""
_START = 10.0
_NOTES = "mounted"
"""In the run directory: a file for each container whose drivers are still to be told of its end."""


@dataclass
class Plan:
    """What a container is to have: all its ``mounts``, each volume with a name; the ``volumes``
    that are to be there, of which some were ``made`` for it; ``sources``, what to bind for each of
    them."""

    mounts: tuple[MountSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    made: list[VolumeSpec] = field(default_factory=list)


def merged(
    asked: Sequence[MountSpec],
    declared: Iterable[str],
    others: Iterable[Sequence[MountSpec]] = (),
) -> tuple[MountSpec, ...]:
    """All mounts of a container: what is ``asked`` goes before what ``others`` have (of which the
    later ones win), and that before what its image has ``declared``. Raises InvalidArgument."""
    explicit = {mount.target: mount for mount in checks.mounts(asked)}
    taken: dict[str, MountSpec] = {}
    for mounts in others:
        taken |= {mount.target: mount for mount in mounts}
    anonymous = [MountSpec(MountKind.VOLUME, checks.mount_target(path)) for path in declared]
    return tuple(({mount.target: mount for mount in anonymous} | taken | explicit).values())


def from_other(ref: str) -> tuple[str, bool]:
    """``CONTAINER[:ro|rw]`` of ``--volumes-from``: the container, and whether for reading only."""
    name, _, mode = ref.partition(":")
    words = [word for word in mode.split(",") if word]
    if not name or not set(words) <= {"ro", "rw", "z", "Z"}:
        raise InvalidArgument(f"invalid volumes-from: {ref}")
    return name, "ro" in words


class Mounting:
    """The mounts of the containers of ``store``."""

    def __init__(self, store: Store, containers: Observer) -> None:
        self._store = store
        self._containers = containers
        self.volumes = LocalVolumes(store, containers)

    # Before a container is made ------------------------------------------------------------------

    def plan(self, spec: RunSpec, image: Image, before: Sequence[MountSpec] = ()) -> Plan:
        """What a container is to have; one that had mounts ``before`` keeps its anonymous volumes.
        Raises InvalidArgument, NotFound."""
        kept = {mount.target: mount for mount in before if mount.kind is MountKind.VOLUME}
        declared = image.config.volumes if spec.image_volumes else ()
        all_ = merged(spec.mounts, declared, map(self._of_other, spec.volumes_from))
        names = [mount.source for mount in (*all_, *before) if mount.kind is MountKind.VOLUME]
        known = self.volumes.known(names)
        mounts, wanted = [], {}
        for mount in all_:
            if mount.kind is MountKind.VOLUME:
                volume = _volume(mount, kept.get(mount.target), spec.volume_driver, known)
                wanted[volume.name] = volume
                mount = replace(mount, source=volume.name, driver=volume.driver)
            mounts.append(mount)
        sources = {volume.name: self.volumes.source(volume) for volume in wanted.values()}
        return Plan(tuple(mounts), tuple(wanted.values()), sources)

    def _of_other(self, ref: str) -> list[MountSpec]:
        name, only_read = from_other(ref)
        record = self._containers.record(name)
        return [
            replace(
                mount,
                target=checks.mount_target(mount.target),
                read_only=mount.read_only or only_read,
                no_copy=True,
            )
            for mount in record.mounts or record.spec.mounts
            if mount.kind is not MountKind.TMPFS
        ]

    def announce(self, plan: Plan) -> None:
        """Let drivers make what only they can make. Raises what they raise."""
        for volume in plan.volumes:
            self.volumes.announce(volume)

    def hold(self, plan: Plan) -> Callable[[sqlite3.Connection], None]:
        """Makes the plan's volumes, in a transaction."""

        def act(connection: sqlite3.Connection) -> None:
            plan.made = [volume for volume in plan.volumes if self.volumes.add(volume)[1]]

        return act

    def change(self, record: ContainerRecord, spec: RunSpec, plan: Plan) -> ContainerRecord:
        """Let the container, which does not run, have what is planned now."""
        self.announce(plan)
        self.unmount(record)
        hold = self.hold(plan)
        return self._store.state.containers.set_mounts(record.id, spec, plan.mounts, hold)

    # Filling -------------------------------------------------------------------------------------

    def fill(self, plan: Plan, bundle: Bundle) -> None:
        """Fill the volumes that are empty with what the image has there. The container's layer is
        there, and nothing of it runs yet."""
        for volume in plan.made:
            self.volumes.emit(volume, "create")
        specs = {volume.name: volume for volume in plan.volumes}
        root = [read_only_view(one) for one in bundle.mounts if _is_root(one.kind, one.target)]
        for mount in plan.mounts:
            if mount.kind is not MountKind.VOLUME or mount.no_copy or mount.subpath:
                continue
            volume = specs[mount.source]
            if volume.driver == LOCAL and not self.volumes.is_fleeting(volume):
                self._fill(volume, mount.target, root, bundle.id)

    def _fill(self, volume: VolumeSpec, target: str, root: list[Mount], id: str) -> None:
        path = self.volumes.mount(volume, id)
        folder = self.volumes.local.folder(volume.name)
        if path.startswith(f"{folder}/") and not _is_full(path, str(folder)):
            args = {"volume": str(folder), "path": target}
            with claimed(folder, seconds=_WAIT):
                self._store.launcher.work_in(root, "volume-fill", args)
        self.volumes.unmount(volume, id)

    # Taking away -------------------------------------------------------------------------------

    def forget(self, record: ContainerRecord, *, anonymous: bool) -> bool:
        """Forget the container, and with ``anonymous`` its volumes without a name that nobody else
        has. Whether it was known."""
        self.unmount(record)
        names = [one.source for one in record.mounts if one.kind is MountKind.VOLUME]
        dropped: list[VolumeSpec] = []

        def release(connection: sqlite3.Connection) -> None:
            dropped.extend(self.volumes.drop_anonymous(names) if anonymous else ())

        known = self._store.state.containers.delete(record.id, release)
        for volume in dropped:
            self.volumes.emit(volume, "destroy")
        if dropped:
            self._store.layers.clean()
        return known

    # Running -------------------------------------------------------------------------------------

    def of(self, record: ContainerRecord) -> Plan:
        """What a container that is there has."""
        volumes = tuple(self._all_specs(record))
        sources = {volume.name: self.volumes.source(volume) for volume in volumes}
        return Plan(record.mounts, volumes, sources)

    @contextmanager
    def ready(self, record: ContainerRecord, renew: Callable[[], None]) -> Iterator[None]:
        """Have the container's volumes mounted while it is started, and after that if it was;
        ``renew`` makes its bundle again, where one is not where it was."""
        volumes = self._all_specs(record)
        self.tidy(record)
        with ExitStack() as alone:
            try:
                self._note(record, volumes)
                sources = [self._mount(volume, record.id, alone) for volume in volumes]
                if any(sources):
                    renew()
                self._tell_mounted(record, volumes)
                yield
            except BaseException:
                self.unmount(record)
                raise

    def _all_specs(self, record: ContainerRecord) -> Sequence[VolumeSpec]:
        """Its volumes; what was lost of them with a database is made again, empty."""
        mounts = [one for one in record.mounts if one.kind is MountKind.VOLUME]
        known = {volume.name: volume for volume in self._specs(record)}
        wanted = {one.source: _volume(one, None, "", known) for one in mounts}
        if len(known) < len(wanted):
            self.change(record, record.spec, Plan(record.mounts, tuple(wanted.values())))
        return sorted(wanted.values(), key=lambda volume: volume.name)

    def _mount(self, volume: VolumeSpec, id: str, alone: ExitStack) -> bool:
        """Whether it is not where it was. Who starts with one that is in memory is alone with it
        till he runs, so that no other one takes it for unused."""
        if self.volumes.is_fleeting(volume):
            place = Path(self.volumes.local.path(volume.name))
            alone.enter_context(claimed(place, seconds=_START))
        before = self.volumes.source(volume)
        return self.volumes.mount(volume, id) != before

    def unmount(self, record: ContainerRecord) -> None:
        """The container does not run any more. A driver that fails does not keep it."""
        for volume in self._specs(record):
            with suppress(CellboxError, OSError):
                self.volumes.unmount(volume, record.id)
        self._notes(record).unlink(missing_ok=True)

    def tidy(self, record: ContainerRecord) -> None:
        """The container does not run: tell drivers so, if nobody was there when it ended."""
        if self.owes(record):
            self.unmount(record)

    def owes(self, record: ContainerRecord) -> bool:
        """Has the container been started, and no driver heard of its end?"""
        return self._notes(record).exists()

    def _note(self, record: ContainerRecord, volumes: Iterable[VolumeSpec]) -> None:
        if any(map(self.volumes.moves, volumes)):
            self._notes(record).parent.mkdir(mode=0o700, exist_ok=True)
            self._notes(record).touch()

    def _notes(self, record: ContainerRecord) -> Path:
        return self._store.run / _NOTES / record.id

    def _tell_mounted(self, record: ContainerRecord, volumes: Sequence[VolumeSpec]) -> None:
        specs = {volume.name: volume for volume in volumes}
        for mount in record.mounts:
            if mount.kind is MountKind.VOLUME and mount.source in specs:
                self.volumes.emit(
                    specs[mount.source],
                    "mount",
                    container=record.id,
                    destination=mount.target,
                    propagation=mount.propagation,
                    **{"read/write": str(not mount.read_only).lower()},
                )

    def _specs(self, record: ContainerRecord) -> list[VolumeSpec]:
        names = [one.source for one in record.mounts if one.kind is MountKind.VOLUME]
        return list(self.volumes.known(names).values())


def _volume(
    mount: MountSpec, before: MountSpec | None, driver: str, known: Mapping[str, VolumeSpec]
) -> VolumeSpec:
    """The volume that a mount means: with its own name, the one that was there, or a new one."""
    name = mount.source or (before.source if before else "") or secrets.token_hex(32)
    found = known.get(name)
    if found is not None and mount.driver in ("", found.driver):
        return found
    labels = {**mount.labels} if mount.source else {**mount.labels, ANONYMOUS_LABEL: ""}
    return VolumeSpec(name, mount.driver or driver or LOCAL, mount.driver_options, labels)


def _is_root(kind: str, target: str) -> bool:
    return target == "/" or kind == "overlay"


def _is_full(path: str, folder: str) -> bool:
    """Has the volume certainly something in it, and nothing on its way? A directory that this user
    may not read may have."""
    try:
        return bool(os.listdir(path)) and not unfinished(folder)
    except PermissionError:
        return False
