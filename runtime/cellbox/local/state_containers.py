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
from cellbox.local import names, state_networks, state_volumes
from cellbox.local.database import Database, insert_each
from cellbox.local.records import ContainerRecord, Records
from cellbox.model import codec
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.network import Endpoint

Join = Callable[[sqlite3.Connection, "ContainerRecord"], Sequence[Endpoint]]
"""Gives a new container its places in networks, in the transaction that makes it."""

Hold = Callable[[sqlite3.Connection], object]
"""Sees to it that the volumes of a container are there, in the transaction that takes them."""

_COLUMNS = "id, name, image_id, spec, command, created, removing, endpoints, mounts"
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
        join: Join = lambda connection, record: (),
        mounts: Sequence[MountSpec] = (),
        hold: Hold | None = None,
    ) -> ContainerRecord:
        """Take a name; an empty one becomes a generated one.

        ``id`` is 64 hex digits. To be called before anything of the container is on disk;
        ``claim`` is called with it when its directory is there and nobody else knows of it;
        ``join`` gives it its places in networks, ``hold`` makes the volumes among its ``mounts``.
        Raises AlreadyExists, InvalidArgument (the name), NotFound (the image), and what ``join``
        and ``hold`` raise.
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
                mounts=tuple(mounts),
            )
            _insert(connection, record)
            if hold:
                hold(connection)
                state_volumes.take(connection, id, _volumes(record))
            endpoints = join(connection, record)
            if endpoints:
                record = replace(record, endpoints=tuple(endpoints))
                _set_endpoints(connection, record)
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

    def set_endpoints(
        self, connection: sqlite3.Connection, record: ContainerRecord, endpoints: Sequence[Endpoint]
    ) -> ContainerRecord:
        """Note the container's places in networks, in the transaction that gave it those."""
        changed = replace(record, endpoints=tuple(endpoints))
        _set_endpoints(connection, changed)
        self._records.rewrite_container(changed)
        return changed

    def set_mounts(
        self, ref: str, spec: RunSpec, mounts: Sequence[MountSpec], hold: Hold
    ) -> ContainerRecord:
        """Replace what was asked for, and with it what is mounted. Raises as :meth:`get` and
        :meth:`add`."""
        with self._database.write() as connection:
            record = replace(_find(connection, ref), spec=spec, mounts=tuple(mounts))
            hold(connection)
            state_volumes.take(connection, record.id, _volumes(record))
            connection.execute(
                "UPDATE containers SET mounts = ? WHERE id = ?",
                (codec.dumps(record.mounts), record.id),
            )
            return self._change(connection, record)

    def mark_removing(self, ref: str) -> ContainerRecord:
        """Note that its removal has begun, so that it is finished after a crash. Repeatable: a
        second time nothing is written, as its directory may just be going."""
        with self._database.write(shrinking=True) as connection:
            record = _find(connection, ref)
            if record.removing:
                return record
            return self._change(connection, replace(record, removing=True))

    def delete(self, id: str, release: Hold = lambda connection: None) -> bool:
        """Forget the container with this full id: its name is free. Whether it was known.
        ``release`` is called in the same transaction, when its volumes are not its any more."""
        with self._database.write(shrinking=True) as connection:
            done = connection.execute("DELETE FROM containers WHERE id = ?", (id,))
            release(connection)
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
            for endpoint in record.endpoints:
                state_networks.take(connection, endpoint)
            state_volumes.take(connection, record.id, _volumes(record))

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
        f"INSERT INTO containers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.name,
            record.image_id,
            codec.dumps(record.spec),
            json.dumps(record.command),
            record.created,
            record.removing,
            codec.dumps(record.endpoints),
            codec.dumps(record.mounts),
        ),
    )


def _volumes(record: ContainerRecord) -> list[str]:
    return [mount.source for mount in record.mounts if mount.kind is MountKind.VOLUME]


def _set_endpoints(connection: sqlite3.Connection, record: ContainerRecord) -> None:
    connection.execute(
        "UPDATE containers SET endpoints = ? WHERE id = ?",
        (codec.dumps(record.endpoints), record.id),
    )


def _select(
    connection: sqlite3.Connection, where: str, arguments: Sequence[str] = ()
) -> list[ContainerRecord]:
    return [_record(row) for row in connection.execute(f"{_SELECT} {where}", arguments)]


def _record(row: Sequence[Any]) -> ContainerRecord:
    id, name, image_id, spec, command, created, removing, places, mounts = row
    words = tuple(json.loads(command))
    endpoints = () if places == "[]" else _endpoints(places)
    mounted = () if mounts == "[]" else _mounts(mounts)
    return ContainerRecord(
        id, name, image_id, _spec(spec), words, created, bool(removing), endpoints, mounted
    )


@lru_cache(maxsize=256)
def _endpoints(text: str) -> tuple[Endpoint, ...]:
    return tuple(codec.from_json(Endpoint, one) for one in json.loads(text))


@lru_cache(maxsize=256)
def _mounts(text: str) -> tuple[MountSpec, ...]:
    return tuple(codec.from_json(MountSpec, one) for one in json.loads(text))


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
