"""The process that does a store's network work: one, of one thread, started on demand.

It is forked from the launcher's family (:mod:`cellbox.networks.client`), has what that does not
want to load, and keeps nothing but open sockets: another one can take its place at any time. Where
it has the rights, it works in the network namespace that it is born into, that of the host; else in
one of the store's own (:mod:`cellbox.networks.rootless`). It ends with the launcher, and takes
the networks along that no container is in then.

A driver that is not ours (``driven``) may take its time: a child speaks with it, and answers.

One request a connection, JSON with descriptors; the answer is ``{}`` where nothing else is said,
and ``{"error"}`` (:func:`cellbox.errors.describe`) for what was raised.

======== ========================================= ===============================================
op       with                                      answer
======== ========================================= ===============================================
ping                                               ``{"pid"}``
check                                              ``{"firewall"}``: why it cannot be had, or
                                                   empty; ``{"outlet"}``: that of a rootless store
routes                                             ``{"routes"}``: CIDR that others have
bridge   name, addresses (with prefix), mtu;
         or name, remove: true
plug     plugs, names, rules; a namespace          with ``names`` two descriptors, UDP and TCP;
                                                   with ``rules`` these are made too
unplug   plugs; a namespace
drive    plugs; a namespace                        plugs in what other drivers have
release  plugs; a namespace, or ended: which one   tells these drivers
         that was (``owed.used``)
firewall                                           makes the rules of all notes (``rules``)
allow    container, addresses: seconds of each
======== ========================================= ===============================================
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NoReturn

from cellbox.errors import describe
from cellbox.linux import sockets, syscalls
from cellbox.model.codec import from_json, to_json
from cellbox.networks import client, firewall, forwarding, links, nft, plug, rootless, rules
from cellbox.networks.client import Answer
from cellbox.networks.links import Routing
from cellbox.networks.nft import Nft
from cellbox.networks.wiring import Plug

IDLE_SECONDS = 60.0
"""For which one without a launcher waits for a request."""

_LAUNCHER_LOCK = "launcher.lock"
_PATIENCE = 2.0
_LAST_SECONDS = 3.0
_MAX_REQUEST = 1 << 22


def serve(listener: socket.socket, run: str) -> NoReturn:
    """Be the keeper of the store with the run directory ``run``, for whoever connects to
    ``listener``. Its process must be of one thread, and is not to do anything else."""
    try:
        syscalls.set_name("cellbox-network")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        run = os.path.realpath(run)
        keeper = Keeper(run)
        _serve(keeper, listener, _launcher(run))
        _end(keeper, listener)
    except Exception:
        os.write(2, traceback.format_exc().encode())  # the log, to which who waits is pointed
    finally:
        # What is locked and what listens end at once, so whoever finds nobody can start another.
        os._exit(0)


def _serve(keeper: Keeper, listener: socket.socket, launcher: int) -> None:
    """Until the launcher ends; without one, until nobody asks any more."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if launcher >= 0:
        poll.register(launcher, select.POLLIN)
    wait = None if launcher >= 0 else IDLE_SECONDS * 1000
    while ready := {fd for fd, _ in poll.poll(wait)}:
        if launcher in ready:
            return
        _accept(keeper, listener)


def _end(keeper: Keeper, listener: socket.socket) -> None:
    """Tidy up. The kernel takes the cables of containers that have just ended away when it has
    time, so the last networks are waited for a while; who asks meanwhile is served."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    deadline = time.monotonic() + _LAST_SECONDS
    while keeper.tidy() and time.monotonic() < deadline:
        if poll.poll(50):
            _accept(keeper, listener)


def _launcher(run: str) -> int:
    """A pidfd of the store's launcher, -1 where there is none."""
    pid = client.locked_by(f"{run}/{_LAUNCHER_LOCK}")
    with suppress(ProcessLookupError):
        return os.pidfd_open(pid) if pid else -1
    return -1


def _accept(keeper: Keeper, listener: socket.socket) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:  # it has gone again, or we are out of descriptors
        return
    with connection:
        fds: list[int] = []
        try:
            connection.settimeout(_PATIENCE)
            data, fds = sockets.receive(connection, _MAX_REQUEST)
            if data:
                _serve_one(keeper, listener, connection, json.loads(data), fds)
        except Exception as error:  # whatever was sent, the others are to be served
            _answer(connection, {"error": describe(error)})
        for fd in fds:
            os.close(fd)


def _answer(
    connection: socket.socket, answer: Mapping[str, Any], given: Sequence[int] = ()
) -> None:
    with suppress(OSError):  # who asked is gone
        socket.send_fds(connection, [json.dumps(answer).encode()], list(given))


def _serve_one(
    keeper: Keeper,
    listener: socket.socket,
    connection: socket.socket,
    request: Mapping[str, Any],
    fds: Sequence[int],
) -> None:
    if request["op"] in _APART:
        if _is_child():
            try:
                listener.close()
                _answer(
                    connection, *_done(partial(_APART[request["op"]], keeper.run, request, fds))
                )
            finally:
                os._exit(0)
        return
    answer, given = _done(partial(keeper.do, request, fds))
    _answer(connection, answer, given)
    for fd in given:
        os.close(fd)


def _done(action: Callable[[], Answer]) -> Answer:
    try:
        return action()
    except Exception as error:
        return {"error": describe(error)}, []


