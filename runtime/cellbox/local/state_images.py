"""The images of a store, by id and by name: rows of ``images``, ``image_layers``, ``tags``,
``repo_digests``.

An image is added when all its layers are on disk, and is visible under its names from that commit
on, never before.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from cellbox.errors import InUse, InvalidArgument, InvalidReference, NotFound
from cellbox.local.database import Database, insert_each
from cellbox.local.lease import Hold, Leases
from cellbox.local.records import ImageRecord, Records
from cellbox.model import codec, reference
from cellbox.model.image import Descriptor, Image, Layer, Removed

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")
_FULL_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class ImageTable:
    """All images of one store."""

    def __init__(self, database: Database, records: Records, leases: Leases) -> None:
        self._database = database
        self._records = records
        self._leases = leases

    def add(self, image: Image, *, manifest: Descriptor | None = None) -> Image:
        """Make an image visible, under its own names and those it has already; as it is then.

        Its names move here from other images. ``manifest`` names the blob it was pulled by or is
        pushed by. The commit survives a power cut; repeating it does no harm.
        """
        with self._database.write(durable=True) as connection:
            _insert(connection, ImageRecord(image, manifest))
            self._record(connection, image.id)
            return _image(connection, image.id)

    def resolve(self, ref: str) -> str:
        """The id of the image that ``ref`` means.

        ``ref`` is an id, with or without ``sha256:``, a name, a name with a digest, or a prefix of
        an id that only one image has; a name goes before a prefix. Raises NotFound,
        InvalidArgument for a prefix of several.
        """
        with self._database.read() as connection:
            return _resolve(connection, ref)

    def get(self, ref: str) -> Image:
        """The image that ``ref`` means. Raises as :meth:`resolve`."""
        with self._database.read() as connection:
            return _image(connection, _resolve(connection, ref))

    def manifest(self, ref: str) -> Descriptor | None:
        """The manifest it came with, None where there is none (a build, a commit)."""
        with self._database.read() as connection:
            return _manifest(connection, _resolve(connection, ref))

    def all(self) -> list[Image]:
        """All images, the newest first."""
        with self._database.read() as connection:
            ids = connection.execute("SELECT id FROM images ORDER BY created DESC, id").fetchall()
            return [_image(connection, id) for (id,) in ids]

    def tag(self, ref: str, name: str) -> None:
        """Let ``name`` mean the image that ``ref`` means; a name of another image moves.

        Raises InvalidReference for a name that has a digest or is none, NotFound.
        """
        target = reference.parse(name)
        if target.digest:
            raise InvalidReference("refusing to create a tag with a digest reference")
        with self._database.write(durable=True) as connection:
            id = _resolve(connection, ref)
            before = _named(connection, target.familiar)
            _insert_names(connection, id, (target.familiar,), ())
            for changed in {id, before} - {""}:
                self._record(connection, changed)

    def untag(self, name: str) -> Removed:
        """Take a name (``ubuntu:latest``, ``ubuntu@sha256:...``) from its image, which stays.

        Raises NotFound, InvalidReference.
        """
        familiar = reference.parse(name).familiar
        with self._database.write(durable=True, shrinking=True) as connection:
            id = _named(connection, familiar)
            if not id:
                raise NotFound("image", name)
            connection.execute("DELETE FROM tags WHERE name = ?", (familiar,))
            connection.execute("DELETE FROM repo_digests WHERE name = ?", (familiar,))
            self._record(connection, id)
        return Removed(untagged=familiar)

    def remove(self, id: str) -> list[Removed]:
        """Remove the image with this full id and all its names; what was done, names first.

        Its layers and blobs are garbage then, for ``gc``. Raises NotFound, and InUse while a
        container or a living lease has it.
        """
        with self._database.write(durable=True, shrinking=True) as connection:
            image = _image(connection, id)
            self._refuse_in_use(connection, image)
            connection.execute("DELETE FROM images WHERE id = ?", (id,))
        self._records.forget_image(id)
        return [
            *(Removed(untagged=name) for name in image.tags + image.digests),
            Removed(deleted=id),
        ]

    def remove_steps(self, id: str) -> list[Removed]:
        """Remove the image with this id, where it is only a step to others that are gone: it has no
        name, nothing was made from it, and nobody uses it; then the one that it was made from, and
        so on. No image of this id is no error."""
        removed = []
        with self._database.write(durable=True, shrinking=True) as connection:
            texts = connection.execute("SELECT facts FROM images").fetchall()
            made_from = Counter(_facts(text).parent for (text,) in texts)
            while id and not made_from[id] and (image := self._unused(connection, id)):
                connection.execute("DELETE FROM images WHERE id = ?", (id,))
                removed.append(Removed(deleted=id))
                id = image.parent
                made_from[id] -= 1
        for one in removed:
            self._records.forget_image(one.deleted)
        return removed

    def _unused(self, connection: sqlite3.Connection, id: str) -> Image | None:
        """The image, if it is there, has no name, and is used by nobody."""
        try:
            image = _image(connection, id)
            self._refuse_in_use(connection, image)
        except (NotFound, InUse):
            return None
        return None if image.tags or image.digests else image

    def users(self, id: str) -> list[str]:
        """Ids of the containers that were made from it."""
        with self._database.read() as connection:
            return _column(connection, "SELECT id FROM containers WHERE image_id = ?", id)

    def blobs(self, diff_id: str) -> list[Descriptor]:
        """The blobs that the images which have this layer know it by."""
        query = "SELECT DISTINCT blob FROM image_layers WHERE diff_id = ? AND blob IS NOT NULL"
        with self._database.read() as connection:
            found = map(_descriptor, _column(connection, query, diff_id))
            return [blob for blob in found if blob is not None]

    def forget_strays(self) -> None:
        """Remove the records of images that are no more, before their layers go."""
        with self._database.write(shrinking=True) as connection:
            known = {id for (id,) in connection.execute("SELECT id FROM images")}
            for id in self._records.image_ids() - known:
                self._records.forget_image(id)

    def salvage(self, connection: sqlite3.Connection) -> None:
        """Fill an empty database from the records on disk; a name goes to the newest record."""
        insert_each(
            connection, reversed(self._records.images()), lambda one: _insert(connection, one)
        )

    def _record(self, connection: sqlite3.Connection, id: str) -> None:
        """Write the record of an image as it will be when the transaction commits."""
        self._records.write_image(ImageRecord(_image(connection, id), _manifest(connection, id)))

    def _refuse_in_use(self, connection: sqlite3.Connection, image: Image) -> None:
        container = connection.execute(
            "SELECT id FROM containers WHERE image_id = ?", (image.id,)
        ).fetchone()
        sentence = f"conflict: unable to delete {image.short_id}"
        if container:
            raise InUse(f"{sentence} - image is being used by container {container[0][:12]}")
        if purpose := self._leases.holder(Hold.IMAGE, image.id):
            raise InUse(f"{sentence} - image is in use: {purpose}")


# --- rows and facts ------------------------------------------------------------------------------


def _insert(connection: sqlite3.Connection, record: ImageRecord) -> None:
    image = record.image
    facts = _dumps(replace(image, tags=(), digests=(), layers=()))
    connection.execute(
        """INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
        created = excluded.created, size = excluded.size, facts = excluded.facts,
        manifest = coalesce(excluded.manifest, manifest)""",
        (image.id, image.created, image.size, _dumps(record.manifest), facts),
    )
    connection.execute("DELETE FROM image_layers WHERE image_id = ?", (image.id,))
    connection.executemany(
        "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?)",
        [
            (image.id, position, layer.diff_id, layer.size, _dumps(layer.blob))
            for position, layer in enumerate(image.layers)
        ],
    )
    _insert_names(connection, image.id, image.tags, image.digests)


def _insert_names(
    connection: sqlite3.Connection, id: str, tags: Sequence[str], digests: Sequence[str]
) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO tags VALUES (?, ?)", [(name, id) for name in tags]
    )
    connection.executemany(
        "INSERT OR REPLACE INTO repo_digests VALUES (?, ?)", [(name, id) for name in digests]
    )


def _image(connection: sqlite3.Connection, id: str) -> Image:
    row = connection.execute("SELECT facts FROM images WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound("image", id)
    layers = connection.execute(
        "SELECT diff_id, size, blob FROM image_layers WHERE image_id = ? ORDER BY position", (id,)
    )
    return replace(
        _facts(row[0]),
        layers=tuple(Layer(diff_id, size, _descriptor(blob)) for diff_id, size, blob in layers),
        tags=tuple(
            _column(connection, "SELECT name FROM tags WHERE image_id = ? ORDER BY name", id)
        ),
        digests=tuple(
            _column(
                connection, "SELECT name FROM repo_digests WHERE image_id = ? ORDER BY name", id
            )
        ),
    )


def _manifest(connection: sqlite3.Connection, id: str) -> Descriptor | None:
    return _descriptor(*_column(connection, "SELECT manifest FROM images WHERE id = ?", id))


@lru_cache(maxsize=256)
def _facts(text: str) -> Image:
    return codec.loads(Image, text)


@lru_cache(maxsize=4096)
def _descriptor(text: str | None) -> Descriptor | None:
    return None if text is None else codec.loads(Descriptor, text)


def _dumps(fact: Image | Descriptor | None) -> str | None:
    return None if fact is None else codec.dumps(fact)


def _column(connection: sqlite3.Connection, query: str, key: str) -> list[str]:
    return [value for (value,) in connection.execute(query, (key,))]


# --- what a user's words mean --------------------------------------------------------------------


def _resolve(connection: sqlite3.Connection, ref: str) -> str:
    full = _FULL_ID.fullmatch(ref)
    if full and (found := _by_prefix(connection, full[1])):
        return found[0]
    try:
        if id := _named(connection, reference.parse(ref).familiar):
            return id
    except InvalidReference:
        if not _ID.fullmatch(ref):
            raise
    prefix = _ID.fullmatch(ref)
    found = _by_prefix(connection, prefix[1]) if prefix else []
    if len(found) > 1:
        raise InvalidArgument(f"image id {ref} is ambiguous: {len(found)} images start with it")
    if not found:
        raise NotFound("image", _spelled_out(ref))
    return found[0]


def _spelled_out(ref: str) -> str:
    """As Docker tells a name that it did not find: with its tag."""
    try:
        return reference.parse(ref).familiar
    except InvalidReference:
        return ref


def _named(connection: sqlite3.Connection, familiar: str) -> str:
    """The id that a familiar name stands for, empty when there is none."""
    table = "tags"
    if "@" in familiar:
        table, (name, _, digest) = "repo_digests", familiar.partition("@")
        familiar = f"{reference.parse(name).familiar_name}@{digest}"  # the tag is a remark
    found = _column(connection, f"SELECT image_id FROM {table} WHERE name = ?", familiar)
    return found[0] if found else ""


def _by_prefix(connection: sqlite3.Connection, prefix: str) -> list[str]:
    # a range, not LIKE: so that the primary key's index serves it ("g" follows every hex digit)
    low = f"sha256:{prefix}"
    return [
        id
        for (id,) in connection.execute(
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", (low, low + "g")
        )
    ]
