"""Networks that another driver has: it lays the cables.

A driver (:class:`cellbox.plugins.NetworkDriver`) is told of a container before that runs, and says
which interface of the host is for it; the keeper takes that one into the container. What a driver
was told is noted, so that it hears of every end, whoever was killed in between::

    RUN/networks/NETWORK/driver            who has the network: :class:`Driver`
    RUN/networks/NETWORK/joined/ENDPOINT   a container it was told of: :class:`Note`

A driver is a stranger: what it says is looked at before it is used.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cellbox.drivers.client import Client
from cellbox.drivers.networks import NetworkProgram
from cellbox.drivers.places import Place
from cellbox.errors import CellboxError, EngineError
from cellbox.model.codec import dumps, loads
from cellbox.model.network import Endpoint
from cellbox.model.plugin import PluginKind
from cellbox.networks import links, owed
from cellbox.networks.links import Request, Routing
from cellbox.networks.plug import configured, identity, inside, routing
from cellbox.networks.rules import write_note
from cellbox.networks.wiring import Plug
from cellbox.plugins import REGISTRY, Joined, NetworkDriver

_INTERFACE = re.compile(r"[^\s/:\0]{1,15}")
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
_KINDS = {
    "ip": ipaddress.IPv4Interface,
    "ip6": ipaddress.IPv6Interface,
    "gateway": ipaddress.IPv4Address,
    "gateway6": ipaddress.IPv6Address,
}


@dataclass(frozen=True)
class Driver:
    """Who has a network: the program at ``place``, or else the package's plugin of this name."""

    name: str
    place: Place | None = None

    def load(self) -> NetworkDriver:
        """To be spoken to. Raises NotFound, EngineError."""
        if self.place is not None:
            return NetworkProgram(Client(self.place))
        made: NetworkDriver = REGISTRY.load(PluginKind.NETWORK, self.name)()
        return made


@dataclass(frozen=True)
class Note:
    """What a driver was told: of ``endpoint``, and what it said, None before that. ``used`` is the
    namespace (its ``identity``) that has the interface, 0 while none has."""

    endpoint: Endpoint
    joined: Joined | None = None
    used: int = 0


# Who has which network ----------------------------------------------------------------------------


def note(run: str, network: str, driver: Driver) -> None:
    """From now on, ``driver`` has the network."""
    write_note(Path(run, "networks", network, owed.DRIVER), dumps(driver))


def forget(run: str, network: str) -> None:
    """Nobody has it any more."""
    folder = Path(run, "networks", network)
    (folder / owed.DRIVER).unlink(missing_ok=True)
    for left in (folder / owed.JOINED).glob("*"):
        left.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / owed.JOINED).rmdir()


def _driver(run: str, network: str) -> NetworkDriver:
    try:
        text = Path(run, "networks", network, owed.DRIVER).read_text()
    except FileNotFoundError:
        raise EngineError(
            f"nobody knows who has the network {network[:12]}: start the container again"
        ) from None
    return loads(Driver, text).load()


# Being told ---------------------------------------------------------------------------------------


def join(run: str, endpoint: Endpoint) -> Joined:
    """Tell the network's driver of a container that is about to run. Raises what the driver
    raises, EngineError for what it says."""
    with _alone(run, endpoint):
        known = _read(run, endpoint)
        if known and known.joined and not known.used:
            return known.joined
        return _join(run, endpoint, known)


def leave(run: str, endpoint: Endpoint, namespace: int | None = None) -> None:
    """Tell it that the container has ended; of the run that had ``namespace`` (0: had none yet), if
    one is named. A driver that fails is not told again. Raises as :func:`join`."""
    with _alone(run, endpoint):
        known = _read(run, endpoint)
        if known and namespace in (None, known.used):
            _leave(run, known)


def _join(run: str, endpoint: Endpoint, known: Note | None) -> Joined:
    driver = _driver(run, endpoint.network_id)
    if known:
        with suppress(CellboxError, OSError):
            _leave(run, known)
    path = owed.note(run, endpoint.network_id, endpoint.id)
    write_note(path, dumps(Note(endpoint)))
    try:
        joined = _checked(_joined(driver, endpoint), endpoint)
    except BaseException:
        with suppress(CellboxError, OSError):
            _leave(run, Note(endpoint))
        raise
    write_note(path, dumps(Note(endpoint, joined)))
    return joined


def _joined(driver: NetworkDriver, endpoint: Endpoint) -> Joined:
    """A driver that could not be told of an earlier end still has that endpoint: it is told now."""
    try:
        return driver.join(endpoint)
    except EngineError:
        with suppress(CellboxError, OSError):
            driver.leave(endpoint)
        return driver.join(endpoint)


