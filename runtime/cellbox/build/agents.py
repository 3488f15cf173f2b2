"""A socket that leads to an SSH agent of this machine, for the length of a step."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellbox.errors import InvalidArgument

_CHUNK = 1 << 16


@contextmanager
def forwarded(target: str) -> Iterator[str]:
    """A socket that leads to the agent at ``target`` while the block lasts: its path. The directory
    is this user's only; who is given the socket itself may use it. Raises InvalidArgument."""
    if not Path(target).is_socket():
        raise InvalidArgument(f"{target} is no socket of an SSH agent")
    with (
        tempfile.TemporaryDirectory(prefix="cellbox-build-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = f"{directory}/agent"
        listener.bind(path)
        os.chmod(path, 0o666)  # the ids of containers are not this user's
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, target), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, target: str) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the step is over
            return
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.connect(target)
        except OSError:
            client.close()
            agent.close()
            continue
        threading.Thread(target=_both, args=(client, agent), daemon=True).start()


def _both(client: socket.socket, agent: socket.socket) -> None:
    """Hand over what either says, until both have ended."""
    with client, agent:
        back = threading.Thread(target=_forward, args=(agent, client), daemon=True)
        back.start()
        _forward(client, agent)
        back.join()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
