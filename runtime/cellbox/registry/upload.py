"""One blob from the content store to a repository: resumed and repeated.

The blob is sent as the body of one PATCH, as Docker does it. When a connection breaks, the registry
is asked how far it came and is sent the rest, at most ``policy.tries`` times, not counting those
that brought a mebibyte. The registry verifies the digest when it is all there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cellbox import faults
from cellbox.model.image import Descriptor
from cellbox.registry.download import WORTH_A_TRY, Reporter, pause
from cellbox.registry.retry import Policy, Stop, Transient
from cellbox.registry.target import Lost, Target
from cellbox.registry.transport import Body

_PIECE = 1 << 17

faults.declare(push__blob__sent="all bytes of a blob are at the registry, which has no blob yet")


@dataclass
class Upload:
    """The upload of ``descriptor``, whose bytes ``opened`` gives, to ``place`` if it is not empty,
    otherwise to a place that is asked for."""

    target: Target
    descriptor: Descriptor
    opened: Callable[[], BinaryIO]
    report: Reporter
    stop: Stop
    policy: Policy
    place: str = ""
    _arrived: int = 0

    def run(self) -> None:
        """Returns when the repository has the blob.

        Raises Transient or whatever else the registry answered last, and Stopped.
        """
        failed, broken = 0, False
        while True:
            before = self._arrived
            try:
                if broken and self._resume():
                    return
                self._attempt()
                return
            except Transient as error:
                self.stop.check()
                lost = isinstance(error, Lost)
                self.place = "" if lost else self.place
                failed += lost or self._arrived - before < WORTH_A_TRY
                if failed >= self.policy.tries:
                    raise
                broken = True
                wait = self.policy.wait_before(max(failed, 1), error.retry_after)
                pause(wait, self.report, self.stop)

    def _resume(self) -> bool:
        """Find out where to go on; whether nothing is left to do, as only the answer was lost."""
        if self.target.has(self.descriptor.digest):
            return True
        self._arrived = self.target.reached(self.place) if self.place else 0
        if self._arrived > self.descriptor.size:
            raise Lost(f"{self.target.host} has more of a blob than there is")
        return False

    def _attempt(self) -> None:
        if not self.place:
            self._arrived = 0
            self.place = self.target.begin()
        if rest := self.descriptor.size - self._arrived:
            body = Body(rest, lambda: self._pieces(self._arrived))
            self.place = self.target.append(self.place, self._arrived, body)
            self._arrived = self.descriptor.size
        faults.point("push.blob.sent")
        self.target.finish(self.place, self.descriptor.digest)

    def _pieces(self, offset: int) -> Iterator[bytes]:
        with self.opened() as file:
            file.seek(offset)
            while piece := file.read(_PIECE):
                self.stop.check()
                self.report.pushing(offset)
                yield piece
                offset += len(piece)
