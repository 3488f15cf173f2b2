"""Numbers and times as Docker prints them; pure (docker/go-units ``HumanSize``). How long ago and
what a container does is worded by ``cellbox.wire.humanize``."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """``72.8MB``: three digits, multiples of 1000."""
    return _scaled(count, 1000, _UNITS, 3)


def binary_size(count: float) -> str:
    """``1.934GiB``: four digits, multiples of 1024."""
    return _scaled(count, 1024, _BINARY, 4)


def _scaled(count: float, base: int, units: tuple[str, ...], digits: int) -> str:
    power = 0
    while count >= base and power < len(units) - 1:
        count, power = count / base, power + 1
    text = f"{count:.{digits}g}"
    return f"{float(text):g}{units[power]}"


def clock(moment: float | None) -> str:
    """``2026-01-31 12:00:00 +0000 UTC``; ``N/A`` where nobody knows."""
    if moment is None:
        return "N/A"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, the last one an ellipsis where some were cut."""
    return text if len(text) <= width else text[: width - 1] + "…"
