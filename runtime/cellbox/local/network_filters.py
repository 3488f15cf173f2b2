"""Docker's filters over a list of networks; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cellbox.engine import Filters
from cellbox.errors import InvalidArgument
from cellbox.local.store import labels_match
from cellbox.model.network import Network

_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})

_MATCHES: dict[str, Callable[[Network, str], bool]] = {
    "name": lambda one, value: value in one.name,
    "id": lambda one, value: one.id.startswith(value),
    "driver": lambda one, value: one.spec.driver == value,
    "scope": lambda one, value: value == "local",
    "label": lambda one, value: labels_match(one.spec.labels, value),
}


def select(networks: Sequence[Network], filters: Filters, used: Collection[str]) -> list[Network]:
    """Those that ``filters`` let through, in their order. ``used`` are the ids of those in which a
    container has a place. Raises InvalidArgument for an unknown key or value."""
    found = list(networks)
    for key, values in filters.items():
        if key == "type":
            found = [one for one in found if any(_is_of_type(one, value) for value in values)]
        elif key == "dangling":
            wanted = {_flag(value) for value in values}
            found = [one for one in found if (one.id not in used and not one.built_in) in wanted]
        elif key not in _MATCHES:
            raise InvalidArgument(f"Invalid filter '{key}'")
        else:
            combine = all if key == "label" else any
            match = _MATCHES[key]
            found = [one for one in found if combine(match(one, value) for value in values)]
    return found


def _is_of_type(one: Network, value: str) -> bool:
    if value not in ("custom", "builtin"):
        raise InvalidArgument(f"Invalid filter: 'type'='{value}'")
    return one.built_in == (value == "builtin")


def _flag(value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise InvalidArgument(f"Invalid filter 'dangling={value}'")
    return value.lower() in _TRUE
