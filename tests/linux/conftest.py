"""Running a piece of a test in a child that may spoil its namespaces, limits and ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import run_in_child

from cellbox.linux import syscalls
from cellbox.linux.namespaces import enter_private


@pytest.fixture
def in_namespace() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a child with a mount namespace of its own, as root of a user namespace
    where we are not root."""

    def run(action: Callable[[], Any]) -> Any:
        def inside() -> Any:
            enter_private()
            syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
            return action()

        return run_in_child(inside)

    try:
        run(lambda: None)
    except AssertionError as error:
        pytest.skip(f"this machine does not let us make namespaces: {str(error).splitlines()[0]}")
    return run
