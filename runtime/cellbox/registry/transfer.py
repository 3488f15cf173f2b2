"""A whole image from its registry: manifest, config, layers.

    name -> (index -> the platform's) manifest -> config -> layers, three at a time

Layers whose diff id is here already are not fetched. Each other layer is hashed, stored and
unpacked in one pass (``download``, ``feed``). Everything is asked for by digest once the name is
resolved, so a tag that moves meanwhile changes nothing. Nothing here makes the image visible:
:func:`pull` returns what it brought, and the caller writes that to its database. A pull that is
interrupted leaves what arrived in the content store's ingest, where the next one goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cellbox import faults
from cellbox.engine import Watch
from cellbox.errors import IntegrityError, InvalidArgument, NotFound, NotSupported
from cellbox.images.config import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    Manifest,
    ParsedConfig,
    host_platform,
    parse_config,
    parse_index,
    parse_manifest,
    select_platform,
)
from cellbox.images.content import ContentStore, Ingest
from cellbox.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    INDEXES,
    OCI_CONFIG,
    OCI_LAYER,
    PLUGIN_CONFIG,
    Descriptor,
    Platform,
    Progress,
)
from cellbox.model.reference import Reference
from cellbox.registry.client import Client, Repository
from cellbox.registry.download import Download, Reporter
from cellbox.registry.feed import Feed
from cellbox.registry.retry import Stop, Stopped
from cellbox.registry.together import PARALLEL, together

Unpack = Callable[[str, str, int], Any]
"""``unpack(diff_id, media_type, fd)``: read the blob from ``fd`` to its end, verify its diff id,
keep the layer, and return facts about it. Called in a thread; the caller closes ``fd``."""

HaveLayer = Callable[[str], bool]
"""Whether the layer of this diff id is here, unpacked and verified."""

_FOREIGN = ("foreign", "nondistributable")
faults.declare(
    pull__manifest__stored="manifest and config of an image are in the content store",
    pull__layer__unpacked="a layer is unpacked; the image is not in the database yet",
)


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    ``resolved`` is what the reference names (an index, or ``manifest`` itself); ``layers`` holds
    (blob, diff id, what ``unpack`` returned), the lowest first, with None for a layer that was
    here. ``status`` is Docker's sentence.
    """

    reference: Reference
    resolved: Descriptor
    manifest: Descriptor
    config: bytes
    config_digest: str
    layers: tuple[tuple[Descriptor, str, Any], ...]
    status: str


def pull(
    reference: Reference,
    *,
    client: Client,
    store: ContentStore,
    unpack: Unpack,
    have_layer: HaveLayer,
    platform: Platform | None = None,
    watch: Watch | None = None,
    parallel: int = PARALLEL,
    current: str = "",
    discard: Callable[[Any], None] | None = None,
    new_stop: Callable[[], Stop] = Stop,
    config_types: Collection[str] = (OCI_CONFIG, DOCKER_CONFIG),
) -> Pulled:
    """Bring an image's manifest, config and layers here, from the first server that can give them.

    ``discard`` gets whatever ``unpack`` returned and is not in the result, so that nothing stays
    behind when a pull fails or a layer had to be unpacked twice. ``platform`` is this machine's by
    default. ``current`` is the digest of the config that the name stands for now, for the status.
    What has a config of another type than ``config_types`` is not brought.
    Raises NotFound, Unauthorized, Unavailable, IntegrityError, InvalidArgument (a malformed
    document), NotSupported (another platform, a foreign layer).
    """
    wanted = platform or host_platform()

    def attempt(source: Repository) -> Pulled:
        made = _Made(unpack, discard or _ignore)
        stop, told = new_stop(), watch or _ignore
        task = _Pull(source, client, store, made, have_layer, wanted, told, stop, config_types)
        with made:
            return task.run(parallel, current)

    return client.first(reference, attempt)


def _ignore(_: Any) -> None:
    pass


