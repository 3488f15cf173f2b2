"""What of the embedded engine's containers the contract does not show: claims, records, repairs."""

from __future__ import annotations

import json
import os
import time

import pytest

from cellbox.connecting import connect
from cellbox.containers.messages import ExitRecord
from cellbox.containers.records import write_exit
from cellbox.errors import AlreadyExists, NotFound, Unavailable, WrongState
from cellbox.local import containers as module
from cellbox.local.claim import claimed
from cellbox.model.container import RunSpec, Status

SLEEP = RunSpec("busybox", ("sleep", "1000"), detach=True)


@pytest.fixture
def web(engine, busybox):
    """A container ``web`` that has not run yet."""
    return engine.containers.create(SLEEP, name="web")


def half_made(engine, web, *, layer: bool) -> None:
    """As a process leaves it that is killed while it makes the container."""
    directory = engine._containers.directory(web.id)
    (directory / "bundle.json").unlink()
    if not layer:
        engine._store.launcher.work("remove", {"path": str(directory / "layer")})


@pytest.mark.parametrize("layer", [True, False])
def test_what_nobody_finishes_is_undone_by_who_looks_next(engine, web, layer):
    half_made(engine, web, layer=layer)
    assert engine.containers.list(all=True) == []
    assert os.listdir(engine._store.root / "containers") == []
    with pytest.raises(NotFound):
        engine.containers.get("web")


def test_its_name_is_free_for_who_does_not_look(engine, web):
    half_made(engine, web, layer=True)
    assert engine.containers.create(SLEEP, name="web").id != web.id


def test_what_somebody_makes_just_now_is_left_alone(engine, web):
    half_made(engine, web, layer=True)
    with claimed(engine._containers.directory(web.id)):
        assert engine.containers.get("web").status is Status.CREATED
        with pytest.raises(AlreadyExists):
            engine.containers.create(SLEEP, name="web")
    assert engine.containers.list(all=True) == []


def test_what_somebody_is_busy_with_is_neither_started_nor_removed(engine, web, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.02)
    with claimed(engine._containers.directory(web.id)):
        with pytest.raises(Unavailable, match="another process is busy with container web"):
            engine.containers.start("web")
        with pytest.raises(WrongState, match="removal of container web is already in progress"):
            engine.containers.remove("web")
    engine.containers.start("web")


def test_a_removal_that_was_cut_is_finished_by_the_next_engine(engine, web):
    engine._store.state.containers.mark_removing(web.id)
    other = connect()
    assert other.containers.list(all=True) == []
    assert not engine._containers.directory(web.id).exists()
    other.close()


def test_one_that_cannot_be_removed_does_not_hide_the_others(engine, web, monkeypatch):
    engine.containers.create(SLEEP, name="other")
    engine._store.state.containers.mark_removing(web.id)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    other = connect()
    monkeypatch.setattr(other._store.launcher, "work", refuse)
    assert [one.name for one in other.containers.list(all=True)] == ["other", "web"]
    assert other.containers.get("web").status is Status.REMOVING
    other.close()


def test_an_end_that_the_disk_had_no_room_for_is_told_from_memory(engine, web):
    run = engine._containers.run_directory(web.id)
    ended = ExitRecord(exit_code=9, started=1.0, finished=2.0)
    assert not write_exit("/nosuch", str(run), ended)
    found = engine.containers.get("web")
    assert (found.status, found.exit_code) == (Status.EXITED, 9)
    engine.containers.start("web")
    assert engine.containers.get("web").status is Status.RUNNING
    engine.containers.stop("web", timeout=0)
    assert engine.containers.get("web").exit_code == 137
    assert not run.exists()


def test_a_lost_bundle_is_made_again(engine, web):
    bundle = engine._containers.directory(web.id) / "bundle.json"
    before = bundle.read_bytes()
    bundle.write_bytes(b"")
    engine._containers.restore(engine._containers.record("web"))
    assert bundle.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda was: b"",
        lambda was: was[:100],
        lambda was: b"[]",
        lambda was: b"{}",
        # as after the store was moved
        lambda was: json.dumps(json.loads(was) | {"directory": "/elsewhere"}).encode(),
    ],
)
def test_a_bundle_that_does_not_serve_is_no_reason_not_to_start(engine, web, damage):
    bundle = engine._containers.directory(web.id) / "bundle.json"
    before = bundle.read_bytes()
    bundle.write_bytes(damage(before))
    engine.containers.start("web")
    assert engine.containers.get("web").status is Status.RUNNING
    assert bundle.read_bytes() == before


def test_the_pid_of_another_process_is_not_believed(engine, web):
    """As after a reboot whose pids come round again: the start time tells them apart."""
    run = engine._containers.run_directory(web.id)
    run.mkdir(mode=0o700, parents=True)
    state = {"shim": os.getpid(), "shim_start": 1, "started": 1.0}
    (run / "state.json").write_text(json.dumps(state))
    found = engine.containers.get("web")
    assert found.status is Status.EXITED and "monitor" in found.error
    assert not run.exists()
    assert found.finished <= time.time()
