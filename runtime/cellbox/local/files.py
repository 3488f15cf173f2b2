"""What a container looks like inside: processes, resources, files.

Files of a running container are reached by a worker that its shim forks and that enters its mount
namespace, so that volumes are seen as its programs see them; those of a stopped one by a worker of
the launcher's that builds its root. Either way a path is resolved inside the root only.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from cellbox.containers import logs as log_drivers
from cellbox.containers import records
from cellbox.containers.messages import group_name
from cellbox.errors import EngineError, InvalidArgument, NotSupported, WrongState
from cellbox.linux import cgroups
from cellbox.linux.mounts import Mount
from cellbox.local import usage, writable
from cellbox.local.bundles import harmless, read_only_view
from cellbox.local.claim import claimed
from cellbox.local.containers import LocalContainers
from cellbox.local.observer import LOG
from cellbox.local.pipes import reading, writing
from cellbox.local.records import ContainerRecord
from cellbox.local.store import Store
from cellbox.model.container import (
    ALLOWED,
    FileChange,
    FileStat,
    ProcessTable,
    Stats,
    Status,
)


class LocalFiles:
    """See :class:`cellbox.engine.Files`."""

    def __init__(self, store: Store, containers: LocalContainers) -> None:
        self._store = store
        self._containers = containers

    # Processes ---------------------------------------------------------------------------------

    def processes(self, ref: str, *, ps_args: str = "-ef") -> ProcessTable:
        container = self._running(ref)
        inside = self._processes(container.id)
        words = ["ps", *ps_args.split()]
        done = _run([*words, "-q", ",".join(map(str, sorted(inside))) or "0"])
        if done.returncode:  # some of ps's words go with no choice of processes
            done = _run(words)
        if done.returncode and done.stderr:  # without words it has only found nothing to show
            raise InvalidArgument(f"ps {ps_args}: {done.stderr.strip().splitlines()[0]}")
        return _table(done.stdout, inside)

    def stats(self, ref: str) -> Stats:
        container = self._running(ref)
        group = cgroups.existing(group_name(str(self._store.run), self._shim_pid(container.id)))
        stats = group.stats() if group else Stats(read=0.0)
        received, sent = _traffic(container.pid)
        return dataclasses.replace(stats, received_bytes=received, sent_bytes=sent)

    def _running(self, ref: str) -> Any:
        container = self._containers.get(ref)
        if container.status not in ALLOWED["top"]:
            raise WrongState(f"Container {container.name} is not running")
        return container

    def _processes(self, id: str) -> frozenset[int]:
        """All in the container: what comes from its shim, and not what helps that outside."""
        shim = self._shim_pid(id)
        outside = _mounts(shim)
        return frozenset(pid for pid in descendants(shim) if _mounts(pid) not in ("", outside))

    def _shim_pid(self, id: str) -> int:
        state = records.read_state(str(self._containers.run_directory(id)))
        if state is None:
            raise WrongState(f"Container {id[:12]} is not running")
        return state.shim

    # Files -------------------------------------------------------------------------------------

    def diff(self, ref: str) -> list[FileChange]:
        record = self._containers.record(ref)
        with self._store.told(f"container {record.name}"):
            return writable.changes(self._store, self._containers, record)

    def stat(self, ref: str, path: str) -> FileStat:
        record = self._containers.record(ref)
        found = self._inside(record, "tree-stat", {"path": _absolute(path)})
        name = found.get("name") or os.path.basename(path.rstrip("/")) or "/"
        return FileStat(
            name=name,
            size=found["size"],
            mode=found["mode"],
            mtime=found["mtime"],
            target=found.get("target", ""),
        )

    def get(self, ref: str, path: str, out: BinaryIO) -> FileStat:
        record = self._containers.record(ref)
        found = self.stat(ref, path)
        with writing(out) as fd:
            self._inside(record, "tree-pack", {"path": _absolute(path)}, [fd])
        self._note(record, "archive-path")
        return found

    def put(self, ref: str, path: str, source: BinaryIO, *, keep_kinds: bool = False) -> None:
        record = self._containers.record(ref)
        how = {"path": _absolute(path), "keep_kinds": keep_kinds}
        with reading(source) as fd:
            self._inside(record, "tree-unpack", how, [fd])
        self._note(record, "extract-to-dir")

    def export(self, ref: str, out: BinaryIO) -> None:
        record = self._containers.record(ref)
        with writing(out) as fd, self._store.told(f"cannot export container {record.name}"):
            mounts = [read_only_view(one) for one in self._root(record)]
            self._store.launcher.work_in(mounts, "tree-pack", {"path": "/"}, [fd])
        self._note(record, "export")

    def size(self, ref: str) -> tuple[int, int]:
        record = self._containers.record(ref)
        with self._store.told(f"container {record.name}"):
            return usage.container_size(self._store, self._containers, record)

    def clear_logs(self, ref: str) -> None:
        record = self._containers.record(ref)
        log_drivers.driver(record.spec.log.driver).reader("")  # which says if there is none
        with self._store.told(f"cannot clear the log of container {record.name}"):
            try:
                self._containers.shim(record.id).ask({"op": "clear"})
            except (FileNotFoundError, ConnectionError):
                log_drivers.clear(self._containers.file(record, LOG))

    def append_logs(self, ref: str, entries: Iterable[tuple[float, str, bytes]]) -> None:
        record = self._containers.record(ref)
        config = record.spec.log
        log_drivers.driver(config.driver).reader("")  # which says if there is none
        if self._containers.facts(record).status in ALLOWED["stop"]:
            raise WrongState(f"Container {record.name} is running, and writes its log itself")
        writer = log_drivers.open_log(config, self._containers.file(record, LOG))
        writer.extend(entries)
        writer.close()
        if writer.dropped:
            raise EngineError(f"the disk is full: {writer.dropped} log entries were not written")

    def get_layer(self, ref: str, out: BinaryIO) -> None:
        record = self._containers.record(ref)
        with writing(out) as fd, self._store.told(f"container {record.name}"):
            part = self._only_part(record)
            args = {
                "upper": part.upper,
                "lowers": part.lowers if part.copied else (),
                "exclude": writable.made_points(self._store, part),
            }
            self._store.launcher.work("pack", args, [fd])
        self._note(record, "export")

    def put_layer(self, ref: str, source: BinaryIO) -> None:
        record = self._containers.record(ref)
        with claimed(self._containers.directory(record.id)) as ours, reading(source) as fd:
            if not ours or self._containers.facts(record).status is not Status.CREATED:
                raise WrongState(f"Container {record.name} has been started, or is just being")
            with self._store.told(f"container {record.name}"):
                part = self._only_part(record)
                args = {"upper": part.upper, "copied": part.copied}
                self._store.launcher.work("layer-unpack", args, [fd])
        self._note(record, "extract-to-dir")

    def _only_part(self, record: ContainerRecord) -> writable.Part:
        parts = list(writable.parts(self._store, self._containers, record))
        if len(parts) != 1:
            raise NotSupported(
                f"container {record.name} is made of its machine, not of an image's layers"
            )
        return parts[0]

    def _inside(
        self, record: ContainerRecord, job: str, args: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Do a job on its files, whether it runs or not."""
        with self._store.told(f"container {record.name}"):
            if self._containers.facts(record).status in ALLOWED["top"]:
                try:
                    return self._containers.shim(record.id).work(job, args, fds)
                except (FileNotFoundError, ConnectionError):
                    pass  # it has just ended
            seen = writable.seen_mounts(self._containers, record)
            mounts = [harmless(one) for one in seen]
            return self._store.launcher.work_in(mounts, job, args, fds)

    def _root(self, record: ContainerRecord) -> tuple[Mount, ...]:
        return writable.root_mounts(self._containers, record)

    def _note(self, record: ContainerRecord, action: str) -> None:
        self._store.emit("container", action, record.id, name=record.name)


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EngineError("there is no ps on this machine: apt-get install procps") from None


def descendants(pid: int) -> frozenset[int]:
    """All processes that come from ``pid``, without itself, as /proc tells it now."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return frozenset(found - {pid})


def _mounts(pid: int) -> str:
    """The mount namespace of a process, empty for one that is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _table(text: str, wanted: frozenset[int]) -> ProcessTable:
    lines = text.splitlines()
    titles = tuple(lines[0].split()) if lines else ()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    place = titles.index("PID")
    rows = [tuple(line.split(None, len(titles) - 1)) for line in lines[1:]]
    inside = [row for row in rows if row[place].isdecimal() and int(row[place]) in wanted]
    return ProcessTable(titles, tuple(inside))


def _traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but lo, in the network namespace of ``pid``."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            for line in file.readlines()[2:]:
                name, _, figures = line.partition(":")
                if name.strip() != "lo":
                    columns = figures.split()
                    received, sent = received + int(columns[0]), sent + int(columns[8])
    except OSError:  # not ours to look at, or gone
        pass
    return received, sent


def _absolute(path: str) -> str:
    """Docker takes a relative path of a container as one from its root."""
    if "\0" in path:
        raise InvalidArgument("a path cannot hold a NUL byte")
    return path if path.startswith("/") else f"/{path}"
