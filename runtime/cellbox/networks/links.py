"""Links, addresses and routes of the kernel (rtnetlink(7)).

:class:`Routing` is an open socket in one network namespace: that in which its thread was when it
was made, wherever the thread goes later. What it is to do are :class:`Request`, made by pure
functions here; those given to one :meth:`Routing.do` travel in one packet. pyroute2 knows the
messages. Its own IPRoute is not used: opening one takes 7 to 46 ms instead of 0.02, and it refuses
to work below a running event loop.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

LOOPBACK = 1
"""The index of ``lo`` in every namespace."""

_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _GETROUTE = 24, 26
_REQUEST, _ACK, _REPLACE, _EXCL, _DUMP, _CREATE = 1, 4, 0x100, 0x200, 0x300, 0x400
_IFF_UP = 1
_IFA_F_NODAD = 2
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_MAIN_TABLE, _PROTO_STATIC, _UNICAST = 254, 4, 1
_SCOPE_LINK = 253
_HEADER = struct.Struct("=IHHII")
_ROOM = 1 << 18


@dataclass(frozen=True)
class Request:
    """One thing to do: ``call`` says what in an error, ``settled`` are errors (errno) that mean
    that nothing is left to do."""

    call: str
    message: nlmsg
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Link:
    """A network interface. ``peer`` is the index of the other end of a veth, in whichever namespace
    that is; ``master`` that of its bridge. 0 where there is none."""

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    master: int = 0
    peer: int = 0


class Routing:
    """A socket to the kernel's links, addresses and routes in the network namespace of now."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._number = 0

    def close(self) -> None:
        """Let go of the socket, and so of the namespace."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def do(self, *requests: Request) -> None:
        """Do them in this order. Raises the first failure as OSError naming the call; the kernel
        has tried the later ones all the same."""
        if not requests:
            return
        first = self._number + 1
        data = b"".join(self._encoded(one.message, _ACK) for one in requests)
        self._socket.send(data)
        answers: dict[int, int] = {}
        while len(answers) < len(requests):
            for kind, number, body in _messages(self._socket.recv(_ROOM)):
                if kind == _ERROR and number >= first:
                    answers[number] = -struct.unpack_from("=i", body)[0]
        for number, request in enumerate(requests, first):
            code = answers[number]
            if code and code not in request.settled:
                raise OSError(code, os.strerror(code), request.call)

    def _encoded(self, message: nlmsg, flags: int) -> bytes:
        self._number += 1
        header = message["header"]
        header["sequence_number"] = self._number
        header["flags"] |= _REQUEST | flags
        message.encode()
        return bytes(message.data)

    def _ask(self, message: nlmsg, flags: int = 0) -> Iterator[Any]:
        """The decoded answers to a question; with _DUMP any number of them."""
        self._socket.send(self._encoded(message, flags))
        number = self._number
        while True:
            data = self._socket.recv(_ROOM)
            for kind, answered, body in _messages(data):
                if answered != number:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code), "rtnetlink")
                yield _decoded(type(message), kind, body)
                if not flags:
                    return

    def find(self, name: str) -> Link | None:
        """The interface called ``name``, None where there is none."""
        message = _link_message(_GETLINK, attrs=[("IFLA_IFNAME", name)])
        message["attrs"].append(("IFLA_EXT_MASK", _SKIP_STATS))
        try:
            return next(_link(one) for one in self._ask(message))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> list[Link]:
        """All interfaces."""
        message = _link_message(_GETLINK, attrs=[("IFLA_EXT_MASK", _SKIP_STATS)])
        return [_link(one) for one in self._ask(message, _DUMP)]

    def addresses(self, index: int = 0) -> list[str]:
        """Addresses with prefix length, those of one interface or of all."""
        return [
            f"{one.get_attr('IFA_LOCAL') or one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}"
            for one in self._both(ifaddrmsg, _GETADDR)
            if index in (0, one["index"])
        ]

    def routes(self) -> list[str]:
        """Where the routes of the main table lead (CIDR), without the default ones and those of
        link-local addresses."""
        found = (
            f"{one.get_attr('RTA_DST')}/{one['dst_len']}"
            for one in self._both(rtmsg, _GETROUTE)
            if one["dst_len"] and one.get_attr("RTA_TABLE", one["table"]) == _MAIN_TABLE
        )
        return [one for one in found if not _link_local(one)]

    def _both(self, kind: type[nlmsg], number: int) -> Iterator[Any]:
        """All of IPv4 and IPv6, asked one by one: in a question for all, the kernel leaves out the
        second where there is nothing of the first."""
        for family in (socket.AF_INET, socket.AF_INET6):
            message = _message(kind, number)
            message["family"] = family
            yield from self._ask(message, _DUMP)

    def ensure_bridge(
        self, name: str, addresses: Collection[str], *, mac: str, mtu: int = 0
    ) -> Link:
        """A bridge called ``name`` that is up and has exactly these addresses (with prefix length;
        those of the link itself come on top). ``mac`` is that of a new one: without, it would
        change with its ports. Raises FileExistsError for a name that something else has.

        For a thread that is in this socket's namespace.
        """
        self.do(_new_bridge(name, mac))
        found = self.find(name)
        if found is None or found.kind != "bridge":
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), f"add bridge {name}")
        wanted = {str(ipaddress.ip_interface(one)) for one in addresses}
        set_ipv6(name, on=any(":" in one for one in wanted))
        present = {one for one in self.addresses(found.index) if not _link_local(one)}
        self.do(
            *(remove_address(found.index, one) for one in present - wanted),
            change(found.index, mtu=mtu or None),
            *(add_address(found.index, one) for one in sorted(wanted)),
        )
        return found


# Settings of the namespace that we are in ---------------------------------------------------------


def set_ipv6(interface: str, *, on: bool) -> None:
    """Have IPv6 on an interface of the namespace of now, or not; where it is on, nobody who
    pretends to be a router is believed (CVE-2020-13401). A kernel without IPv6 has none of these
    settings, and where /proc/sys is read-only they stay as they are."""
    try:
        if on:
            write_sysctl(f"net/ipv6/conf/{interface}/accept_ra", "0")
        write_sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "0" if on else "1")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EROFS):
            raise


def write_sysctl(name: str, value: str) -> None:
    """Set ``net/...`` of the namespace of now. Raises OSError."""
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(value)


# Requests ---------------------------------------------------------------------------------------


def new_veth(
    name: str, peer: str, netns_fd: int, *, master: int = 0, mtu: int = 0, mac: str = ""
) -> Request:
    """A pair of interfaces: ``name`` here, up and in the bridge ``master``, and ``peer`` with the
    hardware address ``mac`` in the namespace ``netns_fd``, where it is born, and down."""
    there = [("IFLA_IFNAME", peer), ("IFLA_NET_NS_FD", netns_fd)]
    there += [("IFLA_ADDRESS", mac)] if mac else []
    there += [("IFLA_MTU", mtu)] if mtu else []
    here: list[tuple[str, Any]] = [("IFLA_IFNAME", name)]
    here += [("IFLA_MASTER", master)] if master else []
    here += [("IFLA_MTU", mtu)] if mtu else []
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": there})]}
    here.append(
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]})
    )
    message = _link_message(_NEWLINK, flags=_CREATE | _EXCL, up=True, attrs=here)
    return Request(f"add veth {name}", message)


def _new_bridge(name: str, mac: str) -> Request:
    """Without an MTU: only one that is changed later is not made that of its ports by the
    kernel."""
    attrs: list[tuple[str, Any]] = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac)]
    attrs.append(("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]}))
    message = _link_message(_NEWLINK, flags=_CREATE | _EXCL, attrs=attrs)
    return Request(f"add bridge {name}", message, frozenset((errno.EEXIST,)))


def change(
    index: int,
    *,
    up: bool = True,
    name: str = "",
    mac: str = "",
    mtu: int | None = None,
    master: int | None = None,
) -> Request:
    """Let an interface be up or down, and have what else is given; ``master`` 0 takes it out of its
    bridge."""
    attrs: list[tuple[str, Any]] = []
    attrs += [("IFLA_IFNAME", name)] if name else []
    attrs += [("IFLA_ADDRESS", mac)] if mac else []
    attrs += [("IFLA_MTU", mtu)] if mtu is not None else []
    attrs += [("IFLA_MASTER", master)] if master is not None else []
    message = _link_message(_NEWLINK, index=index, up=up, attrs=attrs)
    return Request(f"change link {name or index}", message)


def move(index: int, netns_fd: int, name: str) -> Request:
    """Take an interface to the namespace ``netns_fd``, where it is down and called ``name``."""
    attrs = [("IFLA_NET_NS_FD", netns_fd), ("IFLA_IFNAME", name)]
    message = _link_message(_NEWLINK, index=index, up=False, attrs=attrs)
    return Request(f"move link {index} as {name}", message)


def change_port(index: int, *, hairpin: bool, isolated: bool) -> Request:
    """How a bridge treats its port: ``hairpin`` lets a packet leave by the port it came by,
    ``isolated`` keeps it from all other isolated ones."""
    data = {"attrs": [("IFLA_BRPORT_MODE", int(hairpin)), ("IFLA_BRPORT_ISOLATED", int(isolated))]}
    info = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]
    message = _link_message(_NEWLINK, index=index, attrs=[("IFLA_LINKINFO", {"attrs": info})])
    return Request(f"change bridge port {index}", message)


def remove_link(name: str) -> Request:
    """Take an interface away, if it is there."""
    message = _link_message(_DELLINK, attrs=[("IFLA_IFNAME", name)])
    return Request(f"remove link {name}", message, frozenset((errno.ENODEV,)))


def add_address(index: int, address: str) -> Request:
    """Give an interface an address (``172.18.0.2/16``), which may be used at once."""
    message = _address_message(_NEWADDR, index, address)
    message["header"]["flags"] = _CREATE | _REPLACE
    return Request(f"add address {address}", message)


def remove_address(index: int, address: str) -> Request:
    """Take an address from an interface, if it has it."""
    message = _address_message(_DELADDR, index, address)
    return Request(f"remove address {address}", message, frozenset((errno.EADDRNOTAVAIL,)))


def add_route(index: int, destination: str, gateway: str = "") -> Request:
    """A route to ``destination`` (CIDR; ``default`` and a gateway for all that has no other),
    through ``gateway``, or straight onto the link. It takes the place of one that leads there."""
    via = ipaddress.ip_address(gateway) if gateway else None
    to = None if destination == "default" else ipaddress.ip_network(destination)
    if via is None and to is None:
        raise ValueError("a default route needs a gateway")
    version = to.version if to is not None else via.version if via is not None else 4
    message = _message(rtmsg, _NEWROUTE, _CREATE | _REPLACE)
    message["family"] = socket.AF_INET if version == 4 else socket.AF_INET6
    message["table"], message["proto"], message["type"] = _MAIN_TABLE, _PROTO_STATIC, _UNICAST
    message["scope"] = 0 if via is not None or version == 6 else _SCOPE_LINK
    message["attrs"] = [("RTA_OIF", index)]
    if to is not None:
        message["dst_len"] = to.prefixlen
        message["attrs"].append(("RTA_DST", str(to.network_address)))
    if via is not None:
        message["attrs"].append(("RTA_GATEWAY", str(via)))
    return Request(f"add route {destination} via {gateway or index}", message)


# Messages ---------------------------------------------------------------------------------------


def _message(kind: type[nlmsg], number: int, flags: int = 0) -> nlmsg:
    message = kind()
    message["header"]["type"], message["header"]["flags"] = number, flags
    return message


def _link_message(
    number: int,
    *,
    attrs: Sequence[tuple[str, Any]],
    flags: int = 0,
    index: int = 0,
    up: bool | None = None,
) -> nlmsg:
    message = _message(ifinfmsg, number, flags)
    message["index"], message["attrs"] = index, list(attrs)
    if up is not None:
        message["change"], message["flags"] = _IFF_UP, _IFF_UP if up else 0
    return message


def _address_message(number: int, index: int, text: str) -> nlmsg:
    address = ipaddress.ip_interface(text)
    message = _message(ifaddrmsg, number)
    message["family"] = socket.AF_INET if address.version == 4 else socket.AF_INET6
    message["index"], message["prefixlen"] = index, address.network.prefixlen
    message["flags"] = 0 if address.version == 4 else _IFA_F_NODAD
    message["attrs"] = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    if address.version == 4 and address.network.prefixlen < 31:
        message["attrs"].append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    return message


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and body of each message in a packet."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _flags, number, _port = _HEADER.unpack_from(data, at)
        yield kind, number, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _decoded(kind: type[nlmsg], number: int, body: bytes) -> nlmsg:
    message = kind(_HEADER.pack(_HEADER.size + len(body), number, 0, 0, 0) + body)
    message.decode()
    return message


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        master=message.get_attr("IFLA_MASTER") or 0,
        peer=message.get_attr("IFLA_LINK") or 0,
    )


def _link_local(address: str) -> bool:
    one = ipaddress.ip_interface(address)
    return one.version == 6 and one.is_link_local
