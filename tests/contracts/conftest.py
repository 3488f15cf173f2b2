"""The engines that the contract is tried on, and short ways to run something in one.

Every test here speaks to ``engine`` through :mod:`cellbox.engine` alone. A further engine joins by
another parameter of that fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.contracts import daemons

from cellbox.connecting import connect
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.model.container import Container, RunSpec
from cellbox.model.image import Image


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "differs(engine=reason): where an engine cannot do what the contract says, and why",
    )


@pytest.fixture(params=["local", "remote", "dockerd"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with an empty store: the embedded one, the same behind its API, and a real dockerd.
    Skips where this machine cannot run containers."""
    differs = request.node.get_closest_marker("differs")
    if differs and request.param in differs.kwargs:
        pytest.skip(f"{request.param}: {differs.kwargs[request.param]}")
    made: Engine = request.getfixturevalue(f"{request.param}_engine")
    try:
        made.images.list()
        made.containers.list()
    except CellboxError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def local_engine(store: Path) -> Engine:
    """The embedded engine."""
    return connect()


@pytest.fixture
def remote_engine(
    local_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The embedded engine behind our own API, on a unix socket."""
    with daemons.serving(local_engine, tmp_path_factory.mktemp("api") / "api.sock") as url:
        yield connect(url)
    local_engine.close()


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real dockerd with a store of its own."""
    with daemons.dockerd(tmp_path_factory.mktemp("dockerd")) as url:
        yield url


@pytest.fixture
def dockerd_engine(dockerd: str) -> Iterator[Engine]:
    """The real dockerd; what the test makes there is gone afterwards."""
    made = connect(dockerd)
    yield made
    daemons.empty(made)
    made.close()


@dataclass(frozen=True)
class Ran:
    """A container that has run to its end: what it wrote, piece by piece, and its exit code."""

    id: str
    code: int
    pieces: list[tuple[str, bytes]]

    @property
    def out(self) -> str:
        """Its standard output."""
        return b"".join(data for stream, data in self.pieces if stream == "stdout").decode()

    @property
    def err(self) -> str:
        """Its standard error."""
        return b"".join(data for stream, data in self.pieces if stream == "stderr").decode()


@pytest.fixture
def run(engine: Engine, busybox: Image) -> Callable[..., Ran]:
    """``run("echo", "hi", tty=True)``: run a container of busybox and wait for its end; further
    arguments are fields of RunSpec, ``stdin`` is what it reads."""

    def do(*command: str, stdin: bytes = b"", image: str = "busybox", **fields: object) -> Ran:
        spec = RunSpec(image, command, interactive=bool(stdin), **fields)
        id = engine.containers.create(spec).id
        with engine.containers.attach(id, stdin=bool(stdin)) as stream:
            engine.containers.start(id)
            if stdin:
                stream.write(stdin)
                stream.close_stdin()
            pieces = list(stream)
            return Ran(id, stream.wait(10), pieces)

    return do


@pytest.fixture
def start(engine: Engine, busybox: Image) -> Callable[..., Container]:
    """``start("sleep", "100", name="web")``: start a container in the background."""

    def do(*command: str, name: str = "", image: str = "busybox", **fields: object) -> Container:
        fields.setdefault("detach", True)
        spec = RunSpec(image, command or ("sleep", "1000"), **fields)
        id = engine.containers.create(spec, name=name).id
        engine.containers.start(id)
        return engine.containers.get(id)

    return do
