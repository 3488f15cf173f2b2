"""Layers to blobs."""

from __future__ import annotations

import hashlib
import os

import pytest

from cellbox.errors import IntegrityError, NotFound
from cellbox.images.compression import Input, decompress
from cellbox.images.encode import encode, transcode
from cellbox.images.snapshots import LayerStore
from cellbox.model.image import OCI_LAYER

pytestmark = pytest.mark.root


@pytest.fixture
def ours(layers, tmp_path) -> str:
    """A layer that this engine wrote."""
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "f").write_bytes(os.urandom(100_000) + bytes(2_000_000))
    staged = layers.from_upper(upper)
    layers.commit([staged])
    return staged.facts.diff_id


@pytest.mark.parametrize("kind", ["zstd", "gzip", "none"])
def test_a_blob_that_unpacks_to_the_diff_id(layers, content, ours, kind):
    blob = encode(layers, content, ours, kind)
    assert blob.media_type == OCI_LAYER + {"none": ""}.get(kind, f"+{kind}")
    assert content.size(blob.digest) == blob.size
    with content.open(blob.digest) as file:
        tar = b"".join(decompress(Input(file.read)))
    assert "sha256:" + hashlib.sha256(tar).hexdigest() == ours
    assert encode(layers, content, ours, kind) == blob


def test_a_blob_in_another_compression(layers, content, ours):
    plain = encode(layers, content, ours, "none")
    assert transcode(content, plain, ours, "gzip") == encode(layers, content, ours, "gzip")
    zstd = transcode(content, plain, ours, "zstd")
    assert transcode(content, zstd, ours, "none") == plain
    with pytest.raises(IntegrityError):
        transcode(content, zstd, "sha256:" + "0" * 64, "gzip")


def test_a_layer_of_another_writer_is_not_falsified(layers, content, apply, make_tar, root):
    staged = apply(make_tar(("f", {"data": b"x", "uname": "somebody"})))
    layers.commit([staged])
    with pytest.raises(IntegrityError):
        encode(layers, content, staged.facts.diff_id, "zstd")
    assert list(content.walk()) == []
    assert os.listdir(root / "content/ingest") == []


def test_a_failing_packer(layers, content, ours, root, work):
    def failing(job, args, fds):
        if job == "pack":
            os.write(fds[0], b"some")
            raise OSError(5, "Input/output error")
        return work(job, args, fds)

    with pytest.raises(OSError, match="Input/output"):
        encode(LayerStore(root, failing), content, ours, "zstd")
    assert list(content.walk()) == []


def test_a_layer_that_is_not_there(layers, content):
    with pytest.raises(NotFound):
        encode(layers, content, "sha256:" + "0" * 64, "zstd")
