"""All that one store has, made when first needed: what the collections of the engine share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellbox.containers.client import Launcher
from cellbox.errors import CellboxError, EngineError, NotFound, NotSupported, PermissionDenied
from cellbox.images.content import ContentStore
from cellbox.images.host import HostImage
from cellbox.images.snapshots import LayerStore, Snapshotter
from cellbox.local import gc
from cellbox.local.events import EventLog
from cellbox.local.leased import LeasedContent, LeasedLayers
from cellbox.local.places import make_private
from cellbox.local.state import State
from cellbox.model.event import Event
from cellbox.model.image import Image
from cellbox.model.plugin import PluginKind
from cellbox.plugins import REGISTRY, CredentialHelper

if TYPE_CHECKING:
    from cellbox.drivers.finder import Finder
    from cellbox.local.managed import Managed
    from cellbox.registry.client import Client

HOST_NAMES = frozenset({"host", "host:latest"})
SNAPSHOTTERS = ("overlay", "copying")
"""In the order of preference; the first one that works is noted down in the store."""


class Store:
    """The store at ``root``, with its run directory ``run``."""

    def __init__(self, root: Path, run: Path) -> None:
        self.root = root
        make_private(root)
        make_private(run)
        self.run = run.resolve()  # as the launcher, which lives there, sees it
        self.launcher = Launcher(root, self.run)
        self.state = State(root)
        self.events = EventLog(root / "events.jsonl")

    @cached_property
    def content(self) -> ContentStore:
        """Blobs by digest."""
        return ContentStore(self.root)

    @cached_property
    def layers(self) -> LayerStore:
        """Unpacked layers by diff id."""
        return LayerStore(self.root, self.launcher.work)

    @cached_property
    def registries(self) -> Client:
        """The registries that this user can reach; keeps tokens and connections."""
        # Imported when first needed: most commands ask no registry, and its libraries take 0.1 s.
        from cellbox.registry.client import Client
        from cellbox.registry.credentials import Credentials

        return Client(credential=Credentials.of_user(helpers=_helpers()).get)

    @cached_property
    def drivers(self) -> Finder:
        """The drivers that are other programs."""
        from cellbox.drivers.finder import Finder  # with what it takes to speak to them
        from cellbox.drivers.places import folders

        return Finder(folders(self.run / "plugins"), self.managed.place)

    @cached_property
    def managed(self) -> Managed:
        """The plugins that came as images."""
        from cellbox.local.managed import Managed

        return Managed(self)

    @cached_property
    def host(self) -> HostImage:
        """The image ``host``."""
        return HostImage(self.root)

    @cached_property
    def snapshotter(self) -> Snapshotter:
        """The one that this store was first used with, since layers and changes depend on it."""
        note = self.root / "snapshotter"
        try:
            return self._load_snapshotter(note.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            pass
        reasons = []
        for name in SNAPSHOTTERS:
            found = self._load_snapshotter(name)
            reason = found.usable(self.root)
            if not reason:
                note.write_text(name, encoding="utf-8")
                return found
            reasons.append(reason)
        raise NotSupported("no snapshotter works here: " + "; ".join(reasons))

    def _load_snapshotter(self, name: str) -> Snapshotter:
        made: Snapshotter = REGISTRY.load(PluginKind.SNAPSHOTTER, name)(self.launcher.work)
        return made

    def image(self, ref: str) -> Image:
        """The image that ``ref`` means; ``host`` is made up from the machine as it is now."""
        if ref not in HOST_NAMES:
            return self.state.images.get(ref)
        facts = self.host.facts()
        try:
            known = self.state.images.get(facts.id)
            if facts.tags[0] in known.tags:
                return known
        except NotFound:
            pass
        return self.state.images.add(facts)

    def emit(self, kind: str, action: str, id: str, **attributes: str) -> None:
        """Note in the event log that something happened."""
        self.events.append(Event(time.time(), kind, action, id, attributes))

    def collect(self) -> gc.Sweep:
        """Take away what nobody needs any more."""
        return gc.collect(
            self.state, gc.DiskStores(self.root, self.content, self.layers), self.root
        )

    def close(self) -> None:
        """Let go of databases; the next use opens them again."""
        if "managed" in vars(self):
            self.managed.close()
        self.state.close()

    @contextmanager
    def leased(self, what: str) -> Iterator[tuple[LeasedContent, LeasedLayers]]:
        """Content and layers for a verb that brings something: what it looks for stays until it is
        done. Errors as :meth:`told`."""
        with self.state.leases.take(what) as lease, self.told(what):
            yield (
                LeasedContent(self.root, lease),
                LeasedLayers(self.root, self.launcher.work, lease),
            )

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn an OSError of the machine into an error of the engine."""
        try:
            yield
        except CellboxError:
            raise
        except PermissionError as error:
            raise PermissionDenied(f"{what}: {error}") from error
        except OSError as error:
            raise EngineError(f"{what}: {error}") from error


def _helpers() -> dict[str, CredentialHelper]:
    """The credential helpers that plugins bring, by name."""
    kind = PluginKind.CREDENTIALS
    return {name: REGISTRY.load(kind, name) for name in REGISTRY.names(kind)}


def labels_match(labels: Any, wanted: str) -> bool:
    """Docker's ``label=KEY`` or ``label=KEY=VALUE``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