def _is_child() -> bool:
    """Fork a child that nobody needs to wait for; are we that?"""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return False
    with suppress(OSError):  # no room for another: who asked is not answered, and may ask again
        if os.fork() == 0:
            return True
    os._exit(0)


class Keeper:
    """What there is to do, done in the namespace of this process."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.table = firewall.table_of(run)
        self.outside = Routing()
        self.outlet = None if _may_here() else rootless.enter(run)
        self.home = Routing()

    @cached_property
    def nft(self) -> Nft:
        """nftables, loaded when first needed."""
        return Nft()

    def do(self, request: Mapping[str, Any], fds: Sequence[int]) -> Answer:
        """One request. Raises what goes wrong."""
        return _OPERATIONS[request["op"]](self, request, fds)

    def ping(self, _request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        return {"pid": os.getpid()}, []

    def check(self, _request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        outlet = to_json(self.outlet) if self.outlet else None
        return {"firewall": nft.usable(), "outlet": outlet}, []

    def routes(self, _request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        found: set[str] = set()
        for routing in (self.outside, self.home):
            found.update(routing.routes())
            networks = (ipaddress.ip_interface(one).network for one in routing.addresses())
            found.update(str(one) for one in networks if not one.is_loopback)
        return {"routes": sorted(one for one in found if not one.startswith("fe80:"))}, []

    def bridge(self, request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        name = request["name"]
        if request.get("remove"):
            self.home.do(links.remove_link(name))
        else:
            mtu = int(request.get("mtu", 0))
            self.home.ensure_bridge(name, request["addresses"], mac=_mac_of(name), mtu=mtu)
        return {}, []

    def plug(self, request: Mapping[str, Any], fds: Sequence[int]) -> Answer:
        plug.plug(fds[0], _plugs(request))
        if request.get("rules"):
            self.enforce()
        return {}, plug.open_names(fds[0]) if request.get("names") else []

    def unplug(self, request: Mapping[str, Any], fds: Sequence[int]) -> Answer:
        for one in _plugs(request):
            plug.unplug(fds[0], one)
        return {}, []

    def firewall(self, _request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        self.enforce()
        return {}, []

    def enforce(self) -> None:
        """Make all rules anew. They come first: what forwarding would open is closed before."""
        found = rules.gather(self.run)
        names = [one.name for one in found.bridges]
        versions = sorted({_version(one) for bridge in found.bridges for one in bridge.subnets})
        closed = {version: forwarding.closed(self.run, version, names) for version in versions}
        found = replace(found, closed=closed.get(4, ()), closed6=closed.get(6, ()))
        firewall.apply(self.nft, self.table, found)
        for version in versions:
            forwarding.enable(version)
        if self.outlet is None:
            forwarding.pass_through(self.nft, self.table, names)

    def tidy(self) -> bool:
        """Take away the networks that nobody is in; whether any is left. They are made again when
        they are wanted, and a store that is not used any more leaves nothing on the machine."""
        found = {one.name: one.index for one in self.home.links() if one.kind == "bridge"}
        busy = {one.master for one in self.home.links()}
        for network, bridge in rules.bridges(self.run).items():
            if found.get(bridge.name) not in busy:
                rules.forget_bridge(self.run, network)
                self.home.do(links.remove_link(bridge.name))
        if not nft.usable():
            self.enforce()
        return bool(rules.bridges(self.run))

    def allow(self, request: Mapping[str, Any], _fds: Sequence[int]) -> Answer:
        firewall.allow(self.nft, self.table, request["container"], request["addresses"])
        return {}, []


_OPERATIONS: Mapping[str, Callable[[Keeper, Mapping[str, Any], Sequence[int]], Answer]] = {
    "ping": Keeper.ping,
    "check": Keeper.check,
    "routes": Keeper.routes,
    "bridge": Keeper.bridge,
    "plug": Keeper.plug,
    "unplug": Keeper.unplug,
    "firewall": Keeper.firewall,
    "allow": Keeper.allow,
}


def _drive(run: str, request: Mapping[str, Any], fds: Sequence[int]) -> Answer:
    from cellbox.networks import driven  # with what it takes to speak to programs

    for one in _plugs(request):
        driven.plug(run, fds[0], one)
    return {}, []


def _release(run: str, request: Mapping[str, Any], fds: Sequence[int]) -> Answer:
    from cellbox.networks import driven

    for one in _plugs(request):
        if fds:
            driven.unplug(run, fds[0], one)
        elif one.endpoint:
            driven.leave(run, one.endpoint, int(request["ended"]))
    return {}, []


_APART: Mapping[str, Callable[[str, Mapping[str, Any], Sequence[int]], Answer]] = {
    "drive": _drive,
    "release": _release,
}


def _plugs(request: Mapping[str, Any]) -> list[Plug]:
    return [from_json(Plug, one) for one in request["plugs"]]


def _version(subnet: str) -> int:
    return ipaddress.ip_network(subnet, strict=False).version


def _may_here() -> bool:
    """Have we rights over the network namespace that we are in?"""
    try:
        with Routing() as routing:
            routing.do(links.change(links.LOOPBACK))
        return True
    except PermissionError:
        return False


def _mac_of(name: str) -> str:
    """The same for a bridge that is made again, so that nobody's ARP entry goes stale."""
    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + digest[:4])
