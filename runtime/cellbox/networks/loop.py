"""One thread that waits for many sockets: epoll(7), deadlines, and an end from outside."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Hashable

Handler = Callable[[int], None]
"""Told the EPOLL* events of its descriptor."""


class Loop:
    """Calls a handler for every descriptor that is ready and for every deadline that is over.

    ``stop`` is a descriptor that ends it by becoming readable or by being hung up: the other end of
    a pipe, or a pidfd. Handlers must not block.
    """

    def __init__(self, stop: int) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._new: set[int] = set()
        self._deadlines: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._runs = True
        self.watch(stop, select.EPOLLIN, lambda _: self.end())

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` on ``events`` of ``fd``, and on EPOLLERR and EPOLLHUP, which are always
        told, from now on; an earlier wish for the same descriptor is forgotten."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._new.add(fd)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no longer; to be called before it is closed, as often as one likes."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def later(self, key: Hashable, seconds: float, handler: Callable[[], None]) -> None:
        """Call ``handler`` in ``seconds``; a later call with the same key takes its place."""
        self._deadlines[key] = (time.monotonic() + seconds, handler)

    def cancel(self, key: Hashable) -> None:
        """Call off what was to be called later, if there is something."""
        self._deadlines.pop(key, None)

    def end(self) -> None:
        """Let :meth:`run` return after this turn."""
        self._runs = False

    def run(self) -> None:
        """Serve until ``stop`` or :meth:`end`."""
        while self._runs:
            self._turn()

    def close(self) -> None:
        """Give its own descriptor back; those that are watched belong to others."""
        self._epoll.close()

    def _turn(self) -> None:
        due = [at for at, _ in self._deadlines.values()]
        ready = self._epoll.poll(max(0.0, min(due) - time.monotonic()) if due else None)
        self._new.clear()
        for fd, events in ready:
            handler = self._handlers.get(fd)
            # A descriptor that was closed in this turn may have come back as another one.
            if handler and fd not in self._new:
                handler(events)
        self._expire()

    def _expire(self) -> None:
        now = time.monotonic()
        for key, (at, handler) in list(self._deadlines.items()):
            # An earlier handler may have called this one off, or put another in its place.
            if at <= now and self._deadlines.get(key) == (at, handler):
                del self._deadlines[key]
                handler()
