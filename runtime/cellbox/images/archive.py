"""``save`` and ``load``: images as one tar, in the two forms that are about.

What is written is both at once, as Docker 25 does it: an OCI image layout (image-layout.md:
``oci-layout``, ``index.json``, ``blobs/``) and, over the same blobs, Docker's ``manifest.json`` and
``repositories``. So docker, podman and skopeo can each read it. The bytes depend on the images
alone.

What is read may be either form, from anybody. The outer archive is never unpacked: it is indexed
(name to offset and length), links are resolved inside the index only, and names lead nowhere else.
Digests are verified for all that is named by one, and each layer by its diff id.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from cellbox.errors import IntegrityError, InvalidArgument
from cellbox.images import config as documents
from cellbox.images import tar, tarwrite
from cellbox.images.compression import Input, decompress
from cellbox.images.content import CHUNK, ContentStore, check_digest, digest_of
from cellbox.images.extract import clean
from cellbox.images.snapshots import LayerStore, Staged
from cellbox.model.image import (
    DOCKER_LAYER,
    INDEXES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    Progress,
)

MAX_MEMBERS = 100_000
MAX_IMAGES = 1000
_LINK_DEPTH = 16
_INDEX_DEPTH = 3
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Saved:
    """One image to be saved: the bytes of its config, its layers' blobs (in the content store, the
    lowest first) and its names (``docker.io/library/ubuntu:latest`` as ``full``, ``ubuntu:latest``
    as familiar one)."""

    config: bytes
    layers: tuple[Descriptor, ...]
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Loaded:
    """One image that was read: its config's bytes (now in the content store too), layers and the
    names it asks for, which nobody has looked at yet."""

    id: str
    config: documents.ParsedConfig
    layers: tuple[Layer, ...]
    names: tuple[str, ...]


# --- save ----------------------------------------------------------------------------------------


def save(images: Sequence[Saved], content: ContentStore, out: BinaryIO) -> None:
    """Write ``images`` to ``out``. Raises NotFound when a blob is not there, OSError."""
    blobs: dict[str, bytes | None] = {}
    manifests = []
    for image in images:
        config = Descriptor(OCI_CONFIG, digest_of(image.config), len(image.config))
        manifest = documents.write_manifest(documents.Manifest(config, image.layers))
        manifests.append(Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest)))
        blobs |= {layer.digest: None for layer in image.layers}
        blobs |= {config.digest: image.config, manifests[-1].digest: manifest}
    for block in _save_blocks(images, manifests, blobs, content):
        out.write(block)


def _save_blocks(
    images: Sequence[Saved],
    manifests: Sequence[Descriptor],
    blobs: Mapping[str, bytes | None],
    content: ContentStore,
) -> Iterator[bytes]:
    yield tarwrite.header(b"blobs/", tar.DIRECTORY, mode=0o755)
    yield tarwrite.header(b"blobs/sha256/", tar.DIRECTORY, mode=0o755)
    for digest, data in sorted(blobs.items()):
        name = _blob_name(digest)
        if data is not None:
            yield from _member(name, data)
            continue
        size = content.size(digest)
        yield tarwrite.header(name.encode(), size=size)
        with content.open(digest) as file:
            while block := file.read(CHUNK):
                yield block
        yield tarwrite.padding(size)
    index = documents.write_index(_named(images, manifests), OCI_INDEX)
    yield from _member("index.json", index)
    yield from _member("manifest.json", documents.canonical_json(_docker_manifest(images)))
    yield from _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield from _member("repositories", documents.canonical_json(_repositories(images)))
    yield tarwrite.END


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield tarwrite.header(name.encode(), size=len(data))
    yield data + tarwrite.padding(len(data))


def _blob_name(digest: str) -> str:
    return "blobs/" + check_digest(digest).replace(":", "/")


def _named(images: Sequence[Saved], manifests: Sequence[Descriptor]) -> Iterator[Descriptor]:
    """The manifests once for each name of their images, or once without a name."""
    for image, manifest in zip(images, manifests, strict=True):
        if not image.names:
            yield manifest
        for full, _ in image.names:
            tag = full.rpartition(":")[2]
            yield replace(manifest, annotations={_NAME: full, _REF_NAME: tag})


def _docker_manifest(images: Iterable[Saved]) -> list[dict[str, Any]]:
    return [
        {
            "Config": _blob_name(digest_of(image.config)),
            "RepoTags": [familiar for _, familiar in image.names],
            "Layers": [_blob_name(layer.digest) for layer in image.layers],
        }
        for image in images
    ]


def _repositories(images: Iterable[Saved]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for image in images:
        for _, familiar in image.names:
            name, _, tag = familiar.rpartition(":")
            top = image.layers[-1].digest if image.layers else digest_of(image.config)
            found.setdefault(name, {})[tag] = top.partition(":")[2]
    return found


# --- load ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    offset: int
    size: int


class _Archive:
    """The outer tar as an index over a file; names lead to bytes of this file or nowhere."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._members: dict[bytes, _Member] = {}
        self._links: dict[bytes, bytes] = {}
        file.seek(0)
        stream = tar.Stream(iter(lambda: file.read(CHUNK), b""))
        for entry in tar.read(stream):
            if len(self._members) + len(self._links) >= MAX_MEMBERS:
                raise InvalidArgument(f"the archive has more than {MAX_MEMBERS} members")
            self._note(entry, stream.position)
            stream.skip(entry.stored)

    def _note(self, entry: tar.Entry, offset: int) -> None:
        name = clean(entry.name)
        self._members.pop(name, None)
        self._links.pop(name, None)
        if entry.kind == tar.FILE and entry.sparse is None:
            self._members[name] = _Member(offset, entry.size)
        elif entry.kind == tar.LINK:
            self._links[name] = clean(entry.link)
        elif entry.kind == tar.SYMLINK:
            folder = b"" if entry.link.startswith(b"/") else name.rpartition(b"/")[0]
            self._links[name] = clean(folder + b"/" + entry.link)

    def find(self, name: str) -> _Member | None:
        """The file of that name, by way of links between members."""
        path = clean(name.encode("utf-8", "surrogateescape"))
        for _ in range(_LINK_DEPTH):
            if path not in self._links:
                return self._members.get(path)
            path = self._links[path]
        return None

    def member(self, name: str) -> _Member:
        found = self.find(name)
        if found is None:
            raise InvalidArgument(f"the archive has no file {name[:200]}")
        return found

    def read(self, name: str, limit: int) -> bytes:
        member = self.member(name)
        if member.size > limit:
            raise InvalidArgument(f"{name[:200]} in the archive is larger than {limit} bytes")
        self.file.seek(member.offset)
        return self.file.read(member.size)

    def blocks(self, member: _Member) -> Iterator[bytes]:
        self.file.seek(member.offset)
        left = member.size
        while left and (block := self.file.read(min(CHUNK, left))):
            left -= len(block)
            yield block


