"""The volumes of a store: what is on disk, drivers of strangers, what a crash leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from cellbox.errors import EngineError, InUse, NotFound, NotSupported, Unavailable
from cellbox.images.populate import FILLED
from cellbox.linux import syscalls
from cellbox.local import volumes as local_volumes
from cellbox.local.volumes import _Guarded
from cellbox.model.container import MountKind, MountSpec, RunSpec
from cellbox.model.volume import VolumeSpec
from cellbox.plugins import REGISTRY

MS_BIND, MS_SHARED = 1 << 12, 1 << 20
KILL = """
import sys
from cellbox.connecting import connect
from cellbox.model.volume import VolumeSpec
engine = connect()
{}
"""


def mount(source: str, target: str = "/v", **fields: object) -> MountSpec:
    return MountSpec(MountKind.VOLUME, target, source, **fields)


def damage(engine, *, repair: bool = False) -> list[tuple[str, str]]:
    found = [one for one in engine.check(repair=repair) if one.kind in ("volume", "volumes")]
    return [(one.ref, one.detail) for one in found]


# On disk ----------------------------------------------------------------------------------------


def test_a_volume_is_a_directory_with_its_record(quick_engine, store):
    facts = quick_engine.volumes.create(VolumeSpec("data", labels={"a": "1"}))
    assert facts.mountpoint == str(store / "volumes/data/_data")
    assert sorted(os.listdir(store / "volumes/data")) == ["_data", "volume.json"]
    quick_engine.volumes.rename("data", "other")
    assert quick_engine.volumes.get("other").mountpoint == str(store / "volumes/other/_data")
    assert dict(quick_engine.volumes.get("other").labels) == {"a": "1"}
    with pytest.raises(NotFound):
        quick_engine.volumes.get("data")
    quick_engine.volumes.remove("other")
    assert os.listdir(store / "volumes") == os.listdir(store / "trash") == []


def test_a_rename_takes_no_name_and_nobodys_volume(engine, busybox):
    for name in ("one", "two"):
        engine.volumes.create(VolumeSpec(name))
    with pytest.raises(Exception, match="two already exists"):
        engine.volumes.rename("one", "two")
    engine.containers.create(RunSpec("busybox", mounts=(mount("one"),)))
    with pytest.raises(InUse, match="rename one: volume is in use"):
        engine.volumes.rename("one", "three")
    assert [one.name for one in engine.volumes.list()] == ["one", "two"]


def test_all_is_found_again_without_the_database(engine, busybox, store):
    engine.volumes.create(VolumeSpec("data", labels={"a": "1"}))
    made = engine.containers.create(RunSpec("busybox", mounts=(mount("data"), mount("", "/x"))))
    before = engine.volumes.list()
    (store / "volumes/torn/_data").mkdir(parents=True)
    (store / "volumes/torn/_data/kept").touch()
    (store / "volumes/torn/volume.json").write_text("{")
    engine.close()
    for path in store.glob("state.db*"):
        path.unlink()
    assert [one for one in engine.volumes.list() if one.name != "torn"] == before
    assert engine.containers.get(made.id).mounts == made.mounts
    with pytest.raises(InUse):
        engine.volumes.remove("data")
    engine.check(repair=True)
    assert (Path(engine.volumes.get("torn").mountpoint) / "kept").exists()
    assert damage(engine) == []


def test_damage_is_told_and_mended(engine, store):
    for name in ("lost", "torn", "half"):
        engine.volumes.create(VolumeSpec(name))
    shutil.rmtree(store / "volumes/lost")
    (store / "volumes/torn/volume.json").write_text("{}")
    ready = store / "volumes/half" / os.fsdecode(FILLED)
    ready.mkdir()
    (ready / "f").touch()
    (store / "volumes/nobodys/_data").mkdir(parents=True)
    wrong = [
        ("half", "it was not filled to the end"),
        ("lost", "its files are lost"),
        ("torn", "its record is damaged"),
    ]
    assert damage(engine) == wrong
    assert damage(engine, repair=True) == [*wrong, ("nobodys", "nobody needs it")]
    assert damage(engine) == []
    assert sorted(os.listdir(store / "volumes")) == ["half", "lost", "torn"]
    assert os.listdir(store / "volumes/half/_data") == ["f"]


def test_a_rename_that_was_cut_short_goes_back(quick_engine, store, python):
    quick_engine.volumes.create(VolumeSpec("data"))
    (store / "volumes/data/_data/kept").touch()
    code = KILL.format("engine.volumes.rename('data', 'other')")
    python(code, fault="volume.directory.renamed:kill").wait(20)
    assert os.listdir(store / "volumes") == ["other"]
    assert [one.name for one in quick_engine.volumes.list()] == ["data"]
    quick_engine._store.collect()
    assert (store / "volumes/data/_data/kept").exists()


def test_a_container_gets_the_files_whose_rename_was_cut_short(engine, busybox, store):
    engine.volumes.create(VolumeSpec("data"))
    (store / "volumes/data/_data/kept").touch()
    (store / "volumes/data").rename(store / "volumes/other")
    engine.containers.create(RunSpec("busybox", ("true",), mounts=(mount("data"),)), name="web")
    engine.containers.start("web")
    engine.containers.wait("web")
    assert os.listdir(store / "volumes/data/_data") == ["kept"]


# Containers -------------------------------------------------------------------------------------


def test_a_container_that_cannot_be_made_leaves_no_volume(engine, busybox, store, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine._containers.mounting, "fill", fail)
    with pytest.raises(EngineError, match="No space"):
        engine.containers.create(RunSpec("busybox", mounts=(mount(""),)))
    assert engine.containers.list(all=True) == []
    assert engine.volumes.list() == [] and os.listdir(store / "volumes") == []


def test_a_volume_that_is_lost_with_the_database_is_made_again(engine, busybox, store):
    made = engine.containers.create(RunSpec("busybox", ("touch", "/v/f"), mounts=(mount("data"),)))
    engine.close()
    for path in (*store.glob("state.db*"), store / "volumes/data/volume.json"):
        path.unlink()
    shutil.rmtree(store / "volumes/data")
    assert engine.volumes.list() == []
    engine.containers.start(made.id)
    assert engine.containers.wait(made.id) == 0
    assert engine.volumes.get("data").users == (made.id,)
    assert os.listdir(store / "volumes/data/_data") == ["f"]


def test_one_without_volumes_never_hears_of_them(engine, busybox, until):
    made = engine.containers.create(RunSpec("busybox", ("true",), auto_remove=True))
    engine.containers.start(made.id)
    with contextlib.suppress(NotFound):  # it may have gone already
        engine.containers.wait(made.id)
    until(lambda: not engine.containers.list(all=True))
    assert "mounting" not in vars(engine._containers)


def test_files_of_a_root_store_belong_to_root(engine, busybox, store):
    spec = RunSpec("busybox", ("sh", "-c", "touch /v/f; mkdir -p /v/d; chown 405 /v/d"),
                   mounts=(mount("data"),))  # fmt: skip
    made = engine.containers.create(spec)
    engine.containers.start(made.id)
    engine.containers.wait(made.id)
    data = store / "volumes/data/_data"
    if os.geteuid() == 0:
        assert ((data / "f").stat().st_uid, (data / "d").stat().st_uid) == (0, 405)


@pytest.fixture
def shared(tmp_path):
    """A directory that tells what is mounted in it, from before there is a launcher."""
    if os.geteuid():
        pytest.skip("needs root, to mount on the host")
    place = tmp_path / "shared"
    (place / "sub").mkdir(parents=True)
    syscalls.mount(str(place), str(place), "", MS_BIND)
    syscalls.mount("", str(place), "", MS_SHARED)
    yield place
    for path in (place / "sub", place):
        with contextlib.suppress(OSError):
            syscalls.umount(str(path))


@pytest.mark.parametrize(("mode", "arrives"), [("", False), ("rprivate", False), ("rslave", True)])
def test_what_the_host_mounts_arrives_where_that_was_asked_for(
    shared, engine, busybox, mode, arrives
):
    bind = MountSpec(MountKind.BIND, "/b", str(shared), propagation=mode)
    spec = RunSpec("busybox", ("sleep", "1000"), detach=True, mounts=(bind,))
    made = engine.containers.create(spec)
    engine.containers.start(made.id)
    syscalls.mount("tmpfs", str(shared / "sub"), "tmpfs")
    (shared / "sub/late").touch()
    inside = f"/proc/{engine.containers.get(made.id).pid}/root/b/sub/late"
    assert os.path.exists(inside) is arrives
    engine.containers.remove(made.id, force=True)


# Drivers of others ------------------------------------------------------------------------------


class Shelf:
    """A plugin's driver that keeps volumes in a folder."""

    root: Path
    calls: list[tuple[str, ...]]

    def create(self, name, options):
        self.calls.append(("create", name, *options.items()))
        (self.root / name).mkdir(exist_ok=True)

    def remove(self, name):
        self.calls.append(("remove", name))
        shutil.rmtree(self.root / name)

    def mount(self, name, container):
        self.calls.append(("mount", name))
        return str(self.root / name)

    def unmount(self, name, container):
        self.calls.append(("unmount", name))

    def names(self):
        return os.listdir(self.root)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A driver ``shelf`` that is found as a plugin is."""
    Shelf.root, Shelf.calls = tmp_path / "shelf", []
    Shelf.root.mkdir()
    monkeypatch.setitem(REGISTRY._loaded, "volume.shelf", Shelf)
    return Shelf


def test_a_plugin_makes_mounts_and_removes(engine, busybox, shelf):
    facts = engine.volumes.create(VolumeSpec("data", "shelf", {"x": "y"}))
    assert (facts.driver, facts.mountpoint) == ("shelf", "")
    spec = RunSpec("busybox", ("touch", "/v/f"), mounts=(mount("data"),))
    made = engine.containers.create(spec)
    engine.containers.start(made.id)
    assert engine.containers.wait(made.id) == 0
    assert os.listdir(shelf.root / "data") == ["f"]
    assert engine.containers.get(made.id).mounts[0].driver == "shelf"
    engine.containers.remove(made.id)
    with pytest.raises(NotSupported):
        engine.volumes.rename("data", "other")
    with pytest.raises(NotSupported):
        engine.volumes.size("data")
    engine.volumes.remove("data")
    assert not (shelf.root / "data").exists()
    kinds = [call[0] for call in shelf.calls]
    assert kinds[0] == "create" and "mount" in kinds and kinds[-2:] == ["unmount", "remove"]
    assert kinds.index("unmount") > kinds.index("mount")


def test_volume_driver_is_for_those_that_do_not_say(engine, busybox, shelf):
    spec = RunSpec("busybox", mounts=(mount("data"),), volume_driver="shelf")
    engine.containers.create(spec)
    assert engine.volumes.get("data").driver == "shelf"
    with pytest.raises(NotFound, match="volume driver: nobody"):
        engine.containers.create(RunSpec("busybox", mounts=(mount("x1", driver="nobody"),)))


def test_a_driver_that_is_gone_keeps_nothing(engine, busybox, shelf, monkeypatch):
    spec = RunSpec("busybox", ("true",), mounts=(mount("data", driver="shelf"),))
    made = engine.containers.create(spec)
    engine.containers.start(made.id)
    engine.containers.wait(made.id)
    monkeypatch.delitem(REGISTRY._loaded, "volume.shelf")
    engine._containers.mounting.volumes._plugins.clear()
    with pytest.raises(NotFound, match="volume driver: shelf"):
        engine.containers.start(made.id)
    engine.containers.remove(made.id)
    with pytest.raises(NotFound, match="volume driver: shelf"):
        engine.volumes.remove("data")
    engine.volumes.remove("data", force=True)
    assert engine.volumes.list() == []


class Liar(Shelf):
    """A driver that answers what it is told to."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def mount(self, name, container):
        return self.answer() if callable(self.answer) else self.answer


@pytest.mark.parametrize("answer", ["relative", "", None, 5, "/none/at/all", "/etc/../etc", "/\0"])
def test_a_path_that_is_none_is_not_believed(answer):
    with pytest.raises(EngineError, match="which is no absolute path"):
        _Guarded("liar", Liar(answer)).mount("data", "c")


def test_a_driver_that_fails_or_hangs_is_named(monkeypatch):
    def fail():
        raise ValueError("odd")

    with pytest.raises(EngineError, match=r"the volume driver liar: ValueError\('odd'\)"):
        _Guarded("liar", Liar(fail)).mount("data", "c")
    monkeypatch.setattr(local_volumes, "PATIENCE", 0.05)
    never = threading.Event()
    try:
        with pytest.raises(Unavailable, match="liar has not answered"):
            _Guarded("liar", Liar(never.wait)).mount("data", "c")
    finally:
        never.set()
