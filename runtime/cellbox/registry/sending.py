"""A whole image to its registry: layers, config, manifest.

What the registry has already is not sent, nor even made: a layer may have been encoded for an
earlier push, and is encoded again only where the registry has not got that blob. A blob that
another repository of the same registry has is mounted from there. The manifest comes last, so that
the name never stands for half an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, TypeVar

from cellbox import faults
from cellbox.engine import Watch
from cellbox.images.config import Manifest, write_manifest
from cellbox.images.content import ContentStore, digest_of
from cellbox.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Progress,
)
from cellbox.model.reference import Reference
from cellbox.registry.client import Client
from cellbox.registry.download import Reporter
from cellbox.registry.retry import Stop, persist
from cellbox.registry.target import Target
from cellbox.registry.together import PARALLEL, together
from cellbox.registry.upload import Upload

T = TypeVar("T")

faults.declare(push__layers__sent="layers and config are at the registry, the manifest is not")


@dataclass(frozen=True)
class Outgoing:
    """A layer to be pushed: its ``diff_id``, the blob that it was ``known`` by so far, if any, and
    what makes a blob of it in the content store (``make``), maybe that one."""

    diff_id: str
    known: Descriptor | None
    make: Callable[[], Descriptor]


@dataclass(frozen=True)
class Image:
    """What is pushed: a config in the content store, layers from the lowest, and the bytes of the
    ``manifest`` of an earlier pull or push with its media type, empty for none."""

    config: Descriptor
    layers: Sequence[Outgoing]
    manifest: bytes = b""
    media_type: str = ""


def push(
    reference: Reference,
    image: Image,
    *,
    client: Client,
    store: ContentStore,
    mounts: Mapping[str, str] | None = None,
    watch: Watch | None = None,
    parallel: int = PARALLEL,
    new_stop: Callable[[], Stop] = Stop,
) -> tuple[Descriptor, bytes]:
    """Send the image to its registry, and let ``reference`` name it there; its manifest.

    ``mounts`` says which repository of the registry has a blob, by digest. A manifest of earlier
    stays what it is as long as its blobs are the same ones. Raises Unauthorized, Unavailable,
    NotSupported (a registry that takes none).
    """
    told = watch or _ignore
    told(Progress("", f"The push refers to repository [{reference.domain}/{reference.path}]"))
    target = Target(client, reference)
    task = _Push(target, client, store, mounts or {}, told, new_stop())
    layers = task.layers(image.layers, parallel)
    task.blob(image.config, Reporter(_ignore, "", image.config.size))
    faults.point("push.layers.sent")
    media_type, data = _manifest(image, layers)
    target.put_manifest(media_type, data)
    descriptor = Descriptor(media_type, digest_of(data), len(data))
    tag = reference.identifier
    told(Progress("", f"{tag}: digest: {descriptor.digest} size: {descriptor.size}"))
    return descriptor, data


def _ignore(_: Progress) -> None:
    pass


@dataclass
class _Push:
    """One push to one repository."""

    target: Target
    client: Client
    store: ContentStore
    mounts: Mapping[str, str]
    watch: Watch
    stop: Stop

    def layers(self, layers: Sequence[Outgoing], parallel: int) -> list[Descriptor]:
        """Have all layers in the repository; their blobs in order."""
        wanted = {layer.diff_id: layer for layer in layers}
        for number, layer in enumerate(wanted.values()):
            report = self._reporter(layer)
            report.say("Preparing")
            if number >= parallel:
                report.say("Waiting")
        jobs = {diff_id: partial(self._layer, layer) for diff_id, layer in wanted.items()}
        sent = together(jobs, self.stop, parallel, "push")
        return [sent[layer.diff_id] for layer in layers]

    def _layer(self, layer: Outgoing) -> Descriptor:
        report = self._reporter(layer)
        if layer.known is not None and self._is_there(layer.known.digest, report):
            return layer.known
        blob = layer.make()
        report.total = blob.size
        if layer.known is None or blob.digest != layer.known.digest:
            if self._is_there(blob.digest, report):
                return blob
        self._send(blob, report)
        return blob

    def blob(self, blob: Descriptor, report: Reporter) -> None:
        """Have one blob in the repository."""
        if not self._is_there(blob.digest, report):
            self._send(blob, report)

    def _is_there(self, digest: str, report: Reporter) -> bool:
        there = self._persist(lambda: self.target.has(digest))
        if there:
            report.say("Layer already exists")
        return there

    def _send(self, blob: Descriptor, report: Reporter) -> None:
        place = ""
        if source := self.mounts.get(blob.digest, ""):
            place = self._persist(lambda: self.target.mount(blob.digest, source))
            if not place:
                report.say(f"Mounted from {source}")
                return
        opened: Callable[[], BinaryIO] = partial(self.store.open, blob.digest)
        policy = self.client.policy
        Upload(self.target, blob, opened, report, self.stop, policy, place).run()
        report.say("Pushed")

    def _persist(self, call: Callable[[], T]) -> T:
        return persist(self.client.policy, call, self.stop.wait)

    def _reporter(self, layer: Outgoing) -> Reporter:
        size = layer.known.size if layer.known else 0
        return Reporter(self.watch, layer.diff_id.partition(":")[2][:12], size)


def _manifest(image: Image, layers: Sequence[Descriptor]) -> tuple[str, bytes]:
    """The manifest of these layers: the one of earlier if it is of the same, otherwise Docker's,
    which everybody reads, or OCI's where a layer is compressed by zstd, which Docker's cannot say.
    """
    if image.manifest and [one.digest for one in layers] == _known(image):
        return image.media_type, image.manifest
    zstd = any(layer.media_type.endswith("zstd") for layer in layers)
    base, config = (OCI_LAYER, OCI_CONFIG) if zstd else (DOCKER_LAYER, DOCKER_CONFIG)
    named = tuple(replace(one, media_type=_typed(one.media_type, base)) for one in layers)
    manifest = Manifest(replace(image.config, media_type=config), named)
    media_type = OCI_MANIFEST if zstd else DOCKER_MANIFEST
    return media_type, write_manifest(manifest, media_type)


def _known(image: Image) -> list[str]:
    return [layer.known.digest if layer.known else "" for layer in image.layers]


def _typed(media_type: str, base: str) -> str:
    """The media type of the same compression in the other vocabulary."""
    for kind in ("gzip", "zstd"):
        if media_type.endswith(kind):
            return f"{base}{'+' if base == OCI_LAYER else '.'}{kind}"
    return base
