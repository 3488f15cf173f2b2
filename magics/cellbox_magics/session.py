"""The engines of a notebook or of a command, connected to when first needed, closed at the end."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cellbox.errors import InvalidArgument, NotSupported

if TYPE_CHECKING:
    from cellbox.engine import Engine

    from .jobs import Job

EMBEDDED = "embedded"
"""The context of the engine in this process."""

_CONTEXT = "context:"


def connect(url: str) -> Engine:
    """The engine at ``url``; an empty one leaves it to the environment."""
    if sys.platform == "emscripten":
        raise NotSupported(
            "this notebook runs in a web browser, which has no processes: "
            "open it in a Jupyter with a Linux kernel to run containers"
        )
    import cellbox

    engine: Engine = cellbox.connect(url)
    return engine


def url_of(host: str) -> str:
    """The URL that ``host`` means: it is one, or the name of a context."""
    return host if ":" in host or not host else f"{_CONTEXT}{host}"


def context_of(url: str) -> str:
    """The name of the context that ``url`` and the environment choose; a URL is its own name."""
    url = url or os.environ.get("CELLBOX_HOST") or url_of(os.environ.get("CELLBOX_CONTEXT", ""))
    return (url or EMBEDDED).removeprefix(_CONTEXT)


class Session:
    """Holds engines, ``url`` naming the one that is meant where nothing else is said, and the jobs
    that run beside the notebook; :meth:`close` ends them all."""

    def __init__(self, url: str = "", connect: Callable[[str], Engine] = connect) -> None:
        self.url = url
        self._connect = connect
        self._engines: dict[str, Engine] = {}
        self._jobs: list[Job] = []
        self._lock = threading.Lock()

    @property
    def started(self) -> bool:
        """Whether an engine was asked for yet."""
        return bool(self._engines)

    @property
    def engine(self) -> Engine:
        """The engine where nothing else is said."""
        return self.at(self.url)

    def chosen(self, hosts: Sequence[str]) -> Engine:
        """The engine of ``hosts``, which are one or none. Raises InvalidArgument for more."""
        if len(hosts) > 1:
            raise InvalidArgument(
                f"--host names {len(hosts)} engines, and only ps, images, network ls and volume ls "
                "ask several at once: name one"
            )
        return self.at(url_of(hosts[0])) if hosts else self.engine

    def at(self, url: str) -> Engine:
        """The engine at ``url``; connects the first time."""
        with self._lock:
            if url not in self._engines:
                self._engines[url] = self._connect(url)
                atexit.register(self.close)
            return self._engines[url]

    def keep(self, job: Job) -> Job:
        """Let ``job`` end with this session at the latest."""
        self._jobs = [other for other in self._jobs if not other.done]
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """End the jobs and let go of the engines; repeating it does nothing."""
        for job in self._jobs:
            job.stop(timeout=1)
        self._jobs = []
        with self._lock:
            engines, self._engines = self._engines, {}
        atexit.unregister(self.close)
        for engine in engines.values():
            with contextlib.suppress(Exception):  # the process ends; nobody could act on it
                engine.close()
