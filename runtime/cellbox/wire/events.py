"""Events in the words of ``docker events``, and back; pure.

Those of containers and images have ``status``, ``id`` and ``from`` too, which clients of before
API 1.22 read.

Source: Engine API 1.45, ``EventMessage``; moby ``api/types/events``.
"""

from __future__ import annotations

from cellbox.model.event import Event
from cellbox.wire.fields import Fields, Json

_NANO = 1_000_000_000
_OLD = frozenset({"container", "image"})


def event_json(event: Event) -> Json:
    """One line of the answer to ``GET /events``."""
    old: Json = {}
    if event.kind in _OLD:
        old = {"status": event.action, "id": event.id}
        if image := event.attributes.get("image"):
            old["from"] = image
    seconds, rest = divmod(event.time, 1.0)
    return {
        **old,
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": int(seconds),
        "timeNano": int(seconds) * _NANO + round(rest * _NANO),
    }


def event_from(body: Json) -> Event:
    """The event that a daemon tells. Raises InvalidArgument for values of the wrong type."""
    told = Fields(body, "Message")
    actor = told.inner("Actor", "Actor")
    seconds, rest = divmod(told.whole("timeNano") or told.whole("time") * _NANO, _NANO)
    return Event(
        time=seconds + rest / _NANO,
        kind=told.text("Type"),
        action=told.text("Action") or told.text("status"),
        id=actor.text("ID") or told.text("id"),
        attributes=actor.text_map("Attributes"),
    )
