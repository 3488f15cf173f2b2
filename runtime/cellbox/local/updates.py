"""Changing a container that is there: its name, limits and restart policy, and what it is made of.

A change is one of its row and one of its files. While it goes on the file ``changing`` lies in the
container's directory: who starts one that has it makes the files again from the row first, so that
whoever is killed leaves the old container or the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cellbox import faults
from cellbox.containers import records
from cellbox.errors import CellboxError, Conflict, Unavailable
from cellbox.local.bundles import check_binds, make_binds, named, wants_volumes
from cellbox.local.claim import claimed
from cellbox.local.records import ContainerRecord
from cellbox.model.codec import to_json
from cellbox.model.container import ALLOWED, Limits, RestartPolicy, RunSpec, Status

if TYPE_CHECKING:
    from cellbox.local.containers import LocalContainers
    from cellbox.local.mounting import Plan

faults.declare(
    update__row__changed="a container's row is changed, its files are not",
    update__files__written="all of a change is there, and nobody was told",
)
_CHANGING = "changing"
_PATIENCE = 10.0


def is_half_done(containers: LocalContainers, record: ContainerRecord) -> bool:
    """May the container's files be other than its row says?"""
    return (containers.directory(record.id) / _CHANGING).exists()


def done(containers: LocalContainers, record: ContainerRecord) -> None:
    """The container's files are as its row says."""
    (containers.directory(record.id) / _CHANGING).unlink(missing_ok=True)


@contextlib.contextmanager
def _changing(containers: LocalContainers, record: ContainerRecord) -> Iterator[None]:
    """Row and files change in this block; if it does not end well, the files are made again."""
    directory = containers.directory(record.id)
    with containers.store.told(f"cannot update container {record.name}"):
        with claimed(directory, seconds=_PATIENCE) as ours:
            if not ours:
                raise Unavailable(f"another process is busy with container {record.name}")
            (directory / _CHANGING).touch()
            yield
            faults.point("update.files.written")
            done(containers, record)


def rename(containers: LocalContainers, before: ContainerRecord, name: str) -> ContainerRecord:
    """Give it another name. Raises AlreadyExists, InvalidArgument."""
    record = containers.store.state.containers.rename(before.id, name)
    bundle = records.read_bundle(str(containers.directory(record.id)))
    if bundle is not None:
        fresh = named(bundle, record.name)
        records.write(f"{bundle.directory}/{records.BUNDLE}", fresh)
        news = {"name": fresh.name, "attributes": dict(fresh.attributes)}
        containers.tell(record, {"op": "update", **news})
    containers.emit(record, "rename", oldName=before.name)
    return record


def change(
    containers: LocalContainers,
    record: ContainerRecord,
    limits: Limits | None,
    restart: RestartPolicy | None,
) -> ContainerRecord:
    """Change what can be changed while it runs. Raises InvalidArgument, NotSupported."""
    spec = record.spec
    if limits is not None:
        spec = dataclasses.replace(spec, limits=_merge(spec.limits, limits))
    if restart is not None:
        spec = dataclasses.replace(spec, restart=restart)
    bundle = containers.remade_bundle(record, spec)
    request = {"op": "update", "restart": to_json(bundle.restart)}
    if limits is not None:
        request["limits"] = to_json(limits)
    with _changing(containers, record):
        containers.tell(record, request)
        record = containers.store.state.containers.update(record.id, spec)
        faults.point("update.row.changed")
        records.write(f"{bundle.directory}/{records.BUNDLE}", bundle)
    containers.emit(record, "update")
    return record


def _merge(old: Limits, new: Limits) -> Limits:
    changed = {name: value for name, value in vars(new).items() if value not in (None, "")}
    return dataclasses.replace(old, **changed)


def remake(
    containers: LocalContainers, record: ContainerRecord, changed: Mapping[str, Any]
) -> None:
    """Make the container anew with other ports, mounts or environment. What is wrong with them is
    found before the old one is stopped; where the new one does not start, the old one does."""
    spec = dataclasses.replace(record.spec, **changed)
    was = containers.facts(record).status
    if was in ALLOWED["stop"] and spec.auto_remove:
        raise Conflict(f"container {record.name} removes itself when it stops: it cannot change")
    plan = _checked(containers, record, spec)
    if was in ALLOWED["stop"]:
        containers.stop(record.id)
    try:
        _write(containers, record, spec, plan)
        _run(containers, record, was)
    except CellboxError:
        _write(containers, record, record.spec, _plan(containers, record, record.spec))
        _run(containers, record, was)
        raise
    containers.emit(record, "update")


def _plan(containers: LocalContainers, record: ContainerRecord, spec: RunSpec) -> Plan | None:
    image = containers.store.state.images.get(record.image_id)
    if record.mounts or wants_volumes(spec, image):
        return containers.mounting.plan(spec, image, record.mounts)
    return None


def _checked(containers: LocalContainers, record: ContainerRecord, spec: RunSpec) -> Plan | None:
    """What it is to have mounted. Raises what is wrong with ``spec``, as creating would."""
    image = containers.store.state.images.get(record.image_id)
    check_binds(spec)
    plan = _plan(containers, record, spec)
    bundle = containers.make_bundle(spec, image, record.id, record.name, plan)
    containers.networks.wired(bundle, record, spec)
    with containers.store.told(f"cannot update container {record.name}"):
        make_binds(spec)
        if plan:
            containers.mounting.announce(plan)
    return plan


def _write(
    containers: LocalContainers, record: ContainerRecord, spec: RunSpec, plan: Plan | None
) -> None:
    """Let row and files of the container, which does not run, be those of ``spec``."""
    with _changing(containers, record):
        if containers.facts(record).status in ALLOWED["stop"]:
            raise Conflict(f"container {record.name} was started while it was being changed")
        if plan:
            fresh = containers.mounting.change(record, spec, plan)
        else:
            fresh = containers.store.state.containers.update(record.id, spec)
        faults.point("update.row.changed")
        containers.restore(fresh)


def _run(containers: LocalContainers, record: ContainerRecord, was: Status) -> None:
    if was in ALLOWED["stop"]:
        containers.start(record.id)
    if was is Status.PAUSED:
        containers.pause(record.id)
