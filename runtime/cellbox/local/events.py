"""The engine's event log: what happened, in the words of ``docker events``.

One JSON object a line in ``events.jsonl``; any process appends (engines here, shims through
``containers.journal`` directly), and the file is rotated at 1 MiB to ``events.jsonl.1``::

    {"time":1714557600.5,"kind":"container","action":"die","id":"...","attributes":{"exitCode":"0"}}

A key that is missing has its default, as in all that ``model.codec`` writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cellbox.containers import journal
from cellbox.engine import Filters
from cellbox.errors import InvalidArgument
from cellbox.model import codec
from cellbox.model.event import Event

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
        matches = _matcher(filters or {})

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


# --- filters -------------------------------------------------------------------------------------

_Test = Callable[[Event, str], bool]


def _matcher(filters: Filters) -> Callable[[Event], bool]:
    """Docker's rule: every key must hold, by one of its values; of labels, all must hold."""
    for key in filters:
        if key not in _TESTS:
            raise InvalidArgument(f"invalid filter '{key}'")

    def holds(event: Event, key: str, values: Sequence[str]) -> bool:
        combine = all if key == "label" else any
        return not values or combine(_TESTS[key](event, value) for value in values)

    return lambda event: all(holds(event, key, values) for key, values in filters.items())


def _is_action(event: Event, value: str) -> bool:
    # "exec_create: ls -l" and "health_status: healthy" are found by their first word
    return value in (event.action, event.action.partition(":")[0])


def _is_container(event: Event, value: str) -> bool:
    name = event.attributes.get("name", "")
    return event.kind == "container" and (event.id.startswith(value) or name == value)


def _is_image(event: Event, value: str) -> bool:
    if event.kind not in ("image", "container"):
        return False
    names = [event.attributes.get("name" if event.kind == "image" else "image", "")]
    if event.kind == "image":
        names.append(event.id)
    return value in names or value in [name.rpartition(":")[0] for name in names]


def _has_label(event: Event, value: str) -> bool:
    key, equals, wanted = value.partition("=")
    return key in event.attributes and (not equals or event.attributes[key] == wanted)


_TESTS: dict[str, _Test] = {
    "type": lambda event, value: event.kind == value,
    "event": _is_action,
    "container": _is_container,
    "image": _is_image,
    "label": _has_label,
}
