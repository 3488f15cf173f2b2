"""Moving a container from one engine to another, so that at every moment exactly one copy lives.

Written once over the contract: source and target may each be the embedded engine or one behind an
API. What moves are the image (where the target has not got it), the request, the writable layer,
the local volumes with what is in them, and the logs. Neither side knows of the other; what has been
done is told by names alone, which each engine changes in one transaction. ID is the first twelve
digits of the container's id at the source:

======================= ======================= ======= ===========================================
at the source           at the target           lives   a later move
======================= ======================= ======= ===========================================
NAME                    nothing                 source  does all of it
NAME                    NAME.arriving-ID        source  takes the arrival away, does all of it
NAME, stopped for this  NAME.arriving-ID        source  the same: the arrival knows that it ran
NAME.leaving-ID         NAME.arriving-ID        source  the same
NAME.leaving-ID         NAME                    target  starts it if it ran, removes the source
nothing                 NAME                    target  has nothing to do
======================= ======================= ======= ===========================================

The line between the fourth and the fifth row is one rename at the target: it has answered that all
is there. No program of the container runs on the way from *stopped* to there, and the target's is
started only beyond it. What fails before it, or in that start, is undone: the arrival goes, the
source has its name again and runs if it ran. Where the target does not answer whether it has
renamed, nothing is undone, and the next move asks again. A store's own ``system check`` takes
arrivals away that nobody has finished, and tells of what is leaving.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO, TypeVar

from cellbox import faults
from cellbox.engine import Containers, Engine, Volumes, Watch
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    EngineError,
    InUse,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unavailable,
    WrongState,
)
from cellbox.model.container import (
    Container,
    MountKind,
    MountPoint,
    MountSpec,
    RunSpec,
    Status,
)
from cellbox.model.image import Image
from cellbox.model.volume import LOCAL, Volume, VolumeSpec

SOURCE, RAN = "cellbox.move.source", "cellbox.move.ran"
"""Labels of what has been moved: the container's id at the source, and its status there."""

T = TypeVar("T")
_ON_THE_WAY = re.compile(r"(.+)\.(arriving|leaving)-([0-9a-f]{12})")
_ALIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})

faults.declare(
    move__image__there="the target has the image of what is moved",
    move__arrival__made="the target has an arrival, and its volumes, with nothing in them",
    move__source__stopped="what is moved does not run any more",
    move__layer__there="the target has what was written",
    move__volumes__there="the target has what is in the volumes",
    move__logs__there="the target has all",
    move__source__leaving="what is moved has given its name up, and nobody has it",
    move__arrival__named="the target has the name; nothing runs",
    move__target__started="it runs at the target, and the source has it still",
    move__source__gone="the source has nothing left but volumes",
)


def arriving_from(facts: Container) -> str:
    """The id at the source of what has not yet arrived here as a whole; empty for all others."""
    match = _ON_THE_WAY.fullmatch(facts.name)
    source = facts.spec.labels.get(SOURCE, "")
    arrives = match and match[2] == "arriving" and match[3] == source[:12]
    return source if arrives and facts.status is Status.CREATED else ""


def is_leaving(facts: Container) -> bool:
    """Has it given its name up to be moved, and is nobody known to have it?"""
    match = _ON_THE_WAY.fullmatch(facts.name)
    return bool(match and match[2] == "leaving" and match[3] == facts.short_id)


def take_arrival_away(containers: Containers, volumes: Volumes, arrival: Container) -> None:
    """Remove what has not arrived as a whole, and the volumes that came with it."""
    containers.remove(arrival.id, force=True, volumes=True)
    _remove_unused(volumes, _brought(volumes, arrival.spec.labels[SOURCE]))


