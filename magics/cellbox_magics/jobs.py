"""``--bg``: a container that runs beside the notebook, and the handle to it.

The container is attached to from a thread, which sends the cell's body and keeps the newest output
(at most :data:`KEPT` bytes). ``job.wait()`` blocks, ``await job`` does not; both give the exit
code.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from cellbox.engine import Stream
from cellbox.errors import CellboxError
from cellbox.handles import Completed, ContainerHandle, Talk

KEPT = 8 << 20

Created = Callable[[ContainerHandle], None]
Work = Callable[[Talk, Created], Completed]


class Job:
    """A running container and the thread that listens to it."""

    def __init__(self, label: str, work: Work, stdin: bytes = b"") -> None:
        self.label = label
        self.container: ContainerHandle | None = None
        self._stdin = stdin
        self._kept = bytearray()
        self._created = threading.Event()
        self._result: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def start(self) -> Job:
        """Begin, and return once the container is made (or could not be); raises what hindered
        it."""
        self._thread.start()
        self._created.wait()
        if self.container is None:
            self._result.result()
        return self

    @property
    def done(self) -> bool:
        """Whether the program has ended."""
        return self._result.done()

    def wait(self, timeout: float | None = None) -> int:
        """Block until the program has ended; its exit code. Raises TimeoutError."""
        return self._result.result(timeout)

    def __await__(self) -> Generator[Any, None, int]:
        return asyncio.wrap_future(self._result).__await__()

    def logs(self) -> str:
        """The newest output, both streams in order."""
        return bytes(self._kept).decode("utf-8", "replace")

    def stop(self, timeout: float | None = None) -> None:
        """End the container; one that has ended is left alone."""
        if self.container is not None and not self.done:
            with contextlib.suppress(CellboxError):
                self.container.stop(timeout=timeout)

    def __repr__(self) -> str:
        name = self.container.name if self.container else self.label
        return f"<{self._state()} {name}>"

    def _state(self) -> str:
        if not self.done:
            return "running"
        error = self._result.exception()
        return f"failed ({error})" if error else f"ended with {self._result.result()}:"

    def _run(self, work: Work) -> None:
        try:
            ended = work(self._talk, self._is_created)
            self._result.set_result(ended.exit_code or 0)
        except BaseException as error:  # it belongs to whoever waits, not to this thread
            self._result.set_exception(error)
        finally:
            self._created.set()

    def _is_created(self, handle: ContainerHandle) -> None:
        self.container = handle
        self._created.set()

    def _talk(self, stream: Stream) -> int:
        if self._stdin:
            threading.Thread(target=feed, args=(stream, self._stdin), daemon=True).start()
        else:
            stream.close_stdin()
        for _, data in stream:
            self._kept += data
            del self._kept[:-KEPT]
        return stream.wait()


def feed(stream: Stream, data: bytes) -> None:
    """Send ``data`` and end the input; a program that does not read all of it is no error."""
    with contextlib.suppress(BrokenPipeError, OSError):
        for place in range(0, len(data), 1 << 16):
            stream.write(data[place : place + (1 << 16)])
        stream.close_stdin()
