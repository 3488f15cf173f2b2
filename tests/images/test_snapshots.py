"""The layer store: complete or absent, whoever dies and whoever else is there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from cellbox.errors import IntegrityError, InvalidArgument, NotFound, NotSupported
from cellbox.images.snapshots import LayerStore
from cellbox.model.image import OCI_LAYER

pytestmark = pytest.mark.root


@pytest.fixture
def data(make_tar) -> bytes:
    return make_tar(("d/f", b"12345"), (".wh.gone", b""))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_layer_is_seen_only_after_its_commit(layers, apply, data):
    staged = apply(data, digest(data))
    assert not layers.has(digest(data))
    with pytest.raises(NotFound):
        layers.path(digest(data))
    layers.commit([staged])
    assert layers.has(digest(data))
    assert (layers.path(digest(data)) / "d/f").read_bytes() == b"12345"
    facts = layers.facts(digest(data))
    assert (facts.size, facts.entries, facts.diff_id) == (5, 3, digest(data))
    assert facts.created > 0
    assert layers.size(digest(data)) == 5
    assert list(layers.walk()) == [digest(data)]
    assert layers.verify(digest(data))


def test_nothing_is_left_behind(layers, apply, data, root):
    layers.commit([apply(data)])
    assert layers.remove(digest(data)) is True
    assert layers.remove(digest(data)) is False
    assert list(layers.walk()) == []
    assert os.listdir(root / "trash") == os.listdir(root / "layers/staging") == []


@pytest.mark.parametrize("bad", [b"garbage" * 1000, b"x"])
def test_a_bad_layer_leaves_nothing(layers, apply, root, bad):
    with pytest.raises(InvalidArgument):
        apply(bad)
    assert os.listdir(root / "trash") == os.listdir(root / "layers/staging") == []


def test_a_wrong_diff_id(layers, apply, data, root):
    with pytest.raises(IntegrityError):
        apply(data, digest(b"other"))
    assert os.listdir(root / "layers/staging") == []


def test_media_types_and_digests_are_looked_at_first(layers, stream):
    with pytest.raises(NotSupported):
        layers.apply("", "application/octet-stream", stream(b""))
    with pytest.raises(InvalidArgument):
        layers.apply("sha256:../..", OCI_LAYER, stream(b""))
    with pytest.raises(InvalidArgument):
        layers.remove("../../etc")


def test_two_at_once(layers, apply, data, root):
    first, second = apply(data), apply(data)
    layers.commit([first])
    layers.commit([second])
    assert list(layers.walk()) == [digest(data)]
    assert os.listdir(root / "layers/staging") == []


def test_the_same_layer_twice_in_one_image(layers, apply, data, root):
    layers.commit([apply(data), apply(data)])
    assert list(layers.walk()) == [digest(data)]
    assert os.listdir(root / "layers/staging") == []


def test_discarding(layers, apply, data, root):
    staged = apply(data)
    layers.discard([staged])
    layers.discard([staged])
    assert os.listdir(root / "layers/staging") == []


def test_cleaning_spares_the_living(layers, apply, data, root, work):
    staged = apply(data)
    assert LayerStore(root, work).clean() == 0
    staged.unlock()  # as its process's death would
    assert layers.clean() == 1
    assert os.listdir(root / "layers/staging") == []


def test_cleaning_empties_the_trash(layers, root):
    (root / "trash/old/deep").mkdir(parents=True)
    assert layers.clean() == 1
    assert os.listdir(root / "trash") == []


def test_a_part_of_a_file(layers, stream, data):
    fd = stream(b"before" + data + b"after")
    staged = layers.apply(digest(data), OCI_LAYER, fd, (6, len(data)))
    layers.discard([staged])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "d/f").write_bytes(b"1234"),
        lambda path: (path / "d/f").unlink(),
        lambda path: (path / "new").write_bytes(b""),
        lambda path: (path.parent / "layer.json").write_text("{"),
        lambda path: (path.parent / "layer.json").write_text("[]"),
        lambda path: (path / "d/f").unlink() or (path / "d").rmdir() or (path / "d").touch(),
    ],
)
def test_damage_is_noticed(layers, apply, data, damage):
    layers.commit([apply(data)])
    damage(layers.path(digest(data)))
    assert layers.verify(digest(data)) is False


def test_a_layer_without_its_record_is_replaced(layers, apply, data):
    layers.commit([apply(data)])
    (layers.path(digest(data)).parent / "layer.json").unlink()
    assert not layers.has(digest(data))
    layers.commit([apply(data)])
    assert layers.verify(digest(data))


def test_a_record_of_a_newer_engine_can_be_read(layers, apply, data):
    layers.commit([apply(data)])
    record = layers.path(digest(data)).parent / "layer.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"colour": "red"}))
    assert layers.facts(digest(data)).size == 5


class TestFromUpper:
    def test_a_writable_directory_becomes_a_layer(self, layers, tmp_path, root):
        upper = tmp_path / "upper"
        (upper / "etc").mkdir(parents=True)
        (upper / "etc/new").write_bytes(b"1")
        (upper / "etc/hosts").write_bytes(b"")
        os.mknod(upper / "gone", 0o020000, 0)
        staged = layers.from_upper(upper, exclude=["etc/hosts"], latest=1000)
        layers.commit([staged])
        path = layers.path(staged.facts.diff_id)
        assert (path / "etc/new").read_bytes() == b"1"
        assert (path / "etc/new").stat().st_mtime == 1000
        assert not (path / "etc/hosts").exists()
        assert (path / "gone").lstat().st_rdev == 0
        assert os.listdir(root / "layers/staging") == []

    def test_its_tar_has_its_diff_id(self, layers, tmp_path):
        upper = tmp_path / "upper"
        upper.mkdir()
        (upper / "f").write_bytes(os.urandom(3_000_000))
        staged = layers.from_upper(upper)
        layers.commit([staged])
        out = os.memfd_create("out")
        layers.pack(staged.facts.diff_id, out)
        size = os.lseek(out, 0, os.SEEK_END)
        assert digest(os.pread(out, size, 0)) == staged.facts.diff_id
        os.close(out)

    def test_a_failure_of_either_side_is_told_and_leaves_nothing(
        self, root, tmp_path, work, layers
    ):
        upper = tmp_path / "upper"
        upper.mkdir()
        (upper / "f").write_bytes(os.urandom(3_000_000))

        def failing(name):
            def do(job, args, fds):
                if job == name:
                    raise OSError(28, "No space left on device")
                return work(job, args, fds)

            return do

        for job in ("apply", "pack"):
            with pytest.raises(OSError, match="No space"):
                LayerStore(root, failing(job)).from_upper(upper)
            assert os.listdir(root / "layers/staging") == []
        with pytest.raises(FileNotFoundError):
            layers.from_upper(tmp_path / "absent")
        assert os.listdir(root / "layers/staging") == []


CRASHES = ["layers.layer.staged", "layers.layer.synced", "layers.layer.renamed"]


@pytest.mark.parametrize("point", CRASHES)
def test_a_death_at_any_step_leaves_a_whole_layer_or_none(
    layers, apply, data, root, monkeypatch, point
):
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr("cellbox.faults._name", point)
        monkeypatch.setattr("cellbox.faults._action", "kill")
        layers.commit([apply(data)])
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert layers.has(digest(data)) is (point == CRASHES[-1])
    if layers.has(digest(data)):
        assert layers.verify(digest(data))
    layers.clean()
    assert os.listdir(root / "layers/staging") == []
    layers.commit([apply(data)])
    assert layers.verify(digest(data))


def test_the_store_is_private(root, layers, content):
    assert Path(root / "layers").stat().st_mode & 0o077 == 0
    assert Path(root / "content/blobs").stat().st_mode & 0o077 == 0


def test_a_layer_that_deletes_everything_below_it(layers, apply, make_tar):
    below = apply(make_tar(("a", b"1")))
    empty = apply(make_tar((".wh..wh..opq", b""), ("b", b"2")))
    above = apply(make_tar(("c", b"3")))
    ids = [item.facts.diff_id for item in (below, empty, above)]
    layers.commit([below, empty, above])
    assert layers.paths(ids) == [layers.path(id) for id in ids[1:]]
    assert layers.paths(ids[:1]) == [layers.path(ids[0])]
    assert layers.paths([]) == []
    with pytest.raises(NotFound):
        layers.paths([*ids, digest(b"absent")])
    staged = layers.from_upper(layers.path(ids[1]))  # the mark survives packing
    assert staged.facts.opaque
    layers.discard([staged])
