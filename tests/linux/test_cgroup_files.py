"""What is written for a limit, and how figures are read, over directories of plain files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cellbox.linux import cgroup_files
from cellbox.linux.cgroup_files import set_limits, stats
from cellbox.model.container import Limits

MIB = 1 << 20


def group(directory: Path, *names: str, **content: str) -> dict[str, str]:
    """Empty files ``names`` (dots as they are) in ``directory``, which serves every controller."""
    for name in names:
        (directory / name).write_text("")
    for name, text in content.items():
        (directory / name.replace("__", ".")).write_text(text)
    return {name: str(directory) for name in ("memory", "cpu", "cpuacct", "pids", "cpuset")}


def written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.read_text()}


ALL = Limits(
    memory=64 * MIB,
    memory_swap=96 * MIB,
    memory_reservation=32 * MIB,
    cpus=1.5,
    cpu_shares=512,
    cpuset="0-1",
    pids=20,
)


def test_all_limits_on_v1(tmp_path: Path) -> None:
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes")
    cpu = ("cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares", "cpuset.cpus", "pids.max")
    set_limits(1, group(tmp_path, *names, *cpu), ALL)
    assert written(tmp_path) == {
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "100663296",
        "memory.soft_limit_in_bytes": "33554432",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "cpu.shares": "512",
        "cpuset.cpus": "0-1",
        "pids.max": "20",
    }


def test_all_limits_on_v2(tmp_path: Path) -> None:
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight")
    set_limits(2, group(tmp_path, *names, "cpuset.cpus", "pids.max"), ALL)
    assert written(tmp_path) == {
        "memory.max": "67108864",
        "memory.swap.max": "33554432",
        "memory.low": "33554432",
        "cpu.max": "150000 100000",
        "cpu.weight": "20",
        "cpuset.cpus": "0-1",
        "pids.max": "20",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_not_asked_is_not_touched(tmp_path: Path, version: int) -> None:
    set_limits(version, group(tmp_path), Limits())
    assert not list(tmp_path.iterdir())


def test_swap_without_end(tmp_path: Path) -> None:
    limits = Limits(memory=64 * MIB, memory_swap=-1)
    set_limits(2, group(tmp_path, "memory.max", "memory.swap.max"), limits)
    assert written(tmp_path)["memory.swap.max"] == "max"


@pytest.mark.parametrize(("version", "file"), [(1, "memory.limit_in_bytes"), (2, "memory.max")])
def test_a_kernel_that_does_not_count_swap(tmp_path: Path, version: int, file: str) -> None:
    set_limits(version, group(tmp_path, file), Limits(memory=64 * MIB, memory_swap=128 * MIB))
    assert written(tmp_path) == {file: "67108864"}


def test_memory_on_v1_is_raised_in_the_other_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def kernel(path: str, value: str) -> None:
        order.append(os.path.basename(path))
        if order == ["memory.limit_in_bytes"]:
            raise OSError(errno.EINVAL, "above memory and swap", path)

    monkeypatch.setattr(cgroup_files, "write", kernel)
    paths = group(tmp_path, "memory.memsw.limit_in_bytes")
    set_limits(1, paths, Limits(memory=64 * MIB, memory_swap=128 * MIB))
    assert order[1:] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="pids.max"):
        set_limits(2, group(tmp_path), Limits(pids=5))


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000)])
def test_shares_as_a_weight(shares: int, weight: int) -> None:
    assert cgroup_files.weight(shares) == weight


def test_figures_of_v1(tmp_path: Path) -> None:
    paths = group(
        tmp_path,
        memory__stat="cache 5\ntotal_inactive_file 1000\n",
        cpuacct__usage="123456789\n",
        pids__current="3\n",
        pids__max="max\n",
    )
    (tmp_path / "memory.usage_in_bytes").write_text("5000\n")
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    found = stats(1, paths, ())
    assert (found.cpu, found.memory, found.memory_limit) == (123456789, 4000, 0)
    assert (found.pids, found.pids_limit) == (3, 0)
    assert found.read > 0 and found.system_cpu > 0 and found.cpus >= 1


def test_figures_of_v2(tmp_path: Path) -> None:
    paths = group(
        tmp_path,
        memory__stat="anon 1\ninactive_file 6000\n",
        memory__current="5000\n",
        memory__max="67108864\n",
        cpu__stat="usage_usec 1500\nuser_usec 1\n",
        pids__current="3\n",
        pids__max="20\n",
        io__stat="8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2 rios=1\n",
    )
    found = stats(2, {**paths, "io": str(tmp_path)}, ())
    assert (found.cpu, found.memory, found.memory_limit) == (1_500_000, 0, 67108864)
    assert (found.pids, found.pids_limit) == (3, 20)
    assert (found.read_bytes, found.written_bytes) == (11, 22)


def test_figures_of_nothing() -> None:
    for version in (1, 2):
        found = stats(version, {}, ())
        assert (found.cpu, found.memory, found.pids) == (0, 0, 0)


def test_bytes_of_processes_stand_in_for_an_io_group(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(b"x" * 65536)
        os.fsync(file.fileno())
    found = stats(1, {}, (os.getpid(),))
    assert found.written_bytes >= 0
    assert stats(1, {}, (0x7FFFFFFF,)).written_bytes == 0
