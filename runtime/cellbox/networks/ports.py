"""Ports of the host that are published: found, and held for as long as the container runs.

A port is held by sockets that listen on it, so the kernel keeps the books: nobody else gets it, and
it is free again when their holder ends, however it ends. Where the firewall leads packets of a port
to a container they never come here; what comes from the host itself does, and ``proxy`` serves it.

The start of a container waits for :func:`bind`, so this module imports little.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NoReturn

from cellbox.errors import (
    CellboxError,
    EngineError,
    InUse,
    InvalidArgument,
    NotSupported,
    PermissionDenied,
)
from cellbox.model.container import PortSpec

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_BACKLOG = 1024
_TRIES = 8
"""How many ports are chosen until one is still free when it is taken."""
_IP_PKTINFO = 8
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class Bound:
    """A published port: ``spec`` with the ``host_port`` that it got, ``sockets`` bound to it and,
    for TCP, listening: one, or one of IPv4 and one of IPv6."""

    spec: PortSpec
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Let the port go."""
        for one in self.sockets:
            one.close()


def bind(ports: Sequence[PortSpec], endpoint: str = "") -> list[Bound]:
    """Take the ports of the host that ``ports`` ask for, in their order: all of them or none.

    ``endpoint`` is the container's name, for the text of an error. Raises InUse (a port is taken),
    PermissionDenied, NotSupported (a protocol) and InvalidArgument (an address that the host does
    not have). To be called in the host's network namespace.
    """
    taken: dict[int, Bound] = {}
    with ExitStack() as undo:
        # Who will take any port must not take one that another asks for.
        for index in sorted(range(len(ports)), key=lambda index: len(_choices(ports[index]))):
            taken[index] = _bind_one(ports[index], endpoint)
            undo.callback(taken[index].close)
        undo.pop_all()
    return [taken[index] for index in range(len(ports))]


def _choices(spec: PortSpec) -> range:
    """The ports of the host that may be taken; any stands for all."""
    if not spec.host_port:
        return range(1 << 16)
    return range(spec.host_port, max(spec.host_port, spec.host_port_end) + 1)


def _bind_one(spec: PortSpec, endpoint: str) -> Bound:
    if spec.protocol not in _KINDS:
        raise NotSupported(
            f"ports of the protocol {spec.protocol} cannot be published: use tcp or udp"
        )
    tries: Sequence[int] = _choices(spec) if spec.host_port else [0] * _TRIES
    for port in tries[:-1]:
        try:
            return _take(spec, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                _refuse(spec, port, endpoint, error)
    try:
        return _take(spec, tries[-1])
    except OSError as error:
        _refuse(spec, tries[-1], endpoint, error)


def _take(spec: PortSpec, port: int) -> Bound:
    """``port``, or the one that the kernel chooses for 0. Raises OSError."""
    kind = _KINDS[spec.protocol]
    if spec.host_ip:
        address = spec.host_ip.strip("[]")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        socket.inet_pton(family, address)  # or a word would be looked up as a name
        sockets: tuple[socket.socket, ...] = (_open(family, kind, address, port),)
    else:
        sockets = _open_both(kind, port)
    return Bound(replace(spec, host_port=sockets[0].getsockname()[1]), sockets)


def _open_both(kind: int, port: int) -> tuple[socket.socket, ...]:
    """On all addresses: of IPv4, and of IPv6 where this machine speaks it."""
    port = port or _free(kind)
    with ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                sockets.append(undo.enter_context(_open(family, kind, address, port)))
            except OSError as error:
                if not sockets or error.errno not in _NO_FAMILY:
                    raise
        undo.pop_all()
        return tuple(sockets)


def _free(kind: int) -> int:
    """A port that is free for IPv4 and IPv6 at once, 0 where there is no IPv6 to ask for."""
    try:
        with socket.socket(socket.AF_INET6, kind) as both:
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both.bind(("::", 0))
            return int(both.getsockname()[1])
    except OSError as error:
        if error.errno not in _NO_FAMILY:
            raise
        return 0


def _open(family: int, kind: int, address: str, port: int) -> socket.socket:
    with ExitStack() as undo:
        made = undo.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_DGRAM:
            _tell_destination(made)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
        undo.pop_all()
        return made


def _tell_destination(made: socket.socket) -> None:
    """Let each datagram tell the address it was sent to (ip(7), ipv6(7)), from the first one on: it
    is to be answered from there, and a host has many."""
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _refuse(spec: PortSpec, port: int, endpoint: str, error: OSError) -> NoReturn:
    """Say in Docker's words why ``port`` cannot be had."""
    host = spec.host_ip or "0.0.0.0"
    where = f"{host}:{port}" if ":" not in host or host.startswith("[") else f"[{host}]:{port}"
    reason, kind = _REASONS.get(error.errno or 0, (os.strerror(error.errno or 0), EngineError))
    raise kind(
        "driver failed programming external connectivity on endpoint "
        f"{endpoint}: Bind for {where} failed: {reason}"
    ) from error


_REASONS: dict[int, tuple[str, Callable[[str], CellboxError]]] = {
    errno.EADDRINUSE: ("port is already allocated", InUse),
    errno.EADDRNOTAVAIL: ("this machine does not have this address", InvalidArgument),
    errno.EAFNOSUPPORT: ("this machine does not speak IPv6", InvalidArgument),
    0: ("this is not an IP address", InvalidArgument),
    errno.EACCES: (
        "ports below net.ipv4.ip_unprivileged_port_start belong to root: publish a higher one",
        PermissionDenied,
    ),
}
