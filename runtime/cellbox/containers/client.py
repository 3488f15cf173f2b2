"""Asking the launcher and the shims: what the engine calls, and nothing else talks to them.

A :class:`Launcher` is cheap and may be used from any thread; each request is a connection of its
own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import zstandard

import cellbox
from cellbox.containers import launcher, records, worker
from cellbox.containers.messages import MAX_PAYLOAD, Failure, Kind, packet, unpack
from cellbox.errors import EngineError, NotSupported, StartError, Unavailable
from cellbox.linux.mounts import Mount
from cellbox.linux.process import signal_number
from cellbox.model.codec import from_json, to_json
from cellbox.networks import client as keeper

_START_SECONDS = 20.0
_NEEDED = (cellbox, zstandard)
_CONNECT_TRIES = 5


class Launcher:
    """The launcher of the store at ``root``, whose sockets are in ``run``; started when needed."""

    def __init__(self, root: Path, run: Path) -> None:
        self._root, self._run = root, run

    def work(self, job: str, args: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Do one job (``images.jobs``) in a worker, as the root of containers. Raises what it
        raises."""
        return self._work({"op": "work", "job": job, "args": dict(args)}, fds)

    def work_in(
        self,
        rootfs: Sequence[Mount],
        job: str,
        args: Mapping[str, Any],
        fds: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Do one job on the files of a container that does not run, whose mounts are ``rootfs``."""
        built = [to_json(mount) for mount in rootfs]
        request = {"op": "work", "job": job, "args": dict(args), "rootfs": built}
        return self._work(request, fds)

    def _work(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        connection, reply = self._request(request, fds)
        connection.close()
        result: dict[str, Any] = reply["result"]
        return result

    def start(
        self, directory: Path, *, owned: bool, streams: Sequence[tuple[socket.socket, bool | None]]
    ) -> socket.socket | None:
        """Start the container whose bundle is in ``directory``; returns when its program runs.

        ``streams`` are (our peer's end of a stream, takes stdin; None: hears of the end only),
        attached before the program starts. With ``owned`` the socket that comes back keeps the
        container alive. Raises StartError.
        """
        request = {
            "directory": str(directory),
            "owned": owned,
            "attach": [{"stdin": stdin} for _, stdin in streams],
        }
        fds = [end.fileno() for end, _ in streams]
        connection, reply = self._request(request, fds, launcher.START_SOCKET)
        if "failure" in reply:
            connection.close()
            raise start_error(from_json(Failure, reply["failure"]))
        if owned:
            return connection
        connection.close()
        return None

    def network(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> keeper.Answer:
        """Ask the keeper of the store's networks, starting it where there is none. Raises
        Unavailable."""
        for _ in range(_CONNECT_TRIES):
            try:
                return keeper.ask(str(self._run), request, fds)
            except (FileNotFoundError, ConnectionError):
                self._request({"op": "networks"}, ())[0].close()
        raise Unavailable(f"the keeper of the networks in {self._run} does not answer; "
                          f"see {keeper.LOG} there")  # fmt: skip

    def ensure(self) -> None:
        """Start the launcher if it does not run. Raises NotSupported where this machine forbids
        it."""
        self._request({"op": "ping"}, ())[0].close()

    def _request(
        self, request: Mapping[str, Any], fds: Sequence[int], name: str = launcher.SOCKET
    ) -> tuple[socket.socket, dict[str, Any]]:
        """Ask, starting the launcher where there is none: (the connection, the answer)."""
        for attempt in range(_CONNECT_TRIES):
            try:
                connection = _ask(self._run / name, request, fds)
            except (FileNotFoundError, ConnectionError):
                if attempt:
                    time.sleep(0.02 * attempt)  # another process is just starting or ending one
                self._spawn()
                continue
            try:
                answer = _receive(connection)
                if "again" in answer:
                    raise ConnectionResetError
                return connection, answer
            except ConnectionResetError:  # a launcher that was ending: it has done nothing
                connection.close()
            except BaseException:
                connection.close()
                raise
        raise Unavailable(f"the launcher in {self._run} does not answer; see launcher.log there")

    def _spawn(self) -> None:
        """Start a launcher in a session of its own, and wait until it listens."""
        folders = {str(Path(module.__file__ or "").parent.parent): None for module in _NEEDED}
        text = launcher.bootstrap("enter")
        words = [
            sys.executable,
            *launcher.FLAGS,
            text,
            str(self._run),
            ":".join(folders),
            str(self._root),
        ]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd="/",
        )
        assert process.stdout and process.stderr
        ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        answer = os.read(process.stdout.fileno(), 65536) if ready else b""
        reply = json.loads(answer) if answer else {}
        if not reply.get("ready"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its session is its own
        with process.stdout, process.stderr:
            said = "" if reply.get("ready") else process.stderr.read().decode("utf-8", "replace")
        process.wait()  # not for the launcher, but for who started it (``launcher.enter``)
        if not reply.get("ready"):
            raise _not_started(reply, said.strip())


def _not_started(reply: Mapping[str, Any], said: str) -> Exception:
    if "error" in reply:
        cause = worker.rebuild(reply["error"])
        return NotSupported(
            f"this machine does not let cellbox make namespaces ({cause}); `cellbox doctor` says "
            "what would change that"
        )
    last = said.splitlines()[-1] if said else "no answer"
    return EngineError(f"the launcher did not start: {last}")


class Shim:
    """The shim of the container whose run directory is ``run``."""

    def __init__(self, run: Path) -> None:
        self._socket = run / records.SOCKET

    def ask(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """One request (``containers.control``), one answer. Raises what it raises, and
        ConnectionError or FileNotFoundError where the shim is gone."""
        with _ask(self._socket, request, fds) as connection:
            return _receive(connection)

    def work(self, job: str, args: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Do one job inside the running container."""
        reply = self.ask({"op": "work", "job": job, "args": dict(args)}, fds)
        result: dict[str, Any] = reply["result"]
        return result

    def wait(self, timeout: float | None) -> int | None:
        """The exit code, when the container has ended; None where the shim went without a word.
        Raises TimeoutError."""
        with _ask(self._socket, {"op": "wait"}, ()) as connection:
            # Zero would mean not to wait at all, and to say so by another error.
            connection.settimeout(None if timeout is None else max(timeout, 0.001))
            try:
                return int(worker.receive(connection)["exit_code"])
            except (EOFError, ConnectionError):
                return None


def _ask(path: Path, request: Mapping[str, Any], fds: Sequence[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        _connect(connection, path)
        socket.send_fds(connection, [json.dumps(request).encode()], fds)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: Path) -> None:
    """connect(2); a long path goes by way of its directory, as sockaddr_un has room for 107
    bytes."""
    if len(os.fsencode(path)) < 108:
        connection.connect(str(path))
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{fd}/{path.name}")
    finally:
        os.close(fd)


def _receive(connection: socket.socket) -> dict[str, Any]:
    try:
        return worker.receive(connection)
    except EOFError:
        raise EngineError("the process that did this ended without an answer") from None


def start_error(failure: Failure) -> StartError:
    """A failure as the error of the engine."""
    return StartError(failure.stage, failure.errno, failure.detail, failure.exit_code)


class ProcessStream:
    """A :class:`~cellbox.engine.Stream` over one end of a stream's socket pair.

    ``fallback`` tells the exit code where the shim ends without telling it.
    """

    def __init__(self, end: socket.socket, fallback: Any = None) -> None:
        self._socket = end
        self._fallback = fallback
        self._exit_code: int | None = None
        self._failure: StartError | None = None
        self._over = False
        self.pid = 0

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while (piece := self.read()) is not None:
            yield piece

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            piece = self._hear(self._receive(deadline))
            if piece:
                return piece
        return None

    def _receive(self, deadline: float | None) -> bytes:
        """The next packet; empty at the end. Waits by poll(2), so that a writer in another thread
        is not bound by the reader's deadline."""
        try:
            if deadline is not None:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise TimeoutError
            return self._heard()
        except TimeoutError:
            raise
        except (OSError, ValueError):  # closed by us in another thread, or reset
            return b""

    def _heard(self) -> bytes:
        """The next packet. A shim that left with words of ours unread is told of as a reset, once
        and before what it had said, which is still to be had (unix(7), recv(2))."""
        try:
            return self._socket.recv(MAX_PAYLOAD + 1)
        except ConnectionResetError:
            return self._socket.recv(MAX_PAYLOAD + 1)

    def _hear(self, data: bytes) -> tuple[str, bytes] | None:
        if not data:
            self._over = True
            return None
        kind, payload = unpack(data)
        if kind is Kind.STDOUT:
            return "stdout", payload
        if kind is Kind.STDERR:
            return "stderr", payload
        if kind is Kind.STARTED:
            self.pid = int(payload)
        elif kind is Kind.FAILED:
            self._failure = start_error(from_json(Failure, json.loads(payload)))
        elif kind is Kind.EXITED:
            self._exit_code = int(payload)
            self._over = True
        return None

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_PAYLOAD):
            self._send(Kind.STDIN, data[start : start + MAX_PAYLOAD])

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        try:
            self._socket.send(packet(kind, payload))
        except OSError as error:
            raise BrokenPipeError("the process is gone") from error

    def close_stdin(self) -> None:
        self._tell(Kind.STDIN_END)

    def resize(self, rows: int, columns: int) -> None:
        self._tell(Kind.RESIZE, struct.pack("!HH", rows, columns))

    def signal(self, name: str) -> None:
        self._tell(Kind.SIGNAL, bytes((signal_number(name),)))

    def _tell(self, kind: Kind, payload: bytes = b"") -> None:
        try:
            self._send(kind, payload)
        except BrokenPipeError:
            pass

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            self.read(None if deadline is None else deadline - time.monotonic())
        if self._failure:
            raise self._failure
        if self._exit_code is None:
            self._exit_code = self._fallback() if self._fallback else 137
        return self._exit_code

    def close(self) -> None:
        self._over = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a reader in another thread
        except OSError:
            pass
        self._socket.close()

    def __enter__(self) -> ProcessStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
