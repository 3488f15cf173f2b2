"""The volumes of a store.

Names and users are rows (``state_volumes``); where the files are is for the driver of each volume
to say: the local one (``cellbox.volumes``), or a plugin of kind ``volume``. A plugin is a
stranger's program: it is given :data:`PATIENCE` to answer, and what it answers is looked at.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cellbox import faults
from cellbox.engine import Filters
from cellbox.errors import CellboxError, EngineError, InvalidArgument, NotFound, NotSupported
from cellbox.errors import Unavailable as NoAnswer
from cellbox.local import state_volumes
from cellbox.local.claim import claimed
from cellbox.local.pipes import reading, writing
from cellbox.local.records import VolumeRecord
from cellbox.local.store import Store, labels_match
from cellbox.model.container import Status
from cellbox.model.plugin import PluginKind
from cellbox.model.volume import ANONYMOUS_LABEL, LOCAL, Volume, VolumeSpec, check_name
from cellbox.plugins import REGISTRY, VolumeDriver
from cellbox.volumes import LocalDriver, options

if TYPE_CHECKING:
    from cellbox.local.observer import Observer

PATIENCE = 60.0
"""Seconds that a plugin has for one answer."""

T = TypeVar("T")
_ALIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
_FILTERS: Mapping[str, Callable[[Volume, str], bool]] = {
    "name": lambda volume, word: word in volume.name,
    "driver": lambda volume, word: volume.driver == word,
    "label": lambda volume, word: labels_match(volume.labels, word),
    "dangling": lambda volume, word: _is_true(word) is not bool(volume.users),
}

faults.declare(
    volume__directory__made="a volume has a directory, and no name yet",
    volume__directory__moved="a volume's directory is out of sight, its name is not",
    volume__directory__renamed="a volume's directory has its new name, the volume its old one",
    volume__name__gone="a volume has no name any more, its files are still there",
)


class LocalVolumes:
    """See :class:`cellbox.engine.Volumes`."""

    def __init__(self, store: Store, containers: Observer) -> None:
        self._store = store
        self._containers = containers
        self._directory = store.root / "volumes"
        self.local = LocalDriver(self._directory, store.launcher.work, self._options)
        self._plugins: dict[str, _Guarded] = {}
        self._where: dict[str, str] = {}

    # The contract --------------------------------------------------------------------------------

    def create(self, spec: VolumeSpec) -> Volume:
        if not spec.name:
            labels = {**spec.labels, ANONYMOUS_LABEL: ""}
            spec = replace(spec, name=secrets.token_hex(32), labels=labels)
        spec = replace(spec, name=check_name(spec.name), driver=spec.driver or LOCAL)
        with self._store.told(f"create {spec.name}"):
            self.announce(spec)
            record, new = self.add(spec)
        if new:
            self.emit(record.spec, "create")
        return self.get(spec.name)

    def get(self, name: str) -> Volume:
        record = self._record(name)
        facts = self._facts(record, self._store.state.volumes.users())
        if record.spec.driver == LOCAL:
            return facts
        with contextlib.suppress(CellboxError, OSError):  # who asks wants the rest all the same
            where = self._driver(record.spec.driver).path(name)
            facts = replace(facts, mountpoint=where)
        return facts

    def list(self, *, filters: Filters | None = None) -> builtins.list[Volume]:
        wanted = filters or {}
        unknown = set(wanted) - set(_FILTERS)
        if unknown:
            raise InvalidArgument(f"invalid filter '{min(unknown)}'")
        users = self._store.state.volumes.users()
        found = [self._facts(record, users) for record in self._store.state.volumes.all()]
        return [one for one in found if _passes(one, wanted)]

    def remove(self, name: str, *, force: bool = False) -> None:
        try:
            record = self._record(name)
        except NotFound:
            if force:
                return
            raise
        self._forget_the_gone(name)
        with self._store.told(f"remove {name}"):
            with self._store.state.read() as connection:
                state_volumes.refuse_used(connection, name, "remove")
            with contextlib.suppress(NotFound) if force else contextlib.nullcontext():
                self._remove_files(record)
            self._store.state.volumes.delete(name, self._discard)
            faults.point("volume.name.gone")
            self._store.layers.clean()
        self.emit(record.spec, "destroy")

    def rename(self, name: str, to: str) -> Volume:
        record = self._record(name)
        check_name(to)
        if record.spec.driver != LOCAL:
            raise NotSupported(f"a volume of the driver {record.spec.driver} cannot be renamed")
        self._forget_the_gone(name)
        with self._store.told(f"rename {name}"):
            with self._store.state.read() as connection:
                state_volumes.refuse_used(connection, name, "rename")
            self.local.unmount(name, "")
            try:
                self._store.state.volumes.rename(name, to, lambda made: self._move(name, to))
            except BaseException:
                self._settle()
                raise
        return self.get(to)

    def size(self, name: str) -> int:
        record = self._record(name)
        if record.spec.driver != LOCAL:
            raise NotSupported(f"only the driver {record.spec.driver} knows how large {name} is")
        with self._store.told(f"volume {name}"):
            path = self.local.source(name)
            if not os.path.isdir(path):
                return 0
            return int(self._store.launcher.work("usage", {"path": path})["size"])

    def export(self, name: str, out: BinaryIO) -> None:
        with self.at_hand(name) as path, writing(out) as fd:
            with self._store.told(f"export {name}"):
                self._store.launcher.work("volume-pack", {"path": path}, [fd])

    def import_(self, name: str, source: BinaryIO) -> None:
        record = self._record(name)
        if record.spec.driver == LOCAL and options(record.spec.options).bound:
            raise NotSupported(f"volume {name} is a directory of the host: put the files there")
        with self.at_hand(name) as path, reading(source) as fd:
            with self._store.told(f"import into {name}"):
                self._store.launcher.work("volume-unpack", {"path": path}, [fd])

    # What containers need ------------------------------------------------------------------------

    def announce(self, spec: VolumeSpec) -> None:
        """See that the driver can have such a volume; a plugin makes it now, as that may take its
        time. Raises InvalidArgument, NotFound (the driver), NotSupported."""
        if spec.driver == LOCAL:
            self.local.check(spec.options)
        else:
            self._driver(spec.driver).create(spec.name, spec.options)

    def add(self, spec: VolumeSpec) -> tuple[VolumeRecord, bool]:
        """Take the name, in the transaction that goes on if there is one; the volume, and whether
        it is new."""

        def make(record: VolumeRecord) -> None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if spec.driver == LOCAL:
                self.local.create(spec.name, spec.options)
            else:
                self.local.folder(spec.name).mkdir(mode=0o700, exist_ok=True)
            faults.point("volume.directory.made")

        return self._store.state.volumes.add(spec, make)

    def known(self, names: Iterable[str]) -> dict[str, VolumeSpec]:
        """Those of these volumes that are there, by name."""
        found = self._store.state.volumes.named(names)
        return {one.spec.name: one.spec for one in found}

    def mount(self, spec: VolumeSpec, container: str) -> str:
        """Make the volume ready for a container: what to bind, an absolute path of the host. What
        has been in memory for containers that run no more is let go first."""
        if spec.driver == LOCAL and not os.path.isdir(self.local.path(spec.name)):
            self._settle()
        if self.is_fleeting(spec) and not self._is_used(spec.name, container):
            self.local.unmount(spec.name, container)
        where = self._driver(spec.driver).mount(spec.name, container)
        if spec.driver != LOCAL:
            self._where[spec.name] = where
        return where

    def unmount(self, spec: VolumeSpec, container: str) -> None:
        """The container does not need it any more; a local one may still be needed by others."""
        if not self.moves(spec):
            return
        if spec.driver != LOCAL or not self._is_used(spec.name, container):
            self._driver(spec.driver).unmount(spec.name, container)

    @contextlib.contextmanager
    def at_hand(self, name: str) -> Iterator[str]:
        """Where the volume's files are, while the block lasts. Raises NotFound."""
        spec = self._record(name).spec
        with self._store.told(f"volume {name}"):
            path = self.mount(spec, "")
        try:
            yield path
        finally:
            self.unmount(spec, "")

    def moves(self, spec: VolumeSpec) -> bool:
        """Is something to be done before a container can have it, and afterwards?"""
        return spec.driver != LOCAL or options(spec.options).mounted

    def is_fleeting(self, spec: VolumeSpec) -> bool:
        """Is what is in it lost when no container runs that has it?"""
        return spec.driver == LOCAL and options(spec.options).fleeting

    def source(self, spec: VolumeSpec) -> str:
        """What to bind, as far as it is known before the volume is mounted."""
        if spec.driver != LOCAL:
            return self._where.get(spec.name, "")
        found = options(spec.options)
        return found.device if found.bound else self.local.path(spec.name)

    def path(self, name: str, driver: str) -> str:
        """Where its files are for people to see; empty where only its driver knows."""
        return self.local.path(name) if driver == LOCAL else ""

    def drop_anonymous(self, names: Iterable[str]) -> builtins.list[VolumeSpec]:
        """Take away those of these volumes that have no name and no container any more, in the
        transaction that goes on; which they were."""
        dropped = []
        for spec in self.known(names).values():
            if ANONYMOUS_LABEL in spec.labels:
                with contextlib.suppress(CellboxError):
                    self._store.state.volumes.delete(spec.name, self._discard)
                    dropped.append(spec)
        return dropped

    def emit(self, spec: VolumeSpec, action: str, **more: str) -> None:
        """Note in the event log what happened to a volume."""
        self._store.emit("volume", action, spec.name, driver=spec.driver, **more)

    # Mending -------------------------------------------------------------------------------------

    def restore(self, record: VolumeRecord) -> None:
        """Make the directory of a volume again, empty, and its record."""
        Path(self.local.path(record.spec.name)).mkdir(mode=0o755, parents=True, exist_ok=True)
        self._store.state.volumes.rewrite(record)

    def finish(self, record: VolumeRecord) -> None:
        """Bring the filling of a volume to its end, unless somebody is at it."""
        folder = self.local.folder(record.spec.name)
        with claimed(folder) as ours:
            if ours:
                self._store.launcher.work("volume-fill", {"volume": str(folder)})

    # Files ---------------------------------------------------------------------------------------

    def _remove_files(self, record: VolumeRecord) -> None:
        """All but the directory that the store has of it."""
        driver = self._driver(record.spec.driver)
        driver.unmount(record.spec.name, "")
        if record.spec.driver != LOCAL:
            driver.remove(record.spec.name)

    def _discard(self, record: VolumeRecord) -> None:
        self.local.discard(record.spec.name)
        faults.point("volume.directory.moved")

    def _move(self, name: str, to: str) -> None:
        self.local.discard(to)  # nobody's, or the name would be taken
        self.local.folder(name).rename(self.local.folder(to))
        faults.point("volume.directory.renamed")

    def _settle(self) -> None:
        self._store.state.volumes.settle(self._directory)

    # Looking -------------------------------------------------------------------------------------

    def _record(self, name: str) -> VolumeRecord:
        return self._store.state.volumes.get(name)

    def _options(self, name: str) -> Mapping[str, str]:
        return self._store.state.volumes.get(name).spec.options

    def _facts(self, record: VolumeRecord, users: Mapping[str, tuple[str, ...]]) -> Volume:
        spec = record.spec
        return Volume(
            name=spec.name,
            driver=spec.driver,
            mountpoint=self.path(spec.name, spec.driver),
            created=record.created,
            options=spec.options,
            labels=spec.labels,
            users=users.get(spec.name, ()),
        )

    def _forget_the_gone(self, name: str) -> None:
        """Look at the containers that have the volume: who removed itself has it no more."""
        for id in self._store.state.volumes.users().get(name, ()):
            with contextlib.suppress(NotFound):
                self._containers.facts(self._containers.record(id))

    def _is_used(self, name: str, but: str) -> bool:
        """Does a container that runs, but this one, have the volume?"""
        others = set(self._store.state.volumes.users().get(name, ())) - {but}
        return any(self._runs(id) for id in others)

    def _runs(self, id: str) -> bool:
        try:
            facts = self._containers.facts(self._containers.record(id))
        except NotFound:
            return False
        return facts.status in _ALIVE

    def _driver(self, name: str) -> VolumeDriver:
        if name == LOCAL:
            return self.local
        if name not in self._plugins:
            try:
                self._plugins[name] = _Guarded(name, REGISTRY.load(PluginKind.VOLUME, name)())
            except NotFound:
                return _Guarded(name, self._program(name))
        return self._plugins[name]

    def _program(self, name: str) -> VolumeDriver:
        """The driver of another program, looked for each time: it may come and go."""
        from cellbox.drivers.volumes import INTERFACE, VolumeProgram

        try:
            return VolumeProgram(self._store.drivers.find(name, INTERFACE))
        except NotFound as error:
            raise NotFound("volume driver", name, "known: local, and plugins") from error


