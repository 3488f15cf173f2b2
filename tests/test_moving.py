"""Moving containers between two stores of this machine, directly and through an API."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import _take_down
from tests.contracts import daemons

from cellbox import faults, moving
from cellbox.connecting import connect
from cellbox.engine import Engine
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    InUse,
    InvalidArgument,
    NotFound,
    NotSupported,
    StartError,
    Unavailable,
    WrongState,
)
from cellbox.local.places import run_directory
from cellbox.model.container import (
    Container,
    ExecSpec,
    MountKind,
    MountSpec,
    RunSpec,
    Status,
)
from cellbox.model.image import Image
from cellbox.model.volume import VolumeSpec

POINTS = tuple(point for point in faults.POINTS if point.startswith("move."))
COMMITTED = POINTS[POINTS.index("move.arrival.named") :]


@pytest.fixture
def second_root(tmp_path: Path, engine: Engine) -> Iterator[Path]:
    """The root of another empty store; nothing of it is left afterwards."""
    root = tmp_path / "second"
    yield root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLBOX_ROOT", str(root))
        _take_down(root, run_directory(root))


@pytest.fixture
def second(second_root: Path) -> Iterator[Engine]:
    """The engine of another store."""
    made = connect(f"local:{second_root}")
    yield made
    made.close()


@pytest.fixture(params=["local to local", "local to remote", "remote to local", "remote to remote"])
def ends(
    request: pytest.FixtureRequest, engine: Engine, second: Engine, tmp_path: Path
) -> Iterator[tuple[Engine, Engine]]:
    """Source and target, each either embedded or behind its API."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, one in zip(request.param.split(" to "), (engine, second), strict=True):
            if name == "remote":
                path = tmp_path / f"{len(found)}.sock"
                one = connect(stack.enter_context(daemons.serving(one, path)))
                stack.callback(one.close)
            found.append(one)
        yield found[0], found[1]


WEB = (
    "sh", "-c",
    "echo started; echo $(date +%s) >>/data/starts; trap 'exit 0' TERM; "
    "httpd -f -p 8080 -h /data & wait",
)  # fmt: skip


@pytest.fixture
def web(engine: Engine, busybox: Image) -> Container:
    """A container that serves its volume ``pages`` over HTTP, and has written to its layer."""
    spec = RunSpec(
        "busybox",
        WEB,
        detach=True,
        env=("COLOUR=blue",),
        network="none",
        labels={"mine": "yes"},
        mounts=(
            MountSpec(MountKind.VOLUME, "/data", "pages"),
            MountSpec(MountKind.VOLUME, "/cache"),
        ),
    )
    engine.volumes.create(VolumeSpec("pages", labels={"of": "web"}))
    made = engine.containers.create(spec, name="web")
    engine.containers.start(made.id)
    run(engine, "web", "echo moved >/data/index.html; chown 12:34 /data/index.html; "
        "chmod 2750 /data; chown 5:6 /data; echo c >/cache/c; echo w >/etc/written; "
        "chown 7:8 /etc/written; chmod 4711 /etc/written; rm /etc/group; "
        "rm -r /srv; mkdir /srv; touch /srv/new; ln -s /nosuch /etc/link")  # fmt: skip
    return engine.containers.get("web")


def run(engine: Engine, ref: str, line: str) -> str:
    """What a shell writes in a container; it must go well."""
    with engine.containers.exec(ref, ExecSpec(("sh", "-c", line))) as stream:
        written = b"".join(data for _, data in stream)
        assert stream.wait(20) == 0, written
    return written.decode()


def log_of(engine: Engine, ref: str) -> list[tuple[float, bytes]]:
    return [(when, data) for when, _, data in engine.containers.logs(ref)]


def served(engine: Engine) -> str:
    """What a client hears in the container's own network."""
    ask = "wget -qO- http://127.0.0.1:8080/ 2>/dev/null && exit"
    return run(engine, "web", f"for i in 1 2 3 4 5 6 7 8 9; do {ask}; sleep 0.1; done; exit 1")


def names(engine: Engine) -> list[str]:
    return sorted(one.name for one in engine.containers.list(all=True))


def volumes(engine: Engine) -> list[str]:
    return sorted(one.name for one in engine.volumes.list() if not one.anonymous)


def test_it_serves_on_with_all_it_had(ends, web):
    source, target = ends
    before, changed = log_of(source, "web"), source.files.diff("web")
    moved = moving.move(source, "web", target, timeout=5)
    assert names(source) == [] and source.volumes.list() == []
    assert moved == target.containers.get("web") and moved.status is Status.RUNNING
    assert served(target) == "moved\n"
    assert moved.spec.env[-1] == "COLOUR=blue" and moved.spec.labels["mine"] == "yes"
    assert moved.spec.image == "busybox" and moved.image_id == web.image_id
    assert target.volumes.get("pages").labels["of"] == "web"
    assert target.files.diff("web") == changed
    after = log_of(target, "web")
    assert [data for _, data in after] == [b"started\n", b"started\n"]
    assert after[0][0] == pytest.approx(before[0][0], abs=1e-6)
    look = "stat -c '%u:%g %a' /data /data/index.html /etc/written; cat /cache/c /etc/written; "
    told = run(target, "web", look + "readlink /etc/link; ls /srv; wc -l </data/starts")
    assert told.split() == (
        ["5:6", "2750", "12:34", "644", "7:8", "4711", "c", "w", "/nosuch", "new", "2"]
    )
    with pytest.raises(NotFound):
        target.files.stat("web", "/etc/group")


