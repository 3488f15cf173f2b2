"""A layer's directory to a blob: what push and save do to layers that are kept unpacked.

A layer that came from elsewhere was written by another tar writer, and ours would give other bytes
for the same files: then its identity would be lost, so it is refused. Such layers keep their blob.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cellbox.errors import IntegrityError
from cellbox.images.compression import Compressor, Input, decompress
from cellbox.images.content import CHUNK, ContentStore
from cellbox.images.snapshots import LayerStore
from cellbox.model.image import OCI_LAYER, Descriptor


def encode(layers: LayerStore, content: ContentStore, diff_id: str, kind: str) -> Descriptor:
    """Pack the layer and keep it as a blob, compressed as ``kind``: ``zstd``, ``gzip``, ``none``.

    Raises NotFound, OSError, and IntegrityError when the tar is not the one that has ``diff_id``.
    """
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool, open(reader, "rb", buffering=0) as source:
        packing = pool.submit(_pack, layers, diff_id, writer)
        try:
            with content.writer() as blob:
                compressor = Compressor(kind)
                got = _compress(iter(partial(source.read, CHUNK), b""), compressor, blob.write)
                packing.result()
                if got != diff_id:
                    raise IntegrityError("the packed layer", diff_id, got)
                digest, size = blob.commit()
        finally:
            source.close()  # a packing that is still on its way ends
    return Descriptor(OCI_LAYER + compressor.media_suffix, digest, size)


def transcode(content: ContentStore, blob: Descriptor, diff_id: str, kind: str) -> Descriptor:
    """Keep a layer's blob in another compression as well. Raises as :func:`encode`."""
    compressor = Compressor(kind)
    with content.open(blob.digest) as file, content.writer() as made:
        got = _compress(decompress(Input(file.read)), compressor, made.write)
        if got != diff_id:
            raise IntegrityError("the layer's blob", diff_id, got)
        digest, size = made.commit()
    return Descriptor(OCI_LAYER + compressor.media_suffix, digest, size)


def _pack(layers: LayerStore, diff_id: str, writer: int) -> None:
    try:
        layers.pack(diff_id, writer)
    finally:
        os.close(writer)


def _compress(
    blocks: Iterable[bytes | None], compressor: Compressor, write: Callable[[bytes], int]
) -> str:
    hasher = hashlib.sha256()
    for block in filter(None, blocks):
        hasher.update(block)
        write(compressor.feed(block))
    write(compressor.finish())
    return "sha256:" + hasher.hexdigest()
