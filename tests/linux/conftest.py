"""Running a piece of a test in a child that may spoil its namespaces, limits and ids."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from cellbox.linux import syscalls
from cellbox.linux.namespaces import enter_private


def _in_child(action: Callable[[], Any]) -> Any:
    """What ``action`` returns in a forked child; what it raises there fails here."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = (True, action())
        except BaseException as error:
            answer = (False, f"{error!r}\n{traceback.format_exc()}")
        with open(write, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    assert data, "the child died"
    good, value = pickle.loads(data)
    assert good, value
    return value


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a forked child."""
    return _in_child


@pytest.fixture
def in_namespace() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a child with a mount namespace of its own, as root of a user namespace
    where we are not root."""

    def run(action: Callable[[], Any]) -> Any:
        def inside() -> Any:
            enter_private()
            syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
            return action()

        return _in_child(inside)

    try:
        run(lambda: None)
    except AssertionError as error:
        pytest.skip(f"this machine does not let us make namespaces: {str(error).splitlines()[0]}")
    return run
