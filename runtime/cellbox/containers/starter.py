"""Who starts containers, and does for their first processes what takes more than their own
privileges.

A shim stays for as long as its container does, so it must stay small: every page that a forked
process writes to is one of its own, and a start pays 3.5 microseconds for each. So the shim clones
init and no more; all else is done by a starter, whose pages are long its own. The launcher keeps
one for all its shims, and clients come to it::

                      shim --pid-> starter --root--------> init     the shim waits in reserve now
    client --directory, streams--> starter --order-----> init     bundle, streams, mounts' sources
                                   starter --"go"------> init     its limits are set, its state told
                                   starter --handover--> shim     all that a shim has of it
    client <--pid----------------- starter <--end of file-- init  it has become the program
                                   starter --"runs"----> shim

Init mounts what it is hoped the container will want while it waits (``spares``), the rest when the
order is there, and becomes the program when it was told to go. What goes wrong is told to init as a
failure, which passes it on over its channel; the shim is told of it instead of ``runs``, puts it on
record and answers the client. A shim that has outlived its launcher, or whose container wants other
namespaces than were prepared, starts it with a starter of its own (:func:`serve_one`).

A handover (:class:`~cellbox.containers.messages.Handover`) travels as marshal, which two copies of
one program may use, and which takes the least memory to read.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections import deque
from contextlib import suppress
from typing import NoReturn

from cellbox.containers import control, init, records, spares, worker
from cellbox.containers.messages import MAX_REQUEST, Preparation
from cellbox.containers.spares import Spares, Wanted
from cellbox.containers.starts import Birth, Order, Start, Unborn, close, shared
from cellbox.linux import idmap, sockets
from cellbox.model.codec import to_json

RESERVE = 2
"""Shims that wait: who runs one short program after the other finds one while the next is made."""
_MOST_DEATHS = 10
"""Shims in reserve that may die one after the other before all give up."""
MORE = b"more"
"""What tells the launcher to fork a shim, prepared as the one before."""
_CALM_SECONDS = 0.002
"""How long after a start the next shim is forked: a short program has ended by then, which the
making of namespaces for another one would have slowed down."""


def serve_one(unborn: Unborn, directory: str, slot: int, restarts: int, stdio: list[int]) -> None:
    """Be the starter of one shim, for one start: that of the container in ``directory``, with the
    program's ends of the pipes. Raises OSError."""

    def start() -> None:
        bundle = records.read_bundle(directory)
        assert bundle is not None
        birth.limit(bundle)
        birth.order(bundle, directory, stdio)
        birth.connect(bundle)
        birth.prepare(bundle, records.run_directory(os.getcwd(), bundle.id), restarts)

    message = unborn.connection.recv(64)
    if message:
        birth = Birth.told(message, unborn, slot, -1)
        if not birth.attempt(start):
            birth.tell(b"go")


def serve(store: str, launcher: socket.socket, listener: socket.socket) -> NoReturn:
    """Be the starter of a launcher, which sends one end of a connection for each shim that it
    forks; ``listener`` is where clients come. Ends with the launcher."""
    init.rehearse()
    starter = Starter(launcher, listener, Spares(os.path.join(store, spares.FOLDER)))
    while starter.turn():
        pass
    starter.finish()
    os._exit(0)


