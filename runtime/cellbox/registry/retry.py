"""Patience: which failures are worth another try, how long to wait, and how to call a task off.

A :class:`Transient` failure may be gone next time. Waits double from ``first_wait``, spread by up
to a half so that many clients do not come back together; a registry that says when to come back
(Retry-After, RFC 9110 section 10.2.3) is heard as long as it asks for no more than
``longest_wait``.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from cellbox.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """How patient the client is: seconds, bytes a second, and tries in all.

    A body that brings less than ``min_speed`` over ``stall`` seconds of waiting for it is given up
    and asked for again.
    """

    connect: float = 10.0
    stall: float = 30.0
    min_speed: int = 512
    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait_before(self, attempt: int, asked: float | None = None) -> float:
        """Seconds before try number ``attempt`` (the second is 1); ``asked`` is Retry-After's."""
        if asked is not None and asked <= self.longest_wait:
            return asked
        longest = min(self.first_wait * 2.0 ** min(attempt - 1, 30), self.longest_wait)
        return longest * random.uniform(0.75, 1.25)


DEFAULT_POLICY = Policy()


class Transient(Unavailable):
    """It failed, and may succeed next time; ``retry_after`` is what the server asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Stopped(Exception):
    """The task was called off by another of its threads."""


class Stop:
    """Calls a task off in all its threads: waits end, and connections that are open are cut."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._cuts: set[Callable[[], None]] = set()

    def set(self) -> None:
        """Call it off. Repeating it does nothing."""
        self._event.set()
        with self._lock:
            cuts = list(self._cuts)
        for cut in cuts:
            cut()

    def check(self) -> None:
        """Raises Stopped once it is called off."""
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep. Raises Stopped at once when it is called off."""
        if self._event.wait(seconds):
            raise Stopped

    @contextlib.contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """``cut`` is called, from another thread, if it is called off inside the block."""
        with self._lock:
            self._cuts.add(cut)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._cuts.discard(cut)


def persist(policy: Policy, call: Callable[[], T], wait: Callable[[float], None]) -> T:
    """``call()``, again after each :class:`Transient` failure, as often as the policy allows."""
    for attempt in range(1, policy.tries):
        try:
            return call()
        except Transient as error:
            wait(policy.wait_before(attempt, error.retry_after))
    return call()


def parse_retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, None for none and for nonsense."""
    if not value or len(value) > 100:
        return None
    try:
        return float(Retry().parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError):
        return None


class Pace:
    """Tells a body that comes too slowly. Only the time spent waiting for it counts, not what the
    reader does between."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._started = 0.0
        self._spent = 0.0
        self._bytes = 0

    def __enter__(self) -> Pace:
        self._started = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        self._spent += self._clock() - self._started

    def too_slow(self, received: int) -> bool:
        """Count ``received`` bytes; True where the window that just ended had too few."""
        self._bytes += received
        if self._spent < self._policy.stall:
            return False
        slow = self._bytes < self._policy.min_speed * self._spent
        self._spent, self._bytes = 0.0, 0
        return slow
