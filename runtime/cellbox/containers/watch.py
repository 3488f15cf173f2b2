"""What a shim polls for on behalf of its tasks: descriptors, events, and who handles them.

The table is made anew for every poll(2), so nothing has to be taken out of it when a handler before
has closed a descriptor; a handler looks first whether what it is for is still there.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from cellbox.containers.streams import Client, Streams
from cellbox.containers.task import Task

Handler = Callable[[], None]


def watch_task(
    watched: dict[int, tuple[int, Handler]],
    one: Task,
    decided: Callable[[Task], None],
    exited: Callable[[Task], None],
) -> None:
    """Add to ``watched`` all that a task waits for."""
    streams = one.streams
    if one.channel is not None:
        watched[one.channel.fileno()] = (select.POLLIN, bind(decided, one))
    elif one.pidfd >= 0:
        watched[one.pidfd] = (select.POLLIN, bind(exited, one))
    if not streams.held_up:
        for fd in streams.fds:
            watched[fd] = (select.POLLIN, bind(_read_output, streams, fd))
    if streams.pending and streams.stdin >= 0:
        fd = streams.stdin
        reading = fd in streams.fds and not streams.held_up
        events = select.POLLOUT | (select.POLLIN if reading else 0)
        watched[fd] = (events, bind(_read_and_write, streams, fd))
    for client in streams.clients:
        events = (0 if streams.full else select.POLLIN) | (select.POLLOUT if client.waiting else 0)
        watched[client.socket.fileno()] = (events, bind(_serve_client, one, client))


def _read_output(streams: Streams, fd: int) -> None:
    if fd in streams.fds:
        streams.read(fd)


def _read_and_write(streams: Streams, fd: int) -> None:
    streams.write()
    if not streams.held_up:
        _read_output(streams, fd)


def _serve_client(one: Task, client: Client) -> None:
    if client not in one.streams.clients:
        return
    if not client.flush():
        one.streams.drop(client)
        return
    number = one.streams.receive(client)
    if number:
        one.signal(number)


def bind(function: Callable[..., None], *arguments: Any) -> Handler:
    """A handler that calls ``function`` with ``arguments``."""
    return lambda: function(*arguments)
