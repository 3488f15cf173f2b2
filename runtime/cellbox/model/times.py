"""Instants as text: RFC 3339 in UTC, as Docker and the OCI specifications write them; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


def timestamp(moment: float | None) -> str:
    """RFC 3339 with as many digits of a second as there are (at most microseconds); Go's zero time
    for None."""
    if moment is None:
        return "0001-01-01T00:00:00Z"
    text = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".")
    return f"{text}Z"


def instant(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none, nonsense, and Go's year 1."""
    match = _RFC3339.fullmatch(text)
    if not match or text.startswith("0001-"):
        return None
    try:
        whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    except ValueError:
        return None
    return whole.timestamp() + float(match[2] or 0)
