"""Volumes whose driver is another program, in containers that run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, program, shelves

from cellbox.errors import EngineError, NotFound, Unavailable
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.volume import VolumeSpec

MOUNTED = MountSpec(MountKind.VOLUME, "/v", "data", driver="shelf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "volumes"
    made.mkdir()
    return made


@pytest.fixture
def answers(folder: Path) -> Answers:
    return shelves(folder)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Answers) -> Iterator[list]:
    """The calls that the program ``shelf`` got."""
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    with program(tmp_path / "sockets" / "shelf.sock", answers) as calls:
        yield calls


def verbs(calls: list, *wanted: str) -> list[str]:
    return [method.partition(".")[2] for method, _ in calls if method.partition(".")[2] in wanted]


def asked(*words: str, **more) -> RunSpec:
    return RunSpec("busybox", words, detach=True, network="none", mounts=(MOUNTED,), **more)


def run(engine, *words: str, **more) -> str:
    made = engine.containers.create(
        RunSpec("busybox", words, detach=True, network="none", mounts=(MOUNTED,), **more)
    )
    engine.containers.start(made.id)
    return made.id


def test_the_life_of_a_volume(engine, busybox, calls, folder):
    facts = engine.volumes.create(VolumeSpec("data", "shelf", {"colour": "red"}))
    assert (facts.driver, facts.mountpoint) == ("shelf", str(folder / "data"))
    assert [one.mountpoint for one in engine.volumes.list()] == [""]
    id = run(engine, "touch", "/v/f")
    assert engine.containers.wait(id) == 0
    assert os.listdir(folder / "data") == ["f"]
    mounts = [body for method, body in calls if method == "VolumeDriver.Mount"]
    assert mounts == [{"Name": "data", "ID": id}]
    assert verbs(calls, "Mount", "Unmount") == ["Mount", "Unmount"]
    engine.containers.remove(id)
    engine.volumes.remove("data")
    assert not (folder / "data").exists()


def test_one_that_ended_alone_is_unmounted_by_who_looks_next(engine, busybox, calls, until):
    id = run(engine, "cat", interactive=True)
    os.kill(engine.containers.get(id).pid, signal.SIGKILL)
    until(lambda: engine.containers.get(id).status == "exited")
    assert verbs(calls, "Mount", "Unmount") == ["Mount", "Unmount"]
    engine.containers.list(all=True)
    engine.containers.start(id)
    assert verbs(calls, "Mount", "Unmount") == ["Mount", "Unmount", "Mount"]
    engine.containers.remove(id, force=True)
    assert verbs(calls, "Mount", "Unmount")[-1] == "Unmount"


STARTS = """
import os, sys
from cellbox.connecting import connect
from cellbox.model.container import MountKind, MountSpec, RunSpec
engine = connect()
mounts = (MountSpec(MountKind.VOLUME, "/v", "data", driver="shelf"),)
spec = RunSpec("busybox", ("true",), detach=True, network="none", mounts=mounts)
made = engine.containers.create(spec)
engine.containers.start(made.id)
print(made.id, flush=True)
os.kill(os.getpid(), 9)
"""


def test_an_engine_that_was_killed_leaves_no_mount(engine, busybox, calls, python, until):
    process: subprocess.Popen[str] = python(STARTS)
    id = process.stdout.readline().strip()
    assert process.wait(20) == -signal.SIGKILL
    until(lambda: engine.containers.get(id).status == "exited")
    assert verbs(calls, "Mount", "Unmount") == ["Mount", "Unmount"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"Mountpoint": "relative"}, "which is no absolute path of a directory"),
        ({"Mountpoint": "/none/at/all"}, "which is no absolute path of a directory"),
        ({}, "which is no absolute path of a directory"),
        ({"Err": "the disk is full"}, r"VolumeDriver\.Mount: the disk is full"),
        (b"noise", "with JSON"),
    ],
)
def test_a_driver_that_lies_starts_nothing(engine, busybox, calls, answers, answer, told):
    answers["VolumeDriver.Mount"] = answer
    made = engine.containers.create(
        RunSpec("busybox", ("true",), network="none", mounts=(MOUNTED,))
    )
    with pytest.raises(EngineError, match=told):
        engine.containers.start(made.id)
    assert engine.containers.get(made.id).status == "created"
    assert not any((engine._store.run / "mounted").iterdir())
    engine.containers.remove(made.id)


def test_one_that_hangs_and_one_that_is_gone(engine, busybox, calls, answers, monkeypatch):
    import threading

    from cellbox.drivers import client

    never = threading.Event()
    monkeypatch.setattr(client.Client.call, "__kwdefaults__", {"patience": 0.3})
    answers["VolumeDriver.Create"] = lambda body: never.wait() and {}
    try:
        with pytest.raises(Unavailable, match=r"has not answered VolumeDriver\.Create in 0\.3 s"):
            engine.volumes.create(VolumeSpec("data", "shelf"))
    finally:
        never.set()
    assert engine.volumes.list() == []
    with pytest.raises(NotFound, match="No such volume driver: nobody"):
        engine.volumes.create(VolumeSpec("data", "nobody"))
