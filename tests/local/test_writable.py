"""The parts of a container that can be written to, by the snapshotter and the image."""

from __future__ import annotations

import os

import pytest

from cellbox.errors import WrongState
from cellbox.local import writable
from cellbox.model.container import FileChange, MountKind, MountSpec, RunSpec

TMPFS = MountSpec(MountKind.TMPFS, "/data/deep")


@pytest.fixture(params=["overlay", "copying"])
def snapshotter(request, engine, store):
    """Every snapshotter; the store's note says which one it is used with."""
    (store / "snapshotter").write_text(request.param)
    return request.param


@pytest.fixture
def record(snapshotter, engine, busybox):
    made = engine.containers.create(
        RunSpec("busybox", ("touch", "/new"), mounts=(TMPFS,), detach=True), name="web"
    )
    engine.containers.start("web")
    engine.containers.wait("web")
    return engine._containers.record(made.id)


def test_one_part_for_an_image_of_layers(engine, record, snapshotter, busybox):
    (part,) = writable.parts(engine._store, engine._containers, record)
    assert part.target == "/" and os.path.isdir(part.upper)
    assert len(part.lowers) == len(busybox.layers)
    assert part.copied == (snapshotter == "copying")
    assert {"data/deep", "etc/hostname", "proc"} <= set(part.points)


def test_what_was_made_for_mounts_is_no_change(engine, record):
    found = writable.changes(engine._store, engine._containers, record)
    assert found == [FileChange("A", "/new")]
    (part,) = writable.parts(engine._store, engine._containers, record)
    made = writable.made_points(engine._store, part)
    assert {"data", "data/deep", "etc/hostname"} <= set(made)
    assert "proc" not in made  # the image has it


def test_a_commit_has_the_changes_only(engine, record):
    image = engine.images.commit("web", name="more")
    engine.containers.create(RunSpec("more"), name="other")
    other = engine._containers.record("other")
    assert writable.changes(engine._store, engine._containers, other) == []
    assert image.layers[-1].size == 0


def test_the_image_host_has_several_parts(engine):
    engine.containers.create(RunSpec("host", ("true",)), name="web")
    record = engine._containers.record("web")
    parts = list(writable.parts(engine._store, engine._containers, record))
    assert len({part.target for part in parts}) == len(parts) > 1
    assert writable.changes(engine._store, engine._containers, record) == []


def test_one_that_has_just_gone(engine, busybox):
    engine.containers.create(RunSpec("busybox"), name="web")
    record = engine._containers.record("web")
    engine.containers.remove("web")
    with pytest.raises(WrongState, match="Container web has just gone"):
        writable.changes(engine._store, engine._containers, record)
