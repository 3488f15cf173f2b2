"""What a query says: filters, flags, durations and instants; pure.

Filters travel as JSON, in one of two forms::

    {"label": {"a=b": true}}        the docker command
    {"label": ["a=b"]}              the docker SDK, and old clients

Source: moby ``api/types/filters``, ``api/server/httputils`` (BoolValue), ``api/types/time``
(GetTimestamp); Go ``time.ParseDuration``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cellbox.errors import InvalidArgument

_FALSE = frozenset({"", "0", "no", "false", "none"})
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_filters(text: str) -> dict[str, list[str]]:
    """The filters that ``text`` tells in either form; none where it is empty.

    Raises InvalidArgument; which filters there are is for who uses them to say.
    """
    if not text:
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid filter: not JSON: {error}") from None
    if not isinstance(told, dict):
        raise InvalidArgument("invalid filter: must be a JSON object")
    return {key: _values(key, value) for key, value in told.items()}


def _values(key: str, told: Any) -> list[str]:
    if not isinstance(told, dict | list) or not all(isinstance(value, str) for value in told):
        raise InvalidArgument(f"invalid filter '{key}': its values must be strings")
    return list(told)


def filters_text(filters: Mapping[str, Sequence[str]]) -> str:
    """The inverse, in the form that every daemon reads; empty for no filters."""
    told = {key: dict.fromkeys(values, True) for key, values in filters.items()}
    return json.dumps(told, separators=(",", ":")) if told else ""


def flag(text: str) -> bool:
    """A boolean as Docker reads it: false for nothing, ``0``, ``no``, ``false``, ``none``."""
    return text.strip().lower() not in _FALSE


def duration(text: str) -> float:
    """Seconds of ``30s``, ``1m30s``, ``500ms``, ``0``. Raises InvalidArgument."""
    if text == "0":
        return 0.0
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise InvalidArgument(f"{text!r} is not a duration: write it as 30s, 1m30s or 500ms")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def moment(text: str, now: float | None = None) -> float:
    """Seconds since the epoch of a Unix time, an RFC 3339 time, or a duration back from ``now``
    (None: the present). Raises InvalidArgument."""
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return (time.time() if now is None else now) - duration(text)
    except InvalidArgument:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is not a time: write 10m, 2026-01-31T12:00:00Z or a Unix time"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def with_moments(filters: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Filters whose ``until`` are Unix times, as an engine reads them. Raises InvalidArgument."""
    if "until" not in filters:
        return filters
    return {**filters, "until": [str(moment(text)) for text in filters["until"]]}
