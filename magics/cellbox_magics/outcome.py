"""How a command ends when it does not end well: one exception for the cell and the shell alike.

A verb returns its result (a table, a list, a handle, or None); it raises an error of
:mod:`cellbox.errors` when the engine refuses, and :class:`CommandFailed` when a program ended with
a non-zero code or when some of several objects failed. In a notebook both are shown as one line.
"""

from __future__ import annotations

import os
from typing import TypeVar

E = TypeVar("E", bound=Exception)

USAGE = 125
"""Docker's exit code for a command that the engine or the command line refused."""


class CommandFailed(Exception):
    """A command ended with ``exit_code``; ``program`` says that it is the container's own code."""

    def __init__(self, exit_code: int, message: str, *, program: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.program = program

    def _render_traceback_(self) -> list[str]:
        return [f"cellbox: {self}"]


class Interrupted(KeyboardInterrupt):
    """The user stopped the cell, and the container with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.exit_code = 130

    def _render_traceback_(self) -> list[str]:
        return [f"cellbox: {self}"]


def debugging() -> bool:
    """Whether the user asked for tracebacks (``CELLBOX_DEBUG=1``)."""
    return os.environ.get("CELLBOX_DEBUG", "") not in ("", "0")


def sentence(error: BaseException) -> str:
    """What a person reads about ``error``: ``cellbox: `` and one sentence."""
    return f"cellbox: {str(error) or type(error).__name__}"


def fault(error: BaseException) -> str:
    """What a person reads about an error that nobody foresaw."""
    text = f"{type(error).__name__}: {error}"
    return f"cellbox: this is a fault of cellbox itself: {text} (CELLBOX_DEBUG=1 shows where)"


def exit_code(error: BaseException, default: int = 1) -> int:
    """Docker's exit code for ``error``: its own where it carries one, else ``default``."""
    code = getattr(error, "exit_code", default)
    return code if isinstance(code, int) else default


def calm(error: E) -> E:
    """Let IPython show ``error`` as one sentence; its class stays, so that it can be caught."""
    if not debugging():
        error._render_traceback_ = lambda: [sentence(error)]  # type: ignore[attr-defined]
    return error