@dataclass(frozen=True)
class _Found:
    """An image as the archive tells it, before its layers are looked at."""

    config: bytes
    layers: tuple[str, ...]
    media_types: tuple[str, ...]
    names: tuple[str, ...]


def load(
    source: BinaryIO, content: ContentStore, layers: LayerStore, *, watch: Watch | None = None
) -> list[Loaded]:
    """Read the images in the (maybe compressed) archive ``source``.

    Their configs and layer blobs are in the content store and their layers visible when it returns;
    names are for the caller to check and give. Raises InvalidArgument, IntegrityError, OSError.
    """
    with _spool(source, content.spool_directory) as file:
        archive = _Archive(file)
        if archive.find("manifest.json"):
            found = _docker_images(archive)
        elif archive.find("index.json"):
            found = _oci_images(archive)
        else:
            raise InvalidArgument("this is not an image archive: it has no manifest.json")
        return [_load_one(archive, image, content, layers, watch) for image in found]


def _spool(source: BinaryIO, folder: Path) -> IO[bytes]:
    """The uncompressed archive as a file without a name."""
    file = tempfile.TemporaryFile(dir=folder)
    try:
        for block in decompress(Input(source.read)):
            file.write(block)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _docker_images(archive: _Archive) -> list[_Found]:
    data = archive.read("manifest.json", documents.MANIFEST_LIMIT)
    entries = documents.strict_json(data, documents.MANIFEST_LIMIT, "manifest.json")
    if not isinstance(entries, list) or len(entries) > MAX_IMAGES:
        raise InvalidArgument("manifest.json is not a list of images")
    return [_docker_image(archive, entry) for entry in entries]


def _docker_image(archive: _Archive, entry: Any) -> _Found:
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        raise InvalidArgument("manifest.json: an image names no config")
    paths = _strings(entry, "Layers")
    return _Found(
        config=archive.read(entry["Config"], documents.CONFIG_LIMIT),
        layers=paths,
        media_types=(DOCKER_LAYER,) * len(paths),
        names=_strings(entry, "RepoTags"),
    )


