"""A magic's line to words, with ``{expr}`` replaced by values of the notebook; pure.

``{name}`` and ``{expression}`` are replaced where they make sense: the braces hold a Python
expression that names at least one variable of the notebook, and no unknown one. All else stays as
it is written: Go templates (``{{.Names}}``), the shell's ``${HOME}`` and ``$HOME``, ``awk '{print
$1}'``, JSON, and ``{a,b}`` of unknown names. A value is one word, whatever characters it holds; a
list or tuple that is a whole word becomes one word an item.
"""

from __future__ import annotations

import ast
import builtins
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

_FIRST = 0xE000
_MARK = re.compile("[\ue000-\uf8ff]")
_BRACES = re.compile(r"\{\{.*?\}\}+|\$\{[^}]*\}", re.DOTALL)
_OPEN = {"(": ")", "[": "]", "{": "}"}


def words(line: str, names: Mapping[str, Any]) -> list[str]:
    """The words of ``line`` as a shell splits them, with expressions replaced.

    Raises :class:`ValueError` for a quote that is not closed, and what an expression raises.
    """
    values: list[Any] = []
    marked = _marked(line, names, values)
    return [word for raw in shlex.split(marked) for word in _filled(raw, values)]


def _marked(line: str, names: Mapping[str, Any], values: list[Any]) -> str:
    """``line`` with each expression as one private character, and its value added to ``values``."""
    out: list[str] = []
    position = 0
    while position < len(line):
        kept = _BRACES.match(line, position)
        if kept:
            out.append(kept[0])
            position = kept.end()
            continue
        end = _closing(line, position) if line[position] == "{" else -1
        code = _expression(line[position + 1 : end], names) if end > 0 else None
        if code is None:
            out.append(line[position])
            position += 1
        else:
            values.append(
                eval(code, dict(names))
            )  # the user's own expression in their own notebook
            out.append(chr(_FIRST + len(values) - 1))
            position = end + 1
    return "".join(out)


def _closing(line: str, start: int) -> int:
    """Where the brace that opens at ``start`` closes, minding quotes and brackets; -1 if
    nowhere."""
    wanted: list[str] = []
    quote = ""
    for place in range(start, len(line)):
        letter = line[place]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPEN:
            wanted.append(_OPEN[letter])
        elif wanted and letter == wanted[-1]:
            wanted.pop()
            if not wanted:
                return place
    return -1


def _expression(source: str, names: Mapping[str, Any]) -> Any:
    """Code of an expression that is meant for us, else None."""
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return None
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _stored(node)}
    free = used - own
    if not free & set(names) or not all(name in names or hasattr(builtins, name) for name in free):
        return None
    return compile(tree, "<line>", "eval")


def _stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _filled(word: str, values: list[Any]) -> Iterator[str]:
    if len(word) == 1 and _MARK.match(word):
        value = _value(word, values)
        yield from map(str, value) if isinstance(value, list | tuple) else [str(value)]
    else:
        yield _MARK.sub(lambda match: str(_value(match[0], values)), word)


def _value(mark: str, values: list[Any]) -> Any:
    place = ord(mark) - _FIRST
    return values[place] if place < len(values) else mark
