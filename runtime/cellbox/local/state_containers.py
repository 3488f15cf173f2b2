"""The containers of a store: rows of ``containers``, each with a name of its own.

One transaction takes the name and sees that the image is still there, so any number of processes
may create at once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from cellbox.errors import AlreadyExists, InvalidArgument, NotFound
from cellbox.local import names
from cellbox.local.database import Database, insert_each
from cellbox.local.records import ContainerRecord, Records
from cellbox.model import codec
from cellbox.model.container import RunSpec

_COLUMNS = "id, name, image_id, spec, command, created, removing"
_SELECT = f"SELECT {_COLUMNS} FROM containers"


class ContainerTable:
    """All containers of one store."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    def add(
        self,
        id: str,
        *,
        image_id: str,
        spec: RunSpec,
        command: Sequence[str],
        created: float,
        name: str = "",
        claim: Callable[[str], object] = lambda id: None,
    ) -> ContainerRecord:
        """Take a name; an empty one becomes a generated one.

        ``id`` is 64 hex digits. To be called before anything of the container is on disk;
        ``claim`` is called with it when its directory is there and nobody else knows of it. Raises
        AlreadyExists, InvalidArgument (the name), NotFound (the image).
        """
        asked = names.check(name) if name else ""
        with self._database.write() as connection:
            if not _exists(connection, "images", "id", image_id):
                raise NotFound("image", spec.image)
            if asked:
                _refuse_taken(connection, asked)
            record = ContainerRecord(
                id=id,
                name=asked or names.generate(_taken(connection)),
                image_id=image_id,
                spec=spec,
                command=tuple(command),
                created=created,
            )
            _insert(connection, record)
            self._records.write_container(record)
            claim(id)
        return record

    def get(self, ref: str) -> ContainerRecord:
        """The container with this id or name (a leading slash is Docker's), or the only one whose
        id starts so; an id goes before a name. Raises NotFound, InvalidArgument."""
        if rows := self._database.query(f"{_SELECT} WHERE id = ?", (ref,)):
            return _record(rows[0])
        with self._database.read() as connection:
            return _find(connection, ref)

    def all(self) -> list[ContainerRecord]:
        """All containers, the newest first."""
        with self._database.read() as connection:
            return _select(connection, "ORDER BY created DESC, id")

    def rename(self, ref: str, name: str) -> ContainerRecord:
        """Give it another name. Raises as :meth:`get` and :meth:`add`."""
        bare = names.check(name)
        with self._database.write() as connection:
            before = _find(connection, ref)
            if bare == before.name:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            _refuse_taken(connection, bare)
            return self._change(connection, replace(before, name=bare))

    def update(self, ref: str, spec: RunSpec) -> ContainerRecord:
        """Replace what was asked for. Raises as :meth:`get`."""
        with self._database.write() as connection:
            return self._change(connection, replace(_find(connection, ref), spec=spec))

    def mark_removing(self, ref: str) -> ContainerRecord:
        """Note that its removal has begun, so that it is finished after a crash. Repeatable: a
        second time nothing is written, as its directory may just be going."""
        with self._database.write(shrinking=True) as connection:
            record = _find(connection, ref)
            if record.removing:
                return record
            return self._change(connection, replace(record, removing=True))

    def delete(self, id: str) -> bool:
        """Forget the container with this full id: its name is free. Whether it was known."""
        with self._database.write(shrinking=True) as connection:
            done = connection.execute("DELETE FROM containers WHERE id = ?", (id,))
        self._records.forget_container(id)
        return done.rowcount > 0

    def salvage(self, connection: sqlite3.Connection) -> None:
        """Fill an empty database from the records on disk.

        Of two that claim one name the one written last keeps it; the other is named by its id.
        """

        def insert(record: ContainerRecord) -> None:
            if _exists(connection, "containers", "name", record.name):
                record = replace(record, name=record.id[:12])
            _insert(connection, record)

        insert_each(connection, self._records.containers(), insert)

    def _change(self, connection: sqlite3.Connection, record: ContainerRecord) -> ContainerRecord:
        connection.execute(
            "UPDATE containers SET name = ?, spec = ?, removing = ? WHERE id = ?",
            (record.name, codec.dumps(record.spec), record.removing, record.id),
        )
        self._records.rewrite_container(record)
        return record


def _insert(connection: sqlite3.Connection, record: ContainerRecord) -> None:
    connection.execute(
        f"INSERT INTO containers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.name,
            record.image_id,
            codec.dumps(record.spec),
            json.dumps(record.command),
            record.created,
            record.removing,
        ),
    )


def _select(
    connection: sqlite3.Connection, where: str, arguments: Sequence[str] = ()
) -> list[ContainerRecord]:
    return [_record(row) for row in connection.execute(f"{_SELECT} {where}", arguments)]


def _record(row: Sequence[Any]) -> ContainerRecord:
    id, name, image_id, spec, command, created, removing = row
    words = tuple(json.loads(command))
    return ContainerRecord(id, name, image_id, _spec(spec), words, created, bool(removing))


@lru_cache(maxsize=256)
def _spec(text: str) -> RunSpec:
    return codec.loads(RunSpec, text)


def _find(connection: sqlite3.Connection, ref: str) -> ContainerRecord:
    name = ref.removeprefix("/")
    for where in ("WHERE id = ?", "WHERE name = ?"):
        if found := _select(connection, where, (name,)):
            return found[0]
    if not name or not set(name) <= set("0123456789abcdef"):
        raise NotFound("container", ref)
    found = _select(connection, "WHERE id >= ? AND id < ? LIMIT 2", (name, name + "g"))
    if len(found) > 1:
        raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
    if not found:
        raise NotFound("container", ref)
    return found[0]


def _refuse_taken(connection: sqlite3.Connection, name: str) -> None:
    row = connection.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
    if row:
        raise AlreadyExists(
            f'Conflict. The container name "/{name}" is already in use by container "{row[0]}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


def _taken(connection: sqlite3.Connection) -> Callable[[str], bool]:
    return lambda name: _exists(connection, "containers", "name", name)


def _exists(connection: sqlite3.Connection, table: str, column: str, value: str) -> bool:
    query = f"SELECT 1 FROM {table} WHERE {column} = ?"
    return connection.execute(query, (value,)).fetchone() is not None
