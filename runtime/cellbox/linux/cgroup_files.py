"""The files of a control group: limits written, figures read, on either version.

``paths`` maps a controller to the group's directory for it. Values are the kernel's own units:
bytes, tasks, microseconds of processor time in a period. A figure whose file is not there is 0.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping

from cellbox.model.container import Limits, Stats

PERIOD = 100_000
"""Microseconds over which processor time is shared out."""

_UNLIMITED = 1 << 60
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def set_limits(version: int, paths: Mapping[str, str], limits: Limits) -> None:
    """Write the limits that are not None. Raises OSError naming the file that refused its value."""
    (_set_v2 if version == 2 else _set_v1)(paths, limits)


def stats(version: int, paths: Mapping[str, str], pids: Iterable[int]) -> Stats:
    """What is and was used; ``pids`` are the processes in the group. The network is not known
    here."""
    values = (_stats_v2 if version == 2 else _stats_v1)(paths)
    if "read_bytes" not in values:
        values["read_bytes"], values["written_bytes"] = _process_io(pids)
    return Stats(time.time(), system_cpu=_system_cpu(), cpus=os.cpu_count() or 1, **values)


def _set_v1(paths: Mapping[str, str], limits: Limits) -> None:
    if limits.memory or limits.memory_swap:
        _set_memory_v1(paths["memory"], limits)
    if limits.memory_reservation:
        write(f"{paths['memory']}/memory.soft_limit_in_bytes", str(limits.memory_reservation))
    if limits.cpus:
        write(f"{paths['cpu']}/cpu.cfs_period_us", str(PERIOD))
        write(f"{paths['cpu']}/cpu.cfs_quota_us", str(_quota(limits.cpus)))
    if limits.cpu_shares:
        write(f"{paths['cpu']}/cpu.shares", str(limits.cpu_shares))
    if limits.cpuset:
        write(f"{paths['cpuset']}/cpuset.cpus", limits.cpuset)
    if limits.pids:
        write(f"{paths['pids']}/pids.max", _or_max(limits.pids))


def _set_memory_v1(path: str, limits: Limits) -> None:
    """Memory may never be above memory and swap together, so the order depends on the direction."""
    writes = []
    if limits.memory:
        writes.append((f"{path}/memory.limit_in_bytes", str(limits.memory)))
    swap = f"{path}/memory.memsw.limit_in_bytes"
    if limits.memory_swap and os.path.exists(swap):  # it is not there without swap accounting
        writes.append((swap, str(limits.memory_swap)))
    try:
        for file, value in writes:
            write(file, value)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        for file, value in reversed(writes):
            write(file, value)


def _set_v2(paths: Mapping[str, str], limits: Limits) -> None:
    path = next(iter(paths.values()))
    if limits.memory:
        write(f"{path}/memory.max", _or_max(limits.memory))
    if limits.memory_swap:
        _set_swap_v2(path, limits.memory_swap)
    if limits.memory_reservation:
        write(f"{path}/memory.low", str(limits.memory_reservation))
    if limits.cpus:
        write(f"{path}/cpu.max", f"{_quota(limits.cpus)} {PERIOD}")
    if limits.cpu_shares:
        write(f"{path}/cpu.weight", str(weight(limits.cpu_shares)))
    if limits.cpuset:
        write(f"{path}/cpuset.cpus", limits.cpuset)
    if limits.pids:
        write(f"{path}/pids.max", _or_max(limits.pids))


def _set_swap_v2(path: str, both: int) -> None:
    """v2 counts swap alone where Docker's figure is memory and swap together."""
    file = f"{path}/memory.swap.max"
    if os.path.exists(file):
        swap = both - _limit(f"{path}/memory.max") if both > 0 else -1
        write(file, _or_max(swap))


def weight(shares: int) -> int:
    """Docker's processor shares (2 to 262144) as a weight of v2 (1 to 10000), as runc has it."""
    return 1 + (shares - 2) * 9999 // 262142


def _quota(cpus: float) -> int:
    return max(1000, int(cpus * PERIOD))


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _stats_v1(paths: Mapping[str, str]) -> dict[str, int]:
    memory, pids = paths.get("memory", ""), paths.get("pids", "")
    droppable = fields(f"{memory}/memory.stat").get("total_inactive_file", 0)
    return {
        "cpu": _limit(f"{paths.get('cpuacct', '')}/cpuacct.usage"),
        "memory": max(0, _limit(f"{memory}/memory.usage_in_bytes") - droppable),
        "memory_limit": _limit(f"{memory}/memory.limit_in_bytes"),
        "pids": _limit(f"{pids}/pids.current"),
        "pids_limit": _limit(f"{pids}/pids.max"),
    }


def _stats_v2(paths: Mapping[str, str]) -> dict[str, int]:
    path = next(iter(paths.values()), "")
    droppable = fields(f"{path}/memory.stat").get("inactive_file", 0)
    values = {
        "cpu": fields(f"{path}/cpu.stat").get("usage_usec", 0) * 1000,
        "memory": max(0, _limit(f"{path}/memory.current") - droppable),
        "memory_limit": _limit(f"{path}/memory.max"),
        "pids": _limit(f"{path}/pids.current"),
        "pids_limit": _limit(f"{path}/pids.max"),
    }
    if "io" in paths:
        words = [word.partition("=") for word in text(f"{path}/io.stat").split()]
        for field, key in (("read_bytes", "rbytes"), ("written_bytes", "wbytes")):
            values[field] = sum(int(value) for name, _, value in words if name == key)
    return values


def _process_io(pids: Iterable[int]) -> tuple[int, int]:
    """Bytes read and written by the processes that are alive: all there is without an io group."""
    read = written = 0
    for pid in pids:
        figures = fields(f"/proc/{pid}/io")
        read += figures.get("read_bytes:", 0)
        written += figures.get("write_bytes:", 0)
    return read, written


def _system_cpu() -> int:
    """Nanoseconds that all processors have spent, idle ones too, as Docker counts them."""
    return sum(int(ticks) for ticks in text("/proc/stat").split("\n", 1)[0].split()[1:8]) * _TICK


# Files ----------------------------------------------------------------------------------------


def write(path: str, value: str) -> None:
    """One write(2), as the kernel wants it. Raises OSError that names the file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
    finally:
        os.close(fd)


def text(path: str) -> str:
    """The file's content, empty for one that is not there."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def fields(path: str) -> dict[str, int]:
    """Lines of ``name number``; empty for a file that is not there."""
    words = (line.split() for line in text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}


def _limit(path: str) -> int:
    """A number; 0 for ``max``, for v1's nearly endless ones, and for a file that is not there."""
    word = text(path).strip()
    return int(word) if word.isdecimal() and int(word) < _UNLIMITED else 0