class _Made:
    """What the unpacker has made in one pull; what is not kept at its end is discarded."""

    def __init__(self, unpack: Unpack, discard: Callable[[Any], None]) -> None:
        self._unpack = unpack
        self._discard = discard
        self._lock = threading.Lock()
        self._loose: list[Any] | None = []

    def __call__(self, diff_id: str, media_type: str, fd: int) -> Any:
        facts = self._unpack(diff_id, media_type, fd)
        with self._lock:
            if self._loose is not None:
                self._loose.append(facts)
                return facts
        self._discard(facts)  # a thread that ended after the pull was called off
        raise Stopped

    def keep(self, kept: Iterable[Any]) -> None:
        """These are in the result."""
        names = {id(facts) for facts in kept}
        with self._lock:
            self._loose = [facts for facts in self._loose or () if id(facts) not in names]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        with self._lock:
            loose, self._loose = self._loose, None
        for facts in loose or ():
            self._discard(facts)


@dataclass
class _Pull:
    """One pull from one server."""

    source: Repository
    client: Client
    store: ContentStore
    unpack: _Made
    have_layer: HaveLayer
    wanted: Platform
    watch: Watch
    stop: Stop
    config_types: Collection[str]

    def run(self, parallel: int, current: str) -> Pulled:
        reference = self.source.reference
        resolved = self.source.resolve()
        self.watch(Progress(reference.identifier, f"Pulling from {reference.path}"))
        descriptor, manifest = self._manifest(resolved)
        config = self._config(manifest.config)
        faults.point("pull.manifest.stored")
        diff_ids = self._check(manifest, parse_config(config))
        facts = self._layers(dict(zip(diff_ids, manifest.layers, strict=True)), parallel)
        digest = manifest.config.digest
        status = "Image is up to date" if digest == current else "Downloaded newer image"
        status = f"{status} for {reference.familiar}"
        self.unpack.keep(facts.values())
        self.watch(Progress("", f"Digest: {resolved.digest}"))
        self.watch(Progress("", f"Status: {status}"))
        layers = zip(manifest.layers, diff_ids, strict=True)
        brought = tuple((blob, diff_id, facts[diff_id]) for blob, diff_id in layers)
        return Pulled(reference, resolved, descriptor, config, digest, brought, status)

    def _manifest(self, resolved: Descriptor) -> tuple[Descriptor, Manifest]:
        descriptor = resolved
        if resolved.media_type in INDEXES:
            listed = parse_index(self._document(resolved), resolved.media_type)
            descriptor = select_platform(listed, self.wanted)
        return descriptor, parse_manifest(self._document(descriptor), descriptor.media_type)

    def _document(self, descriptor: Descriptor) -> bytes:
        """A manifest or index by its descriptor, from here if it is here."""
        if descriptor.size > MANIFEST_LIMIT:
            raise InvalidArgument(f"a manifest of {descriptor.size} bytes is too large")
        try:
            return self.store.read(descriptor.digest, MANIFEST_LIMIT)
        except (NotFound, IntegrityError):
            pass
        fetched = self.source.manifest(descriptor.digest)
        if fetched.descriptor.size != descriptor.size:
            expected, got = str(descriptor.size), str(fetched.descriptor.size)
            raise IntegrityError(f"the size of manifest {descriptor.digest}", expected, got)
        self.store.put(fetched.data)
        return fetched.data

    def _config(self, descriptor: Descriptor) -> bytes:
        if descriptor.media_type not in self.config_types:
            kind = descriptor.media_type[:100] or "unknown"
            name = self.source.reference.familiar
            wanted = "a plugin" if PLUGIN_CONFIG in self.config_types else "a container image"
            raise NotSupported(f"{name} is not {wanted}: its config is {kind!r}")
        if descriptor.size > CONFIG_LIMIT:
            raise InvalidArgument(f"an image config of {descriptor.size} bytes is too large")
        try:
            return self.store.read(descriptor.digest, CONFIG_LIMIT)
        except NotFound:
            pass
        except IntegrityError:
            self.store.delete(descriptor.digest)
        silent = Reporter(_ignore, "", descriptor.size)
        with self.store.ingest(descriptor.digest, descriptor.size) as ingest:
            self._download(descriptor, ingest, silent).run()
        return self.store.read(descriptor.digest, CONFIG_LIMIT)

    def _check(self, manifest: Manifest, config: ParsedConfig) -> tuple[str, ...]:
        """The diff ids, if this engine can run the image."""
        name, has, wanted = self.source.reference.familiar, config.platform, self.wanted
        if (has.os, has.architecture) != (wanted.os, wanted.architecture):
            raise NotSupported(f"{name} is for {has} only, and {wanted} is wanted")
        if len(manifest.layers) != len(config.diff_ids):
            raise InvalidArgument(
                f"{name} has {len(manifest.layers)} layers and {len(config.diff_ids)} diff ids"
            )
        for layer in manifest.layers:
            _check_layer(layer.media_type)
        return config.diff_ids

    def _layers(self, blobs: dict[str, Descriptor], parallel: int) -> dict[str, Any]:
        """What ``unpack`` returned, by diff id; the first failure ends all."""
        for descriptor in blobs.values():
            self._reporter(descriptor).say("Pulling fs layer")
        jobs = {
            diff_id: partial(self._layer, descriptor, diff_id)
            for diff_id, descriptor in blobs.items()
        }
        return together(jobs, self.stop, parallel, "pull")

    def _layer(self, descriptor: Descriptor, diff_id: str) -> Any:
        report = self._reporter(descriptor)
        if self.have_layer(diff_id):
            report.say("Already exists")
            return None
        unpack = partial(self.unpack, diff_id, descriptor.media_type)
        facts = self._kept(descriptor, unpack, report)
        facts = facts or self._fetched(descriptor, diff_id, unpack, report)
        faults.point("pull.layer.unpacked")
        report.say("Pull complete")
        return facts[0]

    def _kept(
        self, descriptor: Descriptor, unpack: Callable[[int], Any], report: Reporter
    ) -> tuple[Any] | None:
        """Unpack a blob that is here; None where there is none, or it is damaged."""
        try:
            with self.store.open(descriptor.digest) as file:
                report.say("Extracting", descriptor.size, descriptor.size)
                return (unpack(file.fileno()),)
        except NotFound:
            return None
        except (IntegrityError, InvalidArgument):
            if self.store.verify(descriptor.digest):
                raise
            self.store.delete(descriptor.digest)
            return None

    def _fetched(
        self,
        descriptor: Descriptor,
        diff_id: str,
        unpack: Callable[[int], Any],
        report: Reporter,
    ) -> tuple[Any]:
        waiting = self.stop.check
        with (
            self.store.ingest(descriptor.digest, descriptor.size, waiting=waiting) as ingest,
            Feed(unpack, self.stop) as feed,
        ):
            if not ingest.done:
                self._download(descriptor, ingest, report, feed).run()
                report.say("Download complete")
                report.say("Extracting", descriptor.size, descriptor.size)
                return (feed.finish(),)
        # somebody else had it while we waited
        if self.have_layer(diff_id):
            return (None,)
        kept = self._kept(descriptor, unpack, report)
        return kept or self._fetched(descriptor, diff_id, unpack, report)

    def _download(
        self,
        descriptor: Descriptor,
        ingest: Ingest,
        report: Reporter,
        feed: Feed | None = None,
    ) -> Download:
        policy = self.client.policy
        return Download(self.source.blob, descriptor, ingest, report, self.stop, policy, feed)

    def _reporter(self, descriptor: Descriptor) -> Reporter:
        return Reporter(self.watch, descriptor.digest.partition(":")[2][:12], descriptor.size)


def _check_layer(media_type: str) -> None:
    if any(word in media_type for word in _FOREIGN):
        raise NotSupported(
            f"this image has a foreign layer ({media_type}), which its registry does not hold;"
            " such layers are not fetched from elsewhere"
        )
    if not media_type.startswith((OCI_LAYER, DOCKER_LAYER)):
        raise NotSupported(f"a layer of type {media_type[:100]!r} is not known here")
