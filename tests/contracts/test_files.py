"""What a container looks like inside, running or not: processes, figures, changes, files."""

from __future__ import annotations

import io
import stat
import tarfile

import pytest

from cellbox.errors import CellboxError, InvalidArgument, NotFound, NotSupported, WrongState
from cellbox.model.container import FileChange, LogConfig, MountKind, MountSpec, RunSpec


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for one in members:
            member, data = (one, b"") if isinstance(one, tarfile.TarInfo) else _file(*one)
            archive.addfile(member, io.BytesIO(data))
    out.seek(0)
    return out


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.uid, member.gid, member.mode = len(data), 405, 100, 0o640
    return member, data


def fetch(engine, id, path) -> dict[str, bytes | None]:
    """What the tar of ``path`` holds: names and the bytes of files."""
    out = io.BytesIO()
    engine.files.get(id, path, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        return {
            one.name: archive.extractfile(one).read() if one.isreg() else None
            for one in archive.getmembers()
        }


@pytest.fixture(params=["created", "running", "paused", "exited"])
def box(request, engine, busybox) -> str:
    """A container in each status that has files."""
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True)).id
    if request.param != "created":
        engine.containers.start(id)
    if request.param == "paused":
        engine.containers.pause(id)
    if request.param == "exited":
        engine.containers.kill(id)
        engine.containers.wait(id)
    return id


# Files ------------------------------------------------------------------------------------------


def test_what_is_put_is_there(engine, box):
    engine.files.put(box, "/srv", tar_of(("a", b"1"), ("b", b"22")))
    found = engine.files.stat(box, "/srv/a")
    assert (found.name, found.size, stat.S_IMODE(found.mode)) == ("a", 1, 0o640)
    assert fetch(engine, box, "/srv") == {"srv": None, "srv/a": b"1", "srv/b": b"22"}
    assert fetch(engine, box, "srv/b") == {"b": b"22"}
    assert FileChange("A", "/srv/a") in engine.files.diff(box)


