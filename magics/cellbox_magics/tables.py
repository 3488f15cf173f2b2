"""Results that are objects: a table of handles, lines of text, a document of JSON.

Each is a plain sequence to work with, prints as Docker prints it (``__repr__``), and carries a
static HTML table for the notebook: no script, inline styles only, every cell escaped, so that it
reads the same in JupyterLab, in VS Code and on GitHub, in light and dark themes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, overload

_GAP = 3
_LEAST = 10

_CELL = (
    "text-align:left;padding:2px 12px 2px 0;white-space:nowrap;border:0;"
    "border-bottom:1px solid var(--jp-border-color2,rgba(128,128,128,.3))"
)
_HEAD = f"{_CELL};font-weight:600;color:var(--jp-ui-font-color2,inherit)"
_TABLE = (
    "border-collapse:collapse;font-size:var(--jp-code-font-size,13px);background:transparent;"
    "color:var(--jp-content-font-color1,inherit);"
    "font-family:var(--jp-code-font-family,ui-monospace,monospace)"
)


class Table(Sequence[Any]):
    """Rows with titles over a sequence of objects (handles, mostly), one object a row."""

    def __init__(
        self, titles: Sequence[str], rows: Sequence[Sequence[str]], items: Sequence[Any] = ()
    ) -> None:
        self.titles = tuple(titles)
        self.rows = [tuple(str(cell) for cell in row) for row in rows]
        self._items = list(items) if items or not rows else list(self.rows)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Table | list) else NotImplemented

    def __repr__(self) -> str:
        return "\n".join(columns([self.titles, *self.rows]))

    def _repr_html_(self) -> str:
        return html_table(self.titles, self.rows)


class Lines(list[str]):
    """Lines of text: names, ids, or what a template made."""

    def __repr__(self) -> str:
        return "\n".join(self)


class Codes(list[int]):
    """Exit codes, one a container."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


class Document(list[Any]):
    """What ``inspect`` tells: a list of dicts that prints as Docker's JSON."""

    def __repr__(self) -> str:
        return json.dumps(list(self), indent=4, ensure_ascii=False)


class Facts(dict[str, Any]):
    """Named facts, such as those of ``info``; prints one a line."""

    def __repr__(self) -> str:
        return "\n".join(f"{key}: {_plain(value)}" for key, value in self.items())

    def _repr_html_(self) -> str:
        return html_table((), [(key, _plain(value)) for key, value in self.items()])


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, as Docker's tabwriter makes them (three spaces, ten at least)."""
    cells = [[_one_line(cell) for cell in row] for row in rows]
    count = max((len(row) for row in cells), default=0)
    widths = [
        max(_LEAST, max((len(row[place]) for row in cells if place < len(row)), default=0) + _GAP)
        for place in range(count)
    ]
    return ["".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def html_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A static table; all text is escaped."""
    head = "".join(f'<th style="{_HEAD}">{escape(title)}</th>' for title in titles)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    header = f"<thead><tr>{head}</tr></thead>" if titles else ""
    return f'<table style="{_TABLE}">{header}<tbody>{body}</tbody></table>'


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{escape(text)}</td>'


def _one_line(text: str) -> str:
    """``text`` without what would move a terminal's cursor: names may come from anybody."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
