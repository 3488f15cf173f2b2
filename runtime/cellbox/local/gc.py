"""Garbage collection: mark from images, containers and leases, sweep the rest.

Nobody counts references. What a name in the database leads to, and what a living lease holds, is
kept; all else may go. Three steps:

1. *Look* what is there (:class:`Found`), then *mark* what is needed (:func:`mark`).
2. :func:`plan`, a pure function, says what to take away (:class:`Sweep`).
3. :func:`collect` takes it away: inside one write transaction it marks again and moves what is
   still unneeded out of sight; after the commit that is deleted, which may take long.

Looking comes before marking, so a thing that appears in between is either not found or marked. Who
brings something in holds it under a lease *before* looking whether it is there (``lease``); so it
finds the thing gone, or the collector finds it held. For the same reason a container's row comes
before its directory; that of a volume is there when its row is not yet, but in the transaction that
makes both. One collector works at a time, under a lock on ``gc.lock``.

Unfinished things (downloads, staged layers) are locked by those who make them, and the stores know
which of them are dead; they are cleaned in step 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from cellbox import faults
from cellbox.errors import Unavailable
from cellbox.images.content import ContentStore
from cellbox.images.snapshots import LayerStore
from cellbox.local.database import lock
from cellbox.local.lease import Hold
from cellbox.local.state import State

KEEP_DOWNLOADS = 86400.0
"""Seconds for which a partial download is kept for another try."""

LOCK_SECONDS = 60.0

faults.declare(
    gc__thing__discarded="something unneeded was moved out of sight",
    gc__sweep__committed="all that is unneeded is out of sight, not all is deleted",
)


@dataclass(frozen=True)
class Found:
    """What a store has on disk: diff ids of layers, digests of blobs, ids of containers, names of
    volumes."""

    layers: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Marked:
    """What is needed, by the same keys.

    ``all_layers`` says that some container's image is unknown (its record was lost): it may stand
    on any layer, so none may go.
    """

    layers: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    all_layers: bool = False


@dataclass(frozen=True)
class Sweep:
    """What to take away, by the same keys; iterating gives ``(field, key)``, in a fixed order."""

    layers: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for part in fields(self):
            for key in getattr(self, part.name):
                yield part.name, key


class Stores(Protocol):
    """The stores on disk, as far as the collector must know them."""

    def find(self) -> Found:
        """What is there now."""
        ...

    def discard(self, kind: str, key: str) -> None:
        """Move one thing out of sight: quick, at once, no error if it is gone. ``kind`` is a field
        of :class:`Found`."""
        ...

    def clean(self) -> None:
        """Delete what is out of sight or was left unfinished. May take long; repeatable."""
        ...


class DiskStores:
    """The stores below ``root``. Layers, containers and volumes go to ``trash/`` by rename; a blob
    is one file, and deleting it is as quick."""

    def __init__(self, root: Path, content: ContentStore, layers: LayerStore) -> None:
        self._root = root
        self._content = content
        self._layers = layers

    def find(self) -> Found:
        """What is there now."""
        return Found(
            layers=frozenset(self._layers.walk()),
            blobs=frozenset(self._content.walk()),
            containers=self._names("containers"),
            volumes=self._names("volumes"),
        )

    def _names(self, folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._root / folder))
        except FileNotFoundError:
            return frozenset()

    def discard(self, kind: str, key: str) -> None:
        """Move one thing out of sight."""
        if kind == "blobs":
            self._content.delete(key)
            return
        folder = self._root / kind / Path(*key.split(":"))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(self._root / "trash" / secrets.token_hex(8))

    def clean(self) -> None:
        """Delete what is in the trash, and what dead or given up work left."""
        self._layers.clean()
        self._content.clean(KEEP_DOWNLOADS)


def plan(found: Found, marked: Marked) -> Sweep:
    """What of ``found`` nobody needs."""
    return Sweep(
        layers=() if marked.all_layers else tuple(sorted(found.layers - marked.layers)),
        blobs=tuple(sorted(found.blobs - marked.blobs)),
        containers=tuple(sorted(found.containers - marked.containers)),
        volumes=tuple(sorted(found.volumes - marked.volumes)),
    )


def mark(state: State, connection: sqlite3.Connection) -> Marked:
    """What images, containers and living leases need, as this transaction sees it."""
    held = state.leases.held
    known = _column(connection, "SELECT id FROM images")
    used = _column(connection, "SELECT image_id FROM containers")
    named = _column(
        connection,
        """SELECT blob FROM image_layers WHERE blob IS NOT NULL
        UNION SELECT manifest FROM images WHERE manifest IS NOT NULL""",
    )
    return Marked(
        layers=held(Hold.LAYER) | _column(connection, "SELECT diff_id FROM image_layers"),
        # an image's id is the digest of its config, which is a blob
        blobs=held(Hold.BLOB)
        | held(Hold.IMAGE)
        | known
        | used
        | {json.loads(descriptor)["digest"] for descriptor in named},
        containers=_column(connection, "SELECT id FROM containers"),
        volumes=_column(connection, "SELECT name FROM volumes"),
        all_layers=not used <= known,
    )


def collect(state: State, stores: Stores, root: Path) -> Sweep:
    """Remove what nobody needs from the store at ``root``; what it was.

    Waits for another collector, and raises Unavailable when that one takes over a minute.
    """
    with _alone(root / "gc.lock"):
        state.leases.drop_dead()
        state.images.forget_strays()
        state.volumes.settle(root / "volumes")
        found = stores.find()
        with state.read() as connection:
            sweep = plan(found, mark(state, connection))
        if any(True for _ in sweep):
            sweep = _sweep(state, stores, found)
        stores.clean()
        return sweep


def _sweep(state: State, stores: Stores, found: Found) -> Sweep:
    with state.write(shrinking=True) as connection:
        sweep = plan(found, mark(state, connection))
        for kind, key in sweep:
            stores.discard(kind, key)
            faults.point("gc.thing.discarded")
    faults.point("gc.sweep.committed")
    return sweep


def _column(connection: sqlite3.Connection, query: str) -> frozenset[str]:
    return frozenset(value for (value,) in connection.execute(query))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock(fd, seconds=LOCK_SECONDS):
            raise Unavailable("another process is collecting garbage in this store; try again")
        yield
    finally:
        os.close(fd)
