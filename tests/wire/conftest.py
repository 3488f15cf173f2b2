"""What a real Docker daemon (20.10) told, recorded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

_TOLD = json.loads((Path(__file__).parent / "dockerd-20.10.json").read_text())
CONTAINERS = [name for name in _TOLD if name.startswith("container ")]


@pytest.fixture
def dockerd() -> dict[str, Any]:
    """Answers of a daemon, by what was asked for; a copy of one's own."""
    return copy.deepcopy(_TOLD)


@pytest.fixture(params=CONTAINERS)
def inspected(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``docker inspect`` of one container after the other."""
    return copy.deepcopy(_TOLD[request.param])
