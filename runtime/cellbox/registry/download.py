"""One blob from a repository into the content store: resumed, repeated, verified.

What arrives is written to the store's ingest and handed to the unpacker at the same time. A
connection that fails is opened again where the last one ended, at most ``policy.tries`` times, not
counting those that brought a mebibyte. A blob whose bytes are wrong is thrown away and fetched once
more from its start; then it is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cellbox import faults
from cellbox.engine import Watch
from cellbox.errors import IntegrityError
from cellbox.images.content import Ingest
from cellbox.model.image import Descriptor, Progress
from cellbox.registry.blob import BlobStream
from cellbox.registry.feed import Feed
from cellbox.registry.retry import Policy, Stop, Transient

WORTH_A_TRY = 1 << 20
"""A try that brought so many bytes does not count as failed."""

_REPLAY = 1 << 18

faults.declare(
    pull__blob__received="all bytes of a blob are in its ingest, unverified",
    pull__blob__stored="a blob is in the content store; its layer is not unpacked yet",
)


class Fetch(Protocol):
    """``Repository.blob``: the bytes of a blob from an offset, or from its start."""

    def __call__(self, descriptor: Descriptor, offset: int = 0) -> BlobStream: ...


@dataclass
class Reporter:
    """Tells of one layer, in Docker's words, at most ten times a second."""

    watch: Watch
    id: str
    total: int
    clock: Callable[[], float] = time.monotonic
    _next: float = field(default=0.0, init=False)

    def say(self, action: str, current: int = 0, total: int | None = None) -> None:
        """A new stage; always told."""
        self.watch(Progress(self.id, action, current, total))
        self._next = 0.0

    def downloading(self, current: int) -> None:
        """Progress within a stage; told now and then."""
        self._now_and_then("Downloading", current)

    def pushing(self, current: int) -> None:
        """The same, the other way."""
        self._now_and_then("Pushing", current)

    def _now_and_then(self, action: str, current: int) -> None:
        now = self.clock()
        if now >= self._next:
            self._next = now + 0.1
            self.watch(Progress(self.id, action, current, self.total))


@dataclass
class Download:
    """The download of ``descriptor``; ``feed`` is None for a blob that is not unpacked."""

    fetch: Fetch
    descriptor: Descriptor
    ingest: Ingest
    report: Reporter
    stop: Stop
    policy: Policy
    feed: Feed | None = None

    def run(self) -> None:
        """Returns when the blob is in the store, and all of it in the feed.

        Raises Transient or whatever else the registry answered last, IntegrityError for bytes that
        were wrong twice, what the unpacker raised, and Stopped.
        """
        self._replay()
        failed = wrong = 0
        while not self.ingest.done:
            before = self.ingest.offset
            try:
                self._attempt()
            except Transient as error:
                self.stop.check()  # a connection that was cut by us looks broken, too
                failed += self.ingest.offset - before < WORTH_A_TRY
                if failed >= self.policy.tries:
                    raise
                wait = self.policy.wait_before(max(failed, 1), error.retry_after)
                pause(wait, self.report, self.stop)
            except IntegrityError:
                self.stop.check()  # what we cut is short, and what came of it is to be kept
                wrong += 1
                if wrong > 1:
                    raise
                self._restart()
        faults.point("pull.blob.stored")

    def _attempt(self) -> None:
        if self.ingest.offset < self.ingest.size or not self.ingest.size:
            self._receive()
        faults.point("pull.blob.received")
        self.ingest.commit()

    def _receive(self) -> None:
        with (
            self.fetch(self.descriptor, self.ingest.offset) as stream,
            self.stop.cutting(stream.cut),
        ):
            if stream.start != self.ingest.offset:
                self._restart()
            for piece in stream:
                self.stop.check()
                self.ingest.write(piece)
                if self.feed:
                    self.feed.write(piece)
                self.report.downloading(self.ingest.offset)

    def _replay(self) -> None:
        """Give the unpacker what an earlier download left."""
        if self.feed and self.ingest.offset:
            with self.ingest.existing() as file:
                while piece := file.read(_REPLAY):
                    self.feed.write(piece)

    def _restart(self) -> None:
        self.ingest.restart()
        if self.feed:
            self.feed.restart()


def pause(seconds: float, report: Reporter, stop: Stop) -> None:
    """Wait before another try, and tell how long it will be. Raises Stopped."""
    for left in range(math.ceil(seconds), 0, -1):
        plural = "" if left == 1 else "s"
        report.say(f"Retrying in {left} second{plural}")
        stop.wait(min(seconds, 1.0))
        seconds -= 1.0