def test_back_again(engine, second, web):
    moving.move(engine, "web", second, timeout=5)
    moved = moving.move(second, "web", engine, timeout=5)
    assert moved.status is Status.RUNNING and served(engine) == "moved\n"
    assert (names(second), second.volumes.list()) == ([], [])
    assert engine.check() == second.check() == []


def test_one_that_does_not_run_stays_so(engine, second, busybox):
    engine.containers.create(RunSpec("busybox", ("true",)), name="new")
    assert moving.move(engine, "new", second).status is Status.CREATED
    engine.containers.create(RunSpec("busybox", ("sleep", "99"), detach=True), name="held")
    engine.containers.start("held")
    engine.containers.pause("held")
    assert moving.move(engine, "held", second, timeout=0).status is Status.PAUSED


def test_volumes_stay_where_somebody_wants_them(engine, second, web):
    spec = RunSpec("busybox", ("true",), volumes_from=("web:ro",))
    engine.containers.create(spec, name="other")
    moving.move(engine, "web", second, timeout=5)
    assert volumes(engine) == volumes(second) == ["pages"]
    with pytest.raises(AlreadyExists, match="volume pages"):
        moving.move(engine, "other", second)
    second.containers.remove("web", force=True)
    second.volumes.remove("pages")
    moved = moving.move(engine, "other", second, keep_volumes=True)
    assert {mount.target: mount.read_only for mount in moved.mounts} == (
        {"/data": True, "/cache": True}
    )
    assert volumes(engine) == ["pages"]


def test_names_that_stand_for_something_else_there(engine, second, web, busybox_tar, tmp_path):
    with tarfile.open(shutil.copy(busybox_tar, tmp_path / "b.tar"), "a") as more:
        more.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with (tmp_path / "b.tar").open("rb") as source:
        theirs = second.images.import_(source, name="busybox:latest")
    moved = moving.move(engine, "web", second, timeout=5)
    assert second.images.get("busybox").id == theirs.id
    assert moved.image_id == moved.spec.image == web.image_id


# What cannot be, and what goes wrong --------------------------------------------------------------


def untouched(engine: Engine, second: Engine, web: Container) -> None:
    """All is as it was before the move."""
    now = engine.containers.get(web.id)
    assert (now.name, now.status) == ("web", Status.RUNNING)
    assert served(engine) == "moved\n"
    assert "web" not in "".join(names(second)) and "pages" not in volumes(second)
    assert engine.check() == second.check() == []


def test_what_cannot_be_moved(engine, second, busybox, web):
    engine.containers.create(RunSpec("busybox", ("true",), auto_remove=True), name="gone")
    engine.containers.create(RunSpec("busybox", ("true",), network="container:web"), name="in")
    engine.containers.create(RunSpec("host", ("true",)), name="here")
    for name, kind in (("gone", InvalidArgument), ("in", InvalidArgument), ("here", NotSupported)):
        with pytest.raises(kind):
            moving.move(engine, name, second)
    with pytest.raises(InvalidArgument, match="already"):
        moving.move(engine, "web", engine)
    with pytest.raises(NotFound):
        moving.move(engine, "nosuch", second)
    untouched(engine, second, web)
    assert engine.containers.get("web").pid == web.pid, "it was stopped"


def test_a_name_that_is_taken_there(engine, second, web, busybox_tar):
    with busybox_tar.open("rb") as source:
        second.images.import_(source, name="other")
    second.containers.create(RunSpec("other", ("true",)), name="web")
    with pytest.raises(AlreadyExists, match="container web"):
        moving.move(engine, "web", second)
    second.containers.remove("web")
    second.volumes.create(VolumeSpec("pages"))
    with pytest.raises(AlreadyExists, match="volume pages"):
        moving.move(engine, "web", second)
    second.volumes.remove("pages")
    untouched(engine, second, web)
    assert engine.containers.get("web").pid == web.pid, "it was stopped"


def test_a_start_that_fails_there_is_undone(engine, second, web, monkeypatch):
    def fail(ref: str) -> None:
        raise StartError("network", 98, "port 80 is taken")

    monkeypatch.setattr(second.containers, "start", fail)
    with pytest.raises(StartError):
        moving.move(engine, "web", second, timeout=5)
    untouched(engine, second, web)


@pytest.mark.parametrize("point", POINTS[: POINTS.index("move.target.started")])
def test_an_error_on_the_way_is_undone(engine, second, web, monkeypatch, point):
    def strike(name: str) -> None:
        if name == point:
            raise Unavailable("the line is cut")

    monkeypatch.setattr(moving.faults, "point", strike)
    with pytest.raises(Unavailable, match="the line is cut"):
        moving.move(engine, "web", second, timeout=5)
    untouched(engine, second, web)


