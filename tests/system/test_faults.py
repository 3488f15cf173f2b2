"""What is left when a process dies, a disk is full or rots: nothing half made, no lie, no litter.

After each fault ``sound`` looks whether the store is what it should be: see :class:`Sound`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbox.connecting import connect
from cellbox.containers import records
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.linux.process import is_alive, start_time
from cellbox.local import schema
from cellbox.local.places import run_directory
from cellbox.model.container import ExecSpec, RunSpec, Status
from cellbox.model.system import Damage

RUNTIME = Path(__file__).parents[2] / "runtime"


class Sound:
    """Looks at a store as whoever comes next, with an engine of its own.

    1. What has a name is whole.  2. What is said to run does, what is said not to does not.
    3. What was finished before is still there.  4. After a repair only what is needed is on disk.
    5. Nothing hangs (the test's timeout).  6. What had nothing to do with it goes on.
    7. A second repair finds nothing to do.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *, keeps: tuple[str, ...] = ("up", "made")) -> None:
        engine = connect()
        try:
            self._statuses_are_true(engine)
            assert set(keeps) <= {one.name for one in engine.containers.list(all=True)}
            assert "busybox:latest" in [tag for one in engine.images.list() for tag in one.tags]
            assert damage(engine, kinds=("image", "layer", "blob")) == []
            engine.check(repair=True)
            assert damage(engine, repair=True) == damage(engine) == []
            self._no_litter(engine)
            self._statuses_are_true(engine)
        finally:
            engine.close()

    def _statuses_are_true(self, engine: Engine) -> None:
        for one in engine.containers.list(all=True):
            runs = one.status in (Status.RUNNING, Status.PAUSED)
            assert runs == bool(one.pid and start_time(one.pid))
            if not runs:
                assert not (run_directory(self.store) / "c" / one.id[:12] / "state.json").exists()

    def _no_litter(self, engine: Engine) -> None:
        for folder in ("layers/staging", "trash"):
            assert os.listdir(self.store / folder) == []
        known = {one.id for one in engine.containers.list(all=True)}
        assert set(os.listdir(self.store / "containers")) == known
        images = engine.images.list()
        layers = {layer.diff_id[7:] for image in images for layer in image.layers}
        assert set(os.listdir(self.store / "layers/sha256")) == layers
        records_on_disk = {name for name in os.listdir(self.store / "images")}
        assert records_on_disk == {f"{image.id[7:]}.json" for image in images}


def damage(engine: Engine, *, kinds: tuple[str, ...] = (), repair: bool = False) -> list[Damage]:
    """What ``check`` finds; control groups are the machine's, and others use it too."""
    found = [one for one in engine.check(repair=repair) if one.kind != "cgroup"]
    return [one for one in found if one.kind in kinds] if kinds else found


@pytest.fixture
def sound(store: Path) -> Sound:
    return Sound(store)


@pytest.fixture
def furnished(engine: Engine, busybox: object) -> Engine:
    """A store with containers ``made``, ``up`` (it runs) and ``done``, and an image ``spare``."""
    containers = engine.containers
    sleep = RunSpec("busybox", ("sleep", "1000"), detach=True)
    containers.create(sleep, name="made")
    containers.create(sleep, name="up")
    containers.start("up")
    containers.create(RunSpec("busybox", ("touch", "/x"), detach=True), name="done")
    containers.start("done")
    containers.wait("done")
    engine.images.import_(_small_tar(), name="spare")
    return engine


def _small_tar() -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"spare"))
    out.seek(0)
    return out


def ruin_database(store: Path) -> None:
    """Overwrite the database as a bad disk would, and let the next one who opens it suspect so."""
    path = store / "state.db"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(3 * 4096))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.with_name(path.name + ".suspect").touch()


# Processes killed ---------------------------------------------------------------------------------


def shim_of(store: Path, id: str) -> int:
    """The pid of a running container's shim."""
    state = records.read_state(str(run_directory(store) / "c" / id[:12]))
    assert state is not None
    return state.shim


