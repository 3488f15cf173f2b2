"""Which events a user wants to hear of: the filters of ``docker events``; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cellbox.errors import InvalidArgument
from cellbox.model.event import Event

_Test = Callable[[Event, str], bool]


def matcher(filters: Mapping[str, Sequence[str]]) -> Callable[[Event], bool]:
    """Docker's rule: every key must hold, by one of its values; of labels, all must hold.

    Raises InvalidArgument for a key that is not known.
    """
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


def _is(kind: str) -> _Test:
    def test(event: Event, value: str) -> bool:
        name = event.attributes.get("name", "")
        return event.kind == kind and (event.id.startswith(value) or name == value)

    return test


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
    "container": _is("container"),
    "daemon": _is("daemon"),
    "network": _is("network"),
    "plugin": _is("plugin"),
    "volume": _is("volume"),
    "image": _is_image,
    "label": _has_label,
    "scope": lambda event, value: value == "local",
}
