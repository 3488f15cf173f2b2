"""The cases with the reference implementation's results, and a build that is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cellbox.engine import Engine
from cellbox.model.build import BuildSpec

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="session")
def cases() -> Callable[[str], Any]:
    """``cases("words")``: what the file of that name holds."""

    def read(name: str) -> Any:
        return json.loads((CASES / f"{name}.json").read_text("utf-8"))

    return read


@pytest.fixture
def nothing_left(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In the end, builds have left no container, and no file of ours in the temporary directory."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield
    assert engine.containers.list(all=True) == []
    assert list(place.iterdir()) == []


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Path]:
    """``context("FROM x", {"f": "data"})``: a directory with a Dockerfile and files."""
    path = tmp_path / "context"

    def make(dockerfile: str, files: dict[str, str | bytes] | None = None) -> Path:
        path.mkdir(exist_ok=True)
        for name, data in {"Dockerfile": dockerfile, **(files or {})}.items():
            place = path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return make


class Told:
    """A build and what it told."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.text = ""
        self.steps: list[Any] = []

    def __call__(self, context: Any, **spec: Any) -> Any:
        """Build; ``spec`` are fields of a BuildSpec. RUN has no network unless it is asked for."""
        self.text, self.steps = "", []
        asked = BuildSpec(**{"network": "none", **spec})
        return self._engine.images.build(context, asked, tell=self._hear)

    def _hear(self, piece: Any) -> None:
        if isinstance(piece, str):
            self.text += piece
        else:
            self.steps.append(piece)

    def run(self, image: Any, *words: str) -> str:
        """What a container of the image writes."""
        from cellbox import handles
        from cellbox.model.container import RunSpec

        spec = RunSpec(image.id, words, network="none", auto_remove=True)
        return handles.run(self._engine, spec).output


@pytest.fixture
def build(engine: Any, busybox: Any) -> Told:
    """``build(context, tags=...)``: an engine with busybox that builds; ``build.text`` is what it
    told, ``build.run(image, ...)`` what a program in the image writes."""
    return Told(engine)
