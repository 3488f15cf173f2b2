"""Where a command is spoken: the seam between the grammar and a terminal or a notebook.

A verb asks its :class:`Surface` for the engine, for the caller's world, and for what to do with
output, input and progress; it never asks which surface it is. ``terminal`` and ``notebook`` are the
two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from cellbox.engine import Engine, Stream, Watch

    from .grammar.spec import Caller
    from .jobs import Job
    from .session import Session


@dataclass(frozen=True)
class Talking:
    """How to talk with a process: ``label`` names it in messages; ``detach_keys`` are bytes that
    let go of it; ``proxy`` passes signals on; ``stdin`` says that it reads, and ``script`` what:
    the body of a cell. ``owns`` is False for a program that must outlive an interrupt."""

    label: str
    tty: bool = False
    stdin: bool = False
    detach_keys: bytes = b"\x10\x11"
    proxy: bool = True
    script: bytes | None = None
    owns: bool = True


class Surface(Protocol):
    """What a verb may ask of the place where it was spoken; ``hosts`` are the engines that the
    command names, URLs or contexts, none for the one of its ``session``."""

    hosts: tuple[str, ...]
    session: Session

    @property
    def engine(self) -> Engine:
        """The one engine that is meant, connected to when first asked for. Raises InvalidArgument
        where several are."""
        ...

    @property
    def cell(self) -> str | None:
        """The body of the notebook cell, which is a program's standard input."""
        ...

    @property
    def term(self) -> str:
        """The TERM that a program with a terminal should see; empty for the engine's default."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Output as it comes: ``name`` is ``stdout`` or ``stderr``."""
        ...

    def note(self, text: str) -> None:
        """A remark of ours, one line, beside the output."""
        ...

    def watch(self, title: str) -> AbstractContextManager[Watch]:
        """Show a long task's progress while the block lasts."""
        ...

    def talk(self, stream: Stream, how: Talking) -> int | None:
        """Connect a process with the user until it ends (its code) or is let go (None)."""
        ...

    def ask(self, question: str) -> str:
        """One line from the user; empty where nobody can answer."""
        ...

    def source(self) -> BinaryIO:
        """Standard input as bytes, for ``load`` and the like. Raises InvalidArgument."""
        ...

    def sink(self) -> BinaryIO:
        """Standard output as bytes, for ``save`` and the like. Raises InvalidArgument."""
        ...

    @property
    def names(self) -> Mapping[str, Any]:
        """The variables of the notebook; empty elsewhere."""
        ...

    def publish(self, values: Mapping[str, Any]) -> None:
        """Set variables of the notebook."""
        ...

    def keep(self, job: Job) -> Job:
        """Remember a job that runs beside the notebook, so that it ends with it."""
        ...


def caller() -> Caller:
    """This process as the one who says the words."""
    from .grammar.spec import Caller

    home = os.environ.get("HOME") or str(Path.home())
    return Caller(os.environ, os.getcwd(), home, lambda path: Path(path).read_text("utf-8"))
