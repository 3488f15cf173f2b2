"""Directories that the steps of builds mount: caches that stay, and copies that do not.

::

    ROOT/build-cache/KEY/_data     a cache; locked (flock(2) on KEY) by the steps that have it
    ROOT/build-cache/.new-*/       one that is being made, or what one step only has; locked too
    RUN/build/.new-*/              the same for what is not to reach the disk (secrets)

A process that was killed holds no lock, so what nobody holds and is no cache is swept by the next
one who makes something.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cellbox.build.mounts import Sharing
from cellbox.build.workshop import Archive
from cellbox.local.claim import claimed
from cellbox.local.database import lock
from cellbox.local.pipes import reading
from cellbox.local.store import Store

DATA = "_data"
_NEW = ".new-"
_WAIT = 60.0
_STEP = 0.25
"""Seconds for which a lock is waited for before it is asked whether to give up."""


class BuildCaches:
    """The directories of the builds of ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / "build-cache"
        self._memory = store.run / "build"

    @contextmanager
    def fleeting(self, content: Archive, *, secret: bool = False) -> Iterator[str]:
        """A directory with what a tar holds, gone after the block; of a ``secret`` one nothing is
        in the store."""
        with self._new(self._memory if secret else self._root, content) as folder:
            yield f"{folder}/{DATA}"

    @contextmanager
    def cache(
        self, name: str, first: Archive, sharing: Sharing, check: Callable[[], None]
    ) -> Iterator[str]:
        """The directory of the cache ``name``, which holds ``first`` when it is new. While it is
        waited for, ``check`` is called, which may raise."""
        slot = 0
        while True:
            folder = self._folder(f"{name}\0{slot}" if slot else name)
            self._make(folder, first)
            fd = _taken(folder, sharing, check)
            if fd is not None:
                break
            slot += sharing is Sharing.PRIVATE and folder.exists()
        try:
            yield str(folder / DATA)
        finally:
            os.close(fd)

    def sizes(self) -> dict[str, tuple[int, bool]]:
        """For each cache, by its key, the bytes on disk, and whether a step has it."""
        return {
            key: (self._size(self._root / key), _in_use(self._root / key)) for key in self._keys()
        }

    def prune(self) -> dict[str, int]:
        """Take away the caches that no step has: their keys, with the bytes that they had."""
        gone = {}
        for key in self._keys():
            folder = self._root / key
            with claimed(folder) as ours:
                if ours and folder.exists():
                    gone[key] = self._size(folder)
                    self._drop(folder)
        return gone

    def _keys(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(name for name in os.listdir(self._root) if not name.startswith(_NEW))

    def _folder(self, name: str) -> Path:
        return self._root / hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()

    def _size(self, folder: Path) -> int:
        return int(self._store.launcher.work("usage", {"path": str(folder / DATA)})["size"])

    def _make(self, folder: Path, first: Archive) -> None:
        """See that the cache is there, whole from its first moment on."""
        if folder.is_dir():
            return
        with self._new(self._root, first) as new:
            try:
                new.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise

    @contextmanager
    def _new(self, above: Path, content: Archive) -> Iterator[Path]:
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = above / f"{_NEW}{secrets.token_hex(8)}"
        with ExitStack() as held:
            with claimed(above, seconds=_WAIT):  # or another one sweeps it before it is held
                self._sweep(above)
                folder.mkdir(mode=0o700)
                held.enter_context(claimed(folder))
            try:
                (folder / DATA).mkdir(mode=0o755)
                with content() as archive, reading(archive) as fd:
                    args = {"path": str(folder / DATA)}
                    self._store.launcher.work("volume-unpack", args, [fd])
                yield folder
            finally:
                if folder.exists():
                    self._remove(folder)

    def _sweep(self, above: Path) -> None:
        """Take away what was left by builds that were killed."""
        for folder in above.glob(f"{_NEW}*"):
            with claimed(folder) as ours:
                if ours:
                    self._remove(folder)

    def _drop(self, folder: Path) -> None:
        """Take a cache away; its name is free at once."""
        trash = folder.with_name(f"{_NEW}{secrets.token_hex(8)}")
        folder.rename(trash)
        self._remove(trash)

    def _remove(self, folder: Path) -> None:
        self._store.launcher.work("remove", {"path": str(folder)})


def _taken(folder: Path, sharing: Sharing, check: Callable[[], None]) -> int | None:
    """A descriptor that holds the folder; None where it has gone, or is another one's and is not
    waited for."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        while not lock(fd, seconds=_STEP, shared=sharing is Sharing.SHARED):
            check()
            if sharing is Sharing.PRIVATE:
                break
        else:
            if os.path.exists(folder) and os.path.samestat(os.fstat(fd), os.stat(folder)):
                return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _in_use(folder: Path) -> bool:
    with claimed(folder) as ours:
        return not ours
