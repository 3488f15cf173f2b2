"""Changes that are cut off: the old container or the new one is there, and row and files agree."""

from __future__ import annotations

import os
import signal

import pytest

from cellbox import faults
from cellbox.connecting import connect
from cellbox.containers import records
from cellbox.engine import Engine
from cellbox.model.container import (
    Limits,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Status,
)
from cellbox.model.image import Image

POINTS = ("update.row.changed", "update.files.written", "state.commit.before")


@pytest.fixture
def box(engine: Engine, busybox: Image) -> str:
    """A container that tells its environment and mounts whenever it starts, and runs."""
    line = "echo A=$A $(grep -c ' /two ' /proc/mounts); trap 'exit 0' TERM; sleep 1000 & wait"
    mounts = (MountSpec(MountKind.VOLUME, "/one", "one"),)
    spec = RunSpec("busybox", ("sh", "-c", line), env=("A=1",), mounts=mounts, detach=True)
    id = engine.containers.create(spec, name="box").id
    engine.containers.start(id)
    return id


def killed(point: str, **changes: object) -> None:
    """Change the container in a process that is killed at ``point``."""
    child = os.fork()
    if not child:
        try:
            engine = connect()
            faults._name, faults._action = point, "kill"
            engine.containers.update("box", **changes)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, point


def last_line(engine: Engine, until) -> str:
    until(lambda: len(list(engine.containers.logs("box"))) == 2)
    return list(engine.containers.logs("box"))[-1][2].decode().strip()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("mended", [False, True])
def test_what_runs_next_is_what_is_told(engine, box, until, point, mended):
    engine.close()
    mounts = (MountSpec(MountKind.VOLUME, "/two", "two"),)
    killed(point, env=("A=2",), mounts=mounts)
    engine = connect()
    assert engine.containers.get("box").status is Status.EXITED
    if mended:
        engine.check(repair=True)
        assert engine.check() == []
    new = engine.containers.get("box").spec.env == ("A=2",)
    assert new is (point != "state.commit.before")
    engine.containers.start("box")
    assert last_line(engine, until) == ("A=2 1" if new else "A=1 0")
    assert [one.name for one in engine.containers.get("box").mounts] == ["two" if new else "one"]
    assert engine.check() == []


@pytest.mark.parametrize("point", POINTS)
def test_a_policy_and_limits_that_are_cut_off(engine, box, store, point):
    engine.close()
    killed(point, restart=RestartPolicy("always"), limits=Limits(pids=50))
    engine = connect()
    asked = engine.containers.get("box").spec
    assert (asked.restart.name == "always") is (point != "state.commit.before")
    engine.containers.restart("box", timeout=5)
    bundle = records.read_bundle(f"{store}/containers/{box}")
    assert (bundle.restart, bundle.limits) == (asked.restart, asked.limits)
    assert engine.check() == []
