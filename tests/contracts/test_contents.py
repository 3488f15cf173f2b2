"""What is in containers and volumes as a whole, out of one and into another: how they are moved."""

from __future__ import annotations

import io
import tarfile

import pytest
from tests.contracts.test_files import tar_of

from cellbox.errors import CellboxError, NotFound, NotSupported, WrongState
from cellbox.model.container import LogConfig, MountKind, MountSpec, RunSpec
from cellbox.model.volume import VolumeSpec

NOT_DOCKER = "Docker's API has no such request"
pytestmark = pytest.mark.differs(dockerd=NOT_DOCKER)


def listed(data: io.BytesIO) -> dict[str, tarfile.TarInfo]:
    data.seek(0)
    with tarfile.open(fileobj=data) as archive:
        found = {one.name: one for one in archive.getmembers()}
    data.seek(0)
    return found


# The writable layer -------------------------------------------------------------------------------


def test_a_layer_goes_into_another_container(engine, run):
    made = "echo x >/etc/new; chown 7:8 /etc/new; chmod 4711 /etc/new; ln /etc/new /etc/hard; "
    ran = run("sh", "-c", made + "rm /etc/group; rm -r /srv; mkdir /srv; mkfifo /fifo")
    out = io.BytesIO()
    engine.files.get_layer(ran.id, out)
    names = listed(out)
    assert {"etc/.wh.group", "etc/new", "fifo"} <= set(names)
    assert (names["etc/new"].uid, names["etc/new"].mode) == (7, 0o4711)
    other = engine.containers.create(RunSpec("busybox", ("cat", "/etc/new"), detach=True)).id
    engine.files.put_layer(other, io.BytesIO(b"".join(tar_of(("gone", b"")))))
    engine.files.put_layer(other, out)
    assert engine.files.diff(other) == engine.files.diff(ran.id)
    engine.containers.start(other)
    assert engine.containers.wait(other, timeout=20) == 0
    assert [data for _, _, data in engine.containers.logs(other)] == [b"x\n"]


def test_only_one_that_has_never_run_gets_a_layer(engine, run, start):
    for id in (run("true").id, start().id):
        with pytest.raises(WrongState):
            engine.files.put_layer(id, tar_of(("a", b"")))
    fresh = engine.containers.create(RunSpec("busybox", ("true",))).id
    with pytest.raises(CellboxError):
        engine.files.put_layer(fresh, io.BytesIO(b"no tar at all " * 100))
    with pytest.raises(NotFound):
        engine.files.put_layer("nosuch", tar_of(("a", b"")))
    with pytest.raises(NotFound):
        engine.files.get_layer("nosuch", io.BytesIO())


# Logs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True])
def test_entries_follow_what_is_there(engine, run, tty):
    id = run("echo", "first", tty=tty).id
    cut = [] if tty else [(2.5, "stdout", b"no newline")]  # which a terminal's lines cannot tell
    told = [(1.25, "stdout", b"a\n"), *cut, (3.0, "stdout", b"\xff\n")]
    engine.files.append_logs(id, iter(told))
    engine.files.append_logs(id, ())
    found = list(engine.containers.logs(id))
    assert found[0][2].strip() == b"first"
    assert found[1:] == told


def test_many_entries(engine, run):
    id = run("true").id
    told = [(float(number), "stderr", b"%d\n" % number) for number in range(1, 2000)]
    engine.files.append_logs(id, told)
    assert list(engine.containers.logs(id)) == told


def test_who_has_no_log_or_writes_it_itself(engine, run, start):
    with pytest.raises(WrongState):
        engine.files.append_logs(start().id, [(1.0, "stdout", b"")])
    silent = run("true", log=LogConfig("none")).id
    with pytest.raises(NotSupported):
        engine.files.append_logs(silent, [(1.0, "stdout", b"")])


# Volumes ------------------------------------------------------------------------------------------


