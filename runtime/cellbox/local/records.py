"""What the state database could be made from again: one small JSON file an image and a container.

::

    ROOT/images/HEX.json              an image: facts, names, layers, manifest; HEX is its id's
    ROOT/containers/ID/container.json a container: what was asked, its name, image and addresses
    ROOT/networks/ID.json             a network: what was asked, and the subnets it got
    ROOT/volumes/NAME/volume.json     a volume: what was asked

A record is written inside the transaction that it belongs to, right before the commit, an image's
synced: so records tell the same order of events as the database. One without a row is an image that
is whole, or a container that never started; ``gc`` forgets those before it takes any layer away.
Records are never read in normal operation.

Reading is lenient: a record that is torn, foreign or older than a field is skipped, not fatal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellbox.containers import records as files
from cellbox.errors import EngineError
from cellbox.images.content import sync_directory
from cellbox.model import codec
from cellbox.model.container import MountSpec, RunSpec
from cellbox.model.image import Descriptor, Image
from cellbox.model.network import Endpoint, NetworkSpec
from cellbox.model.volume import VolumeSpec

T = TypeVar("T")


@dataclass(frozen=True)
class ImageRecord:
    """An image and the manifest it came with."""

    image: Image
    manifest: Descriptor | None = None


@dataclass(frozen=True)
class ContainerRecord:
    """A container as the database knows it; whether it runs is for its files and processes to say.
    ``removing`` says that a removal has begun and is to be finished. ``mounts`` are those of the
    request, the image and other containers together, each volume with its name; empty where no
    volume is among them."""

    id: str
    name: str
    image_id: str
    spec: RunSpec
    command: tuple[str, ...]
    created: float
    removing: bool = False
    endpoints: tuple[Endpoint, ...] = ()
    mounts: tuple[MountSpec, ...] = ()


@dataclass(frozen=True)
class NetworkRecord:
    """A network as the database knows it; ``spec`` has the subnets that were chosen."""

    id: str
    spec: NetworkSpec
    created: float


@dataclass(frozen=True)
class VolumeRecord:
    """A volume as the database knows it."""

    spec: VolumeSpec
    created: float


class Records:
    """The records below one store's root."""

    def __init__(self, root: Path) -> None:
        self._images = root / "images"
        self._containers = root / "containers"
        self._networks = root / "networks"
        self._volumes = root / "volumes"

    def write_image(self, record: ImageRecord) -> None:
        """Keep an image's record, synced. Raises EngineError."""
        self._images.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._image(record.image.id), record, durable=True)
        sync_directory(self._images)

    def write_network(self, record: NetworkRecord) -> None:
        """Keep a network's record. Raises EngineError."""
        self._networks.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._network(record.id), record, durable=True)

    def forget_network(self, id: str) -> None:
        """Remove a network's record, if there is one."""
        self._network(id).unlink(missing_ok=True)

    def networks(self) -> list[NetworkRecord]:
        """All that can be read, the one written last first."""
        return [
            record
            for path, record in _read_all(NetworkRecord, self._networks.glob("*.json"))
            if record.id == path.stem
        ]

    def write_volume(self, record: VolumeRecord) -> None:
        """Keep a volume's record, synced, in its directory, which is there. Raises EngineError."""
        _write(self._volumes / record.spec.name / "volume.json", record, durable=True)

    def volumes(self) -> dict[str, VolumeRecord]:
        """All directories of volumes by name, each with its record; one that cannot be read tells
        the name and the age of its directory."""
        directories = [path for path in self._volumes.glob("*/") if (path / "_data").is_dir()]
        found = {
            path.name: VolumeRecord(VolumeSpec(path.name), path.stat().st_mtime)
            for path in directories
        }
        kept = (path / "volume.json" for path in directories)
        read = {path.parent.name: one for path, one in _read_all(VolumeRecord, kept)}
        return {**found, **read}

    def write_container(self, record: ContainerRecord) -> None:
        """Keep a new container's record, in its directory. Raises EngineError."""
        path = self._container(record.id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, record, durable=False)

    def rewrite_container(self, record: ContainerRecord) -> None:
        """Keep what has changed of a container. One whose directory is gone, or just going, gets
        none: it has removed itself. Raises EngineError."""
        _write(self._container(record.id), record, durable=False, missing_ok=True)

    def forget_image(self, id: str) -> None:
        """Remove an image's record, if there is one."""
        self._image(id).unlink(missing_ok=True)

    def forget_container(self, id: str) -> None:
        """Remove a container's record, if there is one; its directory stays."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._container(id).unlink()

    def image_ids(self) -> set[str]:
        """Ids of the images that have a record, readable or not."""
        return {f"sha256:{path.stem}" for path in self._images.glob("*.json")}

    def images(self) -> list[ImageRecord]:
        """All that can be read, the one written last first."""
        return [
            record
            for path, record in _read_all(ImageRecord, self._images.glob("*.json"))
            if record.image.id == f"sha256:{path.stem}"
        ]

    def containers(self) -> list[ContainerRecord]:
        """All that can be read, the one written last first."""
        return [
            record
            for path, record in _read_all(
                ContainerRecord, self._containers.glob("*/container.json")
            )
            if record.id == path.parent.name
        ]

    def _container(self, id: str) -> Path:
        return self._containers / id / "container.json"

    def _network(self, id: str) -> Path:
        return self._networks / f"{id}.json"

    def _image(self, id: str) -> Path:
        return self._images / f"{id.partition(':')[2]}.json"


def _write(path: Path, fact: object, *, durable: bool, missing_ok: bool = False) -> None:
    try:
        files.write(str(path), fact, durable=durable)
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def _read_all(kind: type[T], paths: Iterator[Path]) -> Iterator[tuple[Path, T]]:
    dated: list[tuple[float, Path]] = []
    for path in paths:
        with contextlib.suppress(OSError):
            dated.append((path.stat().st_mtime, path))
    for _, path in sorted(dated, reverse=True):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            yield path, codec.loads(kind, path.read_bytes())
