"""The engine's event log: what happened, in the words of ``docker events``.

One JSON object a line in ``events.jsonl``; any process appends (engines here, shims through
``containers.journal`` directly), and the file is rotated at 1 MiB to ``events.jsonl.1``::

    {"time":1714557600.5,"kind":"container","action":"die","id":"...","attributes":{"exitCode":"0"}}

A key that is missing has its default, as in all that ``model.codec`` writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cellbox.containers import journal
from cellbox.engine import Filters
from cellbox.model import codec
from cellbox.model.event import Event
from cellbox.model.event_filter import matcher

_START = b'{"time":'


class EventLog:
    """The event log at ``path``; any number of processes write and follow it."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def append(self, event: Event) -> None:
        """Note that something happened. A full disk drops the event; this never raises OSError."""
        data = codec.dumps(event).encode()
        journal.append(self._path, data, limit=journal.EVENTS_LIMIT)

    def follow(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Filters | None = None,
        ended: Callable[[], bool] = lambda: False,
        wait: Callable[[float], None] = time.sleep,
    ) -> Iterator[Event]:
        """Events from ``since`` on (None: those to come), then each as it comes, until ``until``.

        Times are seconds since the epoch; ``ended`` ends it too, after what is written by then.
        Raises InvalidArgument for an unknown filter, at once.
        """
        matches = matcher(filters or {})

        def over() -> bool:
            return ended() or (until is not None and time.time() >= until)

        lines = journal.lines(
            self._path, tail=0 if since is None else None, follow=True, ended=over, wait=wait
        )
        return (
            event
            for event in map(_parse, lines)
            if event is not None
            and (since is None or event.time >= since)
            and (until is None or event.time <= until)
            and matches(event)
        )


def _parse(data: bytes) -> Event | None:
    # a writer that died in a line has glued it to the next one
    for start in {0, max(0, data.rfind(_START))}:
        try:
            return codec.loads(Event, data[start:])
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return None
