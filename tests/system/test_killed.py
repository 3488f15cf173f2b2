"""Who is killed takes nothing along that was not his, and nobody innocent is taken for him.

A launcher's and a shim's death, what the kernel kills for want of memory, and process numbers that
have gone to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellbox.containers import records
from cellbox.containers.launcher import SOCKET
from cellbox.containers.messages import RunState, group_name, group_shim
from cellbox.engine import Engine
from cellbox.linux import cgroups
from cellbox.linux.process import is_alive, start_time
from cellbox.local.places import run_directory
from cellbox.model.container import Container, ExecSpec, Limits, RestartPolicy, RunSpec, Status

RUNTIME = Path(__file__).parents[2] / "runtime"
MEMORY = Limits(memory=32 << 20, memory_swap=32 << 20)
EAT = """awk 'BEGIN { all = "x"; while (1) all = all all }'"""
ON_END = RestartPolicy("always")

Start = Callable[..., Container]


@pytest.fixture
def start(engine: Engine, busybox: object) -> Start:
    """``start("sleep", "1000", init=True)``: a container that runs in the background."""

    def do(*command: str, **fields: object) -> Container:
        fields.setdefault("detach", True)
        made = engine.containers.create(RunSpec("busybox", command, **fields))
        engine.containers.start(made.id)
        return engine.containers.get(made.id)

    return do


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def state_file(store: Path) -> Callable[[str], Path]:
    """Where the shim of a container tells what it does, by the container's id."""
    return lambda id: run_directory(store) / "c" / id[:12] / records.STATE


def shim_of(state_file: Path) -> RunState:
    state = records.read(RunState, str(state_file))
    assert state is not None
    return state


def needs_memory_groups() -> None:
    if "memory" not in cgroups.layout().controllers:
        pytest.skip("needs a control group of its own with the memory controller")


# The launcher -----------------------------------------------------------------------------------


def launcher_of(store: Path) -> int:
    """The pid of the store's launcher: of who listens on its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(run_directory(store) / SOCKET))
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", told)[0])


def test_containers_live_on_without_the_launcher_and_their_ends_are_seen(
    engine, store, start, state_file, until
):
    """What it had in reserve goes with it; the next verb that needs one starts another."""
    ends = start("sh", "-c", "while ! test -e /go; do sleep 0.01; done; exit 7")
    attached, stays = start("sleep", "1000", detach=False), start("sleep", "1000")
    run, launcher = run_directory(store), launcher_of(store)
    shims = {shim_of(state_file(one.id)).shim for one in (ends, attached, stays)}
    os.kill(launcher, signal.SIGKILL)
    until(lambda: processes_of(run) == shims)
    groups = {group_shim(str(run), name) for name in cgroups.leftovers()} - {0}
    assert groups in (shims, set())  # set() where there are no groups
    with engine.containers.exec(ends.id, ExecSpec(("touch", "/go"))) as stream:
        assert stream.wait(10) == 0
    assert engine.containers.wait(ends.id, timeout=10) == 7
    assert engine.containers.get(attached.id) == attached
    engine.containers.stop(stays.id, timeout=0)
    # A shim that has told the end of its container sees to the cgroup before it goes.
    until(lambda: processes_of(run) == {shim_of(state_file(attached.id)).shim})
    assert start("sleep", "1000").status is Status.RUNNING
    assert launcher_of(store) != launcher
    assert engine.check() == []


def processes_of(run: Path) -> set[int]:
    """The pids of a store's launcher, shims, and whoever else was forked from it and lives."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and start_time(int(entry.name)):
                if os.fsencode(run) in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


# Out of memory ----------------------------------------------------------------------------------


def test_a_first_process_that_was_out_of_memory(engine, start):
    needs_memory_groups()
    one = start("sh", "-c", f"exec {EAT}", limits=MEMORY)
    assert engine.containers.wait(one.id, timeout=30) == 137
    assert engine.containers.get(one.id).oom_killed
    assert engine.check() == []


def test_a_child_that_was_out_of_memory_is_told_though_the_program_went_on(engine, start):
    needs_memory_groups()
    one = start("sh", "-c", f"{EAT}; echo went on; exit 3", limits=MEMORY)
    assert engine.containers.wait(one.id, timeout=30) == 3
    ended = engine.containers.get(one.id)
    assert (ended.exit_code, ended.oom_killed) == (3, True)
    assert [data for _, stream, data in engine.containers.logs(one.id) if stream == "stdout"] == [
        b"went on\n"
    ]