class _Guarded:
    """A plugin's driver, of which nothing is believed."""

    def __init__(self, name: str, driver: VolumeDriver) -> None:
        self._name = name
        self._driver = driver

    def create(self, name: str, options: Mapping[str, str]) -> None:
        self._ask(lambda: self._driver.create(name, options))

    def remove(self, name: str) -> None:
        self._ask(lambda: self._driver.remove(name))

    def mount(self, name: str, container: str) -> str:
        path: Any = self._ask(lambda: self._driver.mount(name, container))
        good = isinstance(path, str) and path.startswith("/") and "\0" not in path
        if not good or ".." in Path(path).parts or not os.path.isdir(path):
            raise EngineError(f"the volume driver {self._name} says that {name} is at {path!r}, "
                              "which is no absolute path of a directory")  # fmt: skip
        return str(path)

    def unmount(self, name: str, container: str) -> None:
        self._ask(lambda: self._driver.unmount(name, container))

    def path(self, name: str) -> str:
        return str(self._ask(lambda: self._driver.path(name)) or "")

    def names(self) -> Sequence[str]:
        return self._ask(self._driver.names)

    def _ask(self, question: Callable[[], T]) -> T:
        """Its answer. Raises what it raises, Unavailable when none comes in time."""
        answers: list[T] = []
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                answers.append(question())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if answers:
            return answers[0]
        if not failures:
            raise NoAnswer(f"the volume driver {self._name} has not answered in {PATIENCE:.0f} s")
        if isinstance(failures[0], CellboxError | OSError):
            raise failures[0]
        raise EngineError(f"the volume driver {self._name}: {failures[0]!r}") from failures[0]


def _passes(volume: Volume, filters: Filters) -> bool:
    return all(
        (all if key == "label" else any)(_FILTERS[key](volume, word) for word in words)
        for key, words in filters.items()
    )


def _is_true(word: str) -> bool:
    if word.lower() in ("1", "true"):
        return True
    if word.lower() in ("0", "false"):
        return False
    raise InvalidArgument(f"invalid filter 'dangling={word}'")