def test_somebody_starts_it_meanwhile(engine, second, web, monkeypatch):
    def start(name: str) -> None:
        if name == "move.source.leaving":
            engine.containers.start(web.id)

    monkeypatch.setattr(moving.faults, "point", start)
    with pytest.raises(WrongState, match="while it was being moved"):
        moving.move(engine, "web", second, timeout=5)
    untouched(engine, second, web)


# Killed -------------------------------------------------------------------------------------------


def killed(point: str, first: Path, second: Path) -> None:
    """Move ``web`` in a process that is killed at ``point``."""
    child = os.fork()
    if not child:
        try:
            faults._name, faults._action = point, "kill"
            moving.move(connect(f"local:{first}"), "web", connect(f"local:{second}"), timeout=5)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, point


def alive(*engines: Engine) -> list[Container]:
    return [one for engine in engines for one in engine.containers.list()]


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_one_copy_lives_and_the_next_move_ends_it(
    engine, store, second_root, web, point
):
    engine.close()
    killed(point, store, second_root)
    engine, second = connect(f"local:{store}"), connect(f"local:{second_root}")
    at_target = "web" in names(second)
    assert at_target is (point in COMMITTED)
    assert len(alive(engine, second)) <= 1
    if point == "move.source.gone":
        with pytest.raises(NotFound):
            moving.move(engine, "web", second)
        assert volumes(engine) == ["pages"] and engine.volumes.get("pages").users == ()
    else:
        moving.move(engine, "web", second, timeout=5)
        assert engine.volumes.list() == []
    assert (names(engine), names(second)) == ([], ["web"])
    assert served(second) == "moved\n"
    assert engine.check() == second.check() == []
    second.close()


@pytest.mark.parametrize("point", POINTS[1:])
def test_killed_anywhere_a_check_tidies_up(engine, store, second_root, web, point):
    engine.close()
    killed(point, store, second_root)
    engine, second = connect(f"local:{store}"), connect(f"local:{second_root}")
    second.check(repair=True)
    assert second.check() == []
    assert names(second) == (["web"] if point in COMMITTED else [])
    assert volumes(second) == (["pages"] if point in COMMITTED else [])
    left = [one.detail for one in engine.check(repair=True)]
    assert any("its move" in detail for detail in left) is any(
        "leaving" in n for n in names(engine)
    )
    if point != "move.source.gone":
        moving.move(engine, "web", second, timeout=5)
    if second.containers.get("web").status is not Status.RUNNING:
        second.containers.start("web")
    assert (names(engine), served(second)) == ([], "moved\n")
    second.close()


@pytest.mark.parametrize(
    ("side", "point"),
    [
        ("target", "create.row.added"),
        ("target", "create.bundle.written"),
        ("target", "start.shim.ready"),
        ("source", "remove.row.marked"),
        ("source", "remove.files.gone"),
    ],
)
def test_a_daemon_that_is_killed(engine, store, second_root, web, tmp_path, side, point):
    """The other end hears of it, and one copy lives; with a new daemon the same move ends it."""
    engine.close()
    roots = {"source": store, "target": second_root}
    path = tmp_path / "killed.sock"
    daemon = serving_until(roots[side], path, point)
    ends = {name: connect(f"local:{root}") for name, root in roots.items()}
    through = connect(f"unix://{path}")
    with pytest.raises(CellboxError):
        moving.move(**{"source": ends["source"], "target": ends["target"], side: through},
                    ref="web", timeout=5)  # fmt: skip
    assert os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1]) == -signal.SIGKILL
    through.close()
    assert len(alive(*ends.values())) == 1
    if "web" not in names(ends["target"]) or names(ends["source"]):
        with contextlib.suppress(NotFound):
            moving.move(ends["source"], "web", ends["target"], timeout=5)
    assert (names(ends["source"]), names(ends["target"])) == ([], ["web"])
    assert served(ends["target"]) == "moved\n"
    for one in ends.values():
        one.close()


def serving_until(root: Path, path: Path, point: str) -> int:
    """The pid of a daemon over the store at ``root`` that is killed at ``point``."""
    from cellbox.api.listeners import unix_listener
    from cellbox.api.server import Daemon, Server

    listener = unix_listener(path)
    child = os.fork()
    if not child:
        try:
            faults._name, faults._action = point, "kill"
            Server(Daemon(connect(f"local:{root}")), [listener]).run()
        finally:
            os._exit(0)
    listener.socket.close()
    return child


def test_what_came_and_may_be_newer_is_not_overwritten(engine, store, second_root, web):
    engine.close()
    killed("move.target.started", store, second_root)
    engine, second = connect(f"local:{store}"), connect(f"local:{second_root}")
    second.containers.remove("web", force=True)
    with pytest.raises(InUse, match="may be newer"):
        moving.move(engine, "web", second)
    second.volumes.remove("pages")
    moving.move(engine, "web", second)
    assert names(engine) == [] and names(second) == ["web"]
    second.close()
