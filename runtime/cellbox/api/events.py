"""Events as they happen, to any number of clients.

One thread follows the engine and hands each event to all who listen, so that a thousand clients
cost a thousand queues and not a thousand readers of one log. What happened before a client came it
gets from the engine itself, once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.api.tasks import JSON_LINES
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.model.event import Event
from cellbox.model.event_filter import matcher
from cellbox.wire.events import event_json
from cellbox.wire.filters import moment
from cellbox.wire.progress import line

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

WAITING = 10_000
"""Events that wait for a client to read them; one that falls further behind is let go."""

LINGER = 5.0
"""Seconds for which the engine is followed on when nobody listens any more."""

_LOOK = 1.0
"""Seconds between two looks whether a client to whom nothing is sent is still there."""

_OVERLAP = 100
"""How many events of the past are remembered, to know them when they come as new ones too."""


class Listener:
    """What one client has not read yet."""

    def __init__(self, leave: Callable[[Listener], None]) -> None:
        self._queue: Queue[Event | None] = Queue(WAITING)
        self._leave = leave
        self._closed = False

    def offer(self, event: Event | None) -> None:
        """One more event, or None for the end. Never waits."""
        try:
            self._queue.put_nowait(event)
        except Full:
            self.close()

    def take(self, timeout: float) -> Event | None:
        """The next event, or None at the end. Raises TimeoutError."""
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            if self._closed:
                return None
            raise TimeoutError from None

    def close(self) -> None:
        """Hear no more. Whoever waits in :meth:`take` hears of the end; repeating it does
        nothing."""
        self._leave(self)
        self._closed = True
        with contextlib.suppress(Full):
            self._queue.put_nowait(None)


class Feed:
    """The events of ``engine``, handed to all who listen; the engine is followed while anybody
    does, and a little longer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._reader: _Reader | None = None
        self._left = 0.0

    def listen(self) -> Listener:
        """Hear of all that happens after this call."""
        listener = Listener(self._leave)
        with self._lock:
            if self._reader is None:
                self._reader = _Reader(self)
                events = self._engine.events(stop=self._reader.is_over)  # from now on
                self._reader.begin(events)
            self._listeners.add(listener)
        return listener

    def __len__(self) -> int:
        """How many listen."""
        with self._lock:
            return len(self._listeners)

    def _leave(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)
            self._left = time.monotonic()

    def forsaken(self, reader: _Reader) -> bool:
        """Is ``reader`` of no use any more? Then it is let go: who comes now gets another one."""
        with self._lock:
            if self._reader is reader and not self._listeners:
                if time.monotonic() - self._left >= LINGER:
                    self._reader = None
            return self._reader is not reader

    def ended(self, reader: _Reader) -> None:
        """The engine tells no more: nor is there more for who listens."""
        with self._lock:
            if self._reader is not reader:
                return
            self._reader = None
        self._hand_out(None)

    def heard(self, reader: _Reader, event: Event) -> None:
        """One more event."""
        if self._reader is reader:
            self._hand_out(event)

    def _hand_out(self, event: Event | None) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.offer(event)


class _Reader:
    """One thread that follows the engine for ``feed``."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def begin(self, events: Iterator[Event]) -> None:
        """Read ``events`` from now on."""
        threading.Thread(target=self._read, args=(events,), name="events", daemon=True).start()

    def is_over(self) -> bool:
        """May it end?"""
        return self._feed.forsaken(self)

    def _read(self, events: Iterator[Event]) -> None:
        try:
            with contextlib.suppress(CellboxError, OSError):
                for event in events:
                    self._feed.heard(self, event)
        finally:
            self._feed.ended(self)


class _Told:
    """The lines that one client gets: first what was, then what happens, until it hangs up."""

    def __init__(self, daemon: Daemon, request: Request) -> None:
        self._matches = matcher(request.filters())
        self._since = _instant(request, "since")
        self._until = _instant(request, "until")
        self._gone = request.gone
        self._listener = daemon.events.listen()
        self._lines = self._all(daemon.engine)

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> None:
        self._listener.close()

    def _all(self, engine: Engine) -> Iterator[bytes]:
        past: deque[Event] = deque(maxlen=_OVERLAP)
        if self._since is not None:
            now = time.time()
            until = now if self._until is None else min(now, self._until)
            for event in engine.events(since=self._since, until=until):
                past.append(event)
                if self._matches(event):
                    yield line(event_json(event))
        for event in self._live():
            if event not in past and self._wanted(event):
                yield line(event_json(event))

    def _live(self) -> Iterator[Event]:
        while True:
            left = _LOOK if self._until is None else min(_LOOK, self._until - time.time())
            try:
                event = self._listener.take(max(left, 0.0))
            except TimeoutError:
                if left <= 0 or self._gone():
                    return
                continue
            if event is None:
                return
            yield event

    def _wanted(self, event: Event) -> bool:
        return (
            (self._since is None or event.time >= self._since)
            and (self._until is None or event.time <= self._until)
            and self._matches(event)
        )


@route("GET", "/events")
def events(daemon: Daemon, request: Request) -> Response:
    """``docker events``."""
    return Response(body=_Told(daemon, request), headers=JSON_LINES, eager=True)


def _instant(request: Request, name: str) -> float | None:
    text = request.one(name)
    return moment(text) if text else None
