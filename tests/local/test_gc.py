"""Mark and sweep."""

import os
import shutil
import signal

import pytest

from cellbox.errors import Unavailable
from cellbox.images.content import ContentStore
from cellbox.images.jobs import JOBS
from cellbox.images.snapshots import LayerStore
from cellbox.local import gc
from cellbox.local.gc import Found, Marked, Sweep, plan
from cellbox.local.lease import Hold
from cellbox.model.image import Descriptor
from cellbox.model.volume import VolumeSpec

# --- the plan ------------------------------------------------------------------------------------


def test_what_is_not_marked_goes_in_order():
    found = Found(frozenset("cab"), frozenset("xyz"), frozenset("kl"), frozenset("uvw"))
    marked = Marked(frozenset("b"), frozenset("y"), frozenset("k"), frozenset("v"))
    assert list(plan(found, marked)) == [
        ("layers", "a"),
        ("layers", "c"),
        ("blobs", "x"),
        ("blobs", "z"),
        ("containers", "l"),
        ("volumes", "u"),
        ("volumes", "w"),
    ]


def test_what_is_marked_and_not_there_is_no_matter():
    assert plan(Found(), Marked(layers=frozenset("a"))) == Sweep()


def test_with_an_unknown_image_in_use_no_layer_goes():
    found = Found(layers=frozenset("a"), blobs=frozenset("x"))
    assert list(plan(found, Marked(all_layers=True))) == [("blobs", "x")]


# --- marking -------------------------------------------------------------------------------------


def marked(state):
    with state.read() as connection:
        return gc.mark(state, connection)


def test_an_image_keeps_its_config_manifest_layers_and_their_blobs(state, make_image, digest):
    image = make_image(7, layers=(1, 2))
    state.images.add(image, manifest=Descriptor("manifest", digest(99), 5))

    assert marked(state) == Marked(
        layers=frozenset({digest(1), digest(2)}),
        blobs=frozenset({digest(1001), digest(1002), digest(99), image.id}),
    )


def test_leases_and_containers_keep_what_they_hold(state, make_image, add_container):
    state.images.add(make_image(1))
    container = add_container(state, 1)
    with state.leases.take("pull") as lease:
        lease.hold(Hold.LAYER, "layer")
        lease.hold(Hold.BLOB, "blob")
        lease.hold(Hold.IMAGE, "image")
        found = marked(state)
    assert "layer" in found.layers and {"blob", "image"} <= found.blobs
    assert found.containers == {container.id}
    assert "layer" not in marked(state).layers


def test_a_container_of_a_lost_image_keeps_every_layer(state, make_image, add_container):
    state.images.add(make_image(1))
    add_container(state, 1)
    assert not marked(state).all_layers
    with state.write() as connection:
        connection.execute("DELETE FROM images")
    assert marked(state).all_layers


# --- collecting ----------------------------------------------------------------------------------


class Shelf:
    """Stores in memory; ``meanwhile`` is called when they were looked at."""

    def __init__(self, *layers):
        self.layers = set(layers)
        self.trash = []
        self.cleaned = 0
        self.meanwhile = lambda: None

    def find(self):
        found = Found(layers=frozenset(self.layers))
        self.meanwhile()
        return found

    def discard(self, kind, key):
        assert kind == "layers"
        self.layers.discard(key)
        self.trash.append(key)

    def clean(self):
        self.cleaned += 1


def test_what_nobody_needs_is_removed(state, make_image, digest, tmp_path):
    state.images.add(make_image(7, layers=(1,)))
    shelf = Shelf(digest(1), digest(2))

    assert gc.collect(state, shelf, tmp_path) == Sweep(layers=(digest(2),))
    assert (shelf.layers, shelf.trash, shelf.cleaned) == ({digest(1)}, [digest(2)], 1)
    assert gc.collect(state, shelf, tmp_path) == Sweep()
    assert shelf.cleaned == 2


def test_a_volume_stays_whoever_has_it_and_what_is_none_goes(state, tmp_path):
    def make(record):
        (tmp_path / "volumes" / record.spec.name / "_data").mkdir(parents=True)

    state.volumes.add(VolumeSpec("mine"), make)
    (tmp_path / "volumes/nobodys/_data").mkdir(parents=True)
    with state.read() as connection:
        assert gc.mark(state, connection).volumes == {"mine"}
    (tmp_path / "trash").mkdir()
    stores = gc.DiskStores(tmp_path, ContentStore(tmp_path), LayerStore(tmp_path, _work))
    assert stores.find().volumes == {"mine", "nobodys"}
    assert gc.collect(state, stores, tmp_path).volumes == ("nobodys",)
    assert os.listdir(tmp_path / "volumes") == ["mine"]