def test_another_one_does_not_notice(engine, start):
    needs_memory_groups()
    bystander, greedy = start("sleep", "1000"), start("sh", "-c", EAT, limits=MEMORY)
    engine.containers.wait(greedy.id, timeout=30)
    assert engine.containers.get(greedy.id).oom_killed
    assert engine.containers.get(bystander.id) == bystander


# A shim that was killed -------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"pid": "host"}, {"restart": ON_END}, {"init": True}])
def test_nothing_outlives_a_shim_that_was_killed(engine, store, start, state_file, until, fields):
    """Neither the program, nor what it started, nor what was started beside it, nor the group."""
    one = start("sh", "-c", "sleep 1000 & sleep 1000 & wait", **fields)
    with engine.containers.exec(one.id, ExecSpec(("sleep", "1000"))) as stream:
        group = group_name(str(run_directory(store)), shim_of(state_file(one.id)).shim)
        if group not in cgroups.leftovers():
            pytest.skip("needs control groups of its own, to find what runs in a container")
        members = cgroups.existing(group)
        until(lambda: len(list(members.pids())) >= 4)
        inside = [(pid, start_time(pid)) for pid in members.pids()]
        os.kill(shim_of(state_file(one.id)).shim, signal.SIGKILL)
        until(lambda: engine.containers.get(one.id).status is Status.EXITED)
        ended = engine.containers.get(one.id)
        assert (ended.exit_code, ended.pid, ended.oom_killed) == (137, 0, False)
        assert ended.error == "its monitor was killed, so its end was not seen"
        until(lambda: not any(is_alive(*process) for process in inside))
        assert stream.wait(10) == 137
    assert group not in cgroups.leftovers()
    assert not state_file(one.id).parent.exists()
    assert engine.check() == []
    engine.containers.start(one.id)
    assert engine.containers.get(one.id).status is Status.RUNNING


def test_its_group_goes_with_the_next_repair(engine, store, start, state_file, until):
    """Which is the first to look at the container since."""
    one = start("sleep", "1000")
    shim = shim_of(state_file(one.id))
    group = group_name(str(run_directory(store)), shim.shim)
    if group not in cgroups.leftovers():
        pytest.skip("needs control groups of its own")
    os.kill(shim.shim, signal.SIGKILL)
    until(lambda: not is_alive(shim.shim, shim.shim_start))
    found = engine.check(repair=True)
    assert [item.kind for item in found if item.kind == "cgroup"] in ([], ["cgroup"])
    assert group not in cgroups.leftovers()
    until(lambda: not is_alive(shim.pid, shim.pid_start))
    assert engine.check() == []


# A number that has gone to somebody else --------------------------------------------------------


def test_a_process_with_the_number_of_a_dead_shim_is_left_alone(
    engine, start, state_file, innocent, until
):
    one = start("sleep", "1000")
    engine.containers.kill(one.id)
    engine.containers.wait(one.id, timeout=10)
    until(lambda: not state_file(one.id).parent.exists())
    state_file(one.id).parent.mkdir(mode=0o700)
    past = start_time(innocent.pid) - 1
    lie = RunState(innocent.pid, past, innocent.pid, past, time.time())
    records.write(str(state_file(one.id)), lie)
    told = engine.containers.get(one.id)
    assert (told.status, told.pid, told.exit_code) == (Status.EXITED, 0, 137)
    engine.containers.remove(one.id, force=True)
    assert innocent.poll() is None
    assert engine.check() == []


def test_a_store_forgets_what_a_dead_process_held_though_its_number_lives(
    engine, store, busybox_tar, innocent
):
    """A collector is not kept from its work by a lease whose owner's number lives on."""
    engine.images.import_(busybox_tar.open("rb"), name="a")
    script = f"""
import os, sys
from cellbox.local import lease
from cellbox.local.state import State
from pathlib import Path
lease.Owner.me = classmethod(lambda cls: cls({innocent.pid}, 1, lease.boot_id()))
taken = State(Path(sys.argv[1])).leases.take("pull a")
taken.hold(lease.Hold.LAYER, sys.argv[2])
"""
    diff_id = engine.images.get("a").layers[0].diff_id
    subprocess.run(
        [sys.executable, "-c", script, str(store), diff_id],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        check=True,
    )
    removed = engine.images.remove("a")
    assert diff_id in [one.deleted for one in removed]
    assert os.listdir(store / "layers/sha256") == []
