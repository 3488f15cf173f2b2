"""Docker's filters over a list of containers; pure but for looking a reference up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cellbox.engine import Filters
from cellbox.errors import InvalidArgument
from cellbox.local.store import labels_match
from cellbox.model.container import Container, Status

Match = Callable[[Container, str], bool]


def select(
    containers: Sequence[Container],
    *,
    all: bool,
    filters: Filters,
    find: Callable[[str], Container],
) -> list[Container]:
    """Those that ``filters`` let through, in their order; without ``all`` only those that run.

    ``find`` looks up what ``before`` and ``since`` name. Raises InvalidArgument for an unknown key,
    NotFound.
    """
    for key in filters:
        if key not in _MATCHES and key not in ("before", "since"):
            raise InvalidArgument(f"Invalid filter '{key}'")
    found = [one for one in containers if all or _shown(one, filters)]
    for key, values in filters.items():
        if key in ("before", "since"):
            for value in values:
                moment = find(value).created
                found = [one for one in found if _is_on_side(one.created, moment, key)]
        elif key == "label":
            found = [one for one in found if every(labels_match, one.spec.labels, values)]
        else:
            match = _MATCHES[key]
            found = [one for one in found if any_of(match, one, values)]
    return found


def any_of(match: Match, container: Container, values: Sequence[str]) -> bool:
    """Does any of the alternatives hold?"""
    return any(match(container, value) for value in values)


def every(
    match: Callable[[Mapping[str, str], str], bool],
    labels: Mapping[str, str],
    values: Sequence[str],
) -> bool:
    """Do all hold?"""
    return not any(not match(labels, value) for value in values)


def _shown(container: Container, filters: Filters) -> bool:
    if "status" in filters or "exited" in filters:
        return True
    return container.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def _is_on_side(created: float, moment: float, side: str) -> bool:
    return created < moment if side == "before" else created > moment


def _status(container: Container, value: str) -> bool:
    if value not in [status.value for status in Status]:
        raise InvalidArgument(f"Invalid filter 'status={value}'")
    return container.status == value


def _exited(container: Container, value: str) -> bool:
    if not value.lstrip("-").isdecimal():
        raise InvalidArgument(f"Invalid filter 'exited={value}'")
    return container.status is Status.EXITED and container.exit_code == int(value)


def _ancestor(container: Container, value: str) -> bool:
    image = container.spec.image
    return value in (image, image.removesuffix(":latest")) or container.image_id.removeprefix(
        "sha256:"
    ).startswith(value.removeprefix("sha256:"))


def _health(container: Container, value: str) -> bool:
    return (container.health.status if container.health else "none") == value


def _volume(container: Container, value: str) -> bool:
    asked = ((mount.source, mount.target) for mount in container.spec.mounts)
    there = ((mount.name, mount.source, mount.target) for mount in container.mounts)
    return any(value in names for names in (*asked, *there))


def _name(container: Container, value: str) -> bool:
    """A regular expression, which may take the slash that Docker's API puts before a name."""
    try:
        wanted = re.compile(value)
    except re.error:
        return value.removeprefix("/") == container.name
    return bool(wanted.search(container.name) or wanted.search(f"/{container.name}"))


def _network(container: Container, value: str) -> bool:
    places = {name for one in container.endpoints for name in (one.network, one.network_id)}
    return value in places or container.spec.network == value


def _port(key: str, names: Callable[[Container], Iterable[str]]) -> Match:
    """Docker's ``PORT[-PORT][/PROTOCOL]`` among those that ``names`` tells."""

    def match(container: Container, value: str) -> bool:
        text, _, protocol = value.partition("/")
        first, _, last = text.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise InvalidArgument(f"Invalid filter '{key}={value}'")
        wanted = {
            f"{port}/{protocol or 'tcp'}" for port in range(int(first), int(last or first) + 1)
        }
        return bool(wanted.intersection(names(container)))

    return match


def _published(container: Container) -> Iterable[str]:
    return (f"{one.port}/{one.protocol}" for one in container.ports)


def _exposed(container: Container) -> Iterable[str]:
    named = (name if "/" in name else f"{name}/tcp" for name in container.spec.exposed)
    return (*named, *_published(container))


def _only(value: str, *, of: Sequence[str]) -> bool:
    """A filter whose answer is the same for all containers here."""
    return value.lower() in of


_MATCHES: Mapping[str, Match] = {
    "id": lambda container, value: container.id.startswith(value),
    "name": _name,
    "label": lambda container, value: labels_match(container.spec.labels, value),
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "health": _health,
    "network": _network,
    "volume": _volume,
    "expose": _port("expose", _exposed),
    "publish": _port("publish", _published),
    "is-task": lambda container, value: _only(value, of=("false", "0")),
    "isolation": lambda container, value: _only(value, of=("", "default")),
}
