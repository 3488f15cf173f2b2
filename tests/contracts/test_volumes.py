"""Volumes: by themselves, and in containers."""

from __future__ import annotations

import io
import os
import time

import pytest

from cellbox.errors import AlreadyExists, CellboxError, Conflict, InUse, InvalidArgument, NotFound
from cellbox.model.container import DeviceSpec, MountKind, MountPoint, MountSpec, RunSpec
from cellbox.model.volume import ANONYMOUS_LABEL, VolumeSpec


def volume(target: str = "/v", source: str = "", **fields: object) -> MountSpec:
    return MountSpec(MountKind.VOLUME, target, source, **fields)


@pytest.fixture
def volumes(engine):
    """The engine's volumes; all are gone afterwards."""
    yield engine.volumes
    for container in engine.containers.list(all=True):
        engine.containers.remove(container.id, force=True, volumes=True)
    for facts in engine.volumes.list():
        engine.volumes.remove(facts.name)


@pytest.fixture
def image(engine, busybox, run):
    """The image ``filled``: /data has files of several kinds, and is declared a volume."""
    script = (
        "mkdir -p /data/sub; cd /data; echo text > file; chmod 640 file; chown 405:100 file;"
        "ln -s file link; ln file hard; mkfifo pipe; touch sub/deep; chown 405 .; chmod 1750 ."
    )
    made = run("sh", "-c", script)
    assert made.code == 0, made.err
    return engine.images.commit(made.id, name="filled", changes=["VOLUME /data"])


LOOK = "cd /data; stat -c '%n %F %a %u %g %h' . file link hard pipe sub sub/deep; cat file"


# By themselves ----------------------------------------------------------------------------------


def test_a_volume_is_there_until_it_is_removed(volumes):
    spec = VolumeSpec("data", labels={"a": "1"})
    facts = volumes.create(spec)
    assert (facts.name, facts.driver, dict(facts.labels)) == ("data", "local", {"a": "1"})
    assert (dict(facts.options), facts.users, facts.anonymous) == ({}, (), False)
    assert facts.mountpoint.startswith("/") and facts.created > 0
    assert volumes.get("data") == facts == volumes.list()[0]
    assert volumes.create(VolumeSpec("data")) == facts
    assert volumes.size("data") == 0
    volumes.remove("data")
    with pytest.raises(NotFound):
        volumes.get("data")
    with pytest.raises(NotFound):
        volumes.remove("data")
    volumes.remove("data", force=True)
    assert volumes.list() == []


@pytest.mark.differs(dockerd="20.10 marks none as anonymous")
def test_without_a_name_it_is_anonymous(volumes):
    facts = volumes.create(VolumeSpec())
    assert len(facts.name) == 64 and set(facts.name) <= set("0123456789abcdef")
    assert facts.anonymous and ANONYMOUS_LABEL in facts.labels
    assert volumes.create(VolumeSpec()).name != facts.name


@pytest.mark.differs(dockerd="it takes the volume as it is")
def test_a_name_means_one_thing(volumes):
    volumes.create(VolumeSpec("data", options={"type": "tmpfs", "device": "tmpfs"}))
    with pytest.raises(Conflict):
        volumes.create(VolumeSpec("data", options={"type": "tmpfs", "device": "other"}))
    with pytest.raises(NotFound):
        volumes.create(VolumeSpec("more", driver="nobody"))


@pytest.mark.parametrize("name", ["a", "../up", "a/b", ".hidden", "-x", "a b", "ä" * 3])
@pytest.mark.differs(dockerd="the length of a name is the file system's matter")
def test_a_name_is_no_path(volumes, name):
    with pytest.raises(InvalidArgument):
        volumes.create(VolumeSpec(name))
    assert volumes.list() == []


@pytest.mark.parametrize(
    "options",
    [
        {"odd": "1"},
        {"type": "tmpfs"},
        {"device": "/x"},
        {"o": "bind"},
        {"size": "much"},
    ],
)
@pytest.mark.differs(dockerd="it looks at fewer")
def test_options_are_looked_at(volumes, options):
    with pytest.raises(InvalidArgument):
        volumes.create(VolumeSpec("data", options=options))
    assert volumes.list() == []


