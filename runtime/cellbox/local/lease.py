"""Leases: what keeps unfinished work from being collected as garbage.

Whoever brings something into the store (a pull, a load, a build, a container's start) first *holds*
its key under a lease, and only then looks whether it is there, or makes it. ``gc`` removes nothing
that is held, and looks again in the same transaction in which it takes a thing away; so either the
holder finds it gone, or the collector finds it held::

    with leases.take("pull ubuntu") as lease:
        lease.hold(Hold.LAYER, diff_id)      # from here on it stays
        if not layers.has(diff_id): ...
        images.add(image)                    # from here on the image keeps it

What is not whole yet needs no lease: downloads and staged layers are locked by those who make them.
A lease belongs to a process: its pid, the start time that tells it from a later process with the
same pid, and the boot in which both mean something. When that process is gone, so is the lease.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from cellbox.linux import process
from cellbox.local.database import Database


class Hold(StrEnum):
    """What can be held: an image (by id), a layer (by diff id), a blob (by digest)."""

    IMAGE = "image"
    LAYER = "layer"
    BLOB = "blob"


@dataclass(frozen=True)
class Owner:
    """A process, told from all others: ``start`` in clock ticks since boot (proc(5), field 22),
    ``boot`` the kernel's boot id."""

    pid: int
    start: int
    boot: str

    @classmethod
    def me(cls) -> Owner:
        """The calling process."""
        pid = os.getpid()
        return cls(pid, process.start_time(pid), boot_id())

    def lives(self) -> bool:
        """Whether the process is still there; a zombie holds nothing."""
        return self.boot == boot_id() and process.is_alive(self.pid, self.start)


@cache
def boot_id() -> str:
    """The kernel's id of this boot, random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Lease:
    """One piece of work under way; released at the end of its ``with`` block."""

    def __init__(self, database: Database, id: str) -> None:
        self._database = database
        self.id = id

    def hold(self, kind: Hold, *keys: str) -> None:
        """Keep these from being collected, whether they exist or are to come."""
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO lease_items VALUES (?, ?, ?)",
                [(self.id, kind.value, key) for key in keys],
            )

    def release(self) -> None:
        """Let go of everything. Repeating it does nothing."""
        with self._database.write(shrinking=True) as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (self.id,))

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Leases:
    """All leases on one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, purpose: str) -> Lease:
        """A lease of this process; ``purpose`` is a few words for people (``pull ubuntu``)."""
        owner, id = Owner.me(), secrets.token_hex(8)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?, ?)",
                (id, owner.pid, owner.start, owner.boot, purpose),
            )
        return Lease(self._database, id)

    def drop_dead(self) -> None:
        """Forget the leases of processes that are gone."""
        with self._database.write(shrinking=True) as connection:
            dead = [(id,) for id, owner, _ in _owners(connection) if not owner.lives()]
            connection.executemany("DELETE FROM leases WHERE id = ?", dead)

    def held(self, kind: Hold) -> frozenset[str]:
        """Keys of this kind that a living process holds."""
        with self._database.read() as connection:
            return frozenset(key for key, _ in _living(connection, kind))

    def holder(self, kind: Hold, key: str) -> str:
        """The purpose of a living lease on this one thing, empty when there is none."""
        with self._database.read() as connection:
            found = (purpose for held, purpose in _living(connection, kind) if held == key)
            return next(found, "")


def _owners(connection: sqlite3.Connection) -> Iterable[tuple[str, Owner, str]]:
    for id, pid, start, boot, purpose in connection.execute(
        "SELECT id, pid, start, boot, purpose FROM leases"
    ).fetchall():
        yield id, Owner(pid, start, boot), purpose


def _living(connection: sqlite3.Connection, kind: Hold) -> Iterable[tuple[str, str]]:
    for id, owner, purpose in _owners(connection):
        if owner.lives():
            for (key,) in connection.execute(
                "SELECT key FROM lease_items WHERE lease_id = ? AND kind = ?", (id, kind.value)
            ):
                yield key, purpose
