"""The volumes of a store and who has them: rows of ``volumes`` and ``container_volumes``.

A name is taken, and a volume taken away, in one transaction with what happens to its directory, so
any number of processes may do so at once: nobody loses a volume that he has just been given. What a
container has goes with its row, whoever removes that.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cellbox.errors import AlreadyExists, InUse, NotFound
from cellbox.local.database import Database, insert_each
from cellbox.local.records import Records, VolumeRecord
from cellbox.model import codec
from cellbox.model.volume import VolumeSpec

Act = Callable[[VolumeRecord], object]
"""What is done to the directory of a volume, in the transaction that knows of it."""

_SELECT = "SELECT spec, created FROM volumes"


class VolumeTable:
    """All volumes of one store."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    def add(self, spec: VolumeSpec, make: Act) -> tuple[VolumeRecord, bool]:
        """Take a name; the volume, and whether it is new. ``make`` makes the directory of one that
        is. Raises AlreadyExists where it has another driver or other options."""
        with self._database.write() as connection:
            if found := select(connection, "WHERE name = ?", (spec.name,)):
                return _agree(found[0], spec), False
            record = VolumeRecord(spec, time.time())
            _insert(connection, record)
            make(record)
            self._records.write_volume(record)
        return record, True

    def get(self, name: str) -> VolumeRecord:
        """The volume with this name. Raises NotFound."""
        with self._database.read() as connection:
            return find(connection, name)

    def named(self, names: Iterable[str]) -> list[VolumeRecord]:
        """Those of these volumes that are there."""
        wanted = tuple(dict.fromkeys(names))
        places = ", ".join("?" * len(wanted))
        with self._database.read() as connection:
            return select(connection, f"WHERE name IN ({places})", wanted)

    def all(self) -> list[VolumeRecord]:
        """All volumes, by name."""
        with self._database.read() as connection:
            return select(connection, "ORDER BY name")

    def users(self) -> dict[str, tuple[str, ...]]:
        """The ids of the containers that have each volume, by its name."""
        found: dict[str, list[str]] = {}
        query = "SELECT volume, container_id FROM container_volumes ORDER BY volume, container_id"
        for volume, container in self._database.query(query):
            found.setdefault(volume, []).append(container)
        return {volume: tuple(ids) for volume, ids in found.items()}

    def delete(self, name: str, discard: Act, *, verb: str = "remove") -> VolumeRecord:
        """Forget the volume; ``discard`` moves its directory out of sight. Raises NotFound, and
        InUse while a container has it."""
        with self._database.write(shrinking=True) as connection:
            record = find(connection, name)
            refuse_used(connection, name, verb)
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            discard(record)
        return record

    def rename(self, name: str, to: str, move: Act) -> VolumeRecord:
        """Give it another name; ``move`` renames its directory. The record on disk has the old name
        until that is certain, so that one whose rename was cut short goes back. Raises as
        :meth:`delete`, and AlreadyExists."""
        with self._database.write() as connection:
            before = find(connection, name)
            refuse_used(connection, name, "rename")
            if select(connection, "WHERE name = ?", (to,)):
                raise AlreadyExists(f"a volume named {to} already exists")
            record = replace(before, spec=replace(before.spec, name=to))
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            _insert(connection, record)
            move(record)
        self._records.write_volume(record)
        return record

    def settle(self, directory: Path) -> None:
        """Let what a rename that was cut short has moved in ``directory`` go back to the name that
        its volume has."""
        for folder, record in self._records.volumes().items():
            name = record.spec.name
            if folder == name or (directory / name).exists():
                continue
            with self._database.write() as connection:
                if select(connection, "WHERE name = ?", (name,)) and not select(
                    connection, "WHERE name = ?", (folder,)
                ):
                    (directory / folder).rename(directory / name)

    def rewrite(self, record: VolumeRecord) -> None:
        """Make the record of a volume again."""
        self._records.write_volume(record)

    def recorded(self) -> Mapping[str, VolumeRecord]:
        """What the records on disk say, by the directory that each is in."""
        return self._records.volumes()

    def salvage(self, connection: sqlite3.Connection) -> None:
        """Fill an empty database from the records on disk. A directory is a volume by its own name,
        whatever is left of its record: what is in it is somebody's."""
        found = self._records.volumes()
        named = [
            replace(one, spec=replace(one.spec, name=name)) for name, one in sorted(found.items())
        ]
        insert_each(connection, named, lambda record: _insert(connection, record))


def find(connection: sqlite3.Connection, name: str) -> VolumeRecord:
    """See :meth:`VolumeTable.get`; inside a transaction."""
    if found := select(connection, "WHERE name = ?", (name,)):
        return found[0]
    raise NotFound("volume", name)


def select(
    connection: sqlite3.Connection, where: str, arguments: Sequence[str] = ()
) -> list[VolumeRecord]:
    """The volumes that a clause chooses."""
    rows = connection.execute(f"{_SELECT} {where}", arguments)
    return [VolumeRecord(codec.loads(VolumeSpec, spec), created) for spec, created in rows]


def take(connection: sqlite3.Connection, container: str, names: Iterable[str]) -> None:
    """Note that the container has these volumes and no others; one that is gone it has not."""
    connection.execute("DELETE FROM container_volumes WHERE container_id = ?", (container,))
    connection.executemany(
        "INSERT OR IGNORE INTO container_volumes (container_id, volume) "
        "SELECT ?, name FROM volumes WHERE name = ?",
        [(container, name) for name in names],
    )


def refuse_used(connection: sqlite3.Connection, name: str, verb: str) -> None:
    """Raise InUse while a container has the volume."""
    query = "SELECT container_id FROM container_volumes WHERE volume = ? ORDER BY container_id"
    if ids := [id for (id,) in connection.execute(query, (name,))]:
        raise InUse(f"{verb} {name}: volume is in use - [{', '.join(ids)}]")


def _agree(record: VolumeRecord, spec: VolumeSpec) -> VolumeRecord:
    name, known = record.spec.name, record.spec
    if spec.driver != known.driver:
        raise AlreadyExists(
            f"create {name}: conflict: volume name must be unique: it exists with driver "
            f"{known.driver}"
        )
    if spec.options and dict(spec.options) != dict(known.options):
        raise AlreadyExists(
            f"create {name}: conflict: volume name must be unique: it exists with other options"
        )
    return record


def _insert(connection: sqlite3.Connection, record: VolumeRecord) -> None:
    connection.execute(
        "INSERT INTO volumes (name, created, spec) VALUES (?, ?, ?)",
        (record.spec.name, record.created, codec.dumps(record.spec)),
    )