def killed(pid: int) -> tuple[int, int]:
    """Kill a process; what names it for good."""
    identity = pid, start_time(pid)
    os.kill(pid, signal.SIGKILL)
    return identity


def test_the_launcher_is_killed(furnished, sound, launcher_pid, until):
    identity = killed(launcher_pid())
    until(lambda: not is_alive(*identity))
    with furnished.containers.exec("up", ExecSpec(("echo", "hi"))) as stream:
        assert list(stream) == [("stdout", b"hi\n")]
    furnished.containers.start("made")
    furnished.containers.stop("up", timeout=0)
    assert furnished.containers.get("up").exit_code == 137
    sound()


@pytest.mark.parametrize("paused", [False, True])
def test_a_shim_is_killed(furnished, sound, store, until, paused):
    before = furnished.containers.get("up")
    if paused:
        furnished.containers.pause("up")
    watched = before.pid, start_time(before.pid)
    killed(shim_of(store, before.id))
    until(lambda: furnished.containers.get("up").status is Status.EXITED)
    ended = furnished.containers.get("up")
    assert (ended.exit_code, ended.pid) == (137, 0) and "monitor" in ended.error
    until(lambda: not is_alive(*watched))
    assert furnished.containers.wait("up") == 137
    sound()
    furnished.containers.start("up")
    sound()
    events = furnished.events(since=0.0, until=0.0 + ended.finished, filters={"event": ["die"]})
    assert [event.id for event in events].count(before.id) <= 1


def test_the_shim_of_one_that_removes_itself_is_killed(furnished, sound, store, until):
    spec = RunSpec("busybox", ("sleep", "1000"), detach=True, auto_remove=True)
    id = furnished.containers.create(spec, name="brief").id
    furnished.containers.start(id)
    killed(shim_of(store, id))
    until(lambda: "brief" not in [one.name for one in furnished.containers.list(all=True)])
    sound()
    assert furnished.containers.create(spec, name="brief").id != id


def test_the_first_process_is_killed_from_outside(furnished, sound):
    killed(furnished.containers.get("up").pid)
    assert furnished.containers.wait("up", timeout=10) == 137
    assert furnished.containers.get("up").oom_killed is False
    sound()


