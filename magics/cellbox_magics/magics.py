"""``%container`` and ``%%container``: the grammar in a notebook.

Importing this module must stay cheap: ``%load_ext cellbox`` does it. click, the verbs and the
engine are imported by the first command that is spoken.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)

from .session import Session

if TYPE_CHECKING:
    from .notebook import Notebook

_STATE = "_cellbox_front"


@magics_class
class ContainerMagics(Magics):
    """The magics of one shell, over one session."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def container(
        self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None
    ) -> Any:
        """Containers, in Docker's words.

        Lines: ``%container run ubuntu ls``, ``%container run -it ubuntu bash``, ``%container ps
        -a``, ``%container images``, ``ids = %container ps -q``; ``%container --help`` lists all
        commands and ``%container run --help`` all flags of one.

        Cells: the body is the program's input.

            %%container run python:3.12 python
            print("in a container")

        ``-i NAME`` and ``-o NAME`` pass variables into and out of a Python cell, ``--bg`` runs it
        beside the notebook and returns a handle, ``--no-raise`` returns the exit code. ``{name}``
        in the line is the value of a variable; ``$NAME``, ``${NAME}`` and ``{{...}}`` are left
        alone. Without an image the program runs on the image ``host``, which needs no download.
        """
        assert self.shell is not None
        names = {**self.shell.user_ns, **(local_ns or {})}
        from .notebook import Notebook

        return answer(Notebook(self.shell, self.session, names, cell), line)


def answer(notebook: Notebook, line: str) -> Any:
    """Do the words of ``line`` and return the result; errors are such that IPython shows one
    line."""
    import click

    from cellbox.errors import CellboxError

    from .expand import words
    from .grammar import Place
    from .outcome import CommandFailed, Interrupted, calm, debugging, fault
    from .speaking import speak

    place = Place.LINE if notebook.cell is None else Place.CELL
    try:
        spoken = words(line, notebook.names)
    except ValueError as error:
        raise UsageError(f"%container {line.strip()}: {error}") from None
    try:
        return speak(place, spoken or ["--help"], notebook)
    except KeyboardInterrupt as error:
        raise error if isinstance(error, Interrupted) else Interrupted("interrupted") from None
    except click.ClickException as error:
        raise UsageError(_misspoken(error)) from None
    except CellboxError as error:
        raise calm(error) from (error.__cause__ if debugging() else None)
    except OSError as error:
        raise CommandFailed(1, str(error)) from error
    except Exception as error:
        if debugging() or hasattr(error, "_render_traceback_"):
            raise
        raise CommandFailed(1, fault(error).removeprefix("cellbox: ")) from error


def _misspoken(error: Any) -> str:
    context = getattr(error, "ctx", None)
    way_out = f" (see {context.command_path} --help)" if context is not None else ""
    return f"cellbox: {error.format_message()}{way_out}"


def load(shell: Any, session: Session | None = None) -> None:
    """Register magics and completer; loading again keeps the session and replaces the rest."""
    from .complete import ContainerMatcher

    before = getattr(shell, _STATE, None)
    session = session or (before.session if before else Session())
    if before:
        _forget(shell, before)
    matcher = ContainerMatcher(session)
    front = _Front(session, matcher)
    shell.register_magics(ContainerMagics(shell, session))
    if getattr(shell, "Completer", None) is not None:
        shell.Completer.custom_matchers.append(matcher.matcher)
    setattr(shell, _STATE, front)
    if sys.platform == "emscripten":
        print("cellbox: a web browser has no processes; results show here, containers do not run")


def unload(shell: Any) -> None:
    """Take magics and completer away, and close the engine."""
    front = getattr(shell, _STATE, None)
    if front is None:
        return
    _forget(shell, front)
    front.session.close()
    delattr(shell, _STATE)


class _Front:
    """What was registered in a shell."""

    def __init__(self, session: Session, matcher: Any) -> None:
        self.session = session
        self.matcher = matcher


def _forget(shell: Any, front: _Front) -> None:
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("container", None)
    if getattr(shell, "Completer", None) is not None:
        matchers = shell.Completer.custom_matchers
        shell.Completer.custom_matchers = [one for one in matchers if one != front.matcher.matcher]
