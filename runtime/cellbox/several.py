"""One verb over several objects of an engine, and pruning: what no engine should repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cellbox.engine import Engine, Filters
from cellbox.errors import CellboxError, InvalidArgument, NotFound
from cellbox.model import reference
from cellbox.model.container import Status

_ALIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


@dataclass(frozen=True)
class Outcome:
    """One verb over several names: results by name, and errors by name."""

    done: tuple[tuple[str, Any], ...]
    failed: tuple[tuple[str, CellboxError], ...]


def each(refs: Sequence[str], action: Callable[[str], Any]) -> Outcome:
    """Do ``action`` to every name; one that fails does not hold up the others."""
    done: list[tuple[str, Any]] = []
    failed: list[tuple[str, CellboxError]] = []
    for ref in refs:
        try:
            done.append((ref, action(ref)))
        except CellboxError as error:
            failed.append((ref, error))
    return Outcome(tuple(done), tuple(failed))


@dataclass(frozen=True)
class Pruned:
    """What a prune took away: ids (or names), and the bytes that came free."""

    removed: tuple[str, ...]
    bytes: int


def prune_containers(engine: Engine, filters: Filters | None = None) -> Pruned:
    """Remove every container that does not run. Filters: ``until`` (instants), ``label``,
    ``label!``."""
    filters = _known(filters, {"until", "label", "label!"})
    found = [
        facts
        for facts in engine.containers.list(all=True)
        if facts.status not in _ALIVE
        and facts.status is not Status.REMOVING
        and _chosen(facts.spec.labels, facts.created, filters)
    ]
    return _measured(engine, [facts.id for facts in found], engine.containers.remove)


def tags_of(engine: Engine, repository: str) -> list[str]:
    """The familiar names of all images of this repository. Raises NotFound for none."""
    name = reference.parse(repository).familiar_name
    tags = [tag for facts in engine.images.list(all=True) for tag in facts.tags]
    found = sorted(tag for tag in tags if reference.parse(tag).familiar_name == name)
    if not found:
        raise NotFound("image", name)
    return found


def prune_images(engine: Engine, *, all: bool = False, filters: Filters | None = None) -> Pruned:
    """Remove images without a name, or with ``all`` every one that no container uses."""
    filters = _known(filters, {"until", "label", "label!", "dangling"})
    all = all or "false" in [word.lower() for word in filters.get("dangling", ())]
    used = {facts.image_id for facts in engine.containers.list(all=True)}
    found = [
        facts
        for facts in engine.images.list()
        if facts.id not in used
        and (all or not facts.tags)
        and _chosen(facts.config.labels, facts.created or 0.0, filters)
    ]

    def remove(ref: str) -> None:
        engine.images.remove(ref, force=True)

    return _measured(engine, [facts.id for facts in found], remove)


def prune_networks(engine: Engine, filters: Filters | None = None) -> Pruned:
    """Remove every network of the user's that no container is in; names. Filters as
    :func:`prune_containers`."""
    filters = _known(filters, {"until", "label", "label!"})
    found = [
        facts
        for facts in engine.networks.list()
        if not facts.built_in
        and not facts.endpoints
        and _chosen(facts.spec.labels, facts.created, filters)
    ]
    outcome = each([facts.name for facts in found], engine.networks.remove)
    return Pruned(tuple(name for name, _ in outcome.done), 0)


def prune_volumes(engine: Engine, *, all: bool = False, filters: Filters | None = None) -> Pruned:
    """Remove every volume without a name that no container has, or with ``all`` those with a name
    too; names. Filters: ``label``, ``label!``."""
    filters = _known(filters, {"label", "label!"})
    found = [
        facts.name
        for facts in engine.volumes.list()
        if not facts.users
        and (all or facts.anonymous)
        and _chosen(facts.labels, facts.created, filters)
    ]
    sizes = dict(each(found, engine.volumes.size).done)
    removed = [name for name, _ in each(found, engine.volumes.remove).done]
    return Pruned(tuple(removed), sum(sizes.get(name, 0) for name in removed))


def _measured(engine: Engine, ids: Sequence[str], remove: Callable[[str], Any]) -> Pruned:
    before = _used(engine) if ids else 0
    outcome = each(ids, remove)
    freed = before - _used(engine) if outcome.done else 0
    return Pruned(tuple(ref for ref, _ in outcome.done), max(0, freed))


def _used(engine: Engine) -> int:
    return sum(row.size for row in engine.disk_usage())


def _known(filters: Filters | None, known: set[str]) -> Filters:
    unknown = set(filters or ()) - known
    if unknown:
        raise InvalidArgument(f"Invalid filter '{min(unknown)}': use {', '.join(sorted(known))}")
    return filters or {}


def _chosen(labels: Any, created: float, filters: Filters) -> bool:
    until = [_moment(word) for word in filters.get("until", ())]
    return (
        all(created <= moment for moment in until)
        and all(_has(labels, word) for word in filters.get("label", ()))
        and not any(_has(labels, word) for word in filters.get("label!", ()))
    )


def _moment(word: str) -> float:
    try:
        return min(float(word), time.time())
    except ValueError:
        raise InvalidArgument(f"until={word} is not a Unix time") from None


def _has(labels: Any, word: str) -> bool:
    key, equals, value = word.partition("=")
    return key in labels and (not equals or labels[key] == value)
