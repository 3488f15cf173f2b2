"""The containers of a store: rows in the state database, directories, and shims.

What a container is doing is never believed from a row: see ``observer``.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellbox import faults
from cellbox.containers import logs as log_drivers
from cellbox.containers import records
from cellbox.containers import spec as specs
from cellbox.containers.client import ProcessStream, Shim
from cellbox.containers.messages import Bundle
from cellbox.engine import Filters, Stream
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    StartError,
    Unavailable,
    WrongState,
)
from cellbox.linux import cgroups, sockets
from cellbox.linux import process as processes
from cellbox.local import container_filters, endings, updates
from cellbox.local.bundles import Bundler, check_binds, make_binds, named, wants_volumes
from cellbox.local.claim import claimed
from cellbox.local.following import Follower
from cellbox.local.networks import LocalNetworks
from cellbox.local.observer import KILLED, LOG, Observer
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.codec import to_json
from cellbox.model.container import (
    ALLOWED,
    Container,
    ExecSpec,
    Limits,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Status,
)
from cellbox.model.image import Image
from cellbox.networks.wiring import Wiring

if TYPE_CHECKING:
    from cellbox.local.mounting import Plan

faults.declare(
    create__row__added="a container has its name, and nothing else",
    start__shim__ready="the container's program runs; nobody was told",
    remove__row__marked="a container is marked as being removed",
)
_PATIENCE = 10.0


class LocalContainers(Observer):
    """See :class:`cellbox.engine.Containers`."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, Bundler(store))
        self.networks = LocalNetworks(store, self)
        self._owned: dict[str, socket.socket] = {}
        self._pending: dict[str, builtins.list[tuple[socket.socket, bool | None]]] = {}
        self._waiting = threading.Lock()
        self._settled = False

    @property
    def store(self) -> Store:
        """Where they are kept."""
        return self._store

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
        check_binds(spec)
        id = secrets.token_hex(32)
        command = specs.command(spec, image.config)
        plan = self.mounting.plan(spec, image) if wants_volumes(spec, image) else None
        planned = self.networks.plan(spec)
        # Made before anything is there, so that wrong input leaves nothing behind.
        with store.told("cannot create a container"):
            bundle = self.make_bundle(spec, image, id, name, plan)
            make_binds(spec)
            if plan:
                self.mounting.announce(plan)
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
                join=self.networks.join(planned, making),
                mounts=plan.mounts if plan else (),
                hold=self.mounting.hold(plan) if plan else None,
            )
            record = self._add(add, name)
            try:
                faults.point("create.row.added")
                wired = self.networks.wired(named(bundle, record.name), record)
                fill = partial(self.mounting.fill, plan) if plan else None
                self._bundler.write(wired, record.spec, image, record.endpoints, fill)
            except BaseException:
                self.erase(record, volumes=True)
                raise
        self.emit(record, "create")
        return self._created(record)

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
            if updates.is_half_done(self, record):
                self.restore(record)
            if _shares(record.spec):  # with one that may have been started again since
                self._renew_bundle(record)
            try:
                self._get_going(record)
            except CellboxError:
                if record.spec.auto_remove and self.erase(record):
                    self.emit(record, "destroy")
                raise

    def _get_going(self, record: ContainerRecord) -> None:
        ready = self.networks.ready(record)
        if ready is not record:  # a driver has chosen its addresses only now
            record = ready
            self.note_wiring(record)
        if record.mounts:
            with self.mounting.ready(record, lambda: self._renew_bundle(record)):
                self._launch(record)
        else:
            self._launch(record)

    def _launch(self, record: ContainerRecord) -> None:
        with self._waiting:
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
                except StartError as error:
                    if error.stage != "network":
                        raise
                    self.networks.renew(record)  # whose bridge somebody has taken away
                    if record.spec.auto_remove:  # so it has gone
                        raise
                    owner = begin()
                faults.point("start.shim.ready")
        finally:
            for end, _ in streams:
                end.close()
        if owner is not None:
            self._owned[record.id] = owner

    def _renew_bundle(self, record: ContainerRecord) -> None:
        fresh = self.remade_bundle(record, record.spec, running=True)
        records.write(f"{fresh.directory}/{records.BUNDLE}", fresh)

    def make_bundle(
        self,
        spec: RunSpec,
        image: Image,
        id: str,
        name: str,
        plan: Plan | None = None,
        *,
        running: bool = False,
    ) -> Bundle:
        """The bundle of a container before it is connected; nothing of it need be there. Raises
        InvalidArgument."""
        shared, volumes = self._shared(spec, running=running), None
        if plan:
            spec, volumes = dataclasses.replace(spec, mounts=plan.mounts), plan.sources
        return self._bundler.make(self.networks.linked(spec), image, id, name, shared, volumes)

    def remade_bundle(
        self, record: ContainerRecord, spec: RunSpec, *, running: bool = False
    ) -> Bundle:
        """The bundle of a container that is there, with another ``spec``."""
        image = self._store.state.images.get(record.image_id)
        plan = self.mounting.of(record) if record.mounts else None
        bundle = self.make_bundle(spec, image, record.id, record.name, plan, running=running)
        return self.networks.wired(bundle, record, spec)

    def note_wiring(self, record: ContainerRecord) -> None:
        """The container has other places in networks: so its files say."""
        bundle = records.read_bundle(str(self.directory(record.id)))
        if bundle is not None:
            fresh = self.networks.wired(bundle, record)
            self._bundler.write_etc(fresh, record.spec, record.endpoints)
            records.write(f"{fresh.directory}/{records.BUNDLE}", fresh)

    def tell_wiring(
        self, record: ContainerRecord, wiring: Wiring, sockets: Sequence[int] = ()
    ) -> None:
        """Let its shim know; ``sockets`` are where it is asked for names, if it had none."""
        self.tell(record, {"op": "update", "wiring": to_json(wiring)}, sockets)

    def stop(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        record = self.record(ref)
        if self.facts(record).status not in ALLOWED["stop"]:
            return
        number = _signal(signal) if signal else self._stop_signal(record)
        self.emit(record, "kill", signal=str(number))
        self.tell(record, {"op": "stop", "signal": number, "timeout": timeout})
        self.wait(record.id)
        self.emit(record, "stop")

    def restart(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        record = self.record(ref)
        self.stop(record.id, timeout=timeout, signal=signal)
        self.start(record.id)
        self.emit(record, "restart")

    def _stop_signal(self, record: ContainerRecord) -> int:
        bundle = records.read_bundle(str(self.directory(record.id)))
        return _signal(bundle.stop_signal if bundle else specs.STOP_SIGNAL)

    def kill(self, ref: str, *, signal: str = "KILL") -> None:
        record = self.record(ref)
        number = _signal(signal)
        self._allow("kill", self.facts(record))
        self.tell(record, {"op": "kill", "signal": number})
        self.emit(record, "kill", signal=str(number))

    def pause(self, ref: str) -> None:
        record = self.record(ref)
        self._allow("pause", self.facts(record))
        self.tell(record, {"op": "pause", "paused": True})

    def unpause(self, ref: str) -> None:
        record = self.record(ref)
        self._allow("unpause", self.facts(record))
        self.tell(record, {"op": "pause", "paused": False})

    def tell(
        self, record: ContainerRecord, request: dict[str, Any], fds: Sequence[int] = ()
    ) -> None:
        """Ask the shim; one that has ended meanwhile has done what was wanted of it."""
        with self._store.told(f"container {record.name}"):
            try:
                self.shim(record.id).ask(request, fds)
            except (FileNotFoundError, ConnectionError):
                pass

    def shim(self, id: str) -> Shim:
        """The container's shim."""
        return Shim(self.run_directory(id))

    def wait(
        self, ref: str, *, timeout: float | None = None, condition: str = "not-running"
    ) -> int:
        record = self.record(ref)
        deadline = None if timeout is None else time.monotonic() + timeout
        if condition != "not-running":
            return endings.wait(self, record, condition, deadline)
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
        if record.spec.auto_remove:
            if self.forget(record):
                self.emit(record, "destroy")
        elif record.mounts:
            self.mounting.unmount(record)

    # Taking away ---------------------------------------------------------------------------------

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        record = self.record(ref)
        with claimed(self.directory(record.id), seconds=_PATIENCE) as ours:
            if not ours:
                raise WrongState(f"removal of container {record.name} is already in progress")
            container = self.facts(record)
            if container.status not in ALLOWED["remove"]:
                if not force:
                    self._allow("remove", container)
                self.tell(record, {"op": "kill", "signal": 9})
                self.wait(record.id)
                if record.spec.auto_remove:
                    return
            with self._store.told(f"cannot remove container {record.name}"):
                self._store.state.containers.mark_removing(record.id)
                faults.point("remove.row.marked")
                if not self.erase(
                    record, volumes=volumes or None
                ):  # another one had begun, and was faster
                    raise NotFound("container", ref)
        self.emit(record, "destroy")

    def _settle(self) -> None:
        """Once in this process: go on with what somebody who was killed had begun to remove."""
        if not self._settled:
            self._settled = True
            with contextlib.suppress(CellboxError, OSError):  # `system check` tells of those
                self.finish_removals()

    def finish_removals(self) -> None:
        """Take away the containers that somebody who was killed had begun to remove."""
        for record in self._store.state.containers.all():
            if record.removing and self.delete(record):
                self.emit(record, "destroy")

    def restore(self, record: ContainerRecord) -> None:
        """Make a container's own files again, from its row and its image."""
        image = self._store.state.images.get(record.image_id)
        bundle = self.remade_bundle(record, record.spec)
        plan = self.mounting.of(record) if record.mounts else None
        fill = partial(self.mounting.fill, plan) if plan else None
        with self._store.told(f"cannot restore container {record.name}"):
            self._bundler.write(bundle, record.spec, image, record.endpoints, fill)
        updates.done(self, record)

    def update(
        self,
        ref: str,
        *,
        name: str = "",
        limits: Limits | None = None,
        restart: RestartPolicy | None = None,
        ports: Sequence[PortSpec] | None = None,
        mounts: Sequence[MountSpec] | None = None,
        env: Sequence[str] | None = None,
    ) -> None:
        record = self.record(ref)
        anew = {"ports": ports, "mounts": mounts, "env": env}
        changed = {key: tuple(value) for key, value in anew.items() if value is not None}
        if name:
            record = updates.rename(self, record, name)
        if limits is not None or restart is not None:
            record = updates.change(self, record, limits, restart)
        if changed:
            updates.remake(self, record, changed)

    # Streams -------------------------------------------------------------------------------------

    def attach(self, ref: str, *, stdin: bool = False, logs: bool = False) -> Stream:
        record = self.record(ref)
        container = self.facts(record)
        waits = container.status in (Status.CREATED, Status.EXITED)
        if not waits:
            self._allow("attach", container)
        ours = self._attach(record, stdin, waits=waits, logs=logs)
        self.emit(record, "attach")
        return ContainerStream(ours, self, record, waits)

    def attach_to_end(self, record: ContainerRecord) -> ProcessStream:
        """A stream that tells the end of the next run, or of the one that goes on, and nothing
        else."""
        waits = self.facts(record).status in (Status.CREATED, Status.EXITED)
        ours = self._attach(record, None, waits=waits)

        def end() -> int:
            self._reap(record)
            return self.exit_code(record)

        return ProcessStream(ours, end)

    def _attach(
        self, record: ContainerRecord, stdin: bool | None, *, waits: bool, logs: bool = False
    ) -> socket.socket:
        """Our end of a stream; that of a container which ``waits`` is attached when it starts."""
        ours, theirs = sockets.pair()
        if waits:
            with self._waiting:
                self._drop_those_who_left()
                self._pending.setdefault(record.id, []).append((theirs, stdin))
        else:
            request = {"op": "attach", "stdin": stdin, "logs": logs}
            with theirs, self._store.told(f"cannot attach to container {record.name}"):
                try:
                    self.shim(record.id).ask(request, [theirs.fileno()])
                except (FileNotFoundError, ConnectionError):
                    if stdin is not None:
                        raise
                    # It has just ended, which is all that there is to hear.
        return ours

    def _drop_those_who_left(self) -> None:
        """Forget who has waited for a start and does so no more."""
        for id, ends in list(self._pending.items()):
            for one in [one for one in ends if sockets.is_left(one[0])]:
                ends.remove(one)
                one[0].close()
            if not ends:
                self._pending.pop(id, None)

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
        self.emit(record, f"exec_start: {' '.join(spec.command)}")
        return ProcessStream(ours)

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[float, str, bytes]]:
        record = self.record(ref)
        path = self.file(record, LOG)
        reader = log_drivers.driver(record.spec.log.driver).reader(path)
        follower = Follower(self, record, stop)
        entries = reader.entries(
            tail=tail,
            since=since,
            until=until,
            follow=follow,
            ended=follower.ended,
            wait=follower.wait,
        )
        return follower.noted(entries) if follow else entries

    def exit_code(self, record: ContainerRecord) -> int:
        """How the last run ended, as its record tells."""
        ended = self.exit_record(record.id)
        return KILLED if ended is None else ended.exit_code

    def exit_code_told(self, record: ContainerRecord) -> int | None:
        """How the last run ended, as the event log tells; None where it does not."""
        filters = {"container": [record.id], "event": ["die"]}
        events = self._store.events.follow(since=record.created, until=time.time(), filters=filters)
        codes = [event.attributes.get("exitCode", "") for event in events]
        return int(codes[-1]) if codes and codes[-1].isdecimal() else None

    def ended(self, record: ContainerRecord) -> None:
        """A stream of this process has told that the container has ended."""
        self._reap(record)

    def let_go(self, record: ContainerRecord) -> None:
        """The user detached from a container of this process: it no longer ends with it."""
        owner = self._owned.pop(record.id, None)
        if owner is not None:
            with owner, contextlib.suppress(OSError):
                owner.send(b"kept")

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


def _shares(spec: RunSpec) -> bool:
    return any(":" in mode for mode in (spec.network, spec.pid, spec.ipc))


def _signal(name: str) -> int:
    try:
        return processes.signal_number(name)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
