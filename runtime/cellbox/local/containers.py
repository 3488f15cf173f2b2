"""The containers of a store: rows in the state database, directories, and shims.

What a container is doing is never believed from a row: it is read from the files that its shim
writes, and from whether that shim is alive (:meth:`LocalContainers.facts`). A shim that died
without a word is cleaned up after by whoever looks first.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cellbox import faults
from cellbox.containers import logs as log_drivers
from cellbox.containers import records
from cellbox.containers import spec as specs
from cellbox.containers.client import ProcessStream, Shim
from cellbox.containers.messages import ExitRecord, RunState, group_name
from cellbox.engine import Filters, Stream
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    Unavailable,
    WrongState,
)
from cellbox.linux import cgroups, sockets
from cellbox.linux import process as processes
from cellbox.local import container_filters
from cellbox.local.bundles import Bundler, named
from cellbox.local.claim import claimed
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.codec import to_json
from cellbox.model.container import (
    ALLOWED,
    Container,
    ExecSpec,
    Health,
    Limits,
    MountKind,
    RestartPolicy,
    RunSpec,
    Status,
)

faults.declare(
    create__row__added="a container has its name, and nothing else",
    start__shim__ready="the container's program runs; nobody was told",
    remove__row__marked="a container is marked as being removed",
    remove__files__gone="its files are gone, its name is not",
)
KILLED = 137
LOG = "container.log"
_PATIENCE = 10.0


class LocalContainers:
    """See :class:`cellbox.engine.Containers`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bundler = Bundler(store)
        self._owned: dict[str, socket.socket] = {}
        self._pending: dict[str, builtins.list[tuple[socket.socket, bool]]] = {}
        self._settled = False

    # Looking -----------------------------------------------------------------------------------

    def get(self, ref: str) -> Container:
        return self.facts(self.record(ref))

    def list(
        self, *, all: bool = False, filters: Filters | None = None
    ) -> builtins.list[Container]:
        self._settle()
        found = []
        for record in self._store.state.containers.all():
            with contextlib.suppress(NotFound):
                found.append(self.facts(record))
        return container_filters.select(found, all=all, filters=filters or {}, find=self.get)

    def record(self, ref: str) -> ContainerRecord:
        """The row of a container. Raises NotFound, InvalidArgument."""
        return self._store.state.containers.get(ref)

    def directory(self, id: str) -> Path:
        """Where the container's files are."""
        return self._bundler.directory(id)

    def run_directory(self, id: str) -> Path:
        """Where its shim listens."""
        return self._bundler.run_directory(id)

    def _file(self, record: ContainerRecord, name: str) -> str:
        return f"{self.directory(record.id)}/{name}"

    def facts(self, record: ContainerRecord) -> Container:
        """The container as it is now. Raises NotFound for one that has just removed itself."""
        base = _created(record)
        if record.removing:
            return base
        state = self._live_state(record)
        if state is not None:
            return dataclasses.replace(base, **_running(state), health=self._health(record.id))
        ended = self._exit_record(record.id)
        if ended is not None:
            return dataclasses.replace(base, **_exited(ended))
        if not os.path.exists(self._file(record, records.BUNDLE)):
            self._undo_half_made(record)
        return base

    def _undo_half_made(self, record: ContainerRecord) -> None:
        """A container without a bundle: somebody makes it just now, or was killed while he did, or
        it has removed itself. Raises NotFound but in the first case."""
        directory = self.directory(record.id)
        with claimed(directory) as ours:
            if not ours or (directory / records.BUNDLE).exists():
                return
            if record.spec.auto_remove:
                self._forget(record.id)  # what is left of its files is garbage
            elif (directory / LOG).exists():
                return  # it has run, so this is damage, for `system check` to mend
            else:
                self._erase(record)
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
            self._delete(record)

    def _end_orphan(self, record: ContainerRecord, left: RunState) -> None:
        processes.kill(left.pid, left.pid_start, 9)
        processes.wait_gone(left.pid, left.pid_start, 5.0)
        directory, run = self.directory(record.id), self.run_directory(record.id)
        cgroups.discard(group_name(str(self._store.run), left.shim))
        saved, ended = True, self._exit_record(record.id)
        if ended is None or ended.finished < left.started:
            told = "its monitor was killed, so its end was not seen"
            lost = ExitRecord(KILLED, left.started, time.time(), error=told)
            if directory.is_dir():
                saved = records.write_exit(str(directory), str(run), lost)
            self._emit(record, "die", exitCode=str(KILLED))
        left_over = (run,) if saved else (run / records.SOCKET, run / records.STATE)
        for path in left_over:
            self._store.launcher.work("remove", {"path": str(path)})

    def _exit_record(self, id: str) -> ExitRecord | None:
        return records.read_exit(str(self.directory(id)), str(self.run_directory(id)))

    def _health(self, id: str) -> Health | None:
        return records.read(Health, f"{self.run_directory(id)}/{records.HEALTH}")

    def _allow(self, verb: str, container: Container) -> None:
        if container.status in ALLOWED[verb]:
            return
        name, status = container.name, container.status
        if verb == "remove":
            raise WrongState(
                f'cannot remove container "{name}": container is {status}: stop the container '
                "before removing or force remove"
            )
        if status in (Status.CREATED, Status.EXITED, Status.DEAD):
            raise WrongState(f"Container {name} is not running")
        if verb == "unpause":
            raise WrongState(f"Container {name} is not paused")
        if status is not Status.PAUSED:
            raise WrongState(f"Container {name} is {status}")
        if verb == "pause":
            raise WrongState(f"Container {name} is already paused")
        if verb == "start":
            raise WrongState("cannot start a paused container, try unpause instead")
        raise WrongState(f"Container {name} is paused, unpause the container before {verb}")

    # Making ------------------------------------------------------------------------------------

    def create(self, spec: RunSpec, *, name: str = "") -> Container:
        store = self._store
        self._settle()
        image = store.image(spec.image)
        cgroups.refuse_missing(spec.limits)
        _refuse_absent(spec)
        id = secrets.token_hex(32)
        shared = self._shared(spec, running=False)
        command = specs.command(spec, image.config)
        # Made before anything is there, so that wrong input leaves nothing behind.
        with store.told("cannot create a container"):
            bundle = self._bundler.make(spec, image, id, name, shared)
        with store.told(f"cannot create container {name}"), contextlib.ExitStack() as making:
            add = partial(
                store.state.containers.add,
                id,
                image_id=image.id,
                spec=spec,
                command=command,
                created=time.time(),
                name=name,
                claim=lambda id: making.enter_context(claimed(self.directory(id))),
            )
            record = self._add(add, name)
            try:
                faults.point("create.row.added")
                self._bundler.write(named(bundle, record.name), record.spec, image)
            except BaseException:
                self._erase(record)
                raise
        self._emit(record, "create")
        return _created(record)

    def _add(self, add: Callable[[], ContainerRecord], name: str) -> ContainerRecord:
        try:
            return add()
        except AlreadyExists:
            # Who has the name may be gone, and nobody has looked since.
            with contextlib.suppress(NotFound):
                self.get(name)
                raise
            return add()

    def layer(self, id: str) -> Path:
        """The container's writable directory."""
        return self._bundler.layer(id)

    def _shared(self, spec: RunSpec, *, running: bool) -> dict[str, int]:
        """The pids of the containers whose namespaces are shared, by the names in ``spec``."""
        wanted = [mode.partition(":") for mode in (spec.network, spec.pid, spec.ipc)]
        pids: dict[str, int] = {}
        for kind, colon, ref in wanted:
            if kind == "container" and colon and ref:
                other = self.get(ref)
                if other.pid or not running:
                    pids[ref] = other.pid
        return pids

    # Starting and stopping -----------------------------------------------------------------------

    def start(self, ref: str) -> None:
        record = self.record(ref)
        with claimed(self.directory(record.id), seconds=_PATIENCE) as ours:
            if not ours:
                raise Unavailable(f"another process is busy with container {record.name}")
            container = self.facts(record)
            if container.status in (Status.RUNNING, Status.RESTARTING):
                return
            self._allow("start", container)
            if _shares(record.spec):  # with one that may have been started again since
                self._renew_bundle(record)
            self._launch(record)
            self._emit(record, "start")

    def _launch(self, record: ContainerRecord) -> None:
        streams = self._pending.pop(record.id, [])
        try:
            with self._store.told(f"cannot start container {record.name}"):
                begin = partial(
                    self._store.launcher.start,
                    self.directory(record.id),
                    owned=not record.spec.detach,
                    streams=streams,
                )
                try:
                    owner = begin()
                except IntegrityError:  # of its bundle, which can be made again
                    self._renew_bundle(record)
                    owner = begin()
                faults.point("start.shim.ready")
        finally:
            for end, _ in streams:
                end.close()
        if owner is not None:
            self._owned[record.id] = owner

    def _renew_bundle(self, record: ContainerRecord) -> None:
        image = self._store.state.images.get(record.image_id)
        shared = self._shared(record.spec, running=True)
        fresh = self._bundler.make(record.spec, image, record.id, record.name, shared)
        records.write(f"{fresh.directory}/{records.BUNDLE}", fresh)

    def stop(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        record = self.record(ref)
        if self.facts(record).status not in ALLOWED["stop"]:
            return
        number = _signal(signal) if signal else self._stop_signal(record)
        self._emit(record, "kill", signal=str(number))
        self._tell(record, {"op": "stop", "signal": number, "timeout": timeout})
        self.wait(record.id)
        self._emit(record, "stop")

    def _stop_signal(self, record: ContainerRecord) -> int:
        bundle = records.read_bundle(str(self.directory(record.id)))
        return _signal(bundle.stop_signal if bundle else specs.STOP_SIGNAL)

    def kill(self, ref: str, *, signal: str = "KILL") -> None:
        record = self.record(ref)
        number = _signal(signal)
        self._allow("kill", self.facts(record))
        self._tell(record, {"op": "kill", "signal": number})
        self._emit(record, "kill", signal=str(number))

    def pause(self, ref: str) -> None:
        record = self.record(ref)
        self._allow("pause", self.facts(record))
        self._tell(record, {"op": "pause", "paused": True})

    def unpause(self, ref: str) -> None:
        record = self.record(ref)
        self._allow("unpause", self.facts(record))
        self._tell(record, {"op": "pause", "paused": False})

    def _tell(self, record: ContainerRecord, request: dict[str, Any]) -> None:
        """Ask the shim; one that has ended meanwhile has done what was wanted of it."""
        with self._store.told(f"container {record.name}"):
            try:
                self.shim(record.id).ask(request)
            except (FileNotFoundError, ConnectionError):
                pass

    def shim(self, id: str) -> Shim:
        """The container's shim."""
        return Shim(self.run_directory(id))

    def wait(self, ref: str, *, timeout: float | None = None) -> int:
        record = self.record(ref)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            container = self.facts(record)
            if container.status in (Status.EXITED, Status.CREATED, Status.DEAD):
                return container.exit_code
            try:
                left = None if deadline is None else deadline - time.monotonic()
                code = self.shim(record.id).wait(left)
            except (FileNotFoundError, ConnectionError):
                code = None
            if code is not None:
                self._reap(record)
                return code

    def _reap(self, record: ContainerRecord) -> None:
        """It has ended: let go of what this process holds of it."""
        owner = self._owned.pop(record.id, None)
        if owner is not None:
            owner.close()
        if record.spec.auto_remove and self._forget(record.id):
            self._emit(record, "destroy")

    # Taking away ---------------------------------------------------------------------------------

    def remove(self, ref: str, *, force: bool = False) -> None:
        record = self.record(ref)
        with claimed(self.directory(record.id), seconds=_PATIENCE) as ours:
            if not ours:
                raise WrongState(f"removal of container {record.name} is already in progress")
            container = self.facts(record)
            if container.status not in ALLOWED["remove"]:
                if not force:
                    self._allow("remove", container)
                self._tell(record, {"op": "kill", "signal": 9})
                self.wait(record.id)
                if record.spec.auto_remove:
                    return
            with self._store.told(f"cannot remove container {record.name}"):
                self._store.state.containers.mark_removing(record.id)
                faults.point("remove.row.marked")
                if not self._erase(record):  # another one had begun, and was faster
                    raise NotFound("container", ref)
        self._emit(record, "destroy")

    def _delete(self, record: ContainerRecord) -> bool:
        """Take all of it away, unless another process is about it; whether this did it."""
        with claimed(self.directory(record.id)) as ours:
            return ours and self._erase(record)

    def _erase(self, record: ContainerRecord) -> bool:
        """Its files, then its name: killed in between, the next engine goes on from here."""
        for path in (self.directory(record.id), self.run_directory(record.id)):
            if path.exists():
                self._store.launcher.work("remove", {"path": str(path)})
        faults.point("remove.files.gone")
        return self._forget(record.id)

    def _forget(self, id: str) -> bool:
        return self._store.state.containers.delete(id)

    def _settle(self) -> None:
        """Once in this process: go on with what somebody who was killed had begun to remove."""
        if not self._settled:
            self._settled = True
            with contextlib.suppress(CellboxError, OSError):  # `system check` tells of those
                self.finish_removals()

    def finish_removals(self) -> None:
        """Take away the containers that somebody who was killed had begun to remove."""
        for record in self._store.state.containers.all():
            if record.removing and self._delete(record):
                self._emit(record, "destroy")

    def restore(self, record: ContainerRecord) -> None:
        """Make again what is lost of a container's own files, from its row and its image."""
        image = self._store.state.images.get(record.image_id)
        shared = self._shared(record.spec, running=False)
        bundle = self._bundler.make(record.spec, image, record.id, record.name, shared)
        with self._store.told(f"cannot restore container {record.name}"):
            self._bundler.write(bundle, record.spec, image)

    def rename(self, ref: str, name: str) -> None:
        before = self.record(ref)
        record = self._store.state.containers.rename(before.id, name)
        bundle = records.read_bundle(str(self.directory(record.id)))
        if bundle is not None:
            fresh = named(bundle, record.name)
            records.write(f"{bundle.directory}/{records.BUNDLE}", fresh)
            news = {"name": fresh.name, "attributes": dict(fresh.attributes)}
            self._tell(record, {"op": "update", **news})
        self._emit(record, "rename", oldName=before.name)

    def update(
        self, ref: str, *, limits: Limits | None = None, restart: RestartPolicy | None = None
    ) -> None:
        record = self.record(ref)
        spec = record.spec
        if limits is not None:
            spec = dataclasses.replace(spec, limits=_merge(spec.limits, limits))
        if restart is not None:
            spec = dataclasses.replace(spec, restart=restart)
        image = self._store.state.images.get(record.image_id)
        shared = self._shared(spec, running=False)
        bundle = self._bundler.make(spec, image, record.id, record.name, shared)
        request = {"op": "update", "restart": to_json(bundle.restart)}
        if limits is not None:
            request["limits"] = to_json(limits)
        self._tell(record, request)
        self._store.state.containers.update(record.id, spec)
        records.write(f"{bundle.directory}/{records.BUNDLE}", bundle)
        self._emit(record, "update")

    # Streams -------------------------------------------------------------------------------------

    def attach(self, ref: str, *, stdin: bool = False, logs: bool = False) -> Stream:
        record = self.record(ref)
        container = self.facts(record)
        waits = container.status in (Status.CREATED, Status.EXITED)
        if not waits:
            self._allow("attach", container)
        ours, theirs = sockets.pair()
        if waits:
            self._pending.setdefault(record.id, []).append((theirs, stdin))
        else:
            request = {"op": "attach", "stdin": stdin, "logs": logs}
            with theirs, self._store.told(f"cannot attach to container {record.name}"):
                self.shim(record.id).ask(request, [theirs.fileno()])
        self._emit(record, "attach")
        return ContainerStream(ours, self, record, waits)

    def exec(self, ref: str, spec: ExecSpec) -> Stream:
        record = self.record(ref)
        self._allow("exec", self.facts(record))
        bundle = records.read_bundle(str(self.directory(record.id)))
        if bundle is None:
            raise WrongState(f"Container {record.name} is not running")
        process = specs.process(spec, bundle)
        ours, theirs = sockets.pair()
        with theirs, self._store.told(f"cannot run in container {record.name}"):
            self.shim(record.id).ask({"op": "exec", "process": to_json(process)}, [theirs.fileno()])
        self._emit(record, f"exec_start: {' '.join(spec.command)}")
        return ProcessStream(ours)

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[tuple[float, str, bytes]]:
        record = self.record(ref)
        path = self._file(record, LOG)
        reader = log_drivers.driver(record.spec.log.driver).reader(path)
        return reader.entries(
            tail=tail, since=since, until=until, follow=follow, ended=lambda: self._ended(record)
        )

    def _ended(self, record: ContainerRecord) -> bool:
        try:
            return self.facts(record).status in (Status.EXITED, Status.CREATED, Status.DEAD)
        except NotFound:
            return True

    def exit_code(self, record: ContainerRecord) -> int:
        """How the last run ended, as its record tells."""
        ended = self._exit_record(record.id)
        return KILLED if ended is None else ended.exit_code

    def ended(self, record: ContainerRecord) -> None:
        """A stream of this process has told that the container has ended."""
        self._reap(record)

    def let_go(self, record: ContainerRecord) -> None:
        """The user detached from a container of this process: it no longer ends with it."""
        owner = self._owned.pop(record.id, None)
        if owner is not None:
            with owner, contextlib.suppress(OSError):
                owner.send(b"kept")

    def _emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        known = {**record.spec.labels, "image": record.spec.image, "name": record.name}
        self._store.emit("container", action, record.id, **{**known, **more})

    def close(self) -> None:
        """Let go of the containers that this process runs in the foreground; they end."""
        for owner in self._owned.values():
            owner.close()
        self._owned.clear()


class ContainerStream(ProcessStream):
    """The streams of a container's own process, whose end is the container's."""

    def __init__(
        self, end: socket.socket, containers: LocalContainers, record: ContainerRecord, owns: bool
    ) -> None:
        super().__init__(end, lambda: containers.exit_code(record))
        self._owns = owns  # the container was started for this stream
        self._containers = containers
        self._record = record
        self._told = False

    def wait(self, timeout: float | None = None) -> int:
        code = super().wait(timeout)
        if not self._told:
            self._told = True
            self._containers.ended(self._record)
        return code

    def close(self) -> None:
        super().close()
        if self._owns and not self._told:
            self._told = True
            self._containers.let_go(self._record)


def _created(record: ContainerRecord) -> Container:
    """What its row says of a container."""
    return Container(
        id=record.id,
        name=record.name,
        image_id=record.image_id,
        spec=record.spec,
        command=record.command,
        status=Status.REMOVING if record.removing else Status.CREATED,
        created=record.created,
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


def _merge(old: Limits, new: Limits) -> Limits:
    changed = {name: value for name, value in vars(new).items() if value not in (None, "")}
    return dataclasses.replace(old, **changed)


def _shares(spec: RunSpec) -> bool:
    return any(":" in mode for mode in (spec.network, spec.pid, spec.ipc))


def _refuse_absent(spec: RunSpec) -> None:
    for mount in spec.mounts:
        if mount.kind is MountKind.BIND and not os.path.exists(mount.source):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: '
                f"{mount.source}"
            )


def _signal(name: str) -> int:
    try:
        return processes.signal_number(name)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
