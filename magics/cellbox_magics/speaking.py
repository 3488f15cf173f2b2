"""Words to a verb, and the verb's result: the one way in for the command and the magics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .grammar import Place, tree
from .surface import Surface


def speak(place: Place, words: Sequence[str], surface: Surface) -> Any:
    """Do what ``words`` say and return the result; None after ``--help``.

    Raises click's UsageError for words that make no command, and what the verb raises. (click's own
    ``main`` would turn KeyboardInterrupt into Abort, and lose what the interrupt did.)
    """
    command = tree(place)
    try:
        with command.make_context(command.name, list(words), obj=surface) as context:
            return command.invoke(context)
    except click.exceptions.Exit:
        return None