def test_filters(engine, busybox, volumes):
    volumes.create(VolumeSpec("one", labels={"a": "1", "b": "2"}))
    volumes.create(VolumeSpec("two", labels={"a": "2"}))
    engine.containers.create(RunSpec("busybox", mounts=(volume(source="two"),)))

    def names(**filters):
        return [facts.name for facts in volumes.list(filters=filters)]

    assert names() == ["one", "two"]
    assert names(name=["on", "x"]) == ["one"]
    assert names(driver=["local"]) == ["one", "two"] and names(driver=["x"]) == []
    assert names(label=["a"]) == ["one", "two"] and names(label=["a=1", "b"]) == ["one"]
    assert names(dangling=["true"]) == ["one"] and names(dangling=["0"]) == ["two"]
    with pytest.raises(InvalidArgument):
        names(odd=["1"])
    with pytest.raises(InvalidArgument):
        names(dangling=["perhaps"])


# In containers ----------------------------------------------------------------------------------


def test_what_is_written_stays(engine, run, volumes):
    assert run("sh", "-c", "echo kept > /v/f", mounts=(volume(source="data"),)).code == 0
    facts = volumes.get("data")
    assert len(facts.users) == 1 and not facts.anonymous
    read = run("cat", "/v/f", mounts=(volume(source="data", read_only=True),))
    assert read.out == "kept\n"
    refused = run("touch", "/v/g", mounts=(volume(source="data", read_only=True),))
    assert refused.code == 1 and "Read-only file system" in refused.err
    assert volumes.size("data") == len("kept\n")
    with pytest.raises(InUse, match=r"remove data: volume is in use - \[[0-9a-f]{64}, "):
        volumes.remove("data")
    with pytest.raises(NotFound):
        volumes.get("gone")


def test_two_containers_see_each_other(engine, run, start, volumes):
    mounts = (volume(source="data"),)
    answer = "until test -e /v/asked; do sleep 0.01; done; echo yes > /v/told"
    start("sh", "-c", answer, mounts=mounts)
    script = "touch /v/asked; until test -s /v/told; do sleep 0.01; done; cat /v/told"
    assert run("sh", "-c", script, mounts=mounts).out == "yes\n"


def test_an_empty_volume_is_filled_with_what_the_image_has(run, image, volumes):
    wanted = run("sh", "-c", LOOK, image="filled", mounts=(volume("/other"),)).out
    assert ". directory 1750 405 0 3\nfile regular file 640 405 100 2\n" in wanted
    assert wanted.endswith("\ntext\n")
    found = run("sh", "-c", LOOK, image="filled", mounts=(volume("/data", "data"),))
    assert found.out == wanted
    again = run("sh", "-c", "cat /v/file; rm /v/file /v/hard", mounts=(volume(source="data"),))
    assert again.out == "text\n"
    left = run("ls", "/data", image="filled", mounts=(volume("/data", "data"),))
    assert "file" not in left.out.split() and "pipe" in left.out.split()  # it is not empty


def test_a_volume_that_has_something_is_left_alone(run, image, volumes):
    run("touch", "/v/mine", mounts=(volume(source="data"),))
    found = run("ls", "/data", image="filled", mounts=(volume("/data", "data"),))
    assert found.out == "mine\n"


def test_no_copy_leaves_it_empty(run, image, volumes):
    found = run("ls", "-A", "/data", image="filled", mounts=(volume("/data", "x1", no_copy=True),))
    assert found.out == ""


@pytest.mark.differs(
    remote="it tells in one what the image and the user want",
    dockerd="it tells in one what the image and the user want",
)
def test_what_an_image_declares_is_a_volume(engine, run, image, volumes):
    made = run("sh", "-c", "echo more > /data/new", image="filled")
    facts = engine.containers.get(made.id)
    (point,) = facts.mounts
    assert (point.kind, point.target, len(point.name)) == (MountKind.VOLUME, "/data", 64)
    assert volumes.get(point.name).users == (made.id,)
    engine.containers.remove(made.id)
    assert volumes.get(point.name).users == ()
    other = run("true", image="filled", mounts=(MountSpec(MountKind.TMPFS, "/data"),))
    assert [one.kind for one in engine.containers.get(other.id).mounts] == [MountKind.TMPFS]


