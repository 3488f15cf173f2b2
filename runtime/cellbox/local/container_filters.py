"""Docker's filters over a list of containers; pure but for looking a reference up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
    return any(value in (mount.source, mount.target) for mount in container.spec.mounts)


_MATCHES: Mapping[str, Match] = {
    "id": lambda container, value: container.id.startswith(value),
    "name": lambda container, value: value.removeprefix("/") in container.name,
    "label": lambda container, value: labels_match(container.spec.labels, value),
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "health": _health,
    "network": lambda container, value: container.spec.network == value,
    "volume": _volume,
}