def move(
    source: Engine,
    ref: str,
    target: Engine,
    *,
    keep_volumes: bool = False,
    timeout: float | None = None,
    watch: Watch | None = None,
) -> Container:
    """Move a container, or finish a move that was cut off; what it is at the target.

    It is stopped as :meth:`~cellbox.engine.Containers.stop` does it. Volumes that nobody else has
    go with it, unless ``keep_volumes``; those that others have are copied; those whose files lie
    elsewhere (a driver's, a bind) are only named. Raises AlreadyExists where its name or a volume's
    is taken, NotSupported for what cannot be moved, and what the engines raise; unless
    Unavailable says otherwise, it is then as it was before.
    """
    if source.info().id == target.info().id:
        raise InvalidArgument(f"{ref} is on {target.url} already")
    facts = _find(source, ref)
    return _Move(source, target, facts, keep_volumes, timeout, watch).run()


def _find(source: Engine, ref: str) -> Container:
    """The container, by its own name also while it is leaving."""
    try:
        return source.containers.get(ref)
    except NotFound:
        for facts in source.containers.list(all=True):
            if is_leaving(facts) and facts.name.startswith(f"{ref}.leaving-"):
                return facts
        raise


@dataclass
class _Move:
    source: Engine
    target: Engine
    facts: Container
    keep_volumes: bool
    timeout: float | None
    watch: Watch | None

    def __post_init__(self) -> None:
        match = _ON_THE_WAY.fullmatch(self.facts.name)
        self.leaving = is_leaving(self.facts)
        self.name = match[1] if match and self.leaving else self.facts.name
        self.ran = self.facts.status

    def run(self) -> Container:
        there = self._arrived()
        if there is None:
            there = self._bring()
        elif there.started is None:
            self._start(there, there.spec.labels.get(RAN, ""))
        moved = self._volumes
        self.source.containers.remove(self.facts.id, volumes=not self.keep_volumes)
        faults.point("move.source.gone")
        if not self.keep_volumes:
            _remove_unused(self.source.volumes, [one.name for one in moved.values()])
        return self.target.containers.get(there.id)

    def _arrived(self) -> Container | None:
        """What an earlier move has brought as a whole; None for nothing. Raises AlreadyExists."""
        with contextlib.suppress(NotFound):
            there = self.target.containers.get(self.name)
            if self.leaving and there.spec.labels.get(SOURCE) == self.facts.id:
                return there
            if there.name == self.name:
                raise AlreadyExists(f"there is a container {self.name} on {self.target.url}")
        return None

    # There ---------------------------------------------------------------------------------------

    def _bring(self) -> Container:
        image = self._movable_image()
        self._clear()
        self._bring_image(image)
        faults.point("move.image.there")
        try:
            arrival = self._make_arrival(image)
            faults.point("move.arrival.made")
            stopped = self._stop()
            faults.point("move.source.stopped")
            self._fill(arrival)
            self._hand_over(arrival, stopped)
        except BaseException as error:
            self._undo(error)
            raise
        return arrival

    def _movable_image(self) -> Image:
        """The image. Raises InvalidArgument, NotSupported for what belongs to its machine."""
        spec, name = self.facts.spec, self.name
        if spec.auto_remove:
            raise InvalidArgument(f"{name} removes itself when it stops: it cannot be moved")
        if any(one.startswith("container:") for one in (spec.network, spec.pid, spec.ipc)):
            raise InvalidArgument(f"{name} shares a namespace with another container")
        image = self.source.images.get(self.facts.image_id)
        if not image.layers:
            raise NotSupported(f"{name} is made of its machine, not of an image: it stays there")
        return image

    def _clear(self) -> None:
        """Take away what an earlier move has left at the target, but for what it ran as."""
        with contextlib.suppress(NotFound):
            old = self.target.containers.get(self._on_the_way("arriving"))
            if self.facts.status not in _ALIVE:
                self.ran = Status(old.spec.labels.get(RAN, self.facts.status))
            take_arrival_away(self.target.containers, self.target.volumes, old)
        left = _brought(self.target.volumes, self.facts.id)
        if left and self.leaving:
            raise InUse(
                f"volume {left[0]} on {self.target.url} came from here with a container that is "
                "gone, and may be newer: remove or rename it first"
            )
        _remove_unused(self.target.volumes, left)

    def _on_the_way(self, how: str) -> str:
        return f"{self.name}.{how}-{self.facts.short_id}"

    def _bring_image(self, image: Image) -> None:
        """Let the target have the image, under those of its names that stand for no other one."""
        theirs = _ids(self.target, image.tags)
        if not _ids(self.target, [image.id]):
            _piped(
                lambda out: self.source.images.save([image.id], out),
                lambda archive: self.target.images.load(archive, watch=self.watch),
            )
        for tag in image.tags:
            self.target.images.tag(theirs.get(tag, image.id), tag)

    def _make_arrival(self, image: Image) -> Container:
        asked = _portable(self.facts)
        named = _ids(self.target, [asked.image]).get(asked.image) == image.id
        spec = replace(
            asked,
            image=asked.image if named else image.id,
            detach=True,
            labels={**asked.labels, SOURCE: self.facts.id, RAN: str(self.ran)},
        )
        for volume in self._volumes.values():
            if _is_asked_for(volume, spec):
                self._make_volume(volume)
        arrival = self.target.containers.create(spec, name=self._on_the_way("arriving"))
        if spec.log.driver != "none":
            self.target.files.append_logs(arrival.id, ())  # which some engines cannot: say so now
        return arrival

    def _make_volume(self, volume: Volume) -> None:
        if any(one.name == volume.name for one in self.target.volumes.list()):
            raise AlreadyExists(f"there is a volume {volume.name} on {self.target.url}")
        labels = {**volume.labels, SOURCE: self.facts.id}
        spec = VolumeSpec(volume.name, volume.driver, volume.options, labels)
        self.target.volumes.create(spec)

    def _stop(self) -> float | None:
        """Let it not run; when it ended."""
        self.source.containers.stop(self.facts.id, timeout=self.timeout)
        return self.source.containers.get(self.facts.id).finished

    def _fill(self, arrival: Container) -> None:
        source, target, id = self.source, self.target, self.facts.id
        _piped(
            lambda out: source.files.get_layer(id, out),
            lambda tar: target.files.put_layer(arrival.id, tar),
        )
        faults.point("move.layer.there")
        theirs = {mount.target: mount.name for mount in arrival.mounts}
        for path, volume in self._volumes.items():
            self._fill_volume(volume.name, theirs[path])
        faults.point("move.volumes.there")
        if self.facts.spec.log.driver != "none":
            target.files.append_logs(arrival.id, source.containers.logs(id))
        faults.point("move.logs.there")

    def _fill_volume(self, name: str, theirs: str) -> None:
        _piped(
            lambda out: self.source.volumes.export(name, out),
            lambda tar: self.target.volumes.import_(theirs, tar),
        )

    @cached_property
    def _volumes(self) -> dict[str, Volume]:
        """The volumes that are moved, each by one path where it is mounted: those whose files are
        the source's own."""
        found: dict[str, Volume] = {}
        for mount in self.facts.mounts:
            known = {volume.name for volume in found.values()}
            if mount.kind is MountKind.VOLUME and mount.name not in known:
                volume = self.source.volumes.get(mount.name)
                if volume.driver == LOCAL and "device" not in volume.options:
                    found[mount.target] = volume
        return found

    # And not here any more -----------------------------------------------------------------------

    def _hand_over(self, arrival: Container, stopped: float | None) -> None:
        if not self.leaving:
            self.source.containers.update(self.facts.id, name=self._on_the_way("leaving"))
            self.leaving = True
        faults.point("move.source.leaving")
        now = self.source.containers.get(self.facts.id)
        if now.status in _ALIVE or now.finished != stopped:
            raise WrongState(f"{self.name} was started while it was being moved")
        self.target.containers.update(arrival.id, name=self.name)
        faults.point("move.arrival.named")
        self._start(arrival, self.ran)

    def _start(self, there: Container, ran: str) -> None:
        if ran in _ALIVE:
            self.target.containers.start(there.id)
        if ran == Status.PAUSED:
            self.target.containers.pause(there.id)
        faults.point("move.target.started")

    def _undo(self, cause: BaseException) -> None:
        """Let it be as it was before. Raises Unavailable where nobody can tell what is so."""
        try:
            arrivals = self._take_name_back()
            with contextlib.suppress(NotFound):
                self._undo_here()
            for one in arrivals:
                take_arrival_away(self.target.containers, self.target.volumes, one)
            _remove_unused(self.target.volumes, _brought(self.target.volumes, self.facts.id))
        except CellboxError as error:
            raise Unavailable(
                f"it is not known whether {self.name} has come to {self.target.url} ({cause}), nor "
                f"can it be undone ({error}): say the same again"
            ) from cause

    def _take_name_back(self) -> list[Container]:
        """What there is of it at the target, under the name of an arrival again."""
        labelled = {"label": [f"{SOURCE}={self.facts.id}"]}
        found = self.target.containers.list(all=True, filters=labelled)
        for facts in found:
            if facts.status in _ALIVE:
                raise WrongState("it runs there")
            if facts.name == self.name:
                self.target.containers.update(facts.id, name=self._on_the_way("arriving"))
        return found

    def _undo_here(self) -> None:
        here, id = self.source.containers, self.facts.id
        if here.get(id).name != self.name:
            here.update(id, name=self.name)
        if self.ran in _ALIVE and here.get(id).status not in _ALIVE:
            here.start(id)
            if self.ran is Status.PAUSED:
                here.pause(id)


