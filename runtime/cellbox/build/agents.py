"""A socket that leads to an SSH agent of this machine, for the length of a step."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from cellbox.errors import InvalidArgument

_CHUNK = 1 << 16


class Agent:
    """Forwards what connects to ``path`` to the agent at ``target``, while the block lasts. The
    directory is this user's only; who is given the socket itself may use it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._held = ExitStack()
        self.path = ""

    def __enter__(self) -> Agent:
        if not Path(self._target).is_socket():
            raise InvalidArgument(f"{self._target} is no socket of an SSH agent")
        with ExitStack() as held:
            directory = held.enter_context(tempfile.TemporaryDirectory(prefix="cellbox-build-"))
            self.path = f"{directory}/agent"
            listener = held.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(self.path)
            os.chmod(self.path, 0o666)  # the ids of containers are not this user's
            listener.listen()
            thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
            thread.start()
            held.callback(thread.join)
            held.callback(listener.shutdown, socket.SHUT_RDWR)
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the step is over
                return
            agent = socket.socket(socket.AF_UNIX)
            try:
                agent.connect(self._target)
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
