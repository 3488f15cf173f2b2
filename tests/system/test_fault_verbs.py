"""Every fault point, struck in every verb that reaches it, and then the verb again.

``REACHED_BY`` is the table; a point that is declared and not in it fails the first test here. A
verb is struck in a process of its own, by SIGKILL and by a full disk. Then the store is mended and
must be whole: what has a name runs, what is said to run does, what had nothing to do with it goes
on, and a second repair finds nothing. Then the verb is done again, which must work.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
import shutil
import signal
import tarfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from tests.registry import debian

import cellbox
from cellbox import faults
from cellbox.connecting import connect
from cellbox.containers import starter
from cellbox.containers.messages import group_shim
from cellbox.engine import Engine
from cellbox.errors import CellboxError, Conflict, NotFound
from cellbox.linux import cgroups
from cellbox.linux.process import start_time
from cellbox.local.places import run_directory
from cellbox.model.container import MountKind, MountSpec, RunSpec, Status
from cellbox.model.volume import VolumeSpec

BRING = ("commit", "import", "load", "pull")
PUSH = ("push",)
REACHED_BY: Mapping[str, tuple[str, ...]] = {
    "content.blob.written": BRING + PUSH,
    "content.blob.renamed": BRING + PUSH,
    "layers.layer.staged": BRING,
    "layers.layer.synced": BRING,
    "layers.layer.renamed": BRING,
    "layers.layer.trashed": ("import again",),
    "pull.manifest.stored": ("pull",),
    "pull.blob.received": ("pull",),
    "pull.blob.stored": ("pull",),
    "pull.layer.unpacked": ("pull",),
    "push.blob.sent": PUSH,
    "push.layers.sent": PUSH,
    "gc.thing.discarded": ("repair", "rmi"),
    "gc.sweep.committed": ("repair", "rmi"),
    "create.row.added": ("create", "run"),
    "create.layer.made": ("create", "run"),
    "create.bundle.written": ("create", "run"),
    "start.shim.ready": ("run", "start"),
    "remove.row.marked": ("remove", "remove by force"),
    "remove.files.gone": ("remove", "remove by force"),
    "state.commit.before": (
        *BRING, *PUSH, "create", "remove", "remove by force", "rename", "rmi", "run", "tag",
        "create a volume", "remove a volume", "rename a volume", "run with volumes", "update",
    ),
    "state.damaged.renamed": ("look at a damaged database",),
    "update.row.changed": ("update",),
    "update.files.written": ("update",),
    "volume.directory.made": ("create a volume", "run with volumes"),
    "volume.directory.moved": ("remove a volume", "run with volumes"),
    "volume.directory.renamed": ("rename a volume",),
    "volume.name.gone": ("remove a volume",),
}  # fmt: skip


# Verbs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    """What the verbs work with: image ``busybox``, container ``bystander``, archives, a
    registry's image, and the address of a registry that takes some (empty where there is none)."""

    store: Path
    tar: Path
    archive: Path
    registry: str
    shelf: str

    # How things are before a verb; each may be said again, whatever the verb has left.

    def without_container(self, engine: Engine, name: str) -> None:
        with suppress(NotFound):
            engine.containers.remove(name, force=True)

    def without_image(self, engine: Engine, name: str) -> None:
        with suppress(NotFound):
            engine.images.remove(name)

    def with_container(self, engine: Engine, name: str, *command: str) -> None:
        self.without_container(engine, name)
        engine.containers.create(RunSpec("busybox", command, detach=True), name=name)

    def with_ended(self, engine: Engine, name: str) -> None:
        self.with_container(engine, name, "touch", f"/{name}")
        engine.containers.start(name)
        assert engine.containers.wait(name, timeout=20) == 0

    def with_running(self, engine: Engine, name: str) -> None:
        self.with_container(engine, name, "sleep", "1000")
        engine.containers.start(name)

    def with_two_names(self, engine: Engine) -> None:
        self.without_container(engine, "high")
        self.with_running(engine, "up")

    def with_commit(self, engine: Engine) -> None:
        self.without_image(engine, "committed")
        self.with_ended(engine, "done")

    def with_imported(self, engine: Engine) -> None:
        with self.tar.open("rb") as source:
            engine.images.import_(source, name="imported")

    @property
    def outgoing(self) -> str:
        return f"{self.shelf}/lab/outgoing:1"

    def with_outgoing(self, engine: Engine) -> None:
        """An image that the registry has nothing of."""
        self.without_image(engine, self.outgoing)
        changed = BytesIO(self.tar.read_bytes())
        with tarfile.open(fileobj=changed, mode="a") as more:
            more.addfile(tarfile.TarInfo(os.urandom(8).hex()), BytesIO())
        changed.seek(0)
        engine.images.import_(changed, name=self.outgoing, changes=["ENV A=" + os.urandom(8).hex()])

    def with_garbage(self, engine: Engine) -> None:
        (self.store / "containers" / ("0" * 64) / "layer").mkdir(parents=True, exist_ok=True)

    def with_damage(self, engine: Engine) -> None:
        engine.close()
        for path in self.store.glob("state.db*"):
            path.unlink()
        (self.store / "state.db").write_bytes(b"not a database at all" * 1000)

    def without_volumes(self, engine: Engine) -> None:
        for facts in engine.volumes.list():
            engine.volumes.remove(facts.name)

    def with_volume(self, engine: Engine) -> None:
        self.without_volumes(engine)
        engine.volumes.create(VolumeSpec("data"))

    def nothing(self, engine: Engine) -> None:
        pass

    # What is done.

    def load(self, engine: Engine) -> None:
        with self.archive.open("rb") as source:
            engine.images.load(source)

    def live(self, engine: Engine) -> None:
        """All of it, for ever; another one who does the same takes things away, and names."""
        spec = RunSpec("loaded", ("touch", "/x"), detach=True)
        for number in itertools.count():
            name = "" if number % 2 else "wanted"
            with suppress(NotFound, Conflict):
                self.load(engine)
                made = engine.containers.create(spec, name=name)
                engine.containers.start(made.id)
                engine.containers.wait(made.id)
                if not name:  # the other removes this one, whatever is done with it
                    engine.images.commit(made.id, name=f"made-by-{os.getpid()}")
            with suppress(NotFound, Conflict):
                engine.containers.remove(name or made.id, force=True)
            with suppress(NotFound, Conflict):
                engine.images.remove("loaded", force=True)

    def run(self, engine: Engine) -> None:
        spec = RunSpec("busybox", ("true",), auto_remove=True)
        assert cellbox.run(engine, spec).exit_code == 0

    def run_with_volumes(self, engine: Engine) -> None:
        named = MountSpec(MountKind.VOLUME, "/etc", "data")
        script = "test -s /etc/passwd && echo kept > /etc/kept"  # all of it is there, or nothing
        mounts = (named, MountSpec(MountKind.VOLUME, "/v"))
        spec = RunSpec("busybox", ("sh", "-c", script), auto_remove=True, mounts=mounts)
        assert cellbox.run(engine, spec).exit_code == 0
        assert [one.name for one in engine.volumes.list() if not one.anonymous] == ["data"]


