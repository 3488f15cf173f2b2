"""The tables of the state database, as numbered steps.

``PRAGMA user_version`` of a database is the number of steps that were applied to it. A step is
never edited once released: a change is a further step, so that every older store can be brought up
to date. All missing steps are applied in one transaction, after a copy of the database was put
beside it as ``state.db.vN``; a database with more steps than this engine knows is refused, not
guessed at.

What the tables hold (facts as JSON of ``model.codec``, digests as ``sha256:HEX``)::

    images        one row an image; facts without names and layers
    image_layers  which layers an image has, bottom first, and the blob it knows each by
    tags          familiar name -> image             ubuntu:latest
    repo_digests  familiar name with digest -> image ubuntu@sha256:...
    containers    one row a container; its name is unique
    networks      one row a network; its name is unique
    endpoints     which addresses of a network a container has
    volumes       one row a volume
    container_volumes  which volumes a container has
    leases        who works on something that is not named yet
    lease_items   what that is
    meta          single values
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from cellbox.errors import NotSupported

Step = Sequence[str]
"""SQL statements that take a database from one version to the next."""

STEPS: tuple[Step, ...] = (
    (
        """CREATE TABLE images (
            id TEXT PRIMARY KEY, created REAL, size INTEGER NOT NULL, manifest TEXT,
            facts TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE image_layers (
            image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL,
            diff_id TEXT NOT NULL, size INTEGER NOT NULL, blob TEXT,
            PRIMARY KEY (image_id, position)) WITHOUT ROWID""",
        "CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id)",
        """CREATE TABLE tags (
            name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE
            ) WITHOUT ROWID""",
        "CREATE INDEX tags_by_image ON tags (image_id)",
        """CREATE TABLE repo_digests (
            name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE
            ) WITHOUT ROWID""",
        "CREATE INDEX repo_digests_by_image ON repo_digests (image_id)",
        # image_id is no foreign key: a container whose image was lost is still a container
        """CREATE TABLE containers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL,
            created REAL NOT NULL, removing INTEGER NOT NULL DEFAULT 0, spec TEXT NOT NULL,
            command TEXT NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX containers_by_image ON containers (image_id)",
        """CREATE TABLE leases (
            id TEXT PRIMARY KEY, pid INTEGER NOT NULL, start INTEGER NOT NULL, boot TEXT NOT NULL,
            purpose TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE lease_items (
            lease_id TEXT NOT NULL REFERENCES leases ON DELETE CASCADE, kind TEXT NOT NULL,
            key TEXT NOT NULL, PRIMARY KEY (lease_id, kind, key)) WITHOUT ROWID""",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
    (
        """CREATE TABLE networks (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,
            spec TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE endpoints (
            container_id TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
            network_id TEXT NOT NULL REFERENCES networks, ip TEXT, ip6 TEXT,
            PRIMARY KEY (container_id, network_id), UNIQUE (network_id, ip),
            UNIQUE (network_id, ip6)) WITHOUT ROWID""",
        "ALTER TABLE containers ADD COLUMN endpoints TEXT NOT NULL DEFAULT '[]'",
    ),
    (
        """CREATE TABLE volumes (
            name TEXT PRIMARY KEY, created REAL NOT NULL, spec TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE container_volumes (
            container_id TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
            volume TEXT NOT NULL REFERENCES volumes,
            PRIMARY KEY (container_id, volume)) WITHOUT ROWID""",
        "CREATE INDEX container_volumes_by_volume ON container_volumes (volume)",
        "ALTER TABLE containers ADD COLUMN mounts TEXT NOT NULL DEFAULT '[]'",
    ),
)


def version(connection: sqlite3.Connection) -> int:
    """How many steps the database has; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(found: int, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """Raise NotSupported for a database that a newer engine has changed."""
    if found > len(steps):
        raise NotSupported(
            f"the store {path} was made by a newer cellbox (schema {found}, this one knows "
            f"{len(steps)}); use that one, or another store with CELLBOX_ROOT"
        )


def backup(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the database to ``PATH.vN`` before its version N is changed."""
    with sqlite3.connect(path.with_name(f"{path.name}.v{version(connection)}")) as copy:
        connection.backup(copy)
    copy.close()


def apply(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Apply the missing steps; the caller holds a write transaction."""
    for step in steps[version(connection) :]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(steps)}")
