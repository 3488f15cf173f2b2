"""Times as Docker words them, and the status that ``docker ps`` shows; pure.

Source: docker/go-units ``HumanDuration``; moby ``container/state.go`` (``State.String``).
"""

from __future__ import annotations

from cellbox.model.container import Container, Status


def duration(seconds: float) -> str:
    """``2 hours``, ``About a minute``: the coarse words of ``docker ps``."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
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


def status(container: Container, now: float) -> str:
    """``Up 2 hours (healthy)``, ``Exited (0) 5 minutes ago``."""
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
