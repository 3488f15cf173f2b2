"""Groups of real processes. The parent group has a name of its own here, and goes at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cellbox.errors import NotSupported
from cellbox.linux import cgroup_layout, cgroups
from cellbox.linux.cgroup_layout import Layout
from cellbox.linux.cgroups import Group
from cellbox.model.container import Limits

MIB = 1 << 20
NOTHING = Layout(1, {}, "run as root")
V2_MOUNT = "/sys/fs/cgroup/unified"


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """This machine's layout with a parent group of our own, which is taken away at the end."""
    parent = f"cellbox-test-{os.getpid()}"
    monkeypatch.setattr(cgroup_layout, "PARENT", parent)
    found = cgroup_layout.find()
    if not found.directories or found.version != 1:
        pytest.skip(f"no control groups of version 1 that we may write: {found.remedy}")
    monkeypatch.setattr(cgroups, "_known", found)
    yield found
    tidy(set(found.directories.values()))


def tidy(parents: set[str]) -> None:
    for name in cgroups.leftovers():
        cgroups.discard(name)
    for path in parents:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)


@pytest.fixture
def sleepers() -> Iterator[Callable[[int], list[int]]]:
    """A function that starts so many processes that sleep."""
    started: list[subprocess.Popen[bytes]] = []

    def start(count: int) -> list[int]:
        started.extend(subprocess.Popen(["sleep", "60"]) for _ in range(count))
        return [process.pid for process in started]

    yield start
    for process in started:
        process.kill()
        process.wait()


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def create(name: str, limits: Limits) -> Group:
    group = cgroups.create(name, limits)
    assert group is not None
    return group


def test_without_limits_only_what_figures_need_is_made(machine: Layout) -> None:
    group = create("a", Limits())
    assert set(group.directories) >= {"memory", "cpuacct", "pids"}
    assert "freezer" not in group.directories
    assert cgroups.leftovers() == ["a"]
    group.remove()
    group.remove()
    assert cgroups.leftovers() == []
    assert cgroups.existing("a") is None


def test_processes_are_counted(machine: Layout, sleepers: Callable[[int], list[int]]) -> None:
    group = create("a", Limits(memory=64 * MIB, pids=50))
    pids = sleepers(2)
    for pid in pids:
        group.add(pid)
    assert sorted(group.pids()) == sorted(pids)
    found = group.stats()
    assert (found.pids, found.pids_limit, found.memory_limit) == (2, 50, 64 * MIB)
    assert group.oom_kills() == 0
    again = cgroups.existing("a")
    assert again is not None and sorted(again.pids()) == sorted(pids)
    group.kill()
    assert not list(group.pids())


def test_limits_change_while_it_runs(machine: Layout, sleepers: Callable[[int], list[int]]) -> None:
    group = create("a", Limits(memory=64 * MIB, memory_swap=128 * MIB))
    (pid,) = sleepers(1)
    group.add(pid)
    group.set(Limits(memory=512 * MIB, memory_swap=1024 * MIB))
    assert group.stats().memory_limit == 512 * MIB
    group.set(Limits(memory=32 * MIB, memory_swap=-1))
    assert group.stats().memory_limit == 32 * MIB
    if "cpu" not in machine.directories:
        return
    assert "cpu" not in group.directories or "cpuacct" in group.directories
    group.set(Limits(cpus=0.5, cpu_shares=100))
    path = Path(group.directories["cpu"])
    assert (path / "cpu.cfs_quota_us").read_text() == "50000\n"
    assert str(pid) in (path / "cgroup.procs").read_text().split()


def test_a_set_of_processors(machine: Layout, sleepers: Callable[[int], list[int]]) -> None:
    if "cpuset" not in machine.directories:
        pytest.skip("no cpuset controller")
    group = create("a", Limits(cpuset="0"))
    (pid,) = sleepers(1)
    group.add(pid)
    assert os.sched_getaffinity(pid) == {0}


BOMB = """
import os, sys
sys.stdin.read(1)
try:
    while True:
        os.fork() or os.execvp("sleep", ["sleep", "60"])
except OSError as error:
    sys.exit(error.errno)
"""


