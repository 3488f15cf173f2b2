"""``docker attach``, over a raw connection or a websocket, and the size of a terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cellbox.api import keys
from cellbox.api.http import Hijack, Request, Response
from cellbox.api.routing import route
from cellbox.api.streams import BOTH, Carrier, Client, Terms, content_type, size_of
from cellbox.api.websocket import WebSocket, accept
from cellbox.engine import Stream
from cellbox.errors import WrongState
from cellbox.model.container import ALLOWED, Container, Status
from cellbox.wire.streams import frame

if TYPE_CHECKING:
    from cellbox.api.server import Daemon


class Attached:
    """The streams of those who are attached, by their container's id: a terminal is told its size
    through one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, list[Stream]] = {}

    @contextlib.contextmanager
    def here(self, id: str, stream: Stream) -> Iterator[None]:
        """``stream`` is attached to container ``id`` while the block runs."""
        with self._lock:
            self._streams.setdefault(id, []).append(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams[id].remove(stream)
                if not self._streams[id]:
                    del self._streams[id]

    def resize(self, id: str, rows: int, columns: int) -> bool:
        """Tell the terminal of container ``id`` its size; False where nobody is attached."""
        with self._lock:
            streams = list(self._streams.get(id, ()))
        for stream in streams[-1:]:
            stream.resize(rows, columns)
        return bool(streams)


@route("POST", "/containers/{id}/attach")
def attach(daemon: Daemon, request: Request) -> Hijack:
    """``docker attach``, and before its start every ``docker run`` in the foreground."""
    facts = daemon.engine.containers.get(request.params["id"])
    wanted = frozenset(name for name in BOTH if request.flag(name))
    framed = not facts.spec.tty
    terms = _terms(facts, request, wanted=wanted, framed=framed, stdin=request.flag("stdin"))
    upgrade = "upgrade" in request.headers
    return Hijack(
        _attachment(daemon, facts, request, terms),
        content_type(request.version, framed=framed, upgrade=upgrade),
    )


@route("GET", "/containers/{id}/attach/ws")
def attach_websocket(daemon: Daemon, request: Request) -> Hijack:
    """The same over a websocket: output is not framed, the websocket does that."""
    head = accept(request)
    facts = daemon.engine.containers.get(request.params["id"])
    everything = request.version < (1, 42)
    wanted = frozenset(name for name in BOTH if everything or request.flag(name))
    stdin = everything or request.flag("stdin")
    terms = _terms(facts, request, wanted=wanted, framed=False, stdin=stdin)
    run = _attachment(daemon, facts, request, terms)
    text = request.version < (1, 28)
    return Hijack(lambda client: run(WebSocket(client, text=text)), head=head)


@route("POST", "/containers/{id}/resize")
def resize(daemon: Daemon, request: Request) -> Response:
    """Tell its terminal its size."""
    rows, columns = size_of(request)
    facts = daemon.engine.containers.get(request.params["id"])
    if not daemon.attached.resize(facts.id, rows, columns):
        if facts.status not in ALLOWED["top"]:
            raise WrongState(f"Container {facts.id} is not running")
        with daemon.engine.containers.attach(facts.id) as stream:
            stream.resize(rows, columns)
    return Response()


def _terms(
    facts: Container, request: Request, *, wanted: frozenset[str], framed: bool, stdin: bool
) -> Terms:
    escapes = keys.parse(request.one("detachKeys"))
    return Terms(
        wanted=wanted,
        framed=framed,
        stdin=stdin and facts.spec.interactive,
        ends_stdin=facts.spec.stdin_once,
        keys=escapes if facts.spec.tty else b"",
    )


def _attachment(
    daemon: Daemon, facts: Container, request: Request, terms: Terms
) -> Callable[[Client], None]:
    """What is to be done with the client, everything being ready for it."""
    replay = request.flag("logs")
    if not request.flag("stream"):
        entries = daemon.engine.containers.logs(facts.id) if replay else iter(())
        return lambda client: _replay(client, ((name, data) for _, name, data in entries), terms)
    _check(facts)
    stream = daemon.engine.containers.attach(facts.id, stdin=terms.stdin, logs=replay)
    return lambda client: _carry(daemon, facts.id, client, stream, terms)


def _check(facts: Container) -> None:
    if facts.status is Status.PAUSED:
        raise WrongState(f"container {facts.id} is paused, unpause the container before attach")
    if facts.status is Status.RESTARTING:
        raise WrongState(f"Container {facts.id} is restarting, wait until the container is running")


def _replay(client: Client, entries: Iterable[tuple[str, bytes]], terms: Terms) -> None:
    for name, data in entries:
        if name in terms.wanted:
            client.send(frame(name, data) if terms.framed else data)
    client.end()


def _carry(daemon: Daemon, id: str, client: Client, stream: Stream, terms: Terms) -> None:
    carrier = Carrier(client, stream, terms)
    try:
        with stream, daemon.attached.here(id, stream):
            carrier.run()
    finally:
        carrier.close()