def test_what_is_put_has_the_tars_owners(engine, run, box):
    engine.files.put(box, "/srv", tar_of(("a", b"1")))
    out = io.BytesIO()
    engine.files.get(box, "/srv/a", out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        (member,) = archive.getmembers()
    assert (member.uid, member.gid, stat.S_IMODE(member.mode)) == (405, 100, 0o640)


def test_kinds_of_files(engine, box):
    assert stat.S_ISDIR(engine.files.stat(box, "/etc").mode)
    link = engine.files.stat(box, "/bin/cat")
    assert stat.S_ISLNK(link.mode) and link.target.endswith("busybox")


def test_what_is_not_there(engine, box):
    for verb in (
        lambda: engine.files.stat(box, "/nosuch"),
        lambda: engine.files.get(box, "/nosuch", io.BytesIO()),
        lambda: engine.files.put(box, "/nosuch", tar_of(("a", b""))),
    ):
        with pytest.raises(NotFound):
            verb()
    with pytest.raises(CellboxError):
        engine.files.put(box, "/etc/passwd", tar_of(("a", b"")))
    with pytest.raises(InvalidArgument):
        engine.files.stat(box, "/a\0b")


def test_a_broken_archive_is_refused(engine, box):
    with pytest.raises(CellboxError):
        engine.files.put(box, "/srv", io.BytesIO(b"no tar at all " * 100))


def test_no_link_leads_out_of_the_container(engine, run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("host")
    up = "/.." * 20
    ran = run("ln", "-s", f"{up}{tmp_path}", "/out")
    with pytest.raises(NotFound):
        engine.files.get(ran.id, "/out/secret", io.BytesIO())
    with pytest.raises(NotFound):
        engine.files.put(ran.id, "/out", tar_of(("planted", b"x")))
    with pytest.raises(NotFound):
        engine.files.stat(ran.id, f"{up}{secret}")
    assert [path.name for path in tmp_path.iterdir() if path.name == "planted"] == []


@pytest.mark.differs(dockerd="it has places for devices in it")
def test_export_is_the_whole_file_system(engine, box):
    engine.files.put(box, "/srv", tar_of(("a", b"1")))
    out = io.BytesIO()
    engine.files.export(box, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        names = set(archive.getnames())
        assert archive.extractfile("srv/a").read() == b"1"
    assert {"bin/busybox", "etc/passwd", "proc"} <= names
    assert not [name for name in names if name.startswith(("proc/", "sys/", "dev/"))]


def test_to_a_real_file_it_writes_directly(engine, box, tmp_path):
    with (tmp_path / "out.tar").open("wb") as out:
        engine.files.export(box, out)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert "bin/busybox" in archive.getnames()


# Changes ----------------------------------------------------------------------------------------


def test_a_fresh_container_has_changed_nothing(engine, box):
    assert engine.files.diff(box) == []


@pytest.mark.differs(dockerd="for Docker they are changes")
def test_places_for_mounts_are_no_change(engine, run, tmp_path):
    mounts = (
        MountSpec(MountKind.TMPFS, "/new/deep"),
        MountSpec(MountKind.BIND, "/data", str(tmp_path)),
    )
    ran = run("touch", "/new/deep/f", "/data/f", mounts=mounts)
    assert engine.files.diff(ran.id) == []


def test_changes_are_told_in_dockers_letters(engine, run):
    script = "echo a > /etc/new; rm /bin/cat; chmod 700 /srv; echo >> /etc/passwd; mkdir -p /x/y"
    assert [(one.kind, one.path) for one in engine.files.diff(run("sh", "-c", script).id)] == [
        ("C", "/bin"),
        ("D", "/bin/cat"),
        ("C", "/etc"),
        ("A", "/etc/new"),
        ("C", "/etc/passwd"),
        ("C", "/srv"),
        ("A", "/x"),
        ("A", "/x/y"),
    ]


# Processes --------------------------------------------------------------------------------------


def _commands(engine, id):
    return sorted(row[-1] for row in engine.files.processes(id).rows)


@pytest.mark.differs(dockerd="it does not tell a bad option from a fault of its own")
def test_processes_are_told_as_ps_tells_them(engine, start, until):
    id = start("sh", "-c", "sleep 500 & exec sleep 1000").id
    until(lambda: _commands(engine, id) == ["sleep 1000", "sleep 500"])
    table = engine.files.processes(id)
    assert "PID" in table.titles
    assert all(len(row) == len(table.titles) for row in table.rows)
    assert engine.files.processes(id, ps_args="-o pid,comm").titles == ("PID", "COMMAND")
    with pytest.raises(InvalidArgument):
        engine.files.processes(id, ps_args="--nosuch")
    with pytest.raises(InvalidArgument):
        engine.files.processes(id, ps_args="-o comm")


def test_processes_and_figures_of_one_that_does_not_run(engine, run):
    id = run("true").id
    for verb in (engine.files.processes, engine.files.stats):
        with pytest.raises(WrongState, match="is not running"):
            verb(id)
        with pytest.raises(NotFound):
            verb("nosuch")


# Logs and size ----------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="Docker's API cannot say it")
def test_what_was_logged_is_forgotten_and_what_comes_is_kept(engine, start, until):
    id = start("sh", "-c", "echo old; read x; echo new; sleep 1000", interactive=True).id
    until(lambda: log_of(engine, id) == b"old\n")
    engine.files.clear_logs(id)
    assert log_of(engine, id) == b""
    with engine.containers.attach(id, stdin=True) as stream:
        stream.write(b"go\n")
        until(lambda: log_of(engine, id) == b"new\n")


@pytest.mark.differs(dockerd="Docker's API cannot say it")
def test_the_log_of_an_ended_container_is_forgotten(engine, run):
    id = run("echo", "old").id
    engine.files.clear_logs(id)
    assert log_of(engine, id) == b""


@pytest.mark.differs(dockerd="Docker's API cannot say it")
def test_a_log_that_is_not_kept_cannot_be_cleared(engine, run):
    with pytest.raises(NotSupported, match="does not support reading"):
        engine.files.clear_logs(run("true", log=LogConfig("none")).id)


def test_the_size_of_a_container_is_what_it_has_written_and_its_image(engine, run, busybox):
    id = run("sh", "-c", "head -c 100000 /dev/zero > /made").id
    written, both = engine.files.size(id)
    assert 100_000 <= written < 200_000
    assert both == written + busybox.size


def log_of(engine, id):
    return b"".join(data for _, _, data in engine.containers.logs(id))
