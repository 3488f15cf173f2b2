"""Damage of every kind: found, mended, and then there is none."""

import json
import os
import shutil
import signal

import pytest

from cellbox.containers.messages import group_name
from cellbox.linux import cgroups
from cellbox.local.engine import LocalEngine
from cellbox.model.container import Limits, RunSpec, Status


@pytest.fixture
def engine(quick_engine):
    return quick_engine


@pytest.fixture
def mend(engine):
    """Look, mend, and look again: ``{(kind, ref): what was done}``, without garbage."""

    def check(left=()):
        found = engine.check()
        assert not [one for one in found if one.repaired]
        assert found == engine.check(), "looking has changed something"
        mended = engine.check(repair=True)
        assert [(one.kind, one.ref) for one in engine.check()] == list(left)
        again = engine.check(repair=True)
        assert [one.kind for one in again if one.repaired] == []
        return {
            (one.kind, one.ref): one.repaired for one in mended if one.detail != "nobody needs it"
        }

    return check


@pytest.fixture
def files(store):
    """The directory of an image's only layer, and what is in it."""
    return lambda image: store / "layers" / image.layers[0].diff_id.replace(":", "/") / "fs"


@pytest.fixture
def pulled(engine, registry):
    """An image that can be pulled again."""
    return engine.images.pull(registry.name)


def usable(engine, image):
    """Can a container be made of it?"""
    id = engine.containers.create(RunSpec(image)).id
    engine.containers.remove(id)
    return engine.images.get(image).tags == (image,)


def spoil(path):
    """Other bytes of the same length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


# Blobs and images -------------------------------------------------------------------------------


def test_in_a_whole_store_there_is_nothing_to_mend(engine, busybox, launcher, mend):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True)).id
    engine.containers.start(id)
    engine.containers.create(RunSpec("busybox", ("true",)))
    assert mend() == {}
    assert engine.containers.get(id).status is Status.RUNNING


def test_what_nobody_needs_is_taken_away_when_asked(engine, busybox, inner):
    stray = inner.content.put(b"stray")
    (inner.root / "containers" / "stray").mkdir(parents=True)
    assert engine.check() == []
    found = {(one.kind, one.ref): one.repaired for one in engine.check(repair=True)}
    assert found == {("blobs", stray): "removed", ("containers", "stray"): "removed"}
    assert engine.check(repair=True) == []
    assert not inner.content.has(stray)


def test_a_damaged_config_costs_the_image_which_can_be_pulled_again(engine, pulled, inner, mend):
    spoil(inner.content.path(pulled.id))
    name = pulled.tags[0]
    assert mend() == {
        ("blob", pulled.id): "removed",
        ("image", name): "removed: pull it again",
    }
    assert engine.images.list() == []
    assert engine.images.pull(name).id == pulled.id
    assert usable(engine, name)


def test_a_lost_config_is_told_without_a_blob(engine, busybox, inner):
    inner.content.delete(busybox.id)
    (damage,) = engine.check()
    assert (damage.kind, damage.ref) == ("image", "busybox:latest")
    assert damage.detail == "its config is lost"
    assert engine.images.list() == [busybox]


def test_an_image_without_a_name_is_told_by_its_id(engine, busybox, inner):
    inner.state.images.untag("busybox")
    inner.content.delete(busybox.id)
    assert [one.ref for one in engine.check()] == [busybox.id]


def test_a_damaged_blob_of_a_layer_costs_nothing_else(engine, busybox, inner, mend):
    blob = busybox.layers[0].blob.digest
    spoil(inner.content.path(blob))
    assert mend() == {("blob", blob): "removed"}
    assert usable(engine, "busybox:latest")


# Layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["more", "less", "longer", "mode", "record", "gone"])
def test_a_damaged_layer_is_unpacked_again(engine, busybox, files, mend, damage):
    fs = files(busybox)
    passwd = fs / "etc" / "passwd"
    match damage:
        case "more":
            (fs / "etc" / "strange").touch()
        case "less":
            passwd.unlink()
        case "longer":
            passwd.write_bytes(b"x" * 1000)
        case "mode":
            passwd.chmod(0o4777)
        case "record":
            (fs.parent / "layer.json").write_text("{")
        case "gone":
            shutil.rmtree(fs)
    assert mend() == {("layer", busybox.layers[0].diff_id): "unpacked again"}
    assert passwd.read_text().startswith("root:x:0:0")
    assert sorted(os.listdir(fs / "etc")) == ["group", "passwd"]
    assert usable(engine, "busybox:latest")


def test_a_layer_damaged_beyond_its_blob_costs_the_image(engine, pulled, files, inner, mend):
    """A pulled layer's blob is kept or not; here it is not whole either."""
    (files(pulled) / "etc" / "passwd").unlink()
    for digest in list(inner.content.walk()):
        if digest != pulled.id:
            inner.content.delete(digest)
    assert mend() == {
        ("layer", pulled.layers[0].diff_id): "removed",
        ("image", pulled.tags[0]): "removed: pull it again",
    }
    assert engine.images.pull(pulled.tags[0]).id == pulled.id
    assert usable(engine, pulled.tags[0])


