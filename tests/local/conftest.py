"""A store's state in a folder of its own, and facts to put into it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellbox.connecting import connect
from cellbox.containers.client import Launcher
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.images.jobs import JOBS
from cellbox.local.places import run_directory
from cellbox.local.records import ContainerRecord
from cellbox.local.state import State
from cellbox.local.store import Store
from cellbox.model.container import RunSpec
from cellbox.model.image import Descriptor, Image, ImageConfig, Layer, Platform

RUNTIME = Path(__file__).parents[2] / "runtime"


@pytest.fixture
def dead() -> int:
    """The pid of a process that is gone."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path)
    yield state
    state.close()


@pytest.fixture
def digest() -> Callable[[int], str]:
    return lambda number: f"sha256:{number:064x}"


@pytest.fixture
def make_image(digest: Callable[[int], str]) -> Callable[..., Image]:
    """An image whose id ends in ``number``; its layers are numbered, each with a blob of +1000."""

    def make(number: int, *, tags=(), digests=(), layers=(1,), created=1.0) -> Image:
        return Image(
            id=digest(number),
            tags=tuple(tags),
            digests=tuple(digests),
            layers=tuple(
                Layer(digest(layer), 10, Descriptor("layer", digest(layer + 1000), 5))
                for layer in layers
            ),
            config=ImageConfig(env=("PATH=/bin",), labels={"a": "b"}),
            platform=Platform(),
            size=10 * len(layers),
            created=created,
        )

    return make


@pytest.fixture
def add_container(digest: Callable[[int], str]) -> Callable[..., ContainerRecord]:
    """Add the container whose id ends in ``number``, of image 1."""

    def add(state: State, number: int, name: str = "", *, image: int = 1) -> ContainerRecord:
        return state.containers.add(
            f"{number:064x}",
            image_id=digest(image),
            spec=RunSpec("ubuntu", ("ls",)),
            command=("ls",),
            created=float(number),
            name=name,
        )

    return add


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code in a process of its own; those that still run at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, fault: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(RUNTIME), "CELLBOX_FAULT": fault},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def quick_engine(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that does its jobs in this process, if that may do what a worker may: a launcher
    is started when a container is, and not for each test."""
    if os.geteuid() == 0:
        monkeypatch.setattr(Launcher, "work", lambda self, job, args, fds=(): JOBS[job](args, fds))
    made = connect()
    yield made
    made.close()


@pytest.fixture
def launcher(store: Path) -> Launcher:
    """The launcher of ``store``. Skips where this machine cannot run containers."""
    made = Launcher(store, run_directory(store))
    try:
        made.ensure()
    except CellboxError as error:
        pytest.skip(str(error))
    return made


@pytest.fixture
def inner(store: Path, engine: Engine) -> Iterator[Store]:
    """The store below ``engine``, to look at it and to damage it."""
    made = Store(store, run_directory(store))
    yield made
    made.state.close()