def test_a_fork_bomb_stays_inside(machine: Layout) -> None:
    group = create("a", Limits(pids=4))
    process = subprocess.Popen([sys.executable, "-c", BOMB], stdin=subprocess.PIPE)
    group.add(process.pid)
    process.communicate(b"x")
    assert process.returncode == 11  # EAGAIN
    assert len(list(group.pids())) <= 4
    group.kill()
    assert not list(group.pids())
    assert group.stats().pids_limit == 4


def test_memory_runs_out(machine: Layout) -> None:
    group = create("a", Limits(memory=16 * MIB, memory_swap=16 * MIB))
    eater = "import sys\nsys.stdin.read(1)\nx = b'x' * (200 << 20)"
    process = subprocess.Popen([sys.executable, "-c", eater], stdin=subprocess.PIPE)
    group.add(process.pid)
    process.communicate(b"x")
    assert process.returncode == -signal.SIGKILL
    assert group.oom_kills() >= 1


def test_pausing(machine: Layout, sleepers: Callable[[int], list[int]]) -> None:
    group = create("a", Limits())
    (pid,) = sleepers(1)
    group.add(pid)
    cgroups.freeze(group, True)
    frozen = Path(group.directories["freezer"]) / "freezer.state"
    assert frozen.read_text() == "FROZEN\n"
    cgroups.freeze(group, True)
    cgroups.freeze(group, False)
    assert frozen.read_text() == "THAWED\n"
    cgroups.freeze(group, True)
    group.kill()  # a frozen one too
    assert state(pid) == "Z"


def test_a_group_made_inside_goes_too(
    machine: Layout, sleepers: Callable[[int], list[int]]
) -> None:
    group = create("a", Limits())
    os.makedirs(f"{group.directories['memory']}/x/y")
    group.remove()
    assert cgroups.leftovers() == []


def test_a_group_is_discarded_with_all_that_runs_in_it(
    machine: Layout, sleepers: Callable[[int], list[int]]
) -> None:
    (pid,) = sleepers(1)
    create("a", Limits()).add(pid)
    cgroups.discard("a")
    assert state(pid) == "Z"
    assert cgroups.leftovers() == []
    cgroups.discard("a")  # there is none


def test_a_group_that_is_there_is_taken_over(machine: Layout) -> None:
    create("a", Limits(pids=5))
    assert create("a", Limits()).stats().pids_limit == 5


def test_what_the_kernel_refuses_leaves_nothing(machine: Layout) -> None:
    with pytest.raises(OSError, match="cpuset.cpus" if "cpuset" in machine.directories else ""):
        cgroups.create("a", Limits(cpuset="4000"))
    assert cgroups.leftovers() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x"])
def test_names_that_would_lead_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a group"):
        cgroups.create(name, Limits())


def test_a_user_without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_known", NOTHING)
    assert cgroups.create("a", Limits()) is None
    assert cgroups.create("a", Limits(oom_score_adj=5)) is None
    assert cgroups.existing("a") is None
    assert cgroups.leftovers() == []
    assert cgroups.view(Limits()) == ()
    message = r"may not limit cpu and memory on this machine \(cgroup v1\): run as root"
    with pytest.raises(NotSupported, match=message):
        cgroups.create("a", Limits(memory=64 * MIB, cpus=1))
    with pytest.raises(NotSupported, match="pausing needs a control group: run as root"):
        cgroups.freeze(None, True)


def test_an_ordinary_user_has_none_on_v1() -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setresuid(12345, 12345, 12345)
            found = cgroup_layout.find()
            code = len(found.directories) if found.version == 1 and found.remedy else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_a_container_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    both = "/c/cpu,cpuacct/cellbox"
    v1 = Layout(1, {"memory": "/c/memory/cellbox", "cpu": both, "cpuacct": both})
    monkeypatch.setattr(cgroups, "_known", v1)
    assert cgroups.view(Limits()) == ()
    shown = cgroups.view(Limits(cpus=1))
    assert [(mount.kind, mount.target, mount.data) for mount in shown] == [
        ("tmpfs", "/sys/fs/cgroup", "mode=755,size=64k"),
        ("cgroup", "/sys/fs/cgroup/cpu", "cpu,cpuacct"),
    ]
    assert "ro" in shown[1].flags and "ro" not in shown[0].flags
    monkeypatch.setattr(cgroups, "_known", replace(v1, version=2))
    (one,) = cgroups.view(Limits(memory=64 * MIB))
    assert (one.kind, one.target, "ro" in one.flags) == ("cgroup2", "/sys/fs/cgroup", True)