class Starter:
    """See the module: the shims in reserve, the clients, and what is being started."""

    def __init__(self, launcher: socket.socket, listener: socket.socket, pool: Spares) -> None:
        self._launcher = launcher
        self._listener = listener
        self._unborn: dict[int, Unborn] = {}
        self._idle: dict[int, tuple[socket.socket, Birth]] = {}
        self._clients: dict[int, socket.socket] = {}
        self._orders: deque[Order] = deque()
        self._starts: dict[int, Start] = {}
        self._prepared = self._told = Preparation()
        self._spares = pool
        self._spares.sweep()
        self._root: Wanted | None = None
        self._last: Wanted | None = None
        self._deaths = 0
        self._calm = 0.0

    def turn(self) -> bool:
        """Wait, and do what there is to do; False when the launcher is gone, or no shim lives. What
        was ordered before is done before, as far as there are shims for it."""
        patience = self._see_to_the_reserve()
        handlers = {
            self._launcher.fileno(): None,  # it says nothing, so it has hung up
            self._listener.fileno(): self._accept,
            **dict.fromkeys(self._unborn, self._hear_birth),
            **dict.fromkeys(self._idle, self._hear_end),
            **dict.fromkeys(self._clients, self._hear_client),
            **dict.fromkeys(self._starts, self._hear_start),
        }
        poll = select.poll()
        for fd in handlers:
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(patience)]
        for fd in ready:
            handler = handlers[fd]
            if handler:
                handler(fd)
        while self._orders and self._idle:
            self._start(self._orders.popleft())
        return self._launcher.fileno() not in ready and self._deaths < _MOST_DEATHS

    def finish(self) -> None:
        """Tell who still waits to ask again, of the next launcher; see the others through."""
        for order in self._orders:
            control.reply(order.connection, {"again": True})
        while self._starts:
            poll = select.poll()
            for fd in self._starts:
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                self._hear_start(fd)
        self._spares.sweep()

    def _see_to_the_reserve(self) -> float | None:
        """See that there is a shim for each who waits, and some in reserve; milliseconds until the
        next of these is to be forked."""
        while len(self._unborn) < RESERVE:
            short = max(len(self._orders), RESERVE) - len(self._unborn) - len(self._idle)
            if short <= 0:
                break
            wait = self._calm - time.monotonic()
            if not self._orders and (self._starts or wait > 0):
                return None if self._starts else wait * 1000 + 1
            self._ask_for_more()
        return None

    def _ask_for_more(self) -> None:
        """Have the launcher fork a further shim."""
        pairs = [sockets.pair() for _ in range(3)]  # with the shim, and two with init
        ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
        for end in ours:
            end.setblocking(False)
        known = self._prepared == self._told
        message = MORE if known else json.dumps(to_json(self._prepared)).encode()
        self._told = self._prepared
        with suppress(OSError):  # it has ended, as the next turn finds
            socket.send_fds(self._launcher, [message], [end.fileno() for end in theirs])
        for end in theirs:
            end.close()
        connection, feed, channel = ours
        self._unborn[connection.fileno()] = Unborn(connection, feed, channel, self._prepared)

    def _hear_birth(self, fd: int) -> None:
        """Its init is born, or it has failed."""
        unborn = self._unborn.pop(fd)
        lock, spare = -1, None
        try:
            slot, lock = idmap.take_slot(".")
            message = unborn.connection.recv(64)
            if self._root and spares.possible(unborn.prepared):
                spare = self._spares.make(self._root)
            self._idle[fd] = unborn.connection, Birth.told(message, unborn, slot, lock, spare)
        except (OSError, ValueError):  # it was killed, or could not have its namespaces
            unborn.forget()
            close([lock])
            self._spares.discard(spare)
            self._deaths += 1

    def _hear_end(self, fd: int) -> None:
        """One in reserve has been killed."""
        connection, birth = self._idle.pop(fd)
        birth.end()
        birth.forget()
        connection.close()
        self._spares.discard(birth.spare)
        self._deaths += 1

    def _accept(self, _fd: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or we are out of descriptors
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = connection

    def _hear_client(self, fd: int) -> None:
        connection = self._clients.pop(fd)
        fds: list[int] = []
        try:
            data, fds = sockets.receive(connection, MAX_REQUEST)
            if data:
                request = json.loads(data)
                if len(request.get("attach", ())) != len(fds):
                    raise ValueError("one stream for each wish to attach")
                self._orders.append(
                    Order(request, connection, [sockets.seqpacket(fd) for fd in fds])
                )
                return
            connection.close()
        except Exception as error:  # whatever was sent, the others are to be served
            control.reply(connection, {"error": worker.describe(error)})
        close(fds)

    def _start(self, order: Order) -> None:
        fd = next(iter(self._idle))  # the oldest, whose init is the most likely to be ready
        connection, birth = self._idle.pop(fd)
        try:
            start = Start(order, birth, connection)
        except Exception as error:  # no bundle, or a request that makes no sense
            order.refuse(error)
            self._idle[fd] = connection, birth
            return
        if not start.begin():
            self._orders.appendleft(order)
            self._spares.discard(birth.spare)
            self._deaths += 1
        elif start.fits:
            self._starts[start.channel.fileno()] = start
        else:
            self._over(start)

    def _hear_start(self, fd: int) -> None:
        if self._starts[fd].hear():
            self._over(self._starts.pop(fd))

    def _over(self, start: Start) -> None:
        start.decide()
        if start.exchanged:
            self._spares.back(start.exchanged)
        self._spares.discard(start.unwanted)
        self._calm = time.monotonic() + _CALM_SECONDS
        self._deaths = 0
        if not shared(start.preparation.namespaces):
            self._prepared = start.preparation  # the next one may well want the same
        # Two of the same image in a row: so may be the third.
        self._root = start.wanted if start.wanted == self._last else None
        self._last = start.wanted
