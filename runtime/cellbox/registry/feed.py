"""The unpacker beside a download: bytes go into a pipe as they arrive, and another thread unpacks.

The unpacker is anything that reads a descriptor to its end and returns facts about what it read. It
checks the digest of the unpacked bytes itself, so that what it makes of a wrong download is never
seen. A download that starts again gets a fresh pipe and a fresh run of the unpacker.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from cellbox.errors import IntegrityError, InvalidArgument
from cellbox.registry.retry import Stop

PIPE_BYTES = 1 << 20
_SLICE = 0.1
"""Seconds after which a thread that waits looks whether the task was called off."""

_SLICES_TO_END = 20
"""How long an unpacker that was called off is waited for."""

_SUSPECT = (IntegrityError, InvalidArgument)
"""What an unpacker says of bytes that are wrong: the digest will tell whose fault that is."""

UnpackFd = Callable[[int], Any]


class _Run:
    """One run of the unpacker, and our end of its pipe."""

    def __init__(self, unpack: UnpackFd) -> None:
        read_end, self._end = os.pipe()
        os.set_blocking(self._end, False)
        with contextlib.suppress(OSError):  # a user's pipes are limited in all
            fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._end, select.POLLOUT)
        self.facts: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._work, args=(unpack, read_end), name="unpack", daemon=True
        )
        self._thread.start()

    def _work(self, unpack: UnpackFd, read_end: int) -> None:
        try:
            self.facts = unpack(read_end)
        except BaseException as error:
            self.error = error
        finally:
            os.close(read_end)

    def write(self, data: memoryview) -> int:
        """Bytes taken, after at most a slice of time. Raises BrokenPipeError."""
        if not self._poll.poll(_SLICE * 1000):
            return 0
        try:
            return os.write(self._end, data)
        except BlockingIOError:
            return 0

    def end(self) -> None:
        """No more bytes; repeating it does nothing."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def ended(self) -> bool:
        """Whether the unpacker has returned, after at most a slice of time."""
        self._thread.join(_SLICE)
        return not self._thread.is_alive()


class Feed:
    """Hands a blob to an unpacker while it arrives; used in a ``with`` block."""

    def __init__(self, unpack: UnpackFd, stop: Stop) -> None:
        self._unpack = unpack
        self._stop = stop
        self._run: _Run | None = None
        self._broken = False

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        if self._run is not None:
            self._run.end()
            any(self._run.ended() for _ in range(_SLICES_TO_END))

    def write(self, data: bytes) -> None:
        """Hand on the next bytes; blocks while the unpacker is busy.

        Raises what the unpacker raised, unless it complains of the bytes: that is for
        :meth:`finish`, since these may be replaced. Raises Stopped.
        """
        view = memoryview(data)
        self._run = self._run or _Run(self._unpack)
        while view and not self._broken:
            self._stop.check()
            try:
                view = view[self._run.write(view) :]
            except BrokenPipeError:
                self._wait(self._run)
                self._broken = True
                if not isinstance(self._run.error, (*_SUSPECT, type(None))):
                    raise self._run.error from None

    def restart(self) -> None:
        """The bytes so far do not count: the next ones are the first."""
        run, self._run, self._broken = self._run, None, False
        if run is not None:
            run.end()
            self._wait(run)

    def finish(self) -> Any:
        """The end of the blob: what the unpacker returned. Raises what it raised, and Stopped."""
        run = self._run = self._run or _Run(self._unpack)
        run.end()
        self._wait(run)
        if run.error is not None:
            raise run.error
        return run.facts

    def _wait(self, run: _Run) -> None:
        while not run.ended():
            self._stop.check()