def _leave(run: str, known: Note) -> None:
    try:
        _driver(run, known.endpoint.network_id).leave(known.endpoint)
    finally:
        owed.note(run, known.endpoint.network_id, known.endpoint.id).unlink(missing_ok=True)


def _checked(joined: Joined, endpoint: Endpoint) -> Joined:
    try:
        if joined.interface and not _INTERFACE.fullmatch(joined.interface):
            raise ValueError(f"no interface is called {joined.interface!r}")
        if joined.mac and not _MAC.fullmatch(joined.mac):
            raise ValueError(f"{joined.mac!r} is no hardware address")
        _check_addresses(joined)
    except ValueError as error:
        raise EngineError(
            f"the driver of network {endpoint.network} tells nonsense: {error}"
        ) from None
    return joined


def _check_addresses(joined: Joined) -> None:
    """Raises ValueError."""
    for one in (joined.ip, joined.ip6, *joined.routes):
        if one and "/" not in one:
            raise ValueError(f"{one!r} has no prefix length")
    for name, kind in _KINDS.items():
        if text := getattr(joined, name):
            kind(text)
    for destination, gateway in joined.routes.items():
        family = type(ipaddress.ip_network(destination).network_address)
        if gateway:
            family(gateway)


# Plugging -----------------------------------------------------------------------------------------


def plug(run: str, netns_fd: int, wanted: Plug) -> None:
    """Take the interface that the network's driver has for the container to the namespace
    ``netns_fd``, unless it is there. Raises as :func:`join`, OSError."""
    assert wanted.endpoint is not None
    namespace = identity(netns_fd)
    with _alone(run, wanted.endpoint):
        known = _read(run, wanted.endpoint)
        if known and known.used == namespace:
            return
        joined = known.joined if known and not known.used else None
        if joined is None:
            joined = _join(run, wanted.endpoint, known)
        used = Note(wanted.endpoint, joined, namespace)
        write_note(owed.note(run, wanted.endpoint.network_id, wanted.endpoint.id), dumps(used))
        try:
            if joined.interface:
                _take(netns_fd, wanted, joined)
        except BaseException:
            with suppress(CellboxError, OSError):
                _leave(run, used)
            raise


def unplug(run: str, netns_fd: int, plugged: Plug) -> None:
    """Give the interface back to the host, where its driver finds it, and let the driver know.
    Raises as :func:`join`, OSError."""
    assert plugged.endpoint is not None
    namespace = identity(netns_fd)
    known = _read(run, plugged.endpoint)
    if known and known.joined and known.joined.interface and known.used == namespace:
        _give_back(netns_fd, plugged.interface, known.joined.interface)
    leave(run, plugged.endpoint, namespace)


def _take(netns_fd: int, wanted: Plug, joined: Joined) -> None:
    with Routing() as here, routing(netns_fd) as there:
        found = here.find(joined.interface)
        if found is None:
            raise EngineError(
                f"the driver of network {_network(wanted)} has no interface {joined.interface} "
                "that it speaks of"
            )
        there.do(links.remove_link(wanted.interface))
        here.do(links.move(found.index, netns_fd, wanted.interface))
        made = there.find(wanted.interface)
        if made is None:
            raise EngineError(f"the interface {wanted.interface} of the container has vanished")
        known = replace(
            wanted,
            mac=joined.mac or wanted.mac,
            ip=wanted.ip or joined.ip,
            ip6=wanted.ip6 or joined.ip6,
            gateway=joined.gateway,
            gateway6=joined.gateway6,
        )
        with inside(netns_fd):
            links.set_ipv6(wanted.interface, on=bool(known.ip6))
        routes = _routes(made.index, joined)
        there.do(links.change(links.LOOPBACK), *configured(made, known, routes))


def _routes(index: int, joined: Joined) -> Iterator[Request]:
    """Those onto the link first: a gateway may be on one."""
    for destination, gateway in sorted(joined.routes.items(), key=lambda one: bool(one[1])):
        yield links.add_route(index, destination, gateway)


def _give_back(netns_fd: int, interface: str, name: str) -> None:
    with suppress(OSError), routing(netns_fd) as there:  # it may have taken it away itself
        found = there.find(interface)
        if found:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                there.do(links.move(found.index, home, name))
            finally:
                os.close(home)


def _network(wanted: Plug) -> str:
    return wanted.endpoint.network if wanted.endpoint else ""


# Notes --------------------------------------------------------------------------------------------


@contextmanager
def _alone(run: str, endpoint: Endpoint) -> Iterator[None]:
    """One at a time speaks with a driver of this network."""
    folder = owed.note(run, endpoint.network_id, endpoint.id).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read(run: str, endpoint: Endpoint) -> Note | None:
    try:
        return loads(Note, owed.note(run, endpoint.network_id, endpoint.id).read_text())
    except (FileNotFoundError, ValueError):
        return None
