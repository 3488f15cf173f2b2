"""The state of one store: which images and containers there are, and what is being worked on.

Bytes live in files, names and relations live here, in ``ROOT/state.db``, so that several processes
can take a name and an image in one transaction. Nothing here says whether a container runs:
that is for its processes and its ``exit.json`` to say.

::

    State
    |- images      ImageTable      state_images      what names and ids mean
    |- containers  ContainerTable  state_containers  names, what was asked for
    |- networks    NetworkTable    state_networks    names, subnets, addresses
    |- volumes     VolumeTable     state_volumes     names, which container has which
    |- leases      Leases          lease             what must not be collected yet
    '- write() read()              database          several of these in one transaction

**Nothing is lost with the database.** Each image and container also has a small JSON record on disk
(``records``), written when it changes. A database that is damaged is set aside with the date in its
name, and a new one is filled from the records; so is one that was deleted. Leases are not recorded:
what they protect is unfinished, and its owner fails and tries again.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from cellbox.local import schema
from cellbox.local.database import Database
from cellbox.local.lease import Leases
from cellbox.local.records import Records
from cellbox.local.state_containers import ContainerTable
from cellbox.local.state_images import ImageTable
from cellbox.local.state_networks import NetworkTable
from cellbox.local.state_volumes import VolumeTable


class State:
    """What the store at ``root`` knows; opened when first used, for any thread and process.

    ``root`` must exist. Every method here and in the tables raises
    :class:`~cellbox.errors.Unavailable`, :class:`~cellbox.errors.EngineError` and
    :class:`~cellbox.errors.NotSupported` as :class:`~cellbox.local.database.Database` does.
    """

    def __init__(self, root: Path, *, steps: Sequence[schema.Step] = schema.STEPS) -> None:
        records = Records(root)
        self.database = Database(root / "state.db", salvage=self._salvage, steps=steps)
        self.leases = Leases(self.database)
        self.images = ImageTable(self.database, records, self.leases)
        self.containers = ContainerTable(self.database, records)
        self.networks = NetworkTable(self.database, records)
        self.volumes = VolumeTable(self.database, records)

    def id(self) -> str:
        """A name for this store that no other one has, the same as long as the database lives."""
        with self.database.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
        if row:
            return str(row[0])
        with self.database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('id', ?)", (secrets.token_hex(16),)
            )
        return self.id()

    def write(
        self, *, durable: bool = False, shrinking: bool = False
    ) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction around several changes, in this thread."""
        return self.database.write(durable=durable, shrinking=shrinking)

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """One snapshot for several questions, in this thread."""
        return self.database.read()

    def close(self) -> None:
        """Let go of the database; the next use opens it again."""
        self.database.close()

    def _salvage(self, connection: sqlite3.Connection) -> None:
        self.images.salvage(connection)
        self.networks.salvage(connection)
        self.volumes.salvage(connection)
        self.containers.salvage(connection)