# Version 2, on a tree without controllers -----------------------------------------------------


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A version 2 tree, with what every group there has: statistics of the processor, a freezer."""
    mount = V2_MOUNT if os.path.exists(f"{V2_MOUNT}/cgroup.procs") else "/sys/fs/cgroup"
    if not (os.access(mount, os.W_OK) and os.access(f"{mount}/cgroup.subtree_control", os.W_OK)):
        pytest.skip("no control groups of version 2 that we may write")
    parent = f"{mount}/cellbox-test-{os.getpid()}"
    names = ("cpuacct", "freezer")
    found = Layout(2, {name: parent for name in names})
    monkeypatch.setattr(cgroups, "_known", found)
    yield found
    tidy({parent})


def test_a_group_of_v2(tree: Layout, sleepers: Callable[[int], list[int]]) -> None:
    group = create("a", Limits())
    pids = sleepers(2)
    for pid in pids:
        group.add(pid)
    assert sorted(group.pids()) == sorted(pids)
    assert group.stats().cpu >= 0
    cgroups.freeze(group, True)
    cgroups.freeze(group, False)
    cgroups.freeze(group, True)
    group.kill()
    until(lambda: all(state(pid) == "Z" for pid in pids))
    group.remove()
    assert cgroups.leftovers() == []


def test_processes_of_groups_below_die_too(
    tree: Layout, sleepers: Callable[[int], list[int]]
) -> None:
    group = create("a", Limits())
    below = Path(group.directories["freezer"]) / "below"
    below.mkdir()
    (pid,) = sleepers(1)
    (below / "cgroup.procs").write_text(str(pid))
    group.kill()
    group.remove()
    assert not below.exists() and state(pid) == "Z"


def test_a_process_is_born_in_a_group_of_v2(tree: Layout) -> None:
    group = create("a", Limits())
    fd = group.descriptor()
    assert os.readlink(f"/proc/self/fd/{fd}").endswith("/a")
    os.close(fd)


@pytest.fixture
def busy(
    monkeypatch: pytest.MonkeyPatch, sleepers: Callable[[int], list[int]]
) -> Iterator[tuple[Path, int]]:
    """A v2 group with a controller and a process in it, and that process; the one controller that a
    hybrid machine may leave to v2 is hugetlb."""
    top, base = Path(V2_MOUNT), Path(V2_MOUNT, f"cellbox-test-{os.getpid()}")
    if "hugetlb" not in cgroups.text(f"{top}/cgroup.controllers") or os.geteuid() != 0:
        pytest.skip("no version 2 tree with a controller that we may write")
    monkeypatch.setattr(cgroups, "CONTROLLERS", ("hugetlb",))
    given = "hugetlb" in (top / "cgroup.subtree_control").read_text()
    (top / "cgroup.subtree_control").write_text("+hugetlb")
    base.mkdir()
    (pid,) = sleepers(1)
    (base / "cgroup.procs").write_text(str(pid))
    where = Layout(2, {"hugetlb": f"{base}/cellbox", "cpuacct": f"{base}/cellbox"})
    monkeypatch.setattr(cgroups, "_known", where)
    yield base, pid
    (top / "cgroup.procs").write_text(str(pid))
    tidy({f"{base}/cellbox", f"{base}/{cgroup_layout.LEAF}"})
    base.rmdir()
    if not given:
        (top / "cgroup.subtree_control").write_text("-hugetlb")


def test_processes_make_room_for_groups_below(busy: tuple[Path, int]) -> None:
    """A delegated group holds the notebook itself, and v2 allows no processes above groups."""
    base, pid = busy
    group = create("a", Limits())
    assert "hugetlb" in (base / "cellbox/cgroup.subtree_control").read_text()
    assert (base / cgroup_layout.LEAF / "cgroup.procs").read_text().split() == [str(pid)]
    group.add(pid)
    assert list(group.pids()) == [pid]


def test_version_1_has_no_descriptor(machine: Layout) -> None:
    assert create("a", Limits()).descriptor() == -1