def _strings(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    items = entry.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InvalidArgument(f"manifest.json: {key} is not a list of strings")
    if len(items) > documents.MAX_LAYERS:
        raise InvalidArgument(f"manifest.json: {key} is too long")
    return tuple(items)


def _oci_images(archive: _Archive) -> list[_Found]:
    data = archive.read("index.json", documents.MANIFEST_LIMIT)
    listed = documents.parse_index(data, OCI_INDEX)
    if len(listed) > MAX_IMAGES:
        raise InvalidArgument("index.json lists too many images")
    names: dict[str, list[str]] = {}
    chosen: dict[str, Descriptor] = {}
    for descriptor in _for_this_machine(listed):
        manifest = _resolve(archive, descriptor)
        chosen[manifest.digest] = manifest
        names.setdefault(manifest.digest, []).extend(_oci_name(descriptor))
    return [
        _oci_image(archive, manifest, tuple(names[digest])) for digest, manifest in chosen.items()
    ]


def _for_this_machine(listed: Sequence[Descriptor]) -> Iterator[Descriptor]:
    """One entry for each name; several without a name and with platforms are one image."""
    groups: dict[str, list[Descriptor]] = {}
    for descriptor in listed:
        name = "".join(_oci_name(descriptor)) or ("" if descriptor.platform else descriptor.digest)
        groups.setdefault(name, []).append(descriptor)
    for group in groups.values():
        if all(item.platform for item in group):
            yield documents.select_platform(group, documents.host_platform())
        else:
            yield from group


def _oci_name(descriptor: Descriptor) -> list[str]:
    name = descriptor.annotations.get(_NAME) or descriptor.annotations.get(_REF_NAME, "")
    return [name] if ":" in name else []  # a mere tag names nothing


def _blob(archive: _Archive, descriptor: Descriptor, limit: int) -> bytes:
    data = archive.read(_blob_name(descriptor.digest), limit)
    algorithm, _, encoded = descriptor.digest.partition(":")
    got = hashlib.new(algorithm, data).hexdigest()
    if got != encoded:
        raise IntegrityError("a blob in the archive", descriptor.digest, f"{algorithm}:{got}")
    return data


def _resolve(archive: _Archive, descriptor: Descriptor) -> Descriptor:
    """The manifest that ``descriptor`` leads to, by way of indexes."""
    for _ in range(_INDEX_DEPTH):
        if descriptor.media_type not in INDEXES:
            return descriptor
        data = _blob(archive, descriptor, documents.MANIFEST_LIMIT)
        listed = documents.parse_index(data, descriptor.media_type)
        descriptor = documents.select_platform(listed, documents.host_platform())
    raise InvalidArgument("the archive's indexes are nested too deep")


def _oci_image(archive: _Archive, descriptor: Descriptor, names: tuple[str, ...]) -> _Found:
    data = _blob(archive, descriptor, documents.MANIFEST_LIMIT)
    manifest = documents.parse_manifest(data, descriptor.media_type)
    return _Found(
        config=_blob(archive, manifest.config, documents.CONFIG_LIMIT),
        layers=tuple(_blob_name(layer.digest) for layer in manifest.layers),
        media_types=tuple(layer.media_type for layer in manifest.layers),
        names=names,
    )


def _load_one(
    archive: _Archive,
    image: _Found,
    content: ContentStore,
    layers: LayerStore,
    watch: Watch | None,
) -> Loaded:
    parsed = documents.parse_config(image.config)
    if len(parsed.diff_ids) != len(image.layers):
        raise InvalidArgument(
            f"the image has {len(image.layers)} layers, its config {len(parsed.diff_ids)}"
        )
    blobs = []
    staged: list[Staged] = []
    try:
        for diff_id, name, media_type in zip(
            parsed.diff_ids, image.layers, image.media_types, strict=True
        ):
            member = archive.member(name)
            _tell(watch, diff_id, "Loading layer", member.size)
            if not layers.has(diff_id) and all(item.facts.diff_id != diff_id for item in staged):
                part = (member.offset, member.size)
                staged.append(layers.apply(diff_id, media_type, archive.file.fileno(), part))
            blobs.append(_keep(archive, member, content))
        layers.commit(staged)
    except BaseException:
        layers.discard(staged)
        raise
    id = content.put(image.config)
    made = tuple(
        Layer(diff_id, layers.size(diff_id), blob)
        for diff_id, blob in zip(parsed.diff_ids, blobs, strict=True)
    )
    return Loaded(id, parsed, made, image.names)


def _keep(archive: _Archive, member: _Member, content: ContentStore) -> Descriptor:
    """Keep a layer's blob, from which alone its original bytes can be had again."""
    with content.writer() as writer:
        head = b""
        for block in archive.blocks(member):
            head = head or block[:4]
            writer.write(block)
        digest, size = writer.commit()
    return Descriptor(OCI_LAYER + _suffix(head), digest, size)


def _suffix(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b"):
        return "+gzip"
    return "+zstd" if head[1:] == b"\xb5\x2f\xfd" else ""


def _tell(watch: Watch | None, diff_id: str, action: str, size: int) -> None:
    if watch:
        watch(Progress(diff_id.partition(":")[2][:12], action, size, size))
