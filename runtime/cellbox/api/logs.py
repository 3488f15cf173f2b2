"""``docker logs``: what a container has written and writes, with its streams kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.api.streams import BOTH, MULTIPLEXED, RAW
from cellbox.errors import InvalidArgument
from cellbox.model.times import instant
from cellbox.wire.filters import moment
from cellbox.wire.streams import Deframer, frame, stamp

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_BATCH = 1 << 16

Entry = tuple[float, str, bytes]


@route("GET", "/containers/{id}/logs")
def container_logs(daemon: Daemon, request: Request) -> Response:
    """``docker logs``. A client that hangs up ends the following."""
    wanted = frozenset(name for name in BOTH if request.flag(name))
    if not wanted:
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    facts = daemon.engine.containers.get(request.params["id"])
    follow, framed = request.flag("follow"), not facts.spec.tty
    entries = daemon.engine.containers.logs(
        facts.id,
        follow=follow,
        tail=_tail(request.one("tail")),
        since=_moment(request.one("since")),
        until=_moment(request.one("until")),
        stop=request.gone if follow else None,
    )
    lines = _lines(entries, wanted, framed=framed, form=_form(request))
    kind = MULTIPLEXED if framed and request.version >= (1, 42) else RAW
    body = lines if follow else _batched(lines)
    return Response(body=body, headers={"Content-Type": kind}, eager=follow)


@route("DELETE", "/containers/{id}/logs")
def clear_logs(daemon: Daemon, request: Request) -> Response:
    """Forget what it has written so far; Docker has no such route."""
    daemon.engine.files.clear_logs(request.params["id"])
    return Response(204)


@route("POST", "/containers/{id}/logs")
def append_logs(daemon: Daemon, request: Request) -> Response:
    """Put entries at the end of its log: frames, each with the instant before it, as they are told
    with ``timestamps``. Docker has no such route."""
    daemon.engine.files.append_logs(request.params["id"], _told_entries(request.body))
    return Response(204)


def _told_entries(body: BinaryIO) -> Iterator[Entry]:
    deframer = Deframer()
    while piece := body.read(_BATCH):
        for name, line in deframer.feed(piece):
            when, space, data = line.partition(b" ")
            written = instant(when.decode("ascii", "replace"))
            if name not in BOTH or not space or written is None:
                raise InvalidArgument("an entry of a log is a frame of an instant and its data")
            yield written, name, data
    if not deframer.whole:
        raise InvalidArgument("the last entry of the log is cut off")


def _tail(text: str) -> int | None:
    """How many lines; None for all of them, which is also what moby takes any other word for."""
    return int(text) if text.isascii() and text.isdigit() else None


def _moment(text: str) -> float | None:
    return None if text in ("", "0") else moment(text)


def _form(request: Request) -> Callable[[float, bytes], bytes]:
    """How one entry is written. There are no details to be told, and moby then writes a space."""
    stamped = request.flag("timestamps")
    details = b" " if request.flag("details") else b""

    def write(written: float, data: bytes) -> bytes:
        return (stamp(written) if stamped else b"") + details + data

    return write if stamped or details else lambda _, data: data


def _lines(
    entries: Iterable[Entry],
    wanted: frozenset[str],
    *,
    framed: bool,
    form: Callable[[float, bytes], bytes],
) -> Iterator[bytes]:
    for written, name, data in entries:
        if name in wanted:
            line = form(written, data)
            yield frame(name, line) if framed else line


def _batched(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)
