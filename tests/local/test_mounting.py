"""What a container has mounted: the request, its image and other containers put together."""

from __future__ import annotations

import io

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local.mounting import _volume, from_other, merged
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.volume import ANONYMOUS_LABEL, VolumeSpec


def volume(target: str, source: str = "", **fields: object) -> MountSpec:
    return MountSpec(MountKind.VOLUME, target, source, **fields)


def test_what_is_asked_for_goes_before_others_and_those_before_the_image():
    tmpfs = MountSpec(MountKind.TMPFS, "/a")
    others = [[volume("/b", "b1"), volume("/c", "c1")], [volume("/c", "c2"), volume("/a", "a2")]]
    found = {one.target: one for one in merged([tmpfs], ["/a", "/b/", "/c", "/d"], others)}
    assert found == {
        "/a": tmpfs,
        "/b": volume("/b", "b1"),
        "/c": volume("/c", "c2"),
        "/d": volume("/d"),
    }


@pytest.mark.parametrize("path", ["/", "/proc", "/sys/x", "relative", "/a/../.."])
def test_an_image_cannot_have_a_volume_anywhere(path):
    with pytest.raises(InvalidArgument):
        merged([], [path])


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("web", ("web", False)),
        ("web:rw", ("web", False)),
        ("web:ro", ("web", True)),
        ("web:ro,z", ("web", True)),
    ],
)
def test_volumes_from_is_a_container_and_a_mode(ref, found):
    assert from_other(ref) == found


@pytest.mark.parametrize("ref", ["", ":ro", "web:odd", "web:ro:rw"])
def test_what_is_no_volumes_from(ref):
    with pytest.raises(InvalidArgument, match="invalid volumes-from"):
        from_other(ref)


def test_a_volume_has_its_name_that_of_before_or_a_new_one():
    named = _volume(volume("/v", "data", labels={"a": "1"}), None, "", {})
    assert named == VolumeSpec("data", labels={"a": "1"})
    kept = _volume(volume("/v"), volume("/v", "f" * 64), "", {})
    assert kept.name == "f" * 64
    made = _volume(volume("/v"), None, "nfs", {})
    assert (len(made.name), made.driver, dict(made.labels)) == (64, "nfs", {ANONYMOUS_LABEL: ""})


def test_one_that_is_there_is_taken_as_it_is():
    there = VolumeSpec("data", "nfs", {"o": "x"})
    assert _volume(volume("/v", "data"), None, "other", {"data": there}) is there
    asked = volume("/v", "data", driver="local", driver_options={"type": "tmpfs"})
    assert _volume(asked, None, "", {"data": there}).driver == "local"  # which will be refused


def test_volumes_of_the_image_can_be_left_out(store, busybox, engine):
    image = engine.images.import_(io.BytesIO(), name="empty", changes=["VOLUME /v"])
    left_out = engine.containers.create(RunSpec("empty", ("x",), image_volumes=False))
    assert (left_out.mounts, engine.volumes.list()) == ((), [])
    (mount,) = engine.containers.create(RunSpec(image.id, ("x",))).mounts
    assert mount.target == "/v"
    for container in engine.containers.list(all=True):
        engine.containers.remove(container.id, volumes=True)