def test_anonymous_ones_go_with_their_container_if_asked(engine, run, volumes):
    mounts = (volume(), volume("/named", "data"))
    run("true", mounts=mounts, auto_remove=True)
    assert [facts.name for facts in volumes.list()] == ["data"]
    made = run("true", mounts=mounts)
    engine.containers.remove(made.id)
    assert len(volumes.list()) == 2
    made = run("true", mounts=mounts)
    engine.containers.remove(made.id, volumes=True)
    assert len(volumes.list()) == 2
    assert volumes.get("data").users == ()


def test_volumes_from_another_container(engine, run, volumes, tmp_path):
    bind = MountSpec(MountKind.BIND, "/b", str(tmp_path))
    made = run("sh", "-c", "echo s > /v/f", mounts=(volume(), bind))
    name = engine.containers.get(made.id).name
    script = "cat /v/f; touch /b/made; touch /v/g && echo written"
    assert run("sh", "-c", script, volumes_from=(name,)).out == "s\nwritten\n"
    assert (tmp_path / "made").exists()
    refused = run("touch", "/v/h", volumes_from=(f"{made.id}:ro",))
    assert "Read-only" in refused.err
    own = run("ls", "/v", volumes_from=(name,), mounts=(volume(source="mine"),))
    assert own.out == ""
    anonymous = next(one.name for one in engine.containers.get(made.id).mounts if one.name)
    engine.containers.remove(made.id, volumes=True)
    assert len(volumes.get(anonymous).users) == 2  # others have it still
    with pytest.raises(NotFound):
        run("true", volumes_from=("nobody",))


@pytest.mark.differs(dockerd="before API 1.45 there is none")
def test_a_subpath_is_inside_the_volume(run, volumes):
    script = "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s /etc /v/out; ln -s a/b /v/in"
    run("sh", "-c", script, mounts=(volume(source="data"),))

    def look(subpath):
        return run("ls", "/s", mounts=(volume("/s", "data", subpath=subpath),)).out

    assert look("a/b") == look("in") == "f\n"
    for absent in ("none", "out"):
        with pytest.raises(Exception, match="No such file"):
            look(absent)
    with pytest.raises(InvalidArgument):
        look("../data")


@pytest.mark.differs(dockerd="for it a tmpfs is no mount")
def test_facts_tell_what_is_mounted(engine, busybox, volumes, tmp_path):
    made = engine.containers.create(
        RunSpec(
            "busybox",
            mounts=(
                volume("/v/", "data", read_only=True),
                MountSpec(MountKind.BIND, "/b", str(tmp_path)),
                MountSpec(MountKind.TMPFS, "/t"),
            ),
        )
    )
    path = volumes.get("data").mountpoint
    assert sorted(engine.containers.get(made.id).mounts, key=lambda one: one.target) == [
        MountPoint(MountKind.BIND, "/b", str(tmp_path), propagation="rprivate"),
        MountPoint(MountKind.TMPFS, "/t", ""),
        MountPoint(MountKind.VOLUME, "/v", path, True, "data", "local"),
    ]


@pytest.mark.differs(dockerd="it looks at fewer")
def test_a_wrong_mount_leaves_nothing(engine, busybox, volumes, tmp_path):
    wrong = (
        (volume(source="data"), volume("/v/", "other")),
        (volume(source="data"), MountSpec(MountKind.BIND, "/b", str(tmp_path / "absent"))),
        (volume(source="data"), volume("/x", "../other")),
        (volume("/", "data"),),
        (volume("/proc/x", "data"),),
    )
    for mounts in wrong:
        with pytest.raises(InvalidArgument):
            engine.containers.create(RunSpec("busybox", mounts=mounts))
    with pytest.raises(AlreadyExists):
        engine.containers.create(RunSpec("busybox"), name="web")
        engine.containers.create(RunSpec("busybox", mounts=(volume(source="data"),)), name="web")
    assert volumes.list() == []


def test_a_missing_directory_is_made_for_v(run, volumes, tmp_path):
    absent = tmp_path / "a" / "b"
    mount = MountSpec(MountKind.BIND, "/b", str(absent), make_source=True)
    assert run("touch", "/b/f", mounts=(mount,)).code == 0
    assert os.listdir(absent) == ["f"]


