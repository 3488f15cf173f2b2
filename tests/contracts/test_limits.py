"""Limits hold, are told, can be changed while it runs, and stay inside one container."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import ExecSpec, Limits, RunSpec, Status

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _controllers(engine):
    missing = {"memory", "pids", "cpu"} - set(engine.info().cgroup_controllers)
    if missing:
        pytest.skip(f"needs control groups that this user may use: {', '.join(sorted(missing))}")


def output(engine, id, *command):
    with engine.containers.exec(id, ExecSpec(command)) as stream:
        return b"".join(data for _, data in stream).decode()


def test_more_memory_than_allowed_ends_it_and_is_told(engine, run):
    hungry = "a=x; while :; do a=$a$a; done"
    ran = run("sh", "-c", hungry, limits=Limits(memory=16 * MIB, memory_swap=16 * MIB))
    ended = engine.containers.get(ran.id)
    assert (ran.code, ended.exit_code, ended.oom_killed) == (137, 137, True)
    assert engine.containers.get(run("true").id).oom_killed is False


def test_a_fork_bomb_stays_inside(engine, start, run, until):
    bomb = 'sh -c "while :; do sleep 1000 & done"; exec sleep 1000'  # what it made stays
    id = start("sh", "-c", bomb, limits=Limits(pids=20)).id
    until(lambda: engine.files.stats(id).pids >= 15)
    assert engine.files.stats(id).pids <= 20
    assert run("echo", "well").out == "well\n"
    engine.containers.remove(id, force=True)


def test_figures(engine, start, until):
    limits = Limits(memory=64 * MIB, pids=30, cpus=0.5)
    id = start("sh", "-c", "while :; do :; done", limits=limits).id
    until(lambda: engine.files.stats(id).cpu > 10_000_000)
    found = engine.files.stats(id)
    assert (found.memory_limit, found.pids_limit, found.pids) == (64 * MIB, 30, 1)
    assert 0 < found.memory < 64 * MIB
    assert found.cpus >= 1 and found.system_cpu > 0


def test_limits_are_seen_inside(engine, start):
    id = start(limits=Limits(memory=64 * MIB)).id
    paths = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert output(engine, id, "sh", "-c", f"cat {paths} 2>/dev/null").strip() == str(64 * MIB)


@pytest.mark.parametrize("before", [Limits(), Limits(memory=64 * MIB, pids=50)])
@pytest.mark.differs(dockerd="it wants the limit of swap changed too")
def test_limits_change_while_it_runs(engine, start, before):
    id = start(limits=before).id
    engine.containers.update(id, limits=Limits(memory=32 * MIB, pids=10))
    found = engine.files.stats(id)
    assert (found.memory_limit, found.pids_limit) == (32 * MIB, 10)
    asked = engine.containers.get(id).spec.limits
    assert (asked.memory, asked.pids) == (32 * MIB, 10)
    assert engine.containers.get(id).status is Status.RUNNING


@pytest.mark.differs(dockerd="it wants the limit of swap changed too")
def test_limits_of_one_that_does_not_run_hold_when_it_starts(engine, busybox):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True)).id
    engine.containers.update(id, limits=Limits(memory=32 * MIB))
    engine.containers.start(id)
    assert engine.files.stats(id).memory_limit == 32 * MIB


@pytest.mark.parametrize("limits", [Limits(memory=1), Limits(cpus=-1.0), Limits(cpuset="x")])
def test_limits_that_cannot_be_are_refused(engine, start, busybox, limits):
    with pytest.raises(InvalidArgument):
        engine.containers.create(RunSpec("busybox", limits=limits))
    id = start().id
    with pytest.raises(InvalidArgument):
        engine.containers.update(id, limits=limits)
    assert engine.containers.get(id).spec.limits == Limits()


@pytest.mark.parametrize("network", ["none", "default"])
def test_a_container_sees_its_own_limits(engine, run, network):
    """Whatever is done for it between its order and its program."""
    look = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max"
    for _ in range(3):
        ran = run("sh", "-c", look, limits=Limits(cpus=0.5), network=network, auto_remove=True)
        assert ran.out.startswith("50000"), ran
