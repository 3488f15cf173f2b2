"""The networks of a store, and which of their addresses are taken: rows of ``networks`` and
``endpoints``.

A name, subnets and an address are each taken in one transaction, so any number of processes may do
so at once; of two that want the same one, the second is told. Addresses go with their container's
row, whoever removes that.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from cellbox.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from cellbox.local.database import Database, insert_each
from cellbox.local.records import NetworkRecord, Records
from cellbox.model import codec
from cellbox.model.network import Endpoint, NetworkSpec

Choose = Callable[[Sequence[NetworkRecord]], NetworkSpec]
"""Gives a new network its subnets, when it knows which others there are."""

_SELECT = "SELECT id, spec, created FROM networks"


class NetworkTable:
    """All networks of one store."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    def add(self, name: str, choose: Choose) -> NetworkRecord:
        """Take a name, and the subnets that ``choose`` says. Raises AlreadyExists, and what
        ``choose`` raises."""
        with self._database.write() as connection:
            if _select(connection, "WHERE name = ?", (name,)):
                raise AlreadyExists(f"network with name {name} already exists")
            spec = choose(_select(connection, "ORDER BY created"))
            record = NetworkRecord(secrets.token_hex(32), spec, time.time())
            _insert(connection, record)
            self._records.write_network(record)
        return record

    def get(self, ref: str) -> NetworkRecord:
        """The network with this id or name, or the only one whose id starts so. Raises NotFound,
        InvalidArgument."""
        with self._database.read() as connection:
            return find(connection, ref)

    def all(self) -> list[NetworkRecord]:
        """All networks, by name."""
        with self._database.read() as connection:
            return _select(connection, "ORDER BY name")

    def delete(self, id: str) -> None:
        """Forget the network with this full id. Raises PermissionDenied while a container has a
        place in it, NotFound."""
        with self._database.write(shrinking=True) as connection:
            _check_unused(connection, find(connection, id))
            connection.execute("DELETE FROM networks WHERE id = ?", (id,))
        self._records.forget_network(id)

    def check_unused(self, id: str) -> None:
        """Raise PermissionDenied while a container has a place in it, NotFound."""
        with self._database.read() as connection:
            _check_unused(connection, find(connection, id))

    def salvage(self, connection: sqlite3.Connection) -> None:
        """Fill an empty database from the records on disk."""
        insert_each(
            connection, self._records.networks(), lambda record: _insert(connection, record)
        )


def find(connection: sqlite3.Connection, ref: str) -> NetworkRecord:
    """See :meth:`NetworkTable.get`; inside a transaction."""
    for where in ("WHERE id = ?", "WHERE name = ?"):
        if found := _select(connection, where, (ref,)):
            return found[0]
    prefixed = bool(ref) and set(ref) <= set("0123456789abcdef")
    found = _select(connection, "WHERE id >= ? AND id < ?", (ref, ref + "g")) if prefixed else []
    if len(found) > 1:
        raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
    if not found:
        raise NotFound("network", ref)
    return found[0]


def _check_unused(connection: sqlite3.Connection, record: NetworkRecord) -> None:
    found = connection.execute("SELECT 1 FROM endpoints WHERE network_id = ?", (record.id,))
    if found.fetchone():
        raise PermissionDenied(
            f"error while removing network: network {record.spec.name} id {record.id} has active "
            "endpoints"
        )


def addresses(connection: sqlite3.Connection, network: str) -> set[str]:
    """The addresses of the network with this id that are taken, of both families."""
    rows = connection.execute("SELECT ip, ip6 FROM endpoints WHERE network_id = ?", (network,))
    return {address for row in rows for address in row if address}


def take(connection: sqlite3.Connection, endpoint: Endpoint) -> None:
    """Note that the endpoint's addresses belong to its container."""
    connection.execute(
        "INSERT INTO endpoints (container_id, network_id, ip, ip6) VALUES (?, ?, ?, ?)",
        (endpoint.container, endpoint.network_id, _bare(endpoint.ip), _bare(endpoint.ip6)),
    )


def release(connection: sqlite3.Connection, container: str, network: str) -> None:
    """The container is not in the network any more."""
    connection.execute(
        "DELETE FROM endpoints WHERE container_id = ? AND network_id = ?", (container, network)
    )


def _bare(address: str) -> str | None:
    return address.partition("/")[0] or None


def _insert(connection: sqlite3.Connection, record: NetworkRecord) -> None:
    connection.execute(
        "INSERT INTO networks (id, name, created, spec) VALUES (?, ?, ?, ?)",
        (record.id, record.spec.name, record.created, codec.dumps(record.spec)),
    )


def _select(
    connection: sqlite3.Connection, where: str, arguments: Sequence[Any] = ()
) -> list[NetworkRecord]:
    rows = connection.execute(f"{_SELECT} {where}", arguments)
    return [
        NetworkRecord(id, codec.loads(NetworkSpec, spec), created) for id, spec, created in rows
    ]
