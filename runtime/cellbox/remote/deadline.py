"""A number of seconds that several steps share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST, _LONGEST = 0.01, 0.25
"""Seconds between two questions."""


@dataclass(frozen=True)
class Deadline:
    """``timeout`` seconds from now; None for no end."""

    timeout: float | None
    _began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        """Seconds until then, 0 afterwards; None for no end."""
        if self.timeout is None:
            return None
        return max(0.0, self._began + self.timeout - time.monotonic())


def poll(ask: Callable[[], int | None], timeout: float | None) -> int:
    """Ask until there is an answer, less and less often. Raises TimeoutError."""
    deadline, pause = Deadline(timeout), _FIRST
    while (answer := ask()) is None:
        left = deadline.left
        if left == 0.0:
            raise TimeoutError
        time.sleep(pause if left is None else min(pause, left))
        pause = min(2 * pause, _LONGEST)
    return answer
