"""The lines of a long task's answer: what Docker streams while it pulls, loads, imports or pushes.

One JSON object a line::

    {"status": "Downloading", "id": "3153aa388d02",
     "progressDetail": {"current": 720, "total": 1440},
     "progress": "[=========================>                         ]     720B/1.44kB"}
    {"errorDetail": {"message": "..."}, "error": "..."}

Source: moby ``pkg/streamformatter``, ``pkg/jsonmessage``; go-units ``HumanSize``.
"""

from __future__ import annotations

import json
from typing import Any

from cellbox.model.image import Progress

Json = dict[str, Any]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_WHOLE = "Pulling from "
"""How the one line starts that has an id and is not about a part of the task."""


def line(message: Json) -> bytes:
    """One message as it is sent."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n"


def progress_json(step: Progress) -> Json:
    """One step. What is told of the whole task has a status only, a part its numbers too."""
    message: Json = {"status": step.action}
    if step.id and not step.action.startswith(_WHOLE):
        message["progressDetail"] = _detail(step)
        if text := _bar(step.current, step.total or 0):
            message["progress"] = text
    if step.id:
        message["id"] = step.id
    return message


def progress_from(message: Json) -> Progress:
    """The step that a line tells; a line of another kind is one of the whole task."""
    detail = message.get("progressDetail") or {}
    text = message.get("status") or message.get("stream") or ""
    return Progress(
        id=str(message.get("id") or ""),
        action=str(text).rstrip("\n"),
        current=int(detail.get("current") or 0),
        total=detail.get("total"),
    )


def failure_json(message: str, code: int = 0) -> Json:
    """The last line of a task that failed after its first one; ``code`` is that of a program."""
    detail: Json = {"code": code} if code else {}
    return {"errorDetail": {**detail, "message": message}, "error": message}


def _detail(step: Progress) -> Json:
    detail = {"current": step.current, "total": step.total}
    return {key: count for key, count in detail.items() if count}


def _bar(current: int, total: int) -> str:
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{_size(current):>8}"
    done = min(int(current / total * 100) // 2, 50)
    counts = f"{_size(current):>8}" + (f"/{_size(total)}" if current <= total else "")
    return f"[{'=' * done}>{' ' * (50 - done)}] {counts}"


def _size(count: float) -> str:
    """``1.44kB``: four digits, multiples of 1000."""
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.4g}{_UNITS[power]}"