Step = Callable[[Shop, Engine], None]
VERBS: Mapping[str, tuple[Step, Step]] = {
    "commit": (
        Shop.with_commit,
        lambda shop, engine: engine.images.commit("done", name="committed"),
    ),
    "create": (
        lambda shop, engine: shop.without_container(engine, "new"),
        lambda shop, engine: engine.containers.create(RunSpec("busybox", ("true",)), name="new"),
    ),
    "create a volume": (
        Shop.without_volumes,
        lambda shop, engine: engine.volumes.create(VolumeSpec("data")),
    ),
    "import": (
        lambda shop, engine: shop.without_image(engine, "imported"),
        Shop.with_imported,
    ),
    "import again": (Shop.with_imported, Shop.with_imported),
    "load": (lambda shop, engine: shop.without_image(engine, "loaded"), Shop.load),
    "look at a damaged database": (Shop.with_damage, lambda shop, engine: engine.images.list()),
    "pull": (
        lambda shop, engine: shop.without_image(engine, shop.registry),
        lambda shop, engine: engine.images.pull(shop.registry),
    ),
    "push": (Shop.with_outgoing, lambda shop, engine: engine.images.push(shop.outgoing)),
    "remove": (
        lambda shop, engine: shop.with_ended(engine, "done"),
        lambda shop, engine: engine.containers.remove("done"),
    ),
    "remove by force": (
        lambda shop, engine: shop.with_running(engine, "up"),
        lambda shop, engine: engine.containers.remove("up", force=True),
    ),
    "rename": (
        Shop.with_two_names,
        lambda shop, engine: engine.containers.update("up", name="high"),
    ),
    "remove a volume": (
        Shop.with_volume,
        lambda shop, engine: engine.volumes.remove("data", force=True),
    ),
    "rename a volume": (
        Shop.with_volume,
        lambda shop, engine: engine.volumes.rename("data", "other"),
    ),
    "repair": (Shop.with_garbage, lambda shop, engine: engine.check(repair=True)),
    "rmi": (Shop.load, lambda shop, engine: engine.images.remove("loaded")),
    "run": (Shop.nothing, Shop.run),
    "run with volumes": (Shop.without_volumes, Shop.run_with_volumes),
    "start": (
        lambda shop, engine: shop.with_container(engine, "made", "sleep", "1000"),
        lambda shop, engine: engine.containers.start("made"),
    ),
    "tag": (
        lambda shop, engine: shop.without_image(engine, "more"),
        lambda shop, engine: engine.images.tag("busybox", "more"),
    ),
    "update": (
        lambda shop, engine: shop.with_ended(engine, "done"),
        lambda shop, engine: engine.containers.update("done", env=("A=1",)),
    ),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        yield ""
        return
    with debian.serving(tmp_path_factory.mktemp("shelf"), auth=False) as address:
        yield address


@pytest.fixture
def shop(
    engine: Engine, store: Path, busybox_tar: Path, registry: object, tmp_path: Path, shelf: str
) -> Shop:
    """A store with an image, an archive of another one, and a container that runs."""
    tar, base, archive = (tmp_path / name for name in ("i.tar", "b.tar", "a.tar"))
    for path in (tar, base):  # layers that the registry's image does not have
        shutil.copy(busybox_tar, path)
        with tarfile.open(path, "a") as more:
            more.addfile(tarfile.TarInfo(path.name), BytesIO())
    with base.open("rb") as source:
        engine.images.import_(source, name="busybox")
    made = Shop(store, tar, archive, registry.name, shelf)
    made.with_ended(engine, "loaded")
    engine.images.commit("loaded", name="loaded")
    engine.containers.remove("loaded")
    with archive.open("wb") as out:
        engine.images.save(["loaded"], out)
    engine.images.remove("loaded")
    made.with_running(engine, "bystander")
    engine.close()
    return made


def in_a_process(shop: Shop, step: Step, fault: str = "") -> tuple[int, str]:
    """Do it in a process of its own: as :func:`end`."""
    return end(*begin(shop, step, fault))


def begin(shop: Shop, step: Step, fault: str = "") -> tuple[int, int]:
    """Do it in a process of its own: its pid, and where it says what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 4
        try:
            faults._name, _, faults._action = fault.partition(":")
            step(shop, connect())
            code = 0
        except CellboxError as error:
            code = 3
            os.write(writer, str(error).encode())
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[:60000])
        finally:
            os._exit(code)
    os.close(writer)
    return child, reader


def end(child: int, reader: int) -> tuple[int, str]:
    """Wait for a process: its exit code (3 for an error of the engine, -9 when it was killed), and
    what it said."""
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


# What must hold ---------------------------------------------------------------------------------


def assert_whole(shop: Shop, until: Callable[..., None]) -> None:
    """Mend the store, and look at it as whoever comes next."""
    with closing(connect()) as engine:
        engine.check(repair=True)
        assert engine.check(repair=True) == engine.check() == []
        assert engine.containers.get("bystander").status is Status.RUNNING
        assert "busybox:latest" in [tag for image in engine.images.list() for tag in image.tags]
        for image in engine.images.list():
            spec = RunSpec(image.id, ("true",), auto_remove=True)
            assert cellbox.run(engine, spec).exit_code == 0
        until(lambda: nothing_is_left_but_what_runs(shop, engine))
        for folder in ("trash", "layers/staging"):
            assert os.listdir(shop.store / folder) == []
        assert not list((shop.store / "content/ingest").glob("new-*")), "cannot be taken up again"


def nothing_is_left_but_what_runs(shop: Shop, engine: Engine) -> bool:
    """Directories, processes and control groups are those of the containers that are listed."""
    known = engine.containers.list(all=True)
    running = [one for one in known if one.status is Status.RUNNING]
    run = run_directory(shop.store)
    shims = [pid for name in cgroups.leftovers() if (pid := group_shim(str(run), name))]
    return (
        {one.id for one in known} == set(os.listdir(shop.store / "containers"))
        and {one.name for one in engine.volumes.list()} == _names(shop.store / "volumes")
        and {one.id[:12] for one in running} == set(os.listdir(run / "c"))
        and all(start_time(one.pid) for one in running)
        and all(map(start_time, shims))
        and len(shims) <= len(running) + starter.RESERVE
    )


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.exists() else set()


# The tests --------------------------------------------------------------------------------------


def test_every_declared_point_is_in_the_table():
    for module in pkgutil.walk_packages(cellbox.__path__, "cellbox."):
        importlib.import_module(module.name)
    # those of a move, which takes two stores, are struck in tests/test_moving.py, those of plugins
    # in tests/local/test_managed.py
    own = {point for point in faults.POINTS if not point.startswith(("move.", "plugin."))}
    assert set(REACHED_BY) == own
    assert {verb for verbs in REACHED_BY.values() for verb in verbs} == set(VERBS)


@pytest.mark.parametrize("action", ["kill", "enospc"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_struck_can_be_done_again(shop, until, verb, action):
    if verb == "push" and not shop.shelf:
        pytest.skip("needs docker-registry to be installed")
    prepare, do = VERBS[verb]
    for point in [point for point, verbs in REACHED_BY.items() if verb in verbs]:
        assert in_a_process(shop, prepare) == (0, ""), f"before {point}"
        code, said = in_a_process(shop, do, f"{point}:{action}")
        if action == "kill":
            assert code == -signal.SIGKILL, f"it did not reach {point}: {said}"
        elif point != "state.commit.before":  # stands for SQLite's own error
            assert code in (0, 3), f"no error of the engine at {point}: {said}"
        assert_whole(shop, until)
        assert in_a_process(shop, prepare) == (0, ""), f"after {point}"
        assert in_a_process(shop, do) == (0, ""), f"after {point}"


@pytest.mark.parametrize("events", range(3, 40, 5))
def test_two_at_once_that_are_killed_leave_a_whole_store(shop, until, events):
    """Wherever they are when so much has happened."""
    log = shop.store / "events.jsonl"
    enough = log.read_bytes().count(b"\n") + events
    both = [begin(shop, Shop.live) for _ in range(2)]
    until(lambda: log.read_bytes().count(b"\n") >= enough, 30.0)
    for pid, _ in both:
        os.kill(pid, signal.SIGKILL)
    assert [end(*one) for one in both] == [(-signal.SIGKILL, "")] * 2
    assert_whole(shop, until)
    assert in_a_process(shop, Shop.run) == (0, "")
