"""The small files by which a container's shim tells what it does, to whoever looks.

``bundle.json`` what to run, written by the engine; ``state.json`` the run that is going on, in the
container's run directory; ``exit.json`` how the last one ended. Each appears whole by rename(2), so
a reader never sees half of one, and none needs the shim or the engine to be alive.
"""

from __future__ import annotations

import errno
import os
from typing import TypeVar

from cellbox.containers.messages import Bundle, ExitRecord, RunState
from cellbox.linux import process as processes
from cellbox.linux import trees
from cellbox.model.codec import dumps, loads

T = TypeVar("T")

BUNDLE, STATE, EXIT, HEALTH = "bundle.json", "state.json", "exit.json", "health.json"
SOCKET = "shim.sock"


def run_directory(run: str, id: str) -> str:
    """The directory of container ``id`` that a reboot empties, below the store's ``run``."""
    return f"{run}/c/{id[:12]}"


def write(path: str, fact: object, *, durable: bool = False) -> None:
    """Write ``fact`` as JSON; afterwards the old file or the new one is there, whatever happens.

    ``durable``: it is on disk before it has its name. Raises OSError, with nothing left behind.
    """
    temporary = f"{path}.{os.urandom(6).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    data = dumps(fact).encode()
    try:
        write_whole(fd, data, path)
        if durable:
            os.fsync(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def write_whole(fd: int, data: bytes, path: str) -> None:
    """write(2) of all of a small file. Raises OSError naming ``path``, also where less fits."""
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def read(kind: type[T], path: str) -> T | None:
    """The fact in ``path``; None where there is no such file, or a bad disk or a power cut has
    damaged it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return loads(kind, file.readall())
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def read_bundle(directory: str) -> Bundle | None:
    """``bundle.json`` of the container in ``directory``."""
    return read(Bundle, os.path.join(directory, BUNDLE))


def read_exit(directory: str, run_directory: str = "") -> ExitRecord | None:
    """``exit.json`` of a container that does not run, from where :func:`write_exit` put it."""
    in_memory = read(ExitRecord, os.path.join(run_directory, EXIT)) if run_directory else None
    return in_memory or read(ExitRecord, os.path.join(directory, EXIT))


def write_exit(directory: str, run_directory: str, record: ExitRecord) -> bool:
    """Keep how a run ended in ``directory``; where its disk is full in ``run_directory``, which is
    in memory, and is then not to be removed with all in it. Whether it is on the disk."""
    try:
        write(os.path.join(directory, EXIT), record)
        return True
    except OSError:
        pass
    try:
        os.makedirs(run_directory, mode=0o700, exist_ok=True)
        write(os.path.join(run_directory, EXIT), record)
    except OSError:  # nowhere to put it: it will be told that nobody saw the end
        pass
    return False


def read_state(run_directory: str) -> RunState | None:
    """The run that goes on now: ``state.json``, if its shim is alive."""
    state = read(RunState, os.path.join(run_directory, STATE))
    return state if state and is_current(state) else None


def is_current(state: RunState) -> bool:
    """Is the shim that this tells of alive?"""
    return processes.is_alive(state.shim, state.shim_start)


def remove_quietly(path: str) -> None:
    """Delete a directory and all in it; what cannot be deleted is left to the next engine."""
    try:
        os.rmdir(path)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass
    try:
        trees.remove_tree(path)
    except OSError:
        pass
