"""DNS messages (RFC 1035, RFC 6891) as a resolver sees them: what is asked, and what to answer. No
socket is in here.

What comes from a container is hostile: of a query no more is read than its question and the size
that its sender can take, and all that is read of any message has bounds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dnslib import AAAA, CLASS, EDNS0, PTR, QTYPE, RCODE, RR, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.bimap import BimapError
from dnslib.buffer import BufferError
from dnslib.dns import DNSError
from dnslib.label import DNSBuffer, DNSLabel, DNSLabelError

TTL = 10
"""Seconds for which a name of a network may be remembered: its container may be started anew."""

NXDOMAIN, SERVFAIL = RCODE.NXDOMAIN, RCODE.SERVFAIL

_HEADER = 12
_UDP_SIZE = 512
_OUR_UDP_SIZE = 1232
_MAX_PARTS = 2000
"""Names, and compression pointers followed, in one message."""
_MAX_ANSWERS = 500
_MAX_NAME, _MAX_LABEL = 253, 63
_FAULTS = (DNSError, DNSLabelError, BufferError, BimapError, ValueError, RecursionError)
_FAMILIES = {QTYPE.A: socket.AF_INET, QTYPE.AAAA: socket.AF_INET6}


_HERE = ("0.", "127.", "169.254.", "::", "fe8", "fe9", "fea", "feb", "ff")
"""How addresses begin that belong to a machine itself, to its links or to groups."""


class Malformed(Exception):
    """A message that is no query that can be answered; ``reply`` says so, where there is one."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__("not a DNS query")
        self.reply = reply


class Lookup(Protocol):
    """Names that can be answered here, as :class:`cellbox.networks.names.Names` knows them."""

    def lookup(self, name: str, version: int = 4) -> list[str] | None:
        """The addresses of a name, None for one that is not known."""

    def reverse(self, address: str) -> str:
        """The name of an address, empty for one that is not known."""


class _Buffer(DNSBuffer):  # type: ignore[misc]
    """A message in which pointers that lead from one to the next have an end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.parts = 0

    def decode_name(self, last: int = -1) -> DNSLabel:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise BufferError("too many pointers")
        return super().decode_name(last)


@dataclass(frozen=True)
class Query:
    """One question: ``name`` in lower case without a dot at its end, ``kind`` a QTYPE, ``size`` how
    many bytes a datagram for its sender may have, ``extended`` whether it knows of RFC 6891."""

    data: bytes
    header: DNSHeader
    question: DNSQuestion
    end: int
    name: str
    kind: int
    size: int
    extended: bool


def parse(data: bytes) -> Query:
    """The query in ``data``. Raises Malformed."""
    buffer = _Buffer(data)
    try:
        header = DNSHeader.parse(buffer)
    except _FAULTS:
        raise Malformed from None
    if header.qr:  # an answer: who answers it may get another one
        raise Malformed
    if header.opcode:
        raise Malformed(_bare(header, RCODE.NOTIMP))
    try:
        if header.q != 1 or header.a or header.auth:
            raise ValueError("not one question alone")
        question = DNSQuestion.parse(buffer)
        _check(question.qname, buffer.parts)
        end = buffer.offset
        size = _datagram_size(buffer) if header.ar else 0
    except _FAULTS:
        raise Malformed(_bare(header, RCODE.FORMERR)) from None
    name = _text(question.qname)
    limit = max(size, _UDP_SIZE)
    return Query(data, header, question, end, name, question.qtype, limit, size > 0)


def _check(name: DNSLabel, parts: int) -> None:
    if parts > 1:  # all that it could point to is the header, which will be another one
        raise ValueError("a pointer before there is a name")
    if len(name) > _MAX_NAME or any(len(one) > _MAX_LABEL for one in name.label):
        raise ValueError("a name that is too long")


def _datagram_size(buffer: _Buffer) -> int:
    """RFC 6891, section 6.1.2: the class of an OPT record, 0 where there is none."""
    buffer.decode_name()
    kind, size = buffer.unpack("!HH")
    return max(1, size) if kind == QTYPE.OPT else 0


def _bare(header: DNSHeader, code: int) -> bytes:
    """An answer that is nothing but a header."""
    return bytes(DNSRecord(_head(header, code)).pack())


def _head(header: DNSHeader, code: int = 0, authoritative: int = 0) -> DNSHeader:
    return DNSHeader(
        header.id, header.bitmap, qr=1, aa=authoritative, tc=0, ra=1, z=0, ad=0, rcode=code
    )


def _text(name: DNSLabel) -> str:
    """A name of DNS as text. A dot inside a label is no border of one, and only ASCII has two
    cases."""
    return ".".join(one.lower().decode().replace(".", "\\046") for one in name.label)


# Answers ----------------------------------------------------------------------------------------


def answer(query: Query, names: Lookup, *, datagram: bool = True) -> bytes | None:
    """What ``names`` say to ``query``; None where they know nothing. For a datagram as much of it
    as fits, marked as not all. The name of a container need not fit into DNS: SERVFAIL."""
    if query.question.qclass != CLASS.IN:
        return None
    try:
        records = (_pointer if query.kind == QTYPE.PTR else _addresses)(query, names)
        return None if records is None else _reply(query, records, query.size if datagram else 0)
    except _FAULTS:
        return refuse(query, SERVFAIL)


def _addresses(query: Query, names: Lookup) -> list[RR] | None:
    version = 6 if query.kind == QTYPE.AAAA else 4
    found = names.lookup(query.name, version)
    if found is None:
        return None
    if query.kind not in _FAMILIES:  # the name is there, and has nothing of this kind
        return []
    data = AAAA if version == 6 else A
    name = query.question.qname
    return [RR(name, query.kind, ttl=TTL, rdata=data(one)) for one in found]


def _pointer(query: Query, names: Lookup) -> list[RR] | None:
    address = reversed_address(query.name)
    found = names.reverse(address) if address else ""
    if not found:
        return None
    return [RR(query.question.qname, QTYPE.PTR, ttl=TTL, rdata=PTR(found))]


def reversed_address(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa is about, else nothing."""
    labels = name.split(".")[::-1]
    try:
        if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
            return socket.inet_ntop(socket.AF_INET, bytes(map(int, labels[2:])))
        if labels[:2] == ["arpa", "ip6"] and len(labels) == 34:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(labels[2:])))
    except ValueError:
        pass
    return ""


