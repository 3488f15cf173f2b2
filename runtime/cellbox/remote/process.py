"""The process behind a stream: its exit code, its terminal's size, its signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal as signals
from typing import Any

from cellbox.errors import Conflict, InvalidArgument, NotFound, Unavailable
from cellbox.linux import process as processes
from cellbox.remote import paths
from cellbox.remote.deadline import Deadline, poll
from cellbox.remote.transport import Transport
from cellbox.wire.errors import error_from

_KILLED = 137
_STARTING = 2.0
"""Seconds that a daemon may take to start what it has said that it runs."""


class Wait:
    """A wait that has begun when this is made, so that no end is missed."""

    def __init__(self, transport: Transport, ref: str, condition: str) -> None:
        path = paths.container(ref, "/wait")
        self._answer = transport.open("POST", path, {"condition": condition})
        self._said = b""

    def exit_code(self, timeout: float | None = None) -> int:
        """Block until then. Raises TimeoutError, after which it may be asked again."""
        deadline = Deadline(timeout)
        while piece := self._answer.read(deadline.left):
            self._said += piece
        try:
            told = json.loads(self._said)
            code, failure = int(told["StatusCode"]), told.get("Error")
        except (ValueError, KeyError, TypeError):
            raise Unavailable("the engine went away while its container was waited for") from None
        if failure:
            raise error_from(500, str(failure.get("Message", "waiting for the container failed")))
        return code

    def close(self) -> None:
        """Give it up."""
        self._answer.close()

    def __enter__(self) -> Wait:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ContainerProcess:
    """The first process of a container."""

    def __init__(self, transport: Transport, id: str, waiting: Wait) -> None:
        self._http = transport
        self._id = id
        self._waiting = waiting

    def resize(self, rows: int, columns: int) -> None:
        path = paths.container(self._id, "/resize")
        self._http.request("POST", path, {"h": rows, "w": columns})

    def signal(self, name: str) -> None:
        with contextlib.suppress(NotFound, Conflict):
            self._http.request("POST", paths.container(self._id, "/kill"), {"signal": name})

    def exit_code(self, timeout: float | None) -> int:
        return self._waiting.exit_code(timeout)

    def close(self) -> None:
        self._waiting.close()


class ExecProcess:
    """A further process, by the id of its exec session.

    Docker's API cannot signal one: that works where the daemon is on this machine and we may do it,
    else :meth:`signal` does nothing.
    """

    def __init__(self, transport: Transport, id: str) -> None:
        self._http = transport
        self._id = id

    def resize(self, rows: int, columns: int) -> None:
        self._http.request("POST", f"/exec/{self._id}/resize", {"h": rows, "w": columns})

    def signal(self, name: str) -> None:
        number = _number(name)
        if self._http.address.scheme != "unix":
            return
        with contextlib.suppress(OSError):  # of which TimeoutError is one
            poll(self._started, _STARTING)
            found = self._inspect()
            if found.get("Running"):
                _kill(found["Pid"], self._first(found["ContainerID"]), number)

    def _started(self) -> int | None:
        """Its pid, as soon as it has one; 0 when it has ended."""
        found = self._inspect()
        return (found["Pid"] or None) if found.get("Running") else 0

    def _first(self, container: str) -> int:
        """The pid of the container's first process."""
        return int(self._http.json("GET", paths.container(container, "/json"))["State"]["Pid"])

    def exit_code(self, timeout: float | None) -> int:
        return poll(self._code, timeout)

    def _code(self) -> int | None:
        found = self._inspect()
        if found.get("Running"):
            return None
        code = found.get("ExitCode")
        return _KILLED if code is None else int(code)

    def _inspect(self) -> dict[str, Any]:
        """Empty where it went with its container."""
        try:
            found: dict[str, Any] = self._http.json("GET", f"/exec/{self._id}/json")
        except (NotFound, Conflict):
            return {}
        return found

    def close(self) -> None:
        """Nothing is held."""


def _number(name: str) -> int:
    try:
        return processes.signal_number(name)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def _kill(pid: int, first: int, number: int) -> None:
    """Signal ``pid`` if it is in the same container as ``first``: behind a socket may be another
    machine, and a pid may be somebody else's by now. Raises OSError."""
    fd = os.pidfd_open(pid)
    try:
        if _space_of(first) == _space_of(pid) != _space_of(os.getpid()):
            signals.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def _space_of(pid: int) -> str:
    """Which pid namespace it is in."""
    return os.readlink(f"/proc/{pid}/ns/pid")
