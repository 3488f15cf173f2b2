"""Following the log of a container at little cost, since a thousand clients may do so at a time.

While nothing comes the looks become rarer, and whether the container has ended is told by one file
of its shim's; only now and then all its facts are looked at, in case the shim was killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from cellbox.containers import journal, records
from cellbox.errors import NotFound
from cellbox.local.observer import Observer
from cellbox.local.records import ContainerRecord
from cellbox.model.container import Status

SLOWEST = 0.5
"""Seconds between two looks at most."""
_SLOWER = 1.5
_DOUBT = 2.0
"""Seconds for which a file of a shim is believed."""
_OVER = frozenset({Status.EXITED, Status.CREATED, Status.DEAD})

Entry = tuple[float, str, bytes]


class Follower:
    """One who follows the log of a container until that ends, or until ``stop`` says true."""

    def __init__(
        self, observer: Observer, record: ContainerRecord, stop: Callable[[], bool] | None
    ) -> None:
        self._observer = observer
        self._record = record
        self._stop = stop
        self._state = f"{observer.run_directory(record.id)}/{records.STATE}"
        self._believed = 0.0
        self._pause = journal.POLL

    def ended(self) -> bool:
        """Will nothing more be written, or read?"""
        if self._stop is not None and self._stop():
            return True
        if time.monotonic() < self._believed and os.path.exists(self._state):
            return False
        self._believed = time.monotonic() + _DOUBT
        try:
            return self._observer.facts(self._record).status in _OVER
        except NotFound:
            return True

    def wait(self, seconds: float) -> None:
        """Wait at least ``seconds``, and longer the longer nothing has come."""
        time.sleep(max(seconds, self._pause))
        self._pause = min(self._pause * _SLOWER, SLOWEST)

    def noted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The same entries; each makes the next look come soon."""
        for entry in entries:
            self._pause = journal.POLL
            yield entry
