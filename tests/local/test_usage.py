"""What `system df` counts: a shared layer once, and as free what nobody uses."""

from pathlib import Path

import pytest

from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.system import DiskUsage
from cellbox.model.volume import VolumeSpec


@pytest.fixture
def engine(quick_engine):
    return quick_engine


@pytest.fixture
def add(engine, tar_of):
    """``add("a", b"data")``: an image of one file, and so of a size."""
    return lambda name, data, **more: engine.images.import_(
        tar_of(file=data), name=name, changes=["CMD x"], **more
    )


@pytest.fixture
def make(engine, inner):
    """``make("busybox", 1000)``: a container that has written so many bytes."""

    def container(image, size=0, *command):
        id = engine.containers.create(RunSpec(image, command, detach=True)).id
        if size:
            upper = inner.root / "containers" / id / "layer" / inner.snapshotter.upper
            (upper / "written").write_bytes(b"x" * size)
        return id

    return container


def images(engine):
    return engine.disk_usage()[0]


def containers(engine):
    return engine.disk_usage()[1]


def test_an_empty_store(engine):
    assert engine.disk_usage() == [
        DiskUsage("Images", 0, 0, 0, 0),
        DiskUsage("Containers", 0, 0, 0, 0),
        DiskUsage("Local Volumes", 0, 0, 0, 0),
        DiskUsage("Build Cache", 0, 0, 0, 0),
    ]


def test_volumes_count_by_who_has_them(engine, busybox):
    mount = MountSpec(MountKind.VOLUME, "/v", "used", no_copy=True)
    engine.containers.create(RunSpec("busybox", mounts=(mount,)))
    for name, text in (("used", "12345"), ("idle", "123")):
        facts = engine.volumes.create(VolumeSpec(name))
        (Path(facts.mountpoint) / "f").write_text(text)
    assert engine.disk_usage()[2] == DiskUsage("Local Volumes", 2, 1, 8, 3)


def test_a_layer_of_two_images_counts_once(engine, add):
    first, second = add("a", b"x" * 100, message="one"), add("b", b"x" * 100, message="two")
    assert first.id != second.id and first.layers[0].diff_id == second.layers[0].diff_id
    add("c", b"y" * 30)
    assert images(engine) == DiskUsage("Images", 3, 0, 130, 130)


def test_a_name_more_is_no_image_more(engine, add):
    add("a", b"x" * 100)
    engine.images.tag("a", "b")
    assert images(engine) == DiskUsage("Images", 1, 0, 100, 100)


def test_what_a_container_stands_on_is_not_free(engine, add, make):
    add("a", b"x" * 100, message="one")
    add("b", b"x" * 100, message="two")
    add("c", b"y" * 30)
    make("a")
    assert images(engine) == DiskUsage("Images", 3, 1, 100 + 30, 30)
    make("c")
    assert images(engine) == DiskUsage("Images", 3, 2, 130, 0)


def test_the_writable_layers_of_those_that_do_not_run_are_free(engine, busybox, make, launcher):
    make("busybox", 1000)
    running = make("busybox", 500, "sleep", "1000")
    assert containers(engine) == DiskUsage("Containers", 2, 0, 1500, 1500)
    engine.containers.start(running)
    found = containers(engine)
    assert (found.total, found.active, found.reclaimable) == (2, 1, 1000)
    engine.containers.pause(running)
    assert containers(engine).active == 1


def test_a_container_whose_files_are_lost_has_no_size(engine, inner, add, make):
    add("a", b"x")
    id = make("a", 1000)
    inner.launcher.work("remove", {"path": str(inner.root / "containers" / id / "layer")})
    assert containers(engine) == DiskUsage("Containers", 1, 0, 0, 0)