def _work(job, args, fds):
    return JOBS[job](args, fds)


def test_what_is_held_after_the_look_stays(state, tmp_path, digest, make_image):
    shelf = Shelf(digest(1), digest(2), digest(3))
    lease = state.leases.take("pull")

    def pull():
        lease.hold(Hold.LAYER, digest(1))
        state.images.add(make_image(7, layers=(2,)))

    shelf.meanwhile = pull
    gc.collect(state, shelf, tmp_path)
    assert shelf.layers == {digest(1), digest(2)}


def test_a_thing_held_between_plan_and_sweep_stays(state, tmp_path, digest, monkeypatch):
    shelf, plans = Shelf(digest(1), digest(2)), []

    def plan_and_hold(*facts):
        plans.append(plan(*facts))
        return plans[-1]

    def sweep(*arguments, real=gc._sweep):
        state.leases.take("pull").hold(Hold.LAYER, digest(1))
        return real(*arguments)

    monkeypatch.setattr(gc, "plan", plan_and_hold)
    monkeypatch.setattr(gc, "_sweep", sweep)
    assert gc.collect(state, shelf, tmp_path).layers == (digest(2),)
    assert plans[0].layers == (digest(1), digest(2))


def test_one_collector_at_a_time(state, tmp_path, monkeypatch):
    monkeypatch.setattr(gc, "LOCK_SECONDS", 0.0)
    inner = Shelf("layer")
    outer = Shelf("layer")

    def collide():
        with pytest.raises(Unavailable, match="another process is collecting"):
            gc.collect(state, inner, tmp_path)

    outer.meanwhile = collide
    gc.collect(state, outer, tmp_path)
    assert (inner.trash, outer.trash) == ([], ["layer"])


def test_the_stores_on_disk(state, make_image, add_container, digest, tmp_path):
    """Layers, blobs and directories of containers that nobody needs end in the trash, and it in a
    job; what is needed stays."""
    jobs = []

    def work(job, arguments, fds):
        jobs.append(job)
        shutil.rmtree(arguments["path"])
        return {}

    content, layers = ContentStore(tmp_path), LayerStore(tmp_path, work)
    kept, gone = (content.put(text) for text in (b"kept", b"gone"))
    state.images.add(make_image(1, layers=(1,)), manifest=Descriptor("manifest", kept, 4))
    container = add_container(state, 1)
    for number in (1, 2):
        (tmp_path / "layers" / "sha256" / f"{number:064x}" / "fs").mkdir(parents=True)
    (tmp_path / "containers" / "stray").mkdir()

    swept = gc.collect(state, gc.DiskStores(tmp_path, content, layers), tmp_path)
    assert swept == Sweep((digest(2),), (gone,), ("stray",))
    assert list(content.walk()) == [kept]
    assert list(layers.walk()) == [digest(1)]
    assert [path.name for path in (tmp_path / "containers").iterdir()] == [container.id]
    assert jobs == ["remove", "remove"] and not list((tmp_path / "trash").iterdir())


def test_an_empty_store_has_nothing_to_collect(state, tmp_path):
    stores = gc.DiskStores(tmp_path, ContentStore(tmp_path), LayerStore(tmp_path, None))
    assert gc.collect(state, stores, tmp_path) == Sweep()
    stores.discard("layers", "sha256:" + "0" * 64)
    stores.discard("blobs", "sha256:" + "0" * 64)


COLLECT = """
import sys
from pathlib import Path
from cellbox.local import gc
from cellbox.local.state import State

class Folder:
    def __init__(self, root): self.root = root
    def find(self): return gc.Found(layers=frozenset(p.name for p in (self.root / "l").iterdir()))
    def discard(self, kind, key): (self.root / "l" / key).rename(self.root / "t" / key)
    def clean(self):
        for path in (self.root / "t").iterdir(): path.unlink()

root = Path(sys.argv[1])
gc.collect(State(root), Folder(root), root)
"""


@pytest.mark.parametrize("fault", ["gc.thing.discarded", "gc.sweep.committed"])
def test_a_collector_that_was_killed_is_followed_by_another(python, tmp_path, fault):
    for folder in ("l", "t"):
        (tmp_path / folder).mkdir()
    for layer in "abc":
        (tmp_path / "l" / layer).touch()

    assert python(COLLECT, tmp_path, fault=f"{fault}:kill").wait() == -signal.SIGKILL
    assert list((tmp_path / "t").iterdir())
    assert python(COLLECT, tmp_path).wait() == 0
    assert not list((tmp_path / "l").iterdir()) and not list((tmp_path / "t").iterdir())
