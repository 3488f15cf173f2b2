"""Asking the keeper of a store's networks (``keeper``), and starting one where there is none.

The keeper listens on ``network.sock`` in the run directory. It is forked by whoever may fork (a
starter, a worker of the launcher): a process of one thread that is in the launcher's namespaces.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from cellbox.errors import Unavailable
from cellbox.linux import process as processes
from cellbox.linux import sockets

HOLDER = "netns.json"
"""The record of who holds the networks of an ordinary user's store (:mod:`rootless`)."""

DRIVEN = ("drive", "release")
"""Requests for which drivers are asked that are not ours."""

SOCKET, LOCK, LOG = "network.sock", "network.lock", "network.log"
_SECONDS = 20.0
"""How long the keeper may take for one request: the first one loads its libraries."""
_FIRST_WORD = 1.0
"""After which one that has been started and is not there will not come."""
_DRIVER_SECONDS = 150.0
"""The same, where it asks a driver that is not ours, which has 30 s for each of a few answers."""
_REPLY = 1 << 20


Answer = tuple[dict[str, Any], list[int]]
"""A JSON object, and descriptors, which are the receiver's to close."""


def ask(run: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Answer:
    """One request to the keeper of the store with the run directory ``run``, and its answer.

    Raises ConnectionError or FileNotFoundError where there is none, and TimeoutError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_DRIVER_SECONDS if request["op"] in DRIVEN else _SECONDS)
        folder = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a path of over 107 bytes has no room in sockaddr_un (unix(7))
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
        socket.send_fds(connection, [json.dumps(request).encode()], list(fds))
        data, received = sockets.receive(connection, _REPLY)
    if not data:
        raise ConnectionResetError("the keeper of the networks has ended")
    return json.loads(data), received


def ask_anew(run: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Answer:
    """As :func:`ask`, for a process that may fork: starts the keeper where there is none. Raises
    Unavailable where that does not help."""
    deadline = time.monotonic() + _SECONDS
    started = 0.0
    while time.monotonic() < deadline:
        try:
            return ask(run, request, fds)
        except (FileNotFoundError, ConnectionError):
            if not started:
                start(run)
                started = time.monotonic()
            elif time.monotonic() - started > _FIRST_WORD and not locked_by(f"{run}/{LOCK}"):
                break
            time.sleep(0.005)
    raise Unavailable(f"the keeper of the networks does not answer{_last_words(run)}")


def _last_words(run: str) -> str:
    try:
        with open(f"{run}/{LOG}", errors="replace") as log:
            lines = log.read().splitlines()
    except OSError:
        lines = []
    where = os.path.join(os.path.realpath(run), LOG)
    return f": {lines[-1]} (see {where})" if lines else f"; see {where}"


def locked_by(path: str) -> int:
    """The pid of the process that holds a lock of fcntl(2) on a file; 0 where none does. Not for a
    file that we have locked ourselves: to close it would unlock it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        return pid if kind != fcntl.F_UNLCK else 0
    finally:
        os.close(fd)


def holder(run: str) -> int:
    """A pidfd of the process that holds the networks of the store, -1 where there is none. The
    user namespace that it is in is the one from which they can be reached."""
    try:
        with open(f"{run}/{HOLDER}") as file:
            told = json.load(file)
        return processes.open_process(told["pid"], told["started"])
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, TypeError):
        return -1


def start(run: str) -> None:
    """Fork a keeper, unless there is one; it listens soon."""
    child = os.fork()
    if child:
        with suppress(ChildProcessError):  # who ignores SIGCHLD has none to wait for (wait(2))
            os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _be(run)
    finally:
        os._exit(0)


def _be(run: str) -> None:
    os.chdir(run)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (null, 1), (log, 2), (lock, 3)):
        os.dup2(source, target)
    os.closerange(4, 4096)
    try:  # only now: to close one descriptor of a file is to unlock it (fcntl(2))
        fcntl.lockf(3, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another one was faster
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    temporary = f"{SOCKET}.{os.getpid()}"
    listener.bind(temporary)
    listener.listen(128)
    os.rename(temporary, SOCKET)
    try:
        import_module("cellbox.networks.keeper").serve(listener, run)
    except Exception:  # of a library that cannot be loaded; who waits is pointed to the log
        os.write(2, traceback.format_exc().encode())
