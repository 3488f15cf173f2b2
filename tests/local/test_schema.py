"""The steps of the schema."""

import sqlite3
from pathlib import Path

import pytest

from cellbox.errors import NotSupported
from cellbox.local import schema


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    yield connection
    connection.close()


def tables(connection):
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def test_all_steps_on_an_empty_database(connection):
    schema.apply(connection)

    assert schema.version(connection) == len(schema.STEPS)
    assert tables(connection) == {
        "images",
        "image_layers",
        "tags",
        "repo_digests",
        "containers",
        "leases",
        "lease_items",
        "meta",
        "networks",
        "endpoints",
        "volumes",
        "container_volumes",
    }


def test_applying_again_does_nothing(connection):
    schema.apply(connection)
    schema.apply(connection)
    assert schema.version(connection) == len(schema.STEPS)


def test_only_missing_steps_are_applied(connection):
    steps = (("CREATE TABLE a (x)",), ("CREATE TABLE b (x)",), ("CREATE TABLE c (x)",))
    schema.apply(connection, steps[:1])
    schema.apply(connection, steps)

    assert tables(connection) == {"a", "b", "c"}
    assert schema.version(connection) == 3


def test_a_newer_version_is_refused():
    schema.check_version(len(schema.STEPS), Path("/store"))
    with pytest.raises(NotSupported, match="/store was made by a newer cellbox.*CELLBOX_ROOT"):
        schema.check_version(len(schema.STEPS) + 1, Path("/store"))


def test_the_backup_has_the_version_in_its_name(tmp_path):
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path, isolation_level=None)
    schema.apply(connection, (("CREATE TABLE a (x)",),))

    schema.backup(connection, path)
    copy = sqlite3.connect(tmp_path / "state.db.v1")
    assert tables(copy) == {"a"}
    copy.close()
    connection.close()


def test_removing_an_image_removes_its_names_and_layers_and_nothing_else(connection):
    schema.apply(connection)
    for image in ("one", "two"):
        connection.execute("INSERT INTO images VALUES (?, 1, 1, NULL, '{}')", (image,))
        connection.execute("INSERT INTO image_layers VALUES (?, 0, 'layer', 1, NULL)", (image,))
        connection.execute("INSERT INTO tags VALUES (? || ':latest', ?)", (image, image))

    connection.execute("DELETE FROM images WHERE id = 'one'")
    assert connection.execute("SELECT image_id FROM image_layers").fetchall() == [("two",)]
    assert connection.execute("SELECT image_id FROM tags").fetchall() == [("two",)]


def test_a_name_is_unique(connection):
    schema.apply(connection)
    insert = "INSERT INTO containers VALUES (?, ?, 'image', 1, 0, '{}', '[]', '[]', '[]')"
    connection.execute(insert, ("a", "web"))

    with pytest.raises(sqlite3.IntegrityError, match="containers.name"):
        connection.execute(insert, ("b", "web"))
