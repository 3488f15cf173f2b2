"""Claims on a container: who makes it or takes it away holds its directory locked meanwhile.

The row of a container says that it is to be, or to be no more; the claim says that somebody is
still at it. A process that was killed holds none, so whoever meets a half-made or half-removed
container that nobody claims may undo or finish it. A claim is a flock(2) on the directory itself,
which the kernel lets go with the last descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellbox.local.database import lock


@contextmanager
def claimed(directory: Path, *, seconds: float = 0.0) -> Iterator[bool]:
    """Whether ``directory`` is ours for this block; a directory that is gone is anybody's.

    Waits at most ``seconds`` for another one to be done with it.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield lock(fd, seconds=seconds)
    finally:
        os.close(fd)
