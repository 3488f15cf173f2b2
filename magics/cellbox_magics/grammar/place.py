"""Where words are said."""

from __future__ import annotations

from enum import Enum


class Place(Enum):
    """Where the words were said: a shell, a notebook's line, or a cell whose body is the input."""

    COMMAND = "command"
    LINE = "line"
    CELL = "cell"