def test_a_tmpfs_volume_is_mounted_while_somebody_has_it(engine, run, start, volumes):
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    volumes.create(VolumeSpec("fast", options=options))
    mounts = (volume(source="fast"),)
    holder = start("sh", "-c", "echo here > /v/f; exec sleep 1000", mounts=mounts)
    script = "until test -s /v/f; do sleep 0.01; done; grep ' /v ' /proc/mounts"
    found = run("sh", "-c", script, mounts=mounts).out
    assert found.startswith("tmpfs /v tmpfs rw") and "size=1024k" in found
    assert run("ls", "/v", mounts=mounts).out == "f\n"
    engine.containers.remove(holder.id, force=True)
    assert run("ls", "/v", mounts=mounts).out == ""
    again = start("touch", "/v/left", mounts=mounts)
    engine.containers.wait(again.id)
    assert run("ls", "/v", mounts=mounts).out == ""


def test_a_bind_volume_is_a_directory_of_the_host(engine, run, volumes, tmp_path):
    (tmp_path / "d").mkdir()
    options = {"type": "none", "device": str(tmp_path / "d"), "o": "bind"}
    volumes.create(VolumeSpec("home", options=options))
    made = run("touch", "/v/f", mounts=(volume(source="home"),))
    engine.containers.remove(made.id)
    volumes.remove("home")
    assert os.listdir(tmp_path / "d") == ["f"]


def test_copies_of_a_container_that_does_not_run_see_volumes(engine, run, busybox, volumes, tar_of):
    mounts = (volume(source="data"), volume("/ro", "data", read_only=True))
    made = engine.containers.create(RunSpec("busybox", mounts=mounts))
    engine.files.put(made.id, "/v", tar_of(name=b"copied"))
    assert run("cat", "/v/name", mounts=mounts).out == "copied"
    assert engine.files.stat(made.id, "/ro/name").size == len("copied")
    with pytest.raises(CellboxError):
        engine.files.put(made.id, "/ro", tar_of(other=b"x"))
    out = io.BytesIO()
    engine.files.get(made.id, "/v/name", out)
    assert b"copied" in out.getvalue()


@pytest.mark.differs(dockerd="Docker's API cannot say that")
def test_update_gives_a_container_other_volumes(engine, run, start, volumes):
    mounts = (volume("/one", "one"), volume("/none"))
    made = start("sleep", "1000", mounts=mounts, stop_timeout=0.2)
    anonymous = next(one.name for one in made.mounts if one.target == "/none")
    engine.containers.update(made.id, mounts=(volume("/two", "two"), volume("/none")))
    now = engine.containers.get(made.id)
    assert {one.target: one.name for one in now.mounts} == {"/two": "two", "/none": anonymous}
    assert volumes.get("one").users == () and volumes.get("two").users == (made.id,)
    engine.containers.update(made.id, mounts=())
    assert engine.containers.get(made.id).mounts == ()
    assert volumes.get("two").users == ()


@pytest.mark.differs(dockerd="it tells of the tests before too")
def test_what_happens_is_told(engine, run, volumes):
    begun = time.time()
    made = run("true", mounts=(volume(source="data"), volume("/x", "other", read_only=True)))
    engine.containers.remove(made.id)
    volumes.remove("data")
    events = engine.events(since=begun, until=time.time(), filters={"volume": ["data"]})
    told = [(one.action, dict(one.attributes)) for one in events]
    assert told == [
        ("create", {"driver": "local"}),
        (
            "mount",
            {
                "container": made.id, "driver": "local", "destination": "/v",
                "read/write": "true", "propagation": "",
            },
        ),
        ("unmount", {"container": made.id, "driver": "local"}),
        ("destroy", {"driver": "local"}),
    ]  # fmt: skip


# Devices ----------------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="it finds out when it starts the container")
def test_a_device_of_the_host(run):
    devices = (DeviceSpec("/dev/full", "/dev/mynull"),)
    found = run("sh", "-c", "head -c 2 /dev/mynull; echo x > /dev/mynull", devices=devices)
    assert found.out == "\0\0" and "No space left" in found.err
    with pytest.raises(InvalidArgument, match="no such file"):
        run("true", devices=(DeviceSpec("/dev/absent", "/dev/absent"),))
