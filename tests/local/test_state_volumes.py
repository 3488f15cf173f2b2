"""Rows of volumes, and who has them."""

from __future__ import annotations

import pytest

from cellbox.errors import AlreadyExists, InUse, NotFound
from cellbox.local import state_volumes
from cellbox.local.state import State
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.volume import VolumeSpec


@pytest.fixture
def table(state, tmp_path):
    """The volumes of a state."""
    return state.volumes


@pytest.fixture
def folder(tmp_path):
    """``folder(record)``: make the directory of a volume."""

    def make(record):
        (tmp_path / "volumes" / record.spec.name / "_data").mkdir(parents=True)

    return make


@pytest.fixture
def container(state, make_image, digest):
    """``container(number, *volumes)``: add a container that has these volumes."""
    state.images.add(make_image(1))

    def add(number, *names):
        mounts = [MountSpec(MountKind.VOLUME, f"/{name}", name) for name in names]
        return state.containers.add(
            f"{number:064x}", image_id=digest(1), spec=RunSpec("x"), command=("x",),
            created=1.0, mounts=mounts, hold=lambda connection: None,
        )  # fmt: skip

    return add


def test_a_name_is_taken_once(table, folder):
    record, new = table.add(VolumeSpec("data", labels={"a": "1"}), folder)
    assert new and record.created > 0
    assert table.add(VolumeSpec("data"), folder) == (record, False)
    assert table.get("data") == record
    assert table.all() == table.named(["data", "none"]) == [record]
    assert table.named([]) == []
    for other in (VolumeSpec("data", "nfs"), VolumeSpec("data", options={"size": "1m"})):
        with pytest.raises(AlreadyExists, match="volume name must be unique"):
            table.add(other, folder)
    with pytest.raises(NotFound, match="No such volume: none"):
        table.get("none")


def test_nothing_is_taken_where_no_directory_can_be_made(table):
    def fail(record):
        raise OSError

    with pytest.raises(OSError):
        table.add(VolumeSpec("data"), fail)
    assert table.all() == []


def test_who_has_it_keeps_it(table, folder, container, state):
    for name in ("one", "two"):
        table.add(VolumeSpec(name), folder)
    first, second = container(1, "one"), container(2, "one", "two", "gone")
    assert table.users() == {"one": (first.id, second.id), "two": (second.id,)}
    with pytest.raises(InUse, match=f"remove one: volume is in use - .{first.id}, {second.id}."):
        table.delete("one", lambda record: None)
    with pytest.raises(InUse, match="rename two"):
        table.rename("two", "three", lambda record: None)
    assert state.containers.get(second.id).mounts == second.mounts
    state.containers.delete(second.id)
    assert table.users() == {"one": (first.id,)}
    discarded = []
    table.delete("two", discarded.append)
    assert [record.spec.name for record in discarded] == ["two"]


def test_a_container_changes_what_it_has(table, folder, container, state):
    for name in ("one", "two"):
        table.add(VolumeSpec(name), folder)
    made = container(1, "one")
    mounts = [MountSpec(MountKind.VOLUME, "/v", "two")]
    changed = state.containers.set_mounts(made.id, RunSpec("y"), mounts, lambda connection: None)
    assert changed == state.containers.get(made.id)
    assert changed.mounts == tuple(mounts) and changed.spec == RunSpec("y")
    assert table.users() == {"two": (made.id,)}


def test_a_release_is_part_of_the_deletion(table, folder, container, state):
    table.add(VolumeSpec("one"), folder)
    made = container(1, "one")

    def release(connection):
        state_volumes.refuse_used(connection, "one", "remove")
        raise OSError

    with pytest.raises(OSError):
        state.containers.delete(made.id, release)
    assert table.users() == {"one": (made.id,)}


def test_records_make_the_rows_again(table, folder, container, state, tmp_path):
    record, _ = table.add(VolumeSpec("data", labels={"a": "1"}), folder)
    made = container(1, "data", "gone")
    state.close()
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    again = State(tmp_path)
    try:
        assert again.volumes.all() == [record]
        assert again.volumes.users() == {"data": (made.id,)}
        assert again.containers.get(made.id).mounts == made.mounts
    finally:
        again.close()


def test_a_record_has_the_old_name_until_the_new_one_is_certain(table, folder, tmp_path):
    table.add(VolumeSpec("old"), folder)
    volumes = tmp_path / "volumes"

    def move_and_die(record):
        (volumes / "old").rename(volumes / "new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.rename("old", "new", move_and_die)
    assert table.recorded()["new"].spec.name == "old"
    table.settle(volumes)
    assert (volumes / "old").is_dir() and not (volumes / "new").exists()
    table.rename("old", "new", lambda record: (volumes / "old").rename(volumes / "new"))
    assert table.recorded()["new"] == table.get("new")
    with pytest.raises(NotFound):
        table.get("old")
