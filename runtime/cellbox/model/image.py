"""An image: a config, and layers in order; its identity is the digest of the config's bytes.

Shapes follow the OCI image specification 1.1 (config.md, descriptor.md) and Docker's image manifest
version 2, schema 2, which differ in media types only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellbox.model.container import HealthCheck

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
PLUGIN_CONFIG = "application/vnd.docker.plugin.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


@dataclass(frozen=True)
class Descriptor:
    """Names a blob: media type, digest (``sha256:`` and 64 hex digits), size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Platform:
    """``os/architecture[/variant]`` in Go's words, as images use them (``linux/arm64/v8``)."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Layer:
    """One layer: ``diff_id`` is the digest of its uncompressed tar and its identity; ``blob`` one
    encoding of it, where one is kept. ``size`` is the bytes of its unpacked files."""

    diff_id: str
    size: int
    blob: Descriptor | None = None


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about the processes that run on it (config.md, *Execution parameters*)."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    workdir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    health: HealthCheck | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One step that made an image; ``size`` is 0 for a step without a layer."""

    created: float | None = None
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False
    size: int = 0


@dataclass(frozen=True)
class Image:
    """An image in the store. ``id`` is ``sha256:`` and 64 hex digits; ``tags`` are familiar names
    (``ubuntu:latest``), ``digests`` familiar names with the manifest's digest; ``size`` the bytes
    of all its layers' files; ``created`` seconds since the epoch, None where the image does not
    say."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Layer, ...]
    config: ImageConfig
    platform: Platform
    size: int
    created: float | None = None
    author: str = ""
    comment: str = ""
    parent: str = ""
    history: tuple[HistoryEntry, ...] = ()

    @property
    def short_id(self) -> str:
        """The first twelve hex digits, as Docker prints them."""
        return self.id.partition(":")[2][:12]


@dataclass(frozen=True)
class Progress:
    """One step of a long task, such as one layer of a pull. ``id`` names the part (a short digest,
    or empty for the whole), ``action`` what happens (``Downloading``, ``Extracting``, ``Pull
    complete``, ...); ``total`` is None where nobody knows it."""

    id: str
    action: str
    current: int = 0
    total: int | None = None


@dataclass(frozen=True)
class Pushed:
    """What a push made a name stand for at its registry: the manifest's ``digest`` and its size in
    bytes. ``name`` is familiar, and has the tag."""

    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class Removed:
    """What removing an image did: a tag that went (``untagged``) or an object (``deleted``)."""

    untagged: str = ""
    deleted: str = ""
