"""A long task's progress: what is known (:class:`Board`, pure) and who draws it (:class:`Painter`).

Steps come from any thread and must not wait, so the board only remembers the newest step of every
part; a painter thread draws when something changed, at most ten times a second.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from html import escape
from types import TracebackType

from cellbox.model.image import Progress

from . import humanize

PAUSE = 0.1
"""Seconds between two drawings at the least."""

_BAR = 30
_ROW = "padding:1px 10px 1px 0;border:0;text-align:left;white-space:nowrap"
_TROUGH = (
    "display:inline-block;width:160px;height:8px;border-radius:4px;overflow:hidden;"
    "background:var(--jp-border-color2,rgba(128,128,128,.3))"
)
_FILL = "display:block;height:8px;background:var(--jp-brand-color1,#1976d2)"


class Board:
    """The newest step of every part of a task, in order of appearance."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: dict[str, Progress] = {}
        self._lock = threading.Lock()

    def record(self, step: Progress) -> bool:
        """Remember ``step``; whether its part does something else than before."""
        with self._lock:
            before = self._parts.get(step.id)
            self._parts[step.id] = step
        return before is None or before.action != step.action

    @property
    def parts(self) -> list[Progress]:
        """The newest steps."""
        with self._lock:
            return list(self._parts.values())

    def text(self) -> str:
        """The title and a bar for every part, as plain text."""
        return "\n".join([self.title, *map(line, self.parts)])

    def html(self) -> str:
        """The same as static HTML, with inline styles."""
        rows = "".join(_html_row(step) for step in self.parts)
        body = f'<table style="border-collapse:collapse;font-size:12px">{rows}</table>'
        return f"<div>{escape(self.title)}{body if rows else ''}</div>"


def fraction(step: Progress) -> float | None:
    """How much of ``step`` is done, 0 to 1; None where nobody knows."""
    if not step.total or step.total < 0:
        return None
    return min(1.0, max(0.0, step.current / step.total))


def head(step: Progress) -> str:
    """``a1b2c3: Downloading``."""
    return f"{step.id}: {step.action}" if step.id else step.action


def line(step: Progress) -> str:
    """``a1b2c3: Downloading [=====>      ] 12MB/45MB``."""
    part = fraction(step)
    if part is None:
        return f"{head(step)} {humanize.size(step.current)}" if step.current else head(step)
    filled = int(part * _BAR)
    bar = ("=" * filled + ">")[:_BAR].ljust(_BAR)
    return f"{head(step)} [{bar}] {_amount(step)}"


def _amount(step: Progress) -> str:
    return f"{humanize.size(step.current)}/{humanize.size(step.total or 0)}"


def _html_row(step: Progress) -> str:
    part = fraction(step)
    bar = amount = ""
    if part is not None:
        bar = f'<span style="{_TROUGH}"><span style="{_FILL};width:{part:.0%}"></span></span>'
        amount = _amount(step)
    cells = (f"<code>{escape(step.id)}</code>", escape(step.action), bar, amount)
    return (
        f"<tr>{''.join(f'<td style={chr(34)}{_ROW}{chr(34)}>{cell}</td>' for cell in cells)}</tr>"
    )


class Painter:
    """Draws a board from a thread of its own while the block lasts; nothing before the first
    step."""

    def __init__(self, board: Board, draw: Callable[[], None], pause: float = PAUSE) -> None:
        self._board = board
        self._draw = draw
        self._pause = pause
        self._changed = threading.Event()
        self._over = threading.Event()
        run = contextvars.copy_context().run  # so that output finds the cell it belongs to
        self._thread = threading.Thread(target=run, args=(self._paint,), daemon=True)

    def watch(self, step: Progress) -> None:
        """Note a step; returns at once."""
        self._board.record(step)
        self._changed.set()

    def _paint(self) -> None:
        while not self._over.is_set():
            self._changed.wait()
            if self._changed.is_set():
                self._changed.clear()
                if self._board.parts:
                    self._draw()
            self._over.wait(self._pause)

    def __enter__(self) -> Callable[[Progress], None]:
        self._thread.start()
        return self.watch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._changed.set()
        self._thread.join()
        if self._board.parts:
            self._draw()