def test_a_volume_goes_into_another(engine, run):
    mounts = (MountSpec(MountKind.VOLUME, "/v", "one"), MountSpec(MountKind.VOLUME, "/w", "two"))
    run("sh", "-c", "mkdir /v/d; echo x >/v/d/f; chown 12:34 /v /v/d/f; chmod 750 /v; echo >/w/old",
        mounts=mounts)  # fmt: skip
    out = io.BytesIO()
    engine.volumes.export("one", out)
    assert {name.removeprefix("./") for name in listed(out)} - {"."} == {"d", "d/f"}
    engine.volumes.import_("two", out)
    ran = run("sh", "-c", "cd /w; find .; stat -c %u:%g:%a . d/f; cat d/f", mounts=mounts)
    assert ran.out.split() == [".", "./d", "./d/f", "12:34:750", "12:34:644", "x"]


def test_what_is_no_volume_or_no_archive(engine, tmp_path):
    with pytest.raises(NotFound):
        engine.volumes.export("nosuch", io.BytesIO())
    with pytest.raises(NotFound):
        engine.volumes.import_("nosuch", tar_of(("a", b"")))
    bound = {"type": "none", "o": "bind", "device": str(tmp_path)}
    engine.volumes.create(VolumeSpec("bound", options=bound))
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(NotSupported):
        engine.volumes.import_("bound", tar_of(("a", b"")))
    assert (tmp_path / "mine").read_text() == "keep"
    engine.volumes.create(VolumeSpec("plain"))
    with pytest.raises(CellboxError):
        engine.volumes.import_("plain", io.BytesIO(b"no tar at all " * 100))


def test_no_link_leads_out_of_a_volume(engine, run, tmp_path):
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    engine.volumes.create(VolumeSpec("plain"))
    engine.volumes.import_("plain", tar_of(link, ("out/planted", b"x"), ("../up", b"x")))
    assert not (tmp_path / "planted").exists()


# Commit with volumes ------------------------------------------------------------------------------


def test_an_image_with_what_is_in_volumes(engine, run):
    mounts = tuple(MountSpec(MountKind.VOLUME, path, name) for path, name in (
        ("/data", "one"), ("/etc/conf.d", "two"), ("/srv", ""),
    ))  # fmt: skip
    made = "echo x >/data/f; chown 12:34 /data /data/f; chmod 750 /data; echo y >/etc/conf.d/g; "
    ran = run("sh", "-c", made + "echo z >/srv/h; mkdir /data/d; echo w >/written", mounts=mounts)
    image = engine.images.commit(ran.id, name="whole", volumes=True)
    assert len(image.layers) == len(engine.images.get("busybox").layers) + 2
    look = (
        "stat -c %u:%g:%a /data /data/f; cat /data/f /etc/conf.d/g /srv/h /written; ls -d /data/d"
    )
    told = run("sh", "-c", look, image="whole").out.split()
    assert told == ["12:34:750", "12:34:644", "x", "y", "z", "w", "/data/d"]
    bare = engine.images.commit(ran.id, name="bare")
    assert run("ls", "/data", image=bare.id).out == ""


def test_volumes_take_the_place_of_what_the_image_has_there(engine, run):
    run("sh", "-c", "rm /v/passwd; echo x >/v/new", mounts=(
        MountSpec(MountKind.VOLUME, "/v", "etc"), MountSpec(MountKind.VOLUME, "/etc", "etc"),
    ))  # fmt: skip
    ran = run("ls", "/etc", mounts=(MountSpec(MountKind.VOLUME, "/etc", "etc"),))
    engine.images.commit(ran.id, name="whole", volumes=True)
    here = {"hostname", "hosts", "resolv.conf"}
    assert set(run("ls", "/etc", image="whole").out.split()) - here == (set(ran.out.split()) - here)
    assert "new" in ran.out and "passwd" not in ran.out


def test_a_container_without_volumes_has_none_to_include(engine, run):
    image = engine.images.commit(run("true").id, volumes=True)
    assert len(image.layers) == len(engine.images.get("busybox").layers) + 1