def test_a_layer_whose_blob_tells_something_else_is_removed(engine, busybox, files, inner, mend):
    """The blob is spoilt after it was looked at: what comes of it is verified once more."""
    (files(busybox) / "etc" / "passwd").unlink()
    blob = inner.content.path(busybox.layers[0].blob.digest)
    spoil(blob)
    found = mend()
    assert found["layer", busybox.layers[0].diff_id] == "removed"
    assert found["image", "busybox:latest"] == "removed: pull it again"


def test_an_image_with_a_lost_layer_is_dropped_and_can_be_pulled_again(engine, pulled, files, mend):
    shutil.rmtree(files(pulled).parent)
    assert engine.check()[0].detail == "1 of its 1 layers are lost"
    assert mend() == {("image", pulled.tags[0]): "removed: pull it again"}
    assert engine.images.pull(pulled.tags[0]).id == pulled.id
    assert usable(engine, pulled.tags[0])


def test_a_layer_in_use_is_left_until_its_container_has_ended(
    engine, busybox, launcher, files, mend
):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True)).id
    engine.containers.start(id)
    (files(busybox) / "etc" / "strange").touch()
    key = ("layer", busybox.layers[0].diff_id)
    assert mend(left=[key]) == {key: ""}
    engine.containers.kill(id)
    engine.containers.wait(id)
    assert mend() == {key: "unpacked again"}


# Containers -------------------------------------------------------------------------------------


@pytest.fixture
def ended(engine, busybox, launcher):
    """A container that has run, and may again."""
    id = engine.containers.create(RunSpec("busybox", ("true",)), name="old").id
    engine.containers.start(id)
    engine.containers.wait(id)
    return engine.containers.get(id)


@pytest.mark.parametrize("damage", ["spoilt", "lost"])
def test_a_containers_files_are_made_again(engine, store, ended, mend, damage):
    bundle = store / "containers" / ended.id / "bundle.json"
    before = json.loads(bundle.read_text())
    if damage == "spoilt":
        bundle.write_text('{"id": ')
    else:
        bundle.unlink()
    assert mend() == {("container", "old"): "made again"}
    assert json.loads(bundle.read_text()) == before
    engine.containers.start(ended.id)
    assert engine.containers.wait(ended.id, timeout=10) == 0


def test_a_lost_writable_layer_is_made_again_empty(engine, store, inner, ended, mend):
    inner.launcher.work("remove", {"path": str(store / "containers" / ended.id / "layer")})
    assert mend() == {("container", "old"): "made again"}
    assert engine.files.diff(ended.id) == []
    engine.containers.start(ended.id)
    assert engine.containers.wait(ended.id, timeout=10) == 0


def test_an_image_that_a_container_needs_is_kept_for_it(engine, inner, ended, mend):
    inner.content.delete(ended.image_id)
    key = ("image", "busybox:latest")
    assert mend(left=[key]) == {key: ""}
    (damage,) = engine.check(repair=True)
    assert damage.detail.startswith("its config is lost; kept: conflict: unable to delete")
    assert engine.containers.get("old") == ended


def test_a_container_whose_image_is_unknown_is_told_and_left(engine, inner, ended, mend):
    with inner.state.write() as connection:
        connection.execute("DELETE FROM images")
    key = ("container", "old")
    assert mend(left=[key]) == {key: ""}
    assert list(inner.layers.walk()), "its layers stay"
    engine.containers.remove("old")
    assert engine.check(repair=True) and not list(inner.layers.walk())


def test_a_removal_that_was_not_finished_is_finished(engine, inner, ended, mend):
    engine.containers.list()
    inner.state.containers.mark_removing(ended.id)
    assert mend() == {("container", "old"): "removed"}
    assert engine.containers.list(all=True) == []
    assert not (inner.root / "containers" / ended.id).exists()


# Control groups ---------------------------------------------------------------------------------


@pytest.fixture
def group(inner, dead):
    """A control group of this store whose shim has died, with a process in it that lives."""
    name = group_name(str(inner.run), dead)
    made = cgroups.create(name, Limits())
    if made is None:
        pytest.skip("needs control groups that this user may change")
    pid = os.fork()
    if not pid:
        signal.pause()
    made.add(pid)
    yield name
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    if left := cgroups.existing(name):
        left.remove()


def test_a_group_whose_shim_has_died_is_removed_with_what_is_in_it(engine, group):
    (damage,) = engine.check()
    assert (damage.kind, damage.ref, damage.repaired) == ("cgroup", group, "")
    assert cgroups.existing(group) is not None
    (damage,) = engine.check(repair=True)
    assert (damage.ref, damage.repaired) == (group, "removed")
    assert cgroups.existing(group) is None and engine.check() == []


def test_groups_of_other_stores_are_left_alone(engine, group, tmp_path):
    other = LocalEngine(tmp_path / "other", tmp_path / "run")
    try:
        assert other.check(repair=True) == []
    finally:
        other.close()
    assert cgroups.existing(group) is not None
