"""What the containers of a store are doing, read from the files that their shims write and from
whether those shims are alive; nothing is believed because a row says so.

A shim that died without a word is cleaned up after by whoever looks first.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellbox import faults
from cellbox.containers import records
from cellbox.containers.messages import ExitRecord, RunState, group_name
from cellbox.errors import NotFound
from cellbox.linux import cgroups
from cellbox.linux import process as processes
from cellbox.local import mountpoints, releasing
from cellbox.local.bundles import Bundler
from cellbox.local.claim import claimed
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.container import Container, Health, MountPoint, Status
from cellbox.model.network import Endpoint
from cellbox.networks import names, rules

if TYPE_CHECKING:
    from cellbox.local.mounting import Mounting

faults.declare(remove__files__gone="its files are gone, its name is not")
KILLED = 137
LOG = "container.log"
_PATIENCE = 10.0


class Observer:
    """Tells of the containers of ``store``, whose files are where ``bundler`` makes them."""

    def __init__(self, store: Store, bundler: Bundler) -> None:
        self._store = store
        self._bundler = bundler

    def record(self, ref: str) -> ContainerRecord:
        """The row of a container. Raises NotFound, InvalidArgument."""
        return self._store.state.containers.get(ref)

    def directory(self, id: str) -> Path:
        """Where the container's files are."""
        return self._bundler.directory(id)

    def run_directory(self, id: str) -> Path:
        """Where its shim listens."""
        return self._bundler.run_directory(id)

    def file(self, record: ContainerRecord, name: str) -> str:
        return f"{self.directory(record.id)}/{name}"

    def facts(self, record: ContainerRecord) -> Container:
        """The container as it is now. Raises NotFound for one that has just removed itself."""
        base = self._created(record)
        if record.removing:
            return base
        state = self._live_state(record)
        if state is not None:
            more = _running(state)
            if base.endpoints:
                more["endpoints"] = _plugged(base.endpoints)
            return dataclasses.replace(base, **more, health=self._health(record.id))
        ended = self.exit_record(record.id)
        if ended is not None:
            if self._is_believed_in(record):
                self._let_go(record)
            return dataclasses.replace(base, **_exited(ended))
        if not os.path.exists(self.file(record, records.BUNDLE)):
            self._undo_half_made(record)
        return base

    def _created(self, record: ContainerRecord) -> Container:
        base = created(record)
        if not (record.mounts or record.spec.mounts):
            return base
        return dataclasses.replace(base, mounts=self._points(record))

    def _points(self, record: ContainerRecord) -> tuple[MountPoint, ...]:
        directory = self._store.root / "volumes"
        return mountpoints.points(record.mounts or record.spec.mounts, str(directory))

    def _is_believed_in(self, record: ContainerRecord) -> bool:
        """Has a driver of its volumes or networks not heard of its end?"""
        return bool(record.mounts and self.mounting.owes(record)) or (
            bool(record.endpoints) and releasing.owes(self._store, record.endpoints)
        )

    def _let_go(self, record: ContainerRecord) -> None:
        """It has ended, perhaps when no engine was there to tell drivers."""
        with claimed(self.directory(record.id)) as ours:
            if ours and self._live_state(record) is None:
                if record.mounts:
                    self.mounting.tidy(record)
                releasing.leave(self._store, record.endpoints)

    def _undo_half_made(self, record: ContainerRecord) -> None:
        """A container without a bundle: somebody makes it just now, or was killed while he did, or
        it has removed itself. Raises NotFound but in the first case."""
        directory = self.directory(record.id)
        with claimed(directory) as ours:
            if not ours or (directory / records.BUNDLE).exists():
                return
            if record.spec.auto_remove:
                if self.forget(record):  # what is left of its files is garbage
                    self.emit(record, "destroy")
            elif (directory / LOG).exists():
                return  # it has run, so this is damage, for `system check` to mend
            else:
                self.erase(record, volumes=True)
        raise NotFound("container", record.name)

    def _live_state(self, record: ContainerRecord) -> RunState | None:
        """The run that goes on now; what a dead shim has left behind is tidied up."""
        path = f"{self.run_directory(record.id)}/{records.STATE}"
        left = records.read(RunState, path)
        if left and not records.is_current(left):
            left = records.read(RunState, path)  # of one that has just ended in good order, none
        if left is None or records.is_current(left):
            return left
        self._tidy_up(record, left)
        return None

    def _tidy_up(self, record: ContainerRecord, left: RunState) -> None:
        """The shim was killed: so is what it watched over, and that is put on record."""
        with claimed(self.run_directory(record.id), seconds=_PATIENCE):
            if (self.run_directory(record.id) / records.STATE).exists():
                self._end_orphan(record, left)
        if record.spec.auto_remove:
            self.delete(record)

    def _end_orphan(self, record: ContainerRecord, left: RunState) -> None:
        processes.kill(left.pid, left.pid_start, 9)
        processes.wait_gone(left.pid, left.pid_start, 5.0)
        directory, run = self.directory(record.id), self.run_directory(record.id)
        cgroups.discard(group_name(str(self._store.run), left.shim))
        saved, ended = True, self.exit_record(record.id)
        if ended is None or ended.finished < left.started:
            told = "its monitor was killed, so its end was not seen"
            lost = ExitRecord(KILLED, left.started, time.time(), error=told)
            if directory.is_dir():
                saved = records.write_exit(str(directory), str(run), lost)
            self.emit(record, "die", exitCode=str(KILLED))
        for place in record.endpoints:
            names.withdraw(str(self._store.run / "networks" / place.network_id), place.id)
        rules.forget(str(self._store.run), record.id)
        releasing.leave(self._store, record.endpoints)
        left_over = (run,) if saved else (run / records.SOCKET, run / records.STATE)
        for path in left_over:
            self._store.launcher.work("remove", {"path": str(path)})

    def exit_record(self, id: str) -> ExitRecord | None:
        return records.read_exit(str(self.directory(id)), str(self.run_directory(id)))

    def _health(self, id: str) -> Health | None:
        return records.read(Health, f"{self.run_directory(id)}/{records.HEALTH}")

    def delete(self, record: ContainerRecord) -> bool:
        """Take all of it away, unless another process is about it; whether this did it."""
        with claimed(self.directory(record.id)) as ours:
            return ours and self.erase(record)

    def erase(self, record: ContainerRecord, *, volumes: bool | None = None) -> bool:
        """Its files, then its name: killed in between, the next engine goes on from here.
        ``volumes`` as :meth:`forget` has it."""
        for path in (self.directory(record.id), self.run_directory(record.id)):
            if path.exists():
                self._store.launcher.work("remove", {"path": str(path)})
        faults.point("remove.files.gone")
        return self.forget(record, volumes=volumes)

    def forget(self, record: ContainerRecord, *, volumes: bool | None = None) -> bool:
        """Its row, and its volumes that have no name if ``volumes`` says so (None: as it was
        asked for); whether there was one."""
        releasing.leave(self._store, record.endpoints)
        if not record.mounts:
            known = self._store.state.containers.delete(record.id)
        else:
            anonymous = record.spec.auto_remove if volumes is None else volumes
            known = self.mounting.forget(record, anonymous=anonymous)
        releasing.give_back(self._store, record.endpoints)
        return known

    @cached_property
    def mounting(self) -> Mounting:
        """What is mounted in containers; made when the first one with volumes comes."""
        from cellbox.local.mounting import Mounting

        return Mounting(self._store, self)

    def emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        known = {**record.spec.labels, "image": record.spec.image, "name": record.name}
        self._store.emit("container", action, record.id, **{**known, **more})


def created(record: ContainerRecord) -> Container:
    """What its row says of a container."""
    return Container(
        id=record.id,
        name=record.name,
        image_id=record.image_id,
        spec=record.spec,
        command=record.command,
        status=Status.REMOVING if record.removing else Status.CREATED,
        created=record.created,
        endpoints=record.endpoints,
    )


def _plugged(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The places of a container that runs: with interfaces, which are numbered in their order."""
    return tuple(
        dataclasses.replace(one, interface=f"eth{number}") for number, one in enumerate(endpoints)
    )


def _running(state: RunState) -> dict[str, Any]:
    status = Status.RUNNING
    if state.restarting:
        status = Status.RESTARTING
    elif state.paused:
        status = Status.PAUSED
    return {
        "status": status,
        "pid": state.pid,
        "started": state.started,
        "restarts": state.restarts,
        "ports": state.ports,
    }


def _exited(ended: ExitRecord) -> dict[str, Any]:
    return {
        "status": Status.EXITED,
        "exit_code": ended.exit_code,
        "started": ended.started,
        "finished": ended.finished,
        "oom_killed": ended.oom_killed,
        "error": ended.error,
        "restarts": ended.restarts,
    }
