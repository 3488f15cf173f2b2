"""What a container uses and what is in it, as Docker tells it, and back; pure.

``stats`` (``GET /containers/{id}/stats``), ``top``, ``diff`` (``changes``) and the header of
``cp``.

Source: Engine API 1.45, ``ContainerStats``, ``ContainerTop``, ``ContainerChanges``,
``ContainerArchiveInfo``; docker/cli ``cli/command/container/stats_helpers.go`` (what is read of
it); Go ``io/fs`` (FileMode).
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellbox.errors import EngineError
from cellbox.model.container import FileChange, FileStat, ProcessTable, Stats
from cellbox.model.times import instant, timestamp
from cellbox.wire.fields import Fields, Json

_KINDS = {"C": 0, "A": 1, "D": 2}
_LETTERS = {number: letter for letter, number in _KINDS.items()}
_CACHE = ("total_inactive_file", "inactive_file")
"""The page cache that could be dropped, under control groups version 1 and 2."""


# --- resources -----------------------------------------------------------------------------------


def stats_json(
    now: Stats, previous: Stats | None = None, *, name: str, id: str, host_memory: int = 0
) -> Json:
    """One reading; ``previous`` is what the processor's share is measured from. ``host_memory``
    (bytes) is told as the limit of a container that has none.

    ``usage`` is without the page cache here, so what clients take off it is zero.
    """
    return {
        "read": timestamp(now.read),
        "preread": timestamp(previous.read if previous else None),
        "pids_stats": {"current": now.pids} | ({"limit": now.pids_limit} if now.pids_limit else {}),
        "blkio_stats": _blkio(now),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(previous or Stats(0.0, cpus=0)),
        "memory_stats": {
            "usage": now.memory,
            "limit": now.memory_limit or host_memory,
            "stats": {"cache": 0, **dict.fromkeys(_CACHE, 0)},
        },
        "name": f"/{name}",
        "id": id,
        "networks": {"eth0": _traffic(now)},
    }


def _cpu(reading: Stats) -> Json:
    return {
        "cpu_usage": {
            "total_usage": reading.cpu,
            "usage_in_kernelmode": 0,
            "usage_in_usermode": reading.cpu,
        },
        "system_cpu_usage": reading.system_cpu,
        "online_cpus": reading.cpus,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _blkio(reading: Stats) -> Json:
    counts = {"read": reading.read_bytes, "write": reading.written_bytes}
    transferred = [{"major": 0, "minor": 0, "op": op, "value": counts[op]} for op in counts]
    return {
        "io_service_bytes_recursive": transferred,
        "io_serviced_recursive": None,
        "io_queue_recursive": None,
        "io_service_time_recursive": None,
        "io_wait_time_recursive": None,
        "io_merged_recursive": None,
        "io_time_recursive": None,
        "sectors_recursive": None,
    }


def _traffic(reading: Stats) -> Json:
    counts = {"rx_bytes": reading.received_bytes, "tx_bytes": reading.sent_bytes}
    others = ("packets", "errors", "dropped")
    return counts | {f"{way}_{kind}": 0 for way in ("rx", "tx") for kind in others}


def stats_from(body: Json) -> Stats:
    """The reading that a daemon tells; memory is without the cache, as the docker command has
    it."""
    cpu, memory = _object(body, "cpu_stats"), _object(body, "memory_stats")
    usage, pids = _object(cpu, "cpu_usage"), _object(body, "pids_stats")
    networks = _object(body, "networks").values()
    transferred = _object(body, "blkio_stats").get("io_service_bytes_recursive") or ()
    return Stats(
        read=instant(str(body.get("read", ""))) or 0.0,
        cpu=_count(usage, "total_usage"),
        system_cpu=_count(cpu, "system_cpu_usage"),
        cpus=_count(cpu, "online_cpus") or len(usage.get("percpu_usage") or ()) or 1,
        memory=_without_cache(memory),
        memory_limit=_limit(memory),
        pids=_count(pids, "current"),
        pids_limit=_limit(pids),
        read_bytes=_sum(transferred, "read"),
        written_bytes=_sum(transferred, "write"),
        received_bytes=sum(_count(one, "rx_bytes") for one in networks),
        sent_bytes=sum(_count(one, "tx_bytes") for one in networks),
    )


def _object(body: Mapping[str, Any], key: str) -> Json:
    return dict(body.get(key) or {})


def _count(body: Mapping[str, Any], key: str) -> int:
    return int(body.get(key) or 0)


def _limit(body: Mapping[str, Any]) -> int:
    """Control groups write no limit as the largest number they have."""
    limit = _count(body, "limit")
    return limit if limit < 1 << 62 else 0


def _sum(transferred: Iterable[Json], op: str) -> int:
    found = [one for one in transferred if str(one.get("op")).lower() == op]
    return sum(_count(one, "value") for one in found)


def _without_cache(memory: Json) -> int:
    usage, details = _count(memory, "usage"), _object(memory, "stats")
    cache = next((_count(details, key) for key in _CACHE if key in details), 0)
    return usage - cache if cache < usage else usage


# --- processes and changed files -----------------------------------------------------------------


def top_json(table: ProcessTable) -> Json:
    """``docker top``."""
    return {"Titles": list(table.titles), "Processes": [list(row) for row in table.rows]}


def top_from(body: Json) -> ProcessTable:
    """The inverse."""
    rows = body.get("Processes") or ()
    titles = Fields(body, "ContainerTopOKBody").texts("Titles")
    return ProcessTable(titles, tuple(tuple(map(str, row)) for row in rows))


def changes_json(changes: Iterable[FileChange]) -> list[Json] | None:
    """``docker diff``; null for no change."""
    return [{"Path": one.path, "Kind": _KINDS[one.kind]} for one in changes] or None


def changes_from(body: Sequence[Json] | None) -> list[FileChange]:
    """The inverse. Raises EngineError for a kind of change that there is not."""
    found = [Fields(one, "Change") for one in body or ()]
    try:
        return [FileChange(_LETTERS[one.whole("Kind")], one.text("Path")) for one in found]
    except KeyError as error:
        raise EngineError(f"the engine tells a change of unknown kind {error}") from None


# --- the header of cp ----------------------------------------------------------------------------

_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFREG: 0,
}
_SPECIAL = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
_TYPE_BITS = sum(1 << bit for bit in (31, 27, 26, 25, 24, 21))


def stat_header(file: FileStat) -> str:
    """``X-Docker-Container-Path-Stat``: base64 of JSON, the mode in Go's bits."""
    told = {
        "name": file.name,
        "size": file.size,
        "mode": _go_mode(file.mode),
        "mtime": timestamp(file.mtime),
        "linkTarget": file.target,
    }
    return base64.b64encode(json.dumps(told).encode()).decode()


def stat_from_header(text: str) -> FileStat:
    """The inverse. Raises EngineError for what is no such header."""
    try:
        told = Fields(json.loads(base64.b64decode(text, validate=True)), "ContainerPathStat")
    except (binascii.Error, ValueError, RecursionError) as error:
        raise EngineError(f"the engine tells a file's facts in an unknown way: {error}") from None
    return FileStat(
        name=told.text("name"),
        size=told.whole("size"),
        mode=_unix_mode(told.whole("mode")),
        mtime=instant(told.text("mtime")) or 0.0,
        target=told.text("linkTarget"),
    )


def _go_mode(mode: int) -> int:
    special = sum(theirs for ours, theirs in _SPECIAL.items() if mode & ours)
    return mode & 0o777 | _TYPES.get(stat.S_IFMT(mode), 1 << 19) | special


def _unix_mode(mode: int) -> int:
    kinds = {theirs: ours for ours, theirs in _TYPES.items()}
    special = sum(ours for ours, theirs in _SPECIAL.items() if mode & theirs)
    return mode & 0o777 | kinds.get(mode & _TYPE_BITS, stat.S_IFREG) | special
