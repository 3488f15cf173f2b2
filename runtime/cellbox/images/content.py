"""The content store: blobs by digest, and downloads on their way to become blobs.

Layout, below the store's root::

    content/blobs/sha256/HEX       complete, verified and synced before it gets this name
    content/ingest/sha256-HEX/     one download: ``data`` so far, and ``lock`` while somebody writes
    content/ingest/new-XXXX/       one blob whose digest is known only at its end

A download has one writer in all processes: the lock is a flock(2), so it goes with its holder. What
a dead writer left is hashed again and continued. Whoever waited for the lock finds the blob there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from cellbox import faults
from cellbox.errors import IntegrityError, InvalidArgument, NotFound

CHUNK = 1 << 20
POLL = 0.05
_NEW = "new-"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")

faults.declare(
    content__blob__written="a blob is complete and synced, but has no name yet",
    content__blob__renamed="a blob has its name; its folder is not synced yet",
)


def check_digest(digest: str) -> str:
    """``digest`` itself, if it has the grammar of a digest (OCI descriptor.md, *Digests*).

    To be called before any part of a digest becomes part of a path. Raises InvalidArgument.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidArgument(f"not a digest: {str(digest)[:100]!r}")
    return digest


def digest_of(data: bytes) -> str:
    """The sha256 digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` survive a power cut (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ContentStore:
    """Blobs by digest below ``root`` (the store's root); safe for any number of processes."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "content" / "blobs"
        self._ingest = root / "content" / "ingest"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (root / "content", self._blobs, self._ingest):
            folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def spool_directory(self) -> Path:
        """Where files without a name may be put meanwhile."""
        return self._ingest

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be. Raises InvalidArgument for what is not a digest."""
        algorithm, _, encoded = check_digest(digest).partition(":")
        return self._blobs / algorithm / encoded

    def has(self, digest: str) -> bool:
        """Whether the blob is here, complete."""
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """Bytes of the blob. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound("blob", digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The blob for reading, unverified. Raises NotFound."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise NotFound("blob", digest) from None

    def read(self, digest: str, limit: int) -> bytes:
        """The bytes of a small blob, hashed again.

        Raises NotFound, IntegrityError, and InvalidArgument when it has over ``limit`` bytes.
        """
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidArgument(f"blob {digest} is larger than {limit} bytes")
        got = hashlib.new(digest.partition(":")[0], data).hexdigest()
        if got != digest.partition(":")[2]:
            raise IntegrityError(f"blob {digest[:19]}", digest, got)
        return data

    def put(self, data: bytes) -> str:
        """Keep a small blob; its digest. A damaged blob of that name is replaced."""
        digest = digest_of(data)
        with contextlib.suppress(NotFound, IntegrityError, InvalidArgument):
            self.read(digest, len(data))
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()[0]

    def ingest(
        self, digest: str, size: int, *, waiting: Callable[[], None] | None = None
    ) -> Ingest:
        """A download of the blob ``digest`` of ``size`` bytes, to be used in a ``with`` block.

        Entering waits while another process writes this blob; ``waiting`` is called meanwhile,
        some twenty times a second, and may raise to give up. Leaving without a commit keeps what
        was written, for the next try.
        """
        name = check_digest(digest).replace(":", "-")
        return Ingest(self, self._ingest / name, digest, size, waiting)

    def writer(self) -> Writer:
        """A blob whose digest is known only at its end, in a ``with`` block."""
        return Writer(self, self._ingest / f"{_NEW}{secrets.token_hex(8)}")

    def adopt(self, file: Path, digest: str) -> None:
        """Give a synced file of the same file system, known to hash to ``digest``, its name."""
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        file.rename(target)
        faults.point("content.blob.renamed")
        sync_directory(target.parent)

    def delete(self, digest: str) -> bool:
        """Remove the blob; False when it was not here. Open readers keep theirs."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def walk(self) -> Iterator[str]:
        """The digests of all blobs, in no order; strange files are passed over."""
        for folder in self._blobs.iterdir():
            for entry in os.scandir(folder):
                digest = f"{folder.name}:{entry.name}"
                if _DIGEST.fullmatch(digest):
                    yield digest

    def verify(self, digest: str) -> bool:
        """Whether the blob's bytes still have its digest. Raises NotFound."""
        with self.open(digest) as file:
            return _hash_file(file, digest).hexdigest() == digest.partition(":")[2]

    def partial(self) -> int:
        """Bytes of unfinished downloads."""
        return sum(file.stat().st_size for file in self._ingest.glob("*/data"))

    def clean(self, older_than: float) -> int:
        """Remove downloads that nobody works on and nobody wrote to for ``older_than`` seconds,
        and at once what a dead :class:`Writer` left, which nobody can go on with; the bytes that
        became free."""
        freed = 0
        for folder in list(self._ingest.iterdir()):
            new = folder.name.startswith(_NEW)
            with contextlib.suppress(FileNotFoundError):
                freed += _clean_one(folder, math.inf if new else time.time() - older_than)
        return freed


def _clean_one(folder: Path, before: float) -> int:
    newest = max(item.stat().st_mtime for item in (folder, *folder.iterdir()))
    lock = None if newest > before else _try_lock(folder)
    if lock is None:
        return 0
    try:
        freed = sum(item.stat().st_size for item in folder.iterdir())
        shutil.rmtree(folder)
        return freed
    finally:
        os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """The locked descriptor of ``folder``'s lock, None while another has it.

    The folder goes with its lock held, so a lock whose file is no longer the named one is void.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:  # removed between the two calls
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == os.stat(folder / "lock").st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _hash_file(file: IO[bytes], digest: str) -> hashlib._Hash:
    hasher = hashlib.new(digest.partition(":")[0])
    while block := file.read(CHUNK):
        hasher.update(block)
    return hasher


class _Open:
    """A file below ``ingest`` that is being written, under its folder's lock."""

    def __init__(self, store: ContentStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._lock: int | None = None
        self._file: BinaryIO | None = None
        self.offset = 0

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _publish(self, digest: str) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        faults.point("content.blob.written")
        self._store.adopt(self._data, digest)
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Writer(_Open):
    """A blob of unknown digest: ``write`` as often as needed, then ``commit``."""

    def __enter__(self) -> Writer:
        while self._lock is None:  # only who cleans can be faster
            self._lock = _try_lock(self._folder)
        self._file = self._data.open("w+b")
        self._hasher = hashlib.sha256()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()
        self._close()

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``; its length, as files do."""
        assert self._file is not None
        self._file.write(data)
        self._hasher.update(data)
        self.offset += len(data)
        return len(data)

    def commit(self) -> tuple[str, int]:
        """Make the blob visible; its digest and size."""
        digest = "sha256:" + self._hasher.hexdigest()
        self._publish(digest)
        return digest, self.offset


class Ingest(_Open):
    """The download of one blob.

    ``done`` says that the blob is here already (before, or by the one waited for): nothing is left
    to do. ``offset`` is the number of bytes that are here, where a Range request goes on.
    """

    def __init__(
        self,
        store: ContentStore,
        folder: Path,
        digest: str,
        size: int,
        waiting: Callable[[], None] | None,
    ) -> None:
        super().__init__(store, folder)
        self._waiting = waiting
        self.digest = digest
        self.size = size
        self.done = False

    def __enter__(self) -> Ingest:
        while not self._store.has(self.digest):
            self._lock = _try_lock(self._folder)
            if self._lock is not None:
                break
            if self._waiting:
                self._waiting()
            time.sleep(POLL)
        self.done = self._store.has(self.digest)
        if not self.done:
            self._resume()
        elif self._lock is not None:  # finished between the look and the lock
            self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _resume(self) -> None:
        self._file = self._data.open("a+b")
        self._file.seek(0)
        self._hasher = _hash_file(self._file, self.digest)
        self.offset = self._file.tell()
        wrong = self.offset == self.size and not self._right
        if self.offset > self.size or wrong:
            self.restart()

    @property
    def _right(self) -> bool:
        return self._hasher.hexdigest() == self.digest.partition(":")[2]

    def existing(self) -> BinaryIO:
        """A new file object over the bytes that are here, from their start."""
        return self._data.open("rb")

    def restart(self) -> None:
        """Forget what is here: the server does not resume."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.seek(0)
        self._hasher = hashlib.new(self.digest.partition(":")[0])
        self.offset = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``. Raises IntegrityError as soon as there is more than ``size``."""
        assert self._file is not None
        if self.offset + len(data) > self.size:
            self.restart()
            raise IntegrityError(
                f"the size of {self.digest[:19]}", str(self.size), f"more than {self.size}"
            )
        self._file.write(data)
        self._hasher.update(data)
        self.offset += len(data)
        return len(data)

    def commit(self) -> None:
        """Verify size and digest, and make the blob visible.

        Raises IntegrityError: a short download stays to be resumed, a wrong one is thrown away.
        """
        if self.offset != self.size:
            what = f"the size of {self.digest[:19]}"
            raise IntegrityError(what, str(self.size), str(self.offset))
        if not self._right:
            got = self._hasher.hexdigest()
            self.restart()
            raise IntegrityError(f"blob {self.digest[:19]}", self.digest, got)
        self._publish(self.digest)
        self.done = True