OWNER = """
import sys
from cellbox.connecting import connect
from cellbox.model.container import RunSpec
engine = connect()
spec = RunSpec("busybox", ("sleep", "1000"), detach=sys.argv[1] == "detached")
engine.containers.create(spec, name="mine")
engine.containers.start("mine")
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["attached", "detached"])
def test_the_engine_that_started_it_is_killed(furnished, sound, until, how):
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, how],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "started\n"
        process.kill()
    if how == "attached":  # as a cell's container goes with its notebook
        until(lambda: furnished.containers.get("mine").status is Status.EXITED)
    else:
        assert furnished.containers.get("mine").status is Status.RUNNING
        with furnished.containers.exec("mine", ExecSpec(("true",))) as stream:
            assert stream.wait(10) == 0
    sound()


def test_the_launcher_is_killed_in_the_middle_of_an_import(
    furnished, sound, launcher_pid, until, store
):
    """The worker goes on or dies with it; either way it is told, and leaves nothing."""

    class Source(io.RawIOBase):
        data = _small_tar().getvalue()

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            if Source.data:
                killed(launcher_pid())
            piece, Source.data = Source.data, b""
            buffer[: len(piece)] = piece
            return len(piece)

    with contextlib.suppress(CellboxError):
        furnished.images.import_(Source(), name="cut")
    sound()


# A full disk --------------------------------------------------------------------------------------


class TestFullDisk:
    """A store on a disk of its own, of 96 MiB, that is filled to the last byte."""

    @pytest.fixture
    def store_root(self, tmp_path: Path) -> Iterator[Path]:
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount a small disk")
        disk = tmp_path / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "small", str(disk)], check=True)
        try:
            yield disk / "store"
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def fill(self, store: Path) -> Path:
        """Write a file until there is no room for another byte."""
        filler = store.parent / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        return filler

    def test_what_needs_room_is_refused_and_what_makes_room_works(
        self, furnished, sound, store, registry
    ):
        filler = self.fill(store)
        images, containers = furnished.images, furnished.containers
        for verb in (
            lambda: containers.create(RunSpec("busybox", ("true",)), name="new"),
            lambda: images.import_(_small_tar(), name="imported"),
            lambda: images.pull(registry.name),
        ):
            with pytest.raises(CellboxError, match="(?i)no space left"):
                verb()
        assert [one.name for one in containers.list()] == ["up"]
        containers.stop("up", timeout=0)
        assert containers.get("up").exit_code == 137
        for name in ("up", "done"):
            containers.remove(name)
        images.remove("spare")
        filler.unlink()
        sound(keeps=("made",))
        assert images.pull(registry.name).tags == (registry.name,)
        sound(keeps=("made",))

    def test_a_container_that_fills_the_disk_is_alone_with_it(self, furnished, sound):
        script = "while dd if=/dev/zero bs=1M count=8 >> /big; do :; done; echo x > /small"
        spec = RunSpec("busybox", ("sh", "-c", script), detach=True)
        furnished.containers.create(spec, name="greedy")
        furnished.containers.start("greedy")
        assert furnished.containers.wait("greedy", timeout=60) in (0, 1)
        assert furnished.containers.get("up").status is Status.RUNNING
        furnished.containers.remove("greedy")
        sound()


# What rots ----------------------------------------------------------------------------------------


def blob_of(store: Path, digest: str) -> Path:
    return store / "content/blobs" / digest.replace(":", "/")


@pytest.mark.parametrize("loss", ["ruined", "deleted"])
def test_a_lost_database_is_made_again(furnished, sound, store, loss):
    images, names = furnished.images.list(), [one.name for one in furnished.containers.list()]
    furnished.close()
    if loss == "ruined":
        ruin_database(store)
    else:
        for path in store.glob("state.db*"):
            path.unlink()
    assert furnished.images.list() == images
    assert [one.name for one in furnished.containers.list()] == names == ["up"]
    sound()


@pytest.mark.parametrize("file", ["bundle.json", "container.json", "exit.json"])
@pytest.mark.parametrize("wound", ["lost", "empty", "garbage"])
def test_damaged_records_of_a_container(furnished, sound, store, file, wound):
    """One that is damaged never keeps the others from being seen."""
    id = furnished.containers.get("done").id
    path = store / "containers" / id / file
    path.unlink()
    if wound != "lost":
        path.write_bytes(b"" if wound == "empty" else b'[{"\xff')
    assert "done" in [one.name for one in furnished.containers.list(all=True)]
    sound(keeps=("up", "made", "done"))
    furnished.containers.start("done")
    assert furnished.containers.wait("done", timeout=10) == 0


def test_litter_is_swept(furnished, sound, store):
    hexes = "0123456789abcdef" * 4
    for folder in (f"layers/staging/{hexes[:16]}/fs", f"trash/{hexes[:16]}", f"containers/{hexes}"):
        (store / folder).mkdir(parents=True)
        (store / folder / "file").write_bytes(b"x")
    blob_of(store, f"sha256:{hexes}").write_bytes(b"x")
    (store / "content/ingest/new-0123").mkdir()
    furnished.check(repair=True)
    sound()
    assert not blob_of(store, f"sha256:{hexes}").exists()


def test_a_newer_store_is_left_alone(engine, busybox, store):
    import sqlite3

    engine.close()
    connection = sqlite3.connect(store / "state.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(CellboxError, match="newer"):
        engine.images.list()
    connection = sqlite3.connect(store / "state.db")
    connection.execute(f"PRAGMA user_version = {len(schema.STEPS)}")
    connection.close()
    assert engine.images.list() == [busybox]