# Requests ------------------------------------------------------------------------------------


def _portable(facts: Container) -> RunSpec:
    """What was asked for, with what other containers have lent to it as its own."""
    spec = facts.spec
    if not spec.volumes_from:
        return spec
    own = {mount.target for mount in spec.mounts}
    lent = [_mount(point) for point in facts.mounts if point.target not in own]
    return replace(spec, volumes_from=(), mounts=(*spec.mounts, *lent))


def _mount(point: MountPoint) -> MountSpec:
    source = point.name if point.kind is MountKind.VOLUME else point.source
    return MountSpec(
        point.kind,
        point.target,
        source,
        read_only=point.read_only,
        propagation=point.propagation,
        driver=point.driver,
    )


def _is_asked_for(volume: Volume, spec: RunSpec) -> bool:
    """Is it named in the request? One without a name comes with the container."""
    return any(
        mount.kind is MountKind.VOLUME and mount.source == volume.name for mount in spec.mounts
    )


# Engines ---------------------------------------------------------------------------------------


def _ids(engine: Engine, refs: list[str] | tuple[str, ...]) -> dict[str, str]:
    """The ids of those of these images that are there."""
    found = {}
    for ref in refs:
        with contextlib.suppress(NotFound):
            found[ref] = engine.images.get(ref).id
    return found


