"""Is a container well? Docker's HEALTHCHECK as a state machine; pure, no clock and no process.

The shim runs the probes: it asks :meth:`Monitor.due`, starts :attr:`Monitor.command`, and reports
what came of it with :meth:`Monitor.result`. Instants are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellbox.model.container import HealthCheck

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_KEPT = 5
OUTPUT_LIMIT = 4096
"""Bytes of a probe's output that are kept."""


class Monitor:
    """The health of one run of a container that ``started`` at an instant."""

    def __init__(self, check: HealthCheck, shell: Sequence[str], started: float) -> None:
        self._check = check
        self._started = started
        self.interval = check.interval or 30.0
        self.timeout = check.timeout or 30.0
        self._start_interval = check.start_interval or 5.0
        self._retries = check.retries or 3
        kind, *words = check.test
        self.command = tuple(words) if kind == "CMD" else (*shell, *words)
        self.status = STARTING
        self.failing_streak = 0
        self.log: list[Mapping[str, object]] = []
        self._next = started + self._wait(started)

    def due(self) -> float:
        """The instant of the next probe."""
        return self._next

    def result(self, now: float, exit_code: int, entry: Mapping[str, object]) -> bool:
        """A probe has ended; True when the status has changed. ``entry`` goes to the log."""
        before = self.status
        self.log = [*self.log, entry][-_KEPT:]
        if exit_code == 0:
            self.failing_streak = 0
            self.status = HEALTHY
        elif not (self.status == STARTING and now - self._started < self._check.start_period):
            self.failing_streak += 1
            if self.failing_streak >= self._retries:
                self.status = UNHEALTHY
        self._next = now + self._wait(now)
        return self.status != before

    def _wait(self, now: float) -> float:
        starting = self.status == STARTING and now - self._started < self._check.start_period
        return min(self.interval, self._start_interval) if starting else self.interval


def monitored(check: HealthCheck | None) -> bool:
    """Is there anything to ask?"""
    return check is not None and bool(check.test) and check.test[0] in ("CMD", "CMD-SHELL")