def _reply(query: Query, records: list[RR], limit: int) -> bytes:
    reply = DNSRecord(_head(query.header, authoritative=1), q=query.question)
    reply.rr = records
    if query.extended:
        reply.ar = [EDNS0(udp_len=_OUR_UDP_SIZE)]
    data = bytes(reply.pack())
    while limit and len(data) > limit:
        reply.rr = reply.rr[: len(reply.rr) // 2]
        reply.header.tc = 1
        data = bytes(reply.pack())
    return data


def refuse(query: Query, code: int) -> bytes:
    """An answer without records."""
    return bytes(DNSRecord(_head(query.header, code), q=query.question).pack())


# Forwarding -------------------------------------------------------------------------------------


def with_id(message: bytes, number: bytes) -> bytes:
    """The same message under another id of two bytes."""
    return number + message[2:]


def answers(query: Query, number: bytes, message: bytes) -> bool:
    """Is ``message`` an answer to ``query`` as it was sent on under the id ``number``? One without
    the question is, where it tells of a failure."""
    if len(message) < _HEADER or message[:2] != number or not message[2] & 0x80:
        return False
    if message[4:6] == b"\0\0":
        return failed(message)
    question = slice(_HEADER, query.end)
    return message[4:6] == b"\0\1" and message[question].lower() == query.data[question].lower()


def truncated(message: bytes) -> bool:
    """Does it say that not all of the answer is there?"""
    return bool(message[2] & 0x02)


def failed(message: bytes) -> bool:
    """Does its sender not know, so that another one may be asked?"""
    return message[3] & 0x0F not in (RCODE.NOERROR, NXDOMAIN)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Is ``name`` one of ``patterns``, ``example.com`` for itself and ``*.example.com`` for all
    below it?"""
    for pattern in patterns:
        wanted = pattern.lower().removesuffix(".")
        if name == wanted or (wanted.startswith("*.") and name.endswith(wanted[1:])):
            return True
    return False


def resolved(query: Query, message: bytes) -> tuple[list[str], int]:
    """The addresses that ``message`` gives for what was asked, by way of its aliases, and for how
    many seconds they hold.

    What does not belong to the question is left out, and so is what no host elsewhere has: a name
    whose owner lets it mean this machine opens no way there.
    """
    buffer = _Buffer(message)
    wanted, found, ttl = {query.name}, [], (1 << 31) - 1
    try:
        header = DNSHeader.parse(buffer)
        for _ in range(header.q):
            DNSQuestion.parse(buffer)
        for _ in range(min(header.a, _MAX_ANSWERS)):
            owner = _text(buffer.decode_name())
            kind, _, seconds, length = buffer.unpack("!HHIH")
            after = buffer.offset + length
            if owner in wanted and kind == QTYPE.CNAME:
                wanted.add(_text(buffer.decode_name()))
            elif owner in wanted and kind in _FAMILIES:
                found.append(socket.inet_ntop(_FAMILIES[kind], buffer.get(length)))
            ttl = min(ttl, seconds) if owner in wanted else ttl
            buffer.offset = after
    except _FAULTS:
        pass  # what cannot be read is not let through
    return [one for one in found if not one.startswith(_HERE)], ttl
