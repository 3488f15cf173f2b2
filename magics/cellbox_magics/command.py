"""The ``cellbox`` command: Docker's words in a shell.

Exit codes are Docker's: the program's own for ``run`` and ``exec``; 125 when the command line or
the engine refused, 126 and 127 when the program could not be run, 128 + n for signal n; 1 when
another verb failed. An error is one sentence on standard error (``CELLBOX_DEBUG=1`` shows its
traceback). Modules that take long to import (rich, the engine) are imported when they are needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

import cellbox
from cellbox.errors import CellboxError

from . import outcome
from .grammar import Place, tree
from .session import Session, url_of
from .speaking import speak
from .terminal import Terminal, show

_COMPLETE = "_CELLBOX_COMPLETE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    terminal = Terminal(Session(_url()))
    if _COMPLETE in os.environ:
        return _complete(terminal)
    try:
        return answer(terminal, words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit is silent
        return 1
    finally:
        terminal.session.close()


def _url() -> str:
    """What the command speaks to where it names nothing: what the environment says, else the
    context that ``context use`` has chosen."""
    if os.environ.get("CELLBOX_HOST") or os.environ.get("CELLBOX_CONTEXT"):
        return ""
    return url_of(cellbox.current_context())


def answer(terminal: Terminal, words: Sequence[str]) -> int:
    """Do the command and print its result or its error; the exit code."""
    try:
        text = show(speak(Place.COMMAND, words, terminal))
        if text:
            terminal.write("stdout", f"{text}\n".encode())
        return 0
    except click.ClickException as error:
        return _misspoken(terminal, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except outcome.CommandFailed as error:
        if not error.program:
            terminal.note(outcome.sentence(error))
        return error.exit_code
    except Exception as error:
        return _failed(terminal, error)


def _misspoken(terminal: Terminal, error: click.ClickException) -> int:
    context: Any = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        terminal.write("stdout", f"{error.format_message()}\n".encode())
        return 0
    terminal.note(f"cellbox: {error.format_message()}")
    if context is not None:
        terminal.note(f"See '{context.command_path} --help'.")
    return outcome.USAGE


def _failed(terminal: Terminal, error: Exception) -> int:
    if outcome.debugging():
        raise error
    known = isinstance(error, CellboxError | OSError)
    terminal.note(outcome.sentence(error) if known else outcome.fault(error))
    return outcome.exit_code(error)


def _complete(terminal: Terminal) -> int:
    from click.shell_completion import shell_complete

    instruction = os.environ[_COMPLETE]
    return shell_complete(tree(Place.COMMAND), {"obj": terminal}, "cellbox", _COMPLETE, instruction)


if __name__ == "__main__":
    sys.exit(main())
