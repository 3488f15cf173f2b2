"""What a verb looks for is held before it looks; a collector in another thread tries all along."""

import contextlib
import hashlib
import io
import tarfile
import threading

import pytest

from cellbox import faults
from cellbox.errors import IntegrityError, InvalidArgument, NotFound
from cellbox.images.content import ContentStore
from cellbox.images.jobs import JOBS
from cellbox.images.snapshots import LayerStore
from cellbox.local import gc
from cellbox.local.lease import Hold, Lease
from cellbox.local.leased import LeasedContent, LeasedLayers
from cellbox.model.image import OCI_LAYER


def work(job, arguments, fds):
    return JOBS[job](arguments, fds)


@pytest.fixture
def collect(state, tmp_path):
    """Collect garbage as another engine would, in a thread of its own; what was taken away."""

    def once():
        stores = gc.DiskStores(tmp_path, ContentStore(tmp_path), LayerStore(tmp_path, work))
        swept = []
        thread = threading.Thread(
            target=lambda: swept.append(gc.collect(state, stores, tmp_path)), daemon=True
        )
        thread.start()
        thread.join(20)
        return swept[0]

    return once


@pytest.fixture
def lease(state):
    with state.leases.take("load") as lease:
        yield lease


@pytest.fixture
def content(tmp_path, lease):
    return LeasedContent(tmp_path, lease)


@pytest.fixture
def layers(tmp_path, lease):
    return LeasedLayers(tmp_path, work, lease)


@pytest.fixture
def layer():
    """A layer with one file: its tar and its diff id."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    return out.getvalue(), "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()


@pytest.fixture
def stage(tmp_path, layer):
    """Unpack the layer into a store; it is not visible yet."""

    def apply(layers, diff_id=""):
        (tmp_path / "layer.tar").write_bytes(layer[0])
        with (tmp_path / "layer.tar").open("rb") as file:
            return layers.apply(diff_id, OCI_LAYER, file.fileno())

    return apply


@pytest.fixture
def at_point(monkeypatch):
    """``at_point("content.blob.renamed", do)``: do something when that point is reached."""
    return lambda wanted, do: monkeypatch.setattr(
        faults, "point", lambda name: do() if name == wanted else None
    )


@pytest.fixture
def before_holding(monkeypatch):
    """``before_holding(do)``: do something when something is about to be held."""
    hold = Lease.hold

    def slow(do):
        monkeypatch.setattr(Lease, "hold", lambda self, *what: (do(), hold(self, *what)))

    return slow


# Blobs ------------------------------------------------------------------------------------------


def test_a_blob_stays_from_the_look_to_the_end_of_the_lease(content, collect, lease):
    digest = content.put(b"config")
    assert collect() == gc.Sweep()
    assert content.has(digest)
    lease.release()
    assert collect().blobs == (digest,)


def test_a_blob_that_was_there_before_stays_too(tmp_path, content, collect):
    digest = ContentStore(tmp_path).put(b"config")
    other = ContentStore(tmp_path).put(b"other")
    assert content.has(digest)
    assert collect().blobs == (other,)


@pytest.mark.parametrize("look", ["has", "size", "open", "read", "verify", "delete", "ingest"])
def test_every_way_to_look_for_a_blob_holds_it(state, content, look):
    digest = "sha256:" + "0" * 64
    arguments = {"read": (9,), "ingest": (9,)}.get(look, ())
    with contextlib.suppress(NotFound):
        made = getattr(content, look)(digest, *arguments)
        if look == "ingest":
            with made:
                pass
    assert state.leases.held(Hold.BLOB) == {digest}


def test_a_blob_that_is_named_at_its_end_is_held_before_it_is_named(content, collect, at_point):
    swept = []
    at_point("content.blob.renamed", lambda: swept.append(collect()))
    with content.writer() as writer:
        writer.write(b"layer")
        digest, _ = writer.commit()
    assert swept == [gc.Sweep()] and content.has(digest)


def test_a_blob_that_goes_before_it_is_held_is_not_found(
    tmp_path, content, collect, before_holding
):
    digest = ContentStore(tmp_path).put(b"config")
    before_holding(collect)
    assert not content.has(digest)


def test_a_blob_is_held_once(content, before_holding):
    held = []
    before_holding(lambda: held.append(1))
    digest = content.put(b"config")
    assert content.read(digest, 9) == b"config" and content.size(digest) == 6
    assert held == [1]


def test_what_is_no_digest_is_not_held(state, content):
    with pytest.raises(InvalidArgument, match="not a digest"):
        content.has("../../etc/passwd")
    assert state.leases.held(Hold.BLOB) == frozenset()


# Layers -----------------------------------------------------------------------------------------


def test_a_layer_stays_between_the_look_and_the_commit(layers, layer, stage, collect, lease):
    _, diff_id = layer
    assert not layers.has(diff_id)
    staged = stage(layers, diff_id)
    assert collect() == gc.Sweep()  # and it leaves alone what is being made
    layers.commit([staged])
    assert collect() == gc.Sweep()
    assert layers.has(diff_id)
    lease.release()
    assert collect().layers == (diff_id,)


def test_a_layer_that_was_there_before_stays_too(tmp_path, layers, layer, stage, collect):
    before = LayerStore(tmp_path, work)
    before.commit([stage(before)])
    assert layers.has(layer[1])
    assert collect() == gc.Sweep()
    assert (layers.path(layer[1]) / "file").exists()


def test_the_layers_of_an_image_that_was_looked_for_stay(tmp_path, layers, layer, stage, collect):
    there = LayerStore(tmp_path, work)
    there.commit([stage(there)])
    (path,) = layers.paths([layer[1]])
    collect()
    assert (path / "file").exists()


def test_a_layer_is_held_before_it_is_named(layers, layer, stage, collect, at_point):
    swept = []
    at_point("layers.layer.renamed", lambda: swept.append(collect()))
    layers.commit([stage(layers)])
    assert swept == [gc.Sweep()] and layers.has(layer[1])


def test_a_layer_that_goes_before_it_is_held_is_not_found(
    tmp_path, layers, layer, stage, collect, before_holding
):
    before = LayerStore(tmp_path, work)
    before.commit([stage(before)])
    before_holding(collect)
    assert not layers.has(layer[1])


def test_a_layer_that_is_another_one_leaves_nothing(tmp_path, layers, stage, collect):
    with pytest.raises(IntegrityError):
        stage(layers, "sha256:" + "0" * 64)
    assert collect() == gc.Sweep()
    assert not list((tmp_path / "layers" / "staging").iterdir())
    assert not list((tmp_path / "trash").iterdir())
