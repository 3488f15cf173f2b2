"""Plugins that came as images: what is kept of them, and the containers in which they run.

::

    ROOT/plugins/ID/plugin.json   what it is, what is set, whether it is enabled
    ROOT/plugins/ID/propagated/   what it has for containers, where its config names such a place
    ROOT/plugins/store/           a store of their own, for their images and containers
    RUN/plugins-of/               the run directory of that, and
    RUN/sockets/ID12/             what it sees as /run/docker/plugins

So they are in nobody's list of containers or images, and no pruning takes them. A record is written
last and forgotten first, whatever is not in one is swept by who makes or removes the next. One that
is enabled and does not run, after a reboot or a crash, is started when it is next asked for.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cellbox import faults
from cellbox.containers import records as files
from cellbox.drivers.client import Client, printable
from cellbox.drivers.places import Place
from cellbox.errors import (
    AlreadyExists,
    InUse,
    InvalidArgument,
    NotFound,
    Unavailable,
    WrongState,
)
from cellbox.local import plugin_settings as settings
from cellbox.local.claim import claimed
from cellbox.local.store import Store
from cellbox.model import reference
from cellbox.model.container import Status
from cellbox.model.image import Image
from cellbox.model.plugin import Plugin, PluginConfig, PluginSettings, kind_of

if TYPE_CHECKING:
    from cellbox.local.containers import LocalContainers
    from cellbox.local.plugin_images import PluginImages

PATIENCE = 30.0
"""Seconds that a plugin has to start and to answer, unless told otherwise."""

_RECORD = "plugin.json"
_BUSY = 60.0
_LOOK = 0.02
_STOP = 10.0

faults.declare(
    plugin__image__made="the image of a new plugin is there, its record is not",
    plugin__started="a plugin runs that is not noted as enabled yet",
    plugin__record__gone="a plugin has no record any more, its image is still there",
)


@dataclass(frozen=True)
class Record:
    """One plugin; ``image`` is an id in the store of plugins, ``origin`` the reference that it was
    brought by, empty where it was made here."""

    id: str
    name: str
    origin: str
    image: str
    config: PluginConfig
    settings: PluginSettings
    enabled: bool = False

    def facts(self) -> Plugin:
        """What the engine tells of it."""
        return Plugin(
            kind_of(self.config.types),
            self.name,
            f"image {self.origin or self.name}",
            self.origin,
            "",
            self.enabled,
            self.id,
            self.config,
            self.settings,
        )


class Managed:
    """The plugins of ``store`` that came as images."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / "plugins"

    # Looking -------------------------------------------------------------------------------------

    def all(self) -> list[Record]:
        """By name."""
        found = [files.read(Record, str(path)) for path in self._folder.glob(f"*/{_RECORD}")]
        return sorted((one for one in found if one), key=lambda one: one.name)

    def find(self, ref: str) -> Record | None:
        """By name, with or without its tag, or by (the start of) its id."""
        for one in self.all():
            if ref in (one.name, one.name.removesuffix(":latest"), one.id):
                return one
        matches = [one for one in self.all() if len(ref) >= 4 and one.id.startswith(ref)]
        return matches[0] if len(matches) == 1 else None

    def place(self, name: str) -> Place | None:
        """Where the enabled plugin of this name listens; it is started where it does not run.
        Raises as :meth:`enable`."""
        names = (name, f"{name}:latest")
        found = next((one for one in self.all() if one.enabled and one.name in names), None)
        if found is None:
            return None
        if not self._runs(found):
            with self._alone():
                if not self._runs(found):
                    self._start(found, PATIENCE)
        return self._place(found)

    def _place(self, record: Record) -> Place:
        own = self._folder / record.id
        inside = (("/", str(own / "rootfs")),)  # where nothing is: of that nobody has anything
        shared = ((record.config.propagated, str(own / "propagated")),)
        return Place(
            record.name,
            f"unix://{self._sockets(record) / record.config.socket}",
            f"image {record.id}",
            roots=(*(shared if record.config.propagated else ()), *inside),
        )

    # Making and taking away ----------------------------------------------------------------------

    def make(
        self, name: str, origin: str, bring: Callable[[], tuple[Image, PluginConfig]]
    ) -> Record:
        """Keep what ``bring`` brings under a name. Raises AlreadyExists."""
        name = checked_name(name)
        with self._alone():
            self._refuse_taken(name)
            image, config = bring()
            faults.point("plugin.image.made")
            made = Record(
                secrets.token_hex(32), name, origin, image.id, config, settings.defaults(config)
            )
            self._write(made)
            self._sweep()
        return made

    def _refuse_taken(self, name: str) -> None:
        if any(one.name == name for one in self.all()):
            raise AlreadyExists(f"plugin {name} already exists")

    def upgrade(
        self, record: Record, origin: str, bring: Callable[[], tuple[Image, PluginConfig]]
    ) -> Record:
        """Put what ``bring`` brings in the place of a plugin that is not enabled; what was set is
        forgotten."""
        with self._alone():
            self._refuse_enabled(record, "upgrade")
            image, config = bring()
            fresh = settings.defaults(config)
            made = replace(record, image=image.id, config=config, origin=origin, settings=fresh)
            self._write(made)
            self._sweep()
        return made

    def set(self, record: Record, texts: Sequence[str]) -> None:
        """Change its settings: all of them or none."""
        with self._alone():
            self._refuse_enabled(record, "set")
            made = record.settings
            for text in texts:
                made = settings.changed(record.config, made, text)
            self._write(replace(record, settings=made))

    def remove(self, record: Record, *, force: bool) -> None:
        """Take it away."""
        if record.enabled and not force:
            raise WrongState(f"plugin {record.name} is enabled: disable it first, or force")
        with self._alone():
            self._stop(record)
            (self._folder / record.id / _RECORD).unlink(missing_ok=True)
            faults.point("plugin.record.gone")
            self._sweep()

    def _refuse_enabled(self, record: Record, verb: str) -> None:
        known = self.find(record.id)
        if known is None:
            raise NotFound("plugin", record.name)
        if known.enabled:
            raise WrongState(f"cannot {verb} the active plugin {record.name}: disable it first")

    def _sweep(self) -> None:
        """Take away what no record knows: somebody who was killed had begun with it."""
        known = self.all()
        ids = {one.id for one in known}
        for folder in self._folder.iterdir():
            if folder.name != "store" and folder.is_dir() and folder.name not in ids:
                shutil.rmtree(folder, ignore_errors=True)
        shorts = {_container(one) for one in known}
        for container in self._containers.list(all=True):
            if container.name not in shorts:
                self._containers.remove(container.id, force=True)
        for image in self.images.list():
            if image.id not in {one.image for one in known}:
                self.images.remove(image.id, force=True)

    # Running -------------------------------------------------------------------------------------

    def enable(self, record: Record, *, timeout: float) -> None:
        """Start it, and note that it is to run. Raises WrongState, Unavailable with what it said,
        and whatever a container's start does."""
        if record.enabled:
            raise WrongState(f"plugin {record.name} is already enabled")
        with self._alone():
            self._start(record, timeout or PATIENCE)
            faults.point("plugin.started")
            self._write(replace(record, enabled=True))

    def disable(self, record: Record, *, force: bool) -> None:
        """Note that it is not to run, and stop it. Raises WrongState, InUse."""
        if not record.enabled:
            raise WrongState(f"plugin {record.name} is already disabled")
        users = self._users(record)
        if users and not force:
            raise InUse(f"plugin {record.name} is in use by {', '.join(users)}")
        with self._alone():
            self._write(replace(record, enabled=False))
            self._stop(record)

    def _users(self, record: Record) -> list[str]:
        names = (record.name, record.name.removesuffix(":latest"))
        state = self._store.state
        volumes = [one.spec for one in state.volumes.all()]
        networks = [one.spec for one in state.networks.all()]
        return [
            *(f"volume {spec.name}" for spec in volumes if spec.driver in names),
            *(f"network {spec.name}" for spec in networks if spec.driver in names),
        ]

    def _start(self, record: Record, patience: float) -> None:
        deadline = time.monotonic() + patience
        self._stop(record)
        sockets, own = self._sockets(record), self._folder / record.id / "propagated"
        shutil.rmtree(sockets, ignore_errors=True)
        for folder in (sockets, own):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        spec = settings.run_spec(
            record.image, record.config, record.settings,
            sockets=str(sockets), propagated=str(own),
        )  # fmt: skip
        try:
            made = self._containers.create(spec, name=_container(record))
            self._containers.start(made.id)
            self._answered(record, deadline)
        except BaseException:
            self._stop(record)
            raise

    def _answered(self, record: Record, deadline: float) -> None:
        """Wait until it has said what it is. Raises Unavailable with its own last words."""
        if not record.config.socket:
            return
        place = self._place(record)
        while not (self._sockets(record) / record.config.socket).exists():
            left = deadline - time.monotonic()
            if left <= 0 or not self._runs(record):
                why = "has ended" if left > 0 else "has made no socket in time"
                raise Unavailable(f"plugin {record.name} {why}{self._last_words(record)}")
            time.sleep(_LOOK)
        Client(place).implements(patience=max(_LOOK, deadline - time.monotonic()))

    def _last_words(self, record: Record) -> str:
        said = self._containers.logs(_container(record), tail=3)
        text = printable(b" ".join(data for _, _, data in said).decode(errors="replace"))
        return f": {text}" if text else ""

    def _runs(self, record: Record) -> bool:
        try:
            status = self._containers.get(_container(record)).status
        except NotFound:
            return False
        return status in (Status.RUNNING, Status.RESTARTING)

    def _stop(self, record: Record) -> None:
        with contextlib.suppress(NotFound):
            self._containers.stop(_container(record), timeout=_STOP)
            self._containers.remove(_container(record), force=True)

    # Their store ---------------------------------------------------------------------------------

    @cached_property
    def _inner(self) -> Store:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(self._folder / "store", self._store.run / "plugins-of")

    @cached_property
    def _containers(self) -> LocalContainers:
        from cellbox.local.containers import LocalContainers

        return LocalContainers(self._inner)

    @cached_property
    def images(self) -> PluginImages:
        """What plugins are made of."""
        from cellbox.local.plugin_images import PluginImages

        return PluginImages(self._inner, self._containers)

    def close(self) -> None:
        """Let go of what this process holds; plugins run on."""
        if "_inner" in vars(self):
            self._containers.close()
            self._inner.state.close()

    def _sockets(self, record: Record) -> Path:
        return self._store.run / "sockets" / record.id[:12]

    def _write(self, record: Record) -> None:
        folder = self._folder / record.id
        with self._store.told(f"plugin {record.name}"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write(str(folder / _RECORD), record, durable=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time changes plugins, of whatever process."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with claimed(self._folder, seconds=_BUSY) as ours:
            if not ours:
                raise Unavailable("another process is busy with plugins")
            yield


def checked_name(name: str) -> str:
    """The name as plugins have it, with a tag. Raises InvalidReference, InvalidArgument."""
    parsed = reference.parse(name)
    if parsed.digest:
        raise InvalidArgument(f"{name}: a plugin cannot have a digest for its name")
    return parsed.familiar


def _container(record: Record) -> str:
    return f"plugin-{record.id[:12]}"
