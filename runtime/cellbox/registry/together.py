"""The layers of one image side by side: a few at a time, and the first failure ends all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cellbox.registry.retry import Stop

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")

PARALLEL = 3
GRACE = 2.0
"""Seconds that threads have to end after a task was called off; a connection that is being made
cannot be cut, and ends by itself after that."""

_WAKE = 0.2
"""Seconds after which the waiting thread looks up: Python hears a signal that comes right before
a lock is waited for only when that wait ends."""


def together(
    jobs: Mapping[Key, Callable[[], T]], stop: Stop, parallel: int, name: str
) -> dict[Key, T]:
    """What each job returned, by its key. The first failure sets ``stop`` and is raised."""
    failures: list[BaseException] = []

    def one(job: Callable[[], T]) -> T:
        stop.check()
        try:
            return job()
        except BaseException as error:
            failures.append(error)  # before the others fail for being called off
            stop.set()
            raise

    pool = ThreadPoolExecutor(parallel, thread_name_prefix=name)
    futures: dict[Key, Future[T]] = {}
    try:
        for key, job in jobs.items():
            futures[key] = pool.submit(one, job)
        while not failures and wait(futures.values(), _WAKE, FIRST_EXCEPTION).not_done:
            pass
        if failures:
            raise failures[0]
        return {key: future.result() for key, future in futures.items()}
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        wait([one for one in futures.values() if not one.cancelled()], timeout=GRACE)
