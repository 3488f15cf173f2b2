"""The layer store: unpacked layers by diff id; and what a snapshotter is.

Layout, below the store's root::

    layers/sha256/HEX/fs/          the layer's files, owned by ids as the image tells them
    layers/sha256/HEX/layer.json   :class:`LayerFacts`, by which damage is told
    layers/staging/ID/             a layer that is being made, locked (flock(2)) by its maker
    trash/ID/                      what nobody can see any more and somebody will delete

A layer is made in ``staging`` and becomes visible by one rename, after everything in it is on disk.
So a name means a complete layer, whatever was killed or cut. Layers know nothing of images or
parents.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cellbox import faults
from cellbox.errors import IntegrityError, NotFound
from cellbox.images.compression import check_media_type
from cellbox.images.content import check_digest, sync_directory
from cellbox.linux import syscalls
from cellbox.linux.mounts import Mount
from cellbox.model.codec import dumps, from_json, loads
from cellbox.model.image import OCI_LAYER

Work = Callable[[str, Mapping[str, Any], Sequence[int]], dict[str, Any]]
"""Does one job of :mod:`cellbox.images.jobs` in a worker: name, arguments, descriptors."""

faults.declare(
    layers__layer__staged="a layer is unpacked and verified, but not synced",
    layers__layer__synced="staged layers are on disk, but have no names yet",
    layers__layer__renamed="a layer has its name; its folder is not synced yet",
    layers__layer__trashed="a layer is out of sight, but not deleted",
)


@dataclass(frozen=True)
class LayerFacts:
    """What is known of an unpacked layer: ``size`` bytes of files, number of ``entries``, a
    ``check`` digest of the tree's names and sizes, and how often this machine could not do as the
    layer asked (owners not mapped, devices refused, attributes left out). An ``opaque`` layer hides
    all that are below it."""

    diff_id: str
    size: int
    entries: int
    check: str
    created: float = 0.0
    owners: int = 0
    devices: int = 0
    xattrs: int = 0
    opaque: bool = False


@dataclass
class Staged:
    """A verified layer that nobody sees yet: to be committed, or discarded."""

    folder: Path
    facts: LayerFacts
    lock: int

    def unlock(self) -> None:
        """Let go of the folder, once."""
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.close(lock)


class LayerStore:
    """Unpacked layers below ``root`` (the store's root); ``work`` does what needs their owners.

    Safe for any number of processes.
    """

    def __init__(self, root: Path, work: Work) -> None:
        self._layers = root / "layers"
        self._staging = root / "layers" / "staging"
        self._trash = root / "trash"
        self._work = work
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._layers, self._staging, self._trash):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _folder(self, diff_id: str) -> Path:
        algorithm, _, encoded = check_digest(diff_id).partition(":")
        return self._layers / algorithm / encoded

    def has(self, diff_id: str) -> bool:
        """Whether the layer is here, complete."""
        return (self._folder(diff_id) / "layer.json").exists()

    def path(self, diff_id: str) -> Path:
        """The layer's directory of files. Raises NotFound."""
        if not self.has(diff_id):
            raise NotFound("layer", diff_id)
        return self._folder(diff_id) / "fs"

    def paths(self, diff_ids: Sequence[str]) -> list[Path]:
        """The directories that an image of these layers (the lowest first) consists of: from the
        last one on that hides all below it. Raises NotFound."""
        start = max(
            (at for at, diff_id in enumerate(diff_ids) if self.facts(diff_id).opaque), default=0
        )
        # by path(), and so by has(), through which a lease holds what is looked for
        return [self.path(diff_id) for diff_id in diff_ids[start:]]

    def facts(self, diff_id: str) -> LayerFacts:
        """What is known of the layer. Raises NotFound, and IntegrityError for a damaged record."""
        try:
            with open(self._folder(diff_id) / "layer.json", "rb", buffering=0) as file:
                text = file.readall()
        except FileNotFoundError:
            raise NotFound("layer", diff_id) from None
        try:
            return loads(LayerFacts, text)
        except (ValueError, TypeError, AttributeError):
            raise IntegrityError(f"the record of layer {diff_id[:19]}", "facts", "damage") from None

    def size(self, diff_id: str) -> int:
        """Bytes of the layer's files. Raises NotFound."""
        return self.facts(diff_id).size

    def walk(self) -> Iterator[str]:
        """The diff ids of all layers, in no order."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self._layers / algorithm):
                    yield f"{algorithm}:{entry.name}"

    # Making layers.

    def apply(
        self, diff_id: str, media_type: str, stream: int, part: tuple[int, int] | None = None
    ) -> Staged:
        """Unpack the layer that the descriptor ``stream`` (file, pipe, socket) gives, compressed
        or not. ``diff_id`` is verified; empty, it is found out. ``part`` (offset, length) says
        which bytes of a file it is.

        Nothing is visible before :meth:`commit`. Raises IntegrityError, InvalidArgument for a
        damaged or hostile stream, NotSupported, OSError.
        """
        check_media_type(media_type)
        if diff_id:
            check_digest(diff_id)
        folder, lock = self._new_staging()
        try:
            args = {"target": str(folder / "fs"), "diff_id": diff_id, "part": part}
            facts = from_json(LayerFacts, self._work("apply", args, [stream]))
            facts = _stamp(facts)
            (folder / "layer.json").write_text(dumps(facts))
        except BaseException:
            self.discard([Staged(folder, LayerFacts("", 0, 0, ""), lock)])
            raise
        faults.point("layers.layer.staged")
        return Staged(folder, facts, lock)

    def _new_staging(self) -> tuple[Path, int]:
        while True:
            folder = self._staging / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            lock = _lock(folder)
            if lock is not None:
                return folder, lock

    def from_upper(
        self,
        upper: Path,
        *,
        lowers: Sequence[Path] = (),
        latest: int | None = None,
        exclude: Sequence[str] = (),
    ) -> Staged:
        """Make a layer of a writable directory; ``lowers`` (topmost first) if it is a plain copy.

        ``latest`` bounds times (seconds); ``exclude`` are paths without a leading slash.
        """
        args = {
            "upper": str(upper),
            "lowers": [str(lower) for lower in lowers],
            "latest": latest,
            "exclude": list(exclude),
        }
        return self.from_job("pack", args)

    def from_job(self, job: str, args: Mapping[str, Any]) -> Staged:
        """Make a layer of what a job writes to its one descriptor; it returns the ``diff_id``."""
        reader, writer = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            packing = pool.submit(self._pack, job, args, writer)
            try:
                staged = self.apply("", OCI_LAYER, reader)
            except BaseException:
                os.close(reader)  # ends the packing, which writes to nobody now
                _raise_cause(packing.exception())
                raise
            os.close(reader)
        return self._checked(staged, packing.result)

    def _checked(self, staged: Staged, result: Callable[[], dict[str, Any]]) -> Staged:
        try:
            packed = result()["diff_id"]
            if packed != staged.facts.diff_id:
                raise IntegrityError("the new layer", packed, staged.facts.diff_id)
        except BaseException:
            self.discard([staged])
            raise
        return staged

    def _pack(self, job: str, args: Mapping[str, Any], writer: int) -> dict[str, Any]:
        try:
            return self._work(job, args, [writer])
        finally:
            os.close(writer)

    def pack(self, diff_id: str, stream: int) -> None:
        """Write the layer's tar to ``stream``; it has the layer's diff id only if this engine wrote
        the original. Raises NotFound, OSError."""
        self._work("pack", {"upper": str(self.path(diff_id))}, [stream])

    def commit(self, staged: Sequence[Staged]) -> None:
        """Make layers visible, after one sync for all of them.

        Each appears whole or not at all. One that another process committed meanwhile is dropped.
        """
        if not staged:
            return
        fd = os.open(self._layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(fd)
        finally:
            os.close(fd)
        faults.point("layers.layer.synced")
        for item in staged:
            self._publish(item)

    def _publish(self, item: Staged) -> None:
        target = self._folder(item.facts.diff_id)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if self.has(item.facts.diff_id):
            self.discard([item])
            return
        self._delete(target)  # what damage has left under this name
        try:
            item.folder.rename(target)
        except OSError:
            self.discard([item])
            if not self.has(item.facts.diff_id):
                raise
            return
        item.unlock()
        faults.point("layers.layer.renamed")
        sync_directory(target.parent)

    def discard(self, staged: Sequence[Staged]) -> None:
        """Delete layers that will not be committed."""
        for item in staged:
            self._delete(item.folder)
            item.unlock()

    # Taking layers away.

    def remove(self, diff_id: str) -> bool:
        """Delete the layer; False when it was not here. No mount may show it."""
        folder = self._folder(diff_id)
        if not folder.exists():
            return False
        self._delete(folder)
        return True

    def _delete(self, folder: Path) -> None:
        gone = self._trash / secrets.token_hex(8)
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        faults.point("layers.layer.trashed")
        self._work("remove", {"path": str(gone)}, [])

    def clean(self) -> int:
        """Delete what dead processes left in staging and trash; how many things that were."""
        count = 0
        for folder in list(self._staging.iterdir()):
            lock = _lock(folder)
            if lock is not None:
                self._delete(folder)
                os.close(lock)
                count += 1
        for folder in list(self._trash.iterdir()):
            self._work("remove", {"path": str(folder)}, [])
            count += 1
        return count

    def verify(self, diff_id: str) -> bool:
        """Whether the layer's tree is still what it was: every name, kind, mode, size and time.

        Contents are not read. Raises NotFound.
        """
        path = self.path(diff_id)
        try:
            facts = self.facts(diff_id)
            found = self._work("usage", {"path": str(path)}, [])
        except (IntegrityError, OSError):
            return False
        return bool(found["check"] == facts.check)


def _stamp(facts: LayerFacts) -> LayerFacts:
    return LayerFacts(**{**vars(facts), "created": time.time()})


def _lock(folder: Path) -> int | None:
    """A locked descriptor of the directory, None when another holds it or it is gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _raise_cause(error: BaseException | None) -> None:
    """Raise what failed first: a packing that only lost its reader did not."""
    if error is not None and not isinstance(error, BrokenPipeError):
        raise error


class Snapshotter(Protocol):
    """How layers and a writable directory become one file system. Made with one argument, a
    :data:`Work`. ``layers`` are the directories of :meth:`LayerStore.paths`, the lowest first.

    ``copies`` says that the writable directory holds everything, not only the changes: the jobs
    ``diff`` and ``pack`` then need the layers to compare with. ``upper`` names, within a writable
    directory, the part that these jobs look at.
    """

    name: str
    copies: bool
    upper: str

    def usable(self, scratch: Path) -> str:
        """Why it does not work here, found out by doing in the directory ``scratch``; empty if it
        does."""
        ...

    def prepare(self, layers: Sequence[Path], writable: Path) -> None:
        """Fill the empty directory ``writable`` with what :meth:`mounts` will need."""
        ...

    def mounts(self, layers: Sequence[Path], writable: Path | None) -> tuple[Mount, ...]:
        """The mounts that show it all, the root first; without ``writable``, read-only.

        Pure: nothing is looked at and nothing mounted. Raises NotSupported.
        """
        ...
