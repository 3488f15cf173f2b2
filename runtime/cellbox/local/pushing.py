"""What a store has to push: how each layer can become a blob, and where else blobs may be.

Layers go out compressed. Without a wish that is gzip, as Docker 20.10 reads no zstd; but what came
in some encoding keeps it, so that an image which is only passed on has the digest it came with.
"""

from __future__ import annotations

from functools import partial

from cellbox.errors import CellboxError
from cellbox.images import encode
from cellbox.images.config import MANIFEST_LIMIT, Manifest, parse_manifest
from cellbox.images.content import ContentStore
from cellbox.images.snapshots import LayerStore
from cellbox.local.state_images import ImageTable
from cellbox.model import reference
from cellbox.model.image import OCI_CONFIG, Descriptor, Image, Layer
from cellbox.model.reference import Reference
from cellbox.registry import sending

USUAL = "gzip"
COMPRESSIONS = ("", "gzip", "zstd")


def outgoing(
    image: Image, images: ImageTable, content: ContentStore, layers: LayerStore, kind: str
) -> sending.Image:
    """The image as it is pushed, its layers compressed as ``kind``, empty for as they came.

    ``content`` and ``layers`` hold what they are asked for, so that it is there to the end.
    """
    for layer in image.layers:
        layers.has(layer.diff_id)
    data, media_type, manifest = _earlier(image, images, content)
    listed: tuple[Descriptor | None, ...] = (None,) * len(image.layers)
    if manifest is not None and len(manifest.layers) == len(listed):
        listed = manifest.layers
    return sending.Image(
        Descriptor(OCI_CONFIG, image.id, content.size(image.id)),
        [
            _layer(layer, before, content, layers, kind)
            for layer, before in zip(image.layers, listed, strict=True)
        ],
        data,
        media_type,
    )


def mounts(name: Reference, images: ImageTable, content: ContentStore) -> dict[str, str]:
    """By digest of a blob, another repository of the same registry that has it."""
    found: dict[str, str] = {}
    for image in images.all():
        for place in map(reference.parse, image.digests):
            if place.domain == name.domain and place.path != name.path:
                manifest = _earlier(image, images, content)[2]
                found |= {blob.digest: place.path for blob in manifest.layers} if manifest else {}
    return found


def _earlier(
    image: Image, images: ImageTable, content: ContentStore
) -> tuple[bytes, str, Manifest | None]:
    """The manifest that the image was last pulled or pushed by, where it is here."""
    known = images.manifest(image.id)
    try:
        if known is not None:
            data = content.read(known.digest, MANIFEST_LIMIT)
            return data, known.media_type, parse_manifest(data, known.media_type)
    except CellboxError:  # it is gone or damaged, and another one is made
        pass
    return b"", "", None


def _layer(
    layer: Layer, before: Descriptor | None, content: ContentStore, layers: LayerStore, kind: str
) -> sending.Outgoing:
    came = layer.blob if layer.blob is not None and content.has(layer.blob.digest) else None
    known = next((one for one in (before, came) if one and _fits(one, layer, kind)), None)
    return sending.Outgoing(
        layer.diff_id, known, partial(_made, layer, known, came, content, layers, kind or USUAL)
    )


def _fits(blob: Descriptor, layer: Layer, kind: str) -> bool:
    if kind:
        return blob.media_type.endswith(kind)
    came = layer.blob is not None and layer.blob.digest == blob.digest
    return blob.media_type.endswith(("gzip", "zstd") if came else USUAL)


def _made(
    layer: Layer,
    known: Descriptor | None,
    came: Descriptor | None,
    content: ContentStore,
    layers: LayerStore,
    kind: str,
) -> Descriptor:
    """The layer as a blob that is here."""
    if known is not None and content.has(known.digest):
        return known
    if came is not None:
        return encode.transcode(content, came, layer.diff_id, kind)
    return encode.encode(layers, content, layer.diff_id, kind)
