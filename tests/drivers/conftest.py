"""A program that speaks the plugin protocol, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, program

from cellbox.drivers.client import Client
from cellbox.drivers.places import Place


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """``served(answers)``: a client of a program that answers so; ``client.calls`` are those that
    it got."""
    with ExitStack() as stack:

        def start(answers: Answers, name: str = "shelf") -> Client:
            path = tmp_path / f"{name}.sock"
            calls = stack.enter_context(program(path, answers))
            client = Client(Place(name, f"unix://{path}", str(path)))
            client.calls = calls
            return client

        yield start
