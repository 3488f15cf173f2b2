"""The one engine of a notebook or of a command, connected to when first needed, closed at the
end."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cellbox.errors import NotSupported

if TYPE_CHECKING:
    from cellbox.engine import Engine

    from .jobs import Job


def connect(url: str) -> Engine:
    """The engine at ``url``; the embedded one for an empty URL."""
    if sys.platform == "emscripten":
        raise NotSupported(
            "this notebook runs in a web browser, which has no processes: "
            "open it in a Jupyter with a Linux kernel to run containers"
        )
    import cellbox

    engine: Engine = cellbox.connect(url)
    return engine


class Session:
    """Holds an engine and the jobs that run beside the notebook; :meth:`close` ends both."""

    def __init__(self, url: str = "", connect: Callable[[str], Engine] = connect) -> None:
        self.url = url
        self._connect = connect
        self._engine: Engine | None = None
        self._jobs: list[Job] = []
        self._lock = threading.Lock()

    @property
    def started(self) -> bool:
        """Whether an engine was asked for yet."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The engine; connects the first time."""
        with self._lock:
            if self._engine is None:
                self._engine = self._connect(self.url)
                atexit.register(self.close)
            return self._engine

    def keep(self, job: Job) -> Job:
        """Let ``job`` end with this session at the latest."""
        self._jobs = [other for other in self._jobs if not other.done]
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """End the jobs and let go of the engine; repeating it does nothing."""
        for job in self._jobs:
            job.stop(timeout=1)
        self._jobs = []
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            atexit.unregister(self.close)
            with contextlib.suppress(Exception):  # the process ends; nobody could act on it
                engine.close()
