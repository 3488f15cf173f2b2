"""Numbers and times as Docker prints them; pure (docker/go-units ``HumanSize``,
``HumanDuration``)."""

from __future__ import annotations

from datetime import UTC, datetime

from cellbox.model.container import Container, Status

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


def duration(seconds: float) -> str:
    """``2 hours``, ``About a minute``: the coarse words of ``docker ps``."""
    whole = int(seconds)
    minutes, hours = whole // 60, round(seconds / 3600)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours <= 1 else f"{hours} hours"
    return _days(hours)


def _days(hours: int) -> str:
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 730 else f"{days // 365} years"


def ago(moment: float | None, now: float) -> str:
    """``2 hours ago``; ``N/A`` where nobody knows."""
    return "N/A" if moment is None else f"{duration(max(0.0, now - moment))} ago"


def clock(moment: float | None) -> str:
    """``2026-01-31 12:00:00 +0000 UTC``; ``N/A`` where nobody knows."""
    if moment is None:
        return "N/A"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def status(container: Container, now: float) -> str:
    """The STATUS column: ``Up 2 hours (healthy)``, ``Exited (0) 5 minutes ago``."""
    started = now if container.started is None else container.started
    since = duration(max(0.0, now - started))
    ended = f"({container.exit_code}) {ago(container.finished, now)}"
    words = {
        Status.CREATED: "Created",
        Status.RUNNING: f"Up {since}{_health(container)}",
        Status.PAUSED: f"Up {since} (Paused)",
        Status.RESTARTING: f"Restarting {ended}",
        Status.EXITED: f"Exited {ended}",
        Status.REMOVING: "Removal In Progress",
        Status.DEAD: "Dead",
    }
    return words[container.status]


def _health(container: Container) -> str:
    if container.health is None:
        return ""
    word = container.health.status
    return f" ({'health: starting' if word == 'starting' else word})"


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, the last one an ellipsis where some were cut."""
    return text if len(text) <= width else text[: width - 1] + "…"
