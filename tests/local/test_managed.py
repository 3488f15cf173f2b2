"""Plugins from images, as they are made, run, used, changed and taken away."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from tests.local.plugin_made import archive, taken_down

from cellbox.errors import (
    AlreadyExists,
    EngineError,
    InUse,
    InvalidArgument,
    NotFound,
    Unavailable,
    WrongState,
)
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.volume import VolumeSpec

pytestmark = pytest.mark.root


@pytest.fixture
def plugins(engine, tmp_path):
    with taken_down(engine, engine._store.run):
        yield engine.plugins


@pytest.fixture
def shelves(plugins, tmp_path):
    """The name of a plugin that is made and set up, and not enabled."""
    plugins.create("lab/shelves", archive(tmp_path / "plugin"))
    plugins.set("lab/shelves", ["usr.source=/usr"])
    return "lab/shelves"


def test_its_life(engine, plugins, shelves, busybox, until):
    facts = plugins.get(shelves)
    assert (facts.name, facts.enabled, facts.kind) == ("lab/shelves:latest", False, "volume")
    assert (facts.origin, facts.config.socket) == ("image lab/shelves:latest", "it.sock")
    assert plugins.get(facts.id[:8]) == facts
    plugins.set(shelves, ["WORD=hello", "args=a b"])
    plugins.enable(shelves)
    assert plugins.get(shelves).enabled
    assert engine.containers.list(all=True) == [] and engine.images.list() == [busybox]
    facts = engine.volumes.create(VolumeSpec("data", shelves))
    assert open(f"{facts.mountpoint}/made").read() == "helloa b"
    mount = MountSpec(MountKind.VOLUME, "/v", "data", driver=shelves)
    spec = RunSpec(
        "busybox", ("sh", "-c", "cat /v/made > /v/copy"), network="none", mounts=(mount,)
    )
    made = engine.containers.create(spec)
    engine.containers.start(made.id)
    assert engine.containers.wait(made.id) == 0
    assert open(f"{facts.mountpoint}/copy").read() == "helloa b"
    engine.containers.remove(made.id)
    with pytest.raises(InUse, match="in use by volume data"):
        plugins.disable(shelves)
    with pytest.raises(WrongState, match="already enabled"):
        plugins.enable(shelves)
    with pytest.raises(WrongState, match="disable it first"):
        plugins.remove(shelves)
    engine.volumes.remove("data")
    plugins.disable(shelves)
    with pytest.raises(WrongState, match="already disabled"):
        plugins.disable(shelves)
    with pytest.raises(NotFound, match="No such volume driver: lab/shelves"):
        engine.volumes.create(VolumeSpec("more", shelves))
    plugins.remove(shelves)
    with pytest.raises(NotFound):
        plugins.get(shelves)
    inner = engine._store.managed
    assert inner.images.list() == [] and inner._containers.list(all=True) == []
    events = engine.events(since=0, until=time.time(), filters={"type": ["plugin"]})
    assert [one.action for one in events] == ["create", "enable", "disable", "remove"]


def test_one_that_was_killed_is_started_when_it_is_asked_for(engine, plugins, shelves, until):
    plugins.enable(shelves)
    engine.volumes.create(VolumeSpec("data", shelves))
    inner = engine._store.managed._containers
    (one,) = inner.list()
    inner.kill(one.id)
    until(lambda: not [each for each in inner.list() if each.pid == one.pid])
    assert engine.volumes.get("data").mountpoint.endswith("/propagated/data")
    engine.volumes.remove("data")


def test_one_that_fails_says_why_and_leaves_nothing(engine, plugins, shelves):
    plugins.set(shelves, ["FAIL=1"])
    with pytest.raises(Unavailable, match="lab/shelves:latest has .*no luck"):
        plugins.enable(shelves, timeout=20)
    assert not plugins.get(shelves).enabled
    assert engine._store.managed._containers.list(all=True) == []


@pytest.mark.parametrize("setting", ["SAYS=/etc", "SAYS=/", "OUTSIDE=/etc", "SAYS=/data/../../etc"])
def test_it_gives_nothing_but_its_own(engine, plugins, shelves, busybox, setting):
    plugins.set(shelves, [setting])
    plugins.enable(shelves)
    mount = MountSpec(MountKind.VOLUME, "/v", "data", driver=shelves)
    made = engine.containers.create(RunSpec("busybox", ("true",), network="none", mounts=(mount,)))
    with pytest.raises(EngineError, match="which is no absolute path"):
        engine.containers.start(made.id)
    engine.containers.remove(made.id)
    engine.volumes.remove("data")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("FIXED=2", "'FIXED' is not settable"),
        ("NONE=2", "setting 'NONE' not found"),
        ("WORD", "write it as NAME=value"),
        ("usr.target=/x", "'usr.target' is not settable"),
    ],
)
def test_what_cannot_be_set(plugins, shelves, setting, told):
    before = plugins.get(shelves).settings
    with pytest.raises(InvalidArgument, match=told):
        plugins.set(shelves, ["WORD=x", setting])
    assert plugins.get(shelves).settings == before


def test_names_are_taken_once(plugins, shelves, tmp_path):
    with pytest.raises(AlreadyExists, match="lab/shelves:latest already exists"):
        plugins.create("lab/shelves", archive(tmp_path / "again"))


def test_a_tar_that_is_no_plugin(engine, plugins, tmp_path, tar_of):
    for data in (b"noise" * 1000, b""):
        with pytest.raises(InvalidArgument, match="no tar of a plugin|config.json is missing"):
            plugins.create("bad", io.BytesIO(data))
    with pytest.raises(InvalidArgument, match="config.json is missing"):
        plugins.create("bad", tar_of(**{"rootfs/x": b"x"}))
    with pytest.raises(InvalidArgument, match="config of the plugin"):
        plugins.create("bad", tar_of(**{"config.json": b"{", "rootfs/x": b"x"}))
    with pytest.raises(InvalidArgument, match="no name of a socket"):
        plugins.create("bad", archive(tmp_path / "p", interface={"socket": "../../x.sock"}))
    assert engine._store.managed.images.list() == []
    assert [one for one in plugins.list() if one.managed] == []


KILLED = """
import io, sys
from cellbox.connecting import connect
engine = connect()
if sys.argv[1] == "create":
    engine.plugins.create("lab/other", open(sys.argv[2], "rb"))
elif sys.argv[1] == "enable":
    engine.plugins.enable("lab/shelves")
else:
    engine.plugins.remove("lab/shelves")
"""


@pytest.mark.parametrize(
    ("verb", "fault"),
    [("create", "plugin.image.made"), ("enable", "plugin.started"),
     ("remove", "plugin.record.gone")],
)  # fmt: skip
def test_killed_in_between_plugins_are_whole(
    engine, plugins, shelves, tmp_path, python, verb, fault
):
    other = tmp_path / "other.tar"
    other.write_bytes(archive(tmp_path / "other").getvalue())
    process = python(KILLED, verb, other, fault=f"{fault}:kill")
    assert process.wait(60) == -signal.SIGKILL
    names = [one.name for one in plugins.list() if one.managed]
    assert names == ([] if verb == "remove" else ["lab/shelves:latest"])
    plugins.create("lab/third", archive(tmp_path / "third", description="another"))
    assert len(engine._store.managed.images.list()) == len(names) + 1
    if names:
        assert not plugins.get(shelves).enabled
        plugins.enable(shelves)
        assert len(engine._store.managed._containers.list()) == 1
    assert sorted(os.listdir(engine._store.root / "plugins")) == sorted(
        ["store", *(one.id for one in plugins.list() if one.managed)]
    )