def _brought(volumes: Volumes, id: str) -> list[str]:
    """The volumes that came with the container that was ``id`` elsewhere."""
    return [one.name for one in volumes.list(filters={"label": [f"{SOURCE}={id}"]})]


def _remove_unused(volumes: Volumes, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(NotFound, InUse):
            volumes.remove(name)


def _piped(write: Callable[[BinaryIO], object], read: Callable[[BinaryIO], T]) -> T:
    """Let one read what the other writes, at once. Raises the error of whoever failed first."""
    reader, writer = os.pipe()
    failures: list[BaseException] = []
    with ThreadPoolExecutor(1) as pool, open(reader, "rb") as source:
        writing = pool.submit(_write, write, writer, failures)
        try:
            result = read(source)
            while source.read(1 << 16):  # what follows the end of an archive
                pass
        except BaseException as error:
            cause = failures[0] if failures else error
            source.close()  # so that nobody writes to it for ever
            writing.exception()
            raise cause from None
        writing.result()
    return result


def _write(write: Callable[[BinaryIO], object], writer: int, failures: list[BaseException]) -> None:
    with open(writer, "wb") as file, _noted(failures):
        write(file)
        file.flush()


@contextlib.contextmanager
def _noted(failures: list[BaseException]) -> Iterator[None]:
    """What goes wrong is told before the file is closed, and so before its reader can know."""
    try:
        yield
    except OSError as error:
        failures.append(EngineError(f"what was to be moved did not come through: {error}"))
        raise failures[0] from error
    except BaseException as error:
        failures.append(error)
        raise
