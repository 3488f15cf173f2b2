"""The cable between a container and a bridge: a veth, one end in the container.

A container's place in a network, as the kernel is to have it, is a
:class:`~cellbox.networks.wiring.Plug`. :func:`plug`
brings it about from whatever is there, so that one that was cut off halfway is mended by another.
All act in the network namespace of the caller, a process of one thread, and in that of the
container, which comes as a descriptor.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from cellbox.linux import syscalls
from cellbox.networks import links, names
from cellbox.networks.links import Link, Request, Routing
from cellbox.networks.wiring import Plug

_NETNS_COOKIE = 71  # SO_NETNS_COOKIE (asm-generic/socket.h), which the library does not name


# In the container's namespace -------------------------------------------------------------------


@contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """Be in the network namespace ``netns_fd`` for a while. Raises OSError."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(netns_fd, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(here, syscalls.CLONE_NEWNET)
    finally:
        os.close(here)


def routing(netns_fd: int) -> Routing:
    """The links of the network namespace ``netns_fd``. Raises OSError."""
    with inside(netns_fd):
        return Routing()


def identity(netns_fd: int) -> int:
    """What tells the network namespace ``netns_fd`` from all others, later ones too; an inode's
    number is soon that of the next. Raises OSError."""
    try:
        with inside(netns_fd), socket.socket() as one:
            cookie = one.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8)
        return int.from_bytes(cookie, sys.byteorder)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # before Linux 5.14
            raise
        return os.fstat(netns_fd).st_ino


# Plugging ---------------------------------------------------------------------------------------


def plug(netns_fd: int, plugs: Sequence[Plug]) -> None:
    """Connect a container to its networks, as ``plugs`` say: cables that are as they should be
    stay, what else has one of their names makes room. Raises OSError naming the call."""
    with ExitStack() as stack:
        here = stack.enter_context(Routing())
        there = stack.enter_context(routing(netns_fd))
        found = [_cable(here, there, netns_fd, one) for one in plugs]
        with inside(netns_fd):
            for one in plugs:
                links.set_ipv6(one.interface, on=bool(one.ip6))
        there.do(
            links.change(links.LOOPBACK),
            *(
                request
                for link, one in zip(found, plugs, strict=True)
                for request in configured(link, one)
            ),
        )


def unplug(netns_fd: int, plug: Plug) -> None:
    """Take the cable away; one that is not there is no error. Raises OSError."""
    with Routing() as here:
        here.do(links.remove_link(plug.host))
    with routing(netns_fd) as there:
        there.do(links.remove_link(plug.interface))


def _cable(here: Routing, there: Routing, netns_fd: int, wanted: Plug) -> Link:
    """The container's end of the cable, laid if there is none whose both ends have these names."""
    host, inner = here.find(wanted.host), there.find(wanted.interface)
    if host and inner and inner.peer == host.index:
        _attach(here, host, wanted)
        return inner
    here.do(links.remove_link(wanted.host))
    there.do(links.remove_link(wanted.interface))
    _new(here, netns_fd, wanted)
    made = there.find(wanted.interface)
    if made is None:  # somebody in the container has been faster
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"add veth {wanted.host}")
    return made


def _new(here: Routing, netns_fd: int, wanted: Plug) -> None:
    bridge = _bridge(here, wanted.bridge)
    here.do(
        links.new_veth(
            wanted.host,
            wanted.interface,
            netns_fd,
            master=bridge.index,
            mtu=wanted.mtu,
            mac=wanted.mac,
        )
    )
    links.set_ipv6(wanted.host, on=False)  # nobody is to speak to the port itself
    made = here.find(wanted.host)
    if made:
        _attach(here, made, wanted)


def _attach(here: Routing, host: Link, wanted: Plug) -> None:
    bridge = _bridge(here, wanted.bridge)
    here.do(
        links.change(host.index, master=bridge.index, mtu=wanted.mtu or None),
        links.change_port(host.index, hairpin=wanted.hairpin, isolated=wanted.isolated),
    )


def _bridge(here: Routing, name: str) -> Link:
    found = here.find(name)
    if found is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"find bridge {name}")
    return found


def configured(link: Link, wanted: Plug, routes: Iterable[Request] = ()) -> Iterator[Request]:
    """What makes of the container's end what the plug says; a gateway may be behind one of
    ``routes``."""
    mac = wanted.mac if wanted.mac != link.mac else ""
    yield links.change(link.index, mac=mac, mtu=wanted.mtu or None)
    for address in filter(None, (wanted.ip, wanted.ip6)):
        yield links.add_address(link.index, address)
    yield from routes
    if wanted.default_route:
        for gateway in filter(None, (wanted.gateway, wanted.gateway6)):
            yield links.add_route(link.index, "default", gateway)


# Names ------------------------------------------------------------------------------------------


def open_names(netns_fd: int) -> list[int]:
    """Descriptors of the two sockets (``names.listen``) in that namespace, for whoever answers its
    questions: UDP, and TCP that listens. Raises OSError.

    Programs in there may use all ports from then on, as in Docker's containers.
    """
    with inside(netns_fd):
        with suppress(OSError):  # /proc/sys may be read-only; we may all the same
            links.write_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        with Routing() as there:
            there.do(links.change(links.LOOPBACK))
        udp, tcp = names.listen()
        return [udp.detach(), tcp.detach()]
