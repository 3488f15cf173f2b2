"""The verbs of contexts, which are names for engines: ls, use, show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

import cellbox

from .. import rows, session
from ..surface import Surface
from ..tables import Lines, Table
from .commands import completer, format_option, verb
from .place import Place


def _names(surface: Any) -> Iterable[str]:
    return (one.name for one in cellbox.contexts())


@verb("context ls")
@format_option('Format output ("table", "json", template)')
@click.option("-q", "--quiet", is_flag=True, help="Only show context names")
@click.pass_obj
def ls(surface: Surface, format: str, quiet: bool) -> Table | Lines:
    found = cellbox.contexts()
    if quiet and not format:
        return Lines(one.name for one in found)
    current = session.context_of(surface.session.url)
    shown = [rows.context(one, current=one.name == current) for one in found]
    return rows.show(rows.CONTEXTS, shown, found, format=format)


def use(place: Place) -> click.Command:
    """``context use``: for the notebook that says it, or for every command from now on."""

    @verb("context use")
    @click.argument("name", metavar="CONTEXT", shell_complete=completer(_names))
    @click.pass_obj
    def command(surface: Surface, name: str) -> Lines:
        if place is Place.COMMAND:
            cellbox.use_context(name)
            said = session.context_of("")
            if said not in (session.EMBEDDED, name):
                surface.note(f"CELLBOX_HOST or CELLBOX_CONTEXT says {said}, and is heard first")
        else:
            cellbox.check_context(name)
        surface.session.url = session.url_of(name)
        return Lines([name])

    assert isinstance(command, click.Command)
    return command


@verb("context show")
@click.pass_obj
def show(surface: Surface) -> Lines:
    return Lines([session.context_of(surface.session.url)])
