"""DNS messages: what is asked, what is answered, and what is not believed."""

from __future__ import annotations

import socket
import struct

import pytest
from dnslib import AAAA, CNAME, EDNS0, QTYPE, RCODE, RR, TXT, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import DNSBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.networks import dns

NUMBER = b"\x12\x34"


class Known:
    """Names that are asked for: web has two addresses and no IPv6, many has a lot."""

    names = {"web": ["10.0.0.2", "10.0.0.3"], "many": [f"10.1.{n}.1" for n in range(200)]}

    def lookup(self, name, version=4):
        found = self.names.get(name)
        return found if found is None or version == 4 else []

    def reverse(self, address):
        return {"10.0.0.2": "web.net", "fd00::2": "web.net", "10.0.0.9": "a..b"}.get(address, "")


def ask(name, kind="A", *, edns=0, **header):
    record = DNSRecord.question(name, kind)
    for key, value in header.items():
        setattr(record.header, key, value)
    if edns:
        record.add_ar(EDNS0(udp_len=edns))
    return bytes(record.pack())


def told(data):
    record = DNSRecord.parse(data)
    return RCODE[record.header.rcode], [str(one.rdata) for one in record.rr]


def answered(data, **how):
    return dns.answer(dns.parse(data), Known(), **how)


# Queries ----------------------------------------------------------------------------------------


def test_a_query_is_its_question_and_the_size_that_its_sender_takes():
    query = dns.parse(ask("Web.Example.", "AAAA"))
    assert (query.name, query.kind) == ("web.example", QTYPE.AAAA)
    assert (query.size, query.extended) == (512, False)
    assert dns.parse(ask("x", edns=4096)).size == 4096
    assert dns.parse(ask("x", edns=0x100)).size == 512 and dns.parse(ask("x", edns=256)).extended
    assert dns.parse(ask(".")).name == ""


def refusal(data):
    with pytest.raises(dns.Malformed) as caught:
        dns.parse(data)
    reply = caught.value.reply
    return RCODE[DNSRecord.parse(reply).header.rcode] if reply else ""


def question(*labels, kind=1):
    packed = b"".join(bytes([len(one)]) + one for one in labels)
    return (
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + packed + b"\0" + struct.pack("!HH", kind, 1)
    )


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 11, ask("x", qr=1), ask("web", qr=1)])
def test_what_is_no_query_is_not_answered(data):
    """An answer to an answer would go back and forth for ever."""
    assert refusal(data) == ""


def test_other_things_than_queries_are_not_implemented():
    assert refusal(ask("web", opcode=5)) == "NOTIMP"
    assert refusal(ask("web", opcode=4)) == "NOTIMP"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!HHHHHH", 7, 0x100, 0, 0, 0, 0),
        struct.pack("!HHHHHH", 7, 0x100, 2, 0, 0, 0) + question(b"a")[12:] * 2,
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0),
        struct.pack("!HHHHHH", 7, 0x100, 1, 9, 0, 0) + question(b"a")[12:],
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 1) + question(b"a")[12:] + b"\xc0",
        question(b"a")[:-1],
        question(b"a" * 64),
        question(*[b"a" * 63] * 4),
        question(b"\xff\xfe"),
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\1a\xc0\x00\0\1\0\1",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\1a\xff\xff\0\1\0\1",
    ],
)
def test_a_query_that_is_damaged_is_told_so(data):
    assert refusal(data) == "FORMERR"


def test_a_name_as_long_as_a_name_may_be():
    data = question(*[b"a" * 63] * 3, b"b" * 61)
    assert len(dns.parse(data).name) == 253


@given(st.binary(max_size=600))
@settings(max_examples=500, deadline=1000)
def test_no_bytes_at_all_do_harm(data):
    _answer_anything(data)


@given(st.binary(max_size=100), st.integers(0, 65535), st.sampled_from(["A", "PTR", "ANY", "TXT"]))
@settings(max_examples=300, deadline=1000)
def test_no_damaged_query_does_harm(junk, place, kind):
    data = bytearray(ask("web.example.com", kind, edns=1232))
    place %= len(data)
    data[place : place + len(junk)] = junk
    _answer_anything(bytes(data))


def _answer_anything(data):
    try:
        query = dns.parse(data)
    except dns.Malformed as error:
        assert not error.reply or error.reply[:2] == data[:2]
        return
    reply = dns.answer(query, Known()) or dns.refuse(query, dns.NXDOMAIN)
    assert reply[:2] == data[:2] and reply[2] & 0x80 and len(reply) <= query.size
    DNSRecord.parse(reply)
    dns.resolved(query, data)
    assert not dns.answers(query, b"\0\0", data[:5])


# Answers ----------------------------------------------------------------------------------------


def test_addresses_in_the_order_in_which_they_were_found():
    reply = DNSRecord.parse(answered(ask("Web", id=77, rd=1)))
    assert [str(one.rdata) for one in reply.rr] == ["10.0.0.2", "10.0.0.3"]
    assert {one.ttl for one in reply.rr} == {dns.TTL}
    header = reply.header
    assert (header.id, header.qr, header.aa, header.rd, header.ra) == (77, 1, 1, 1, 1)
    assert (header.tc, header.rcode) == (0, 0)
    assert reply.questions[0].qname.label == (b"Web",)  # as it was spelt: clients compare


def test_a_name_that_has_nothing_of_this_kind_is_there_all_the_same():
    for kind in ("AAAA", "MX", "TXT", "HTTPS"):
        assert told(answered(ask("web", kind))) == ("NOERROR", [])


def test_what_is_not_known_is_left_to_others():
    assert answered(ask("other")) is None
    assert answered(ask("web.example.com")) is None
    assert answered(bytes(DNSRecord(q=DNSQuestion("web", 1, 3)).pack())) is None  # class CHAOS
    assert answered(ask("9.9.9.9.in-addr.arpa", "PTR")) is None
    assert answered(ask("web", "PTR")) is None


def test_the_name_of_an_address():
    assert told(answered(ask("2.0.0.10.in-addr.arpa", "PTR"))) == ("NOERROR", ["web.net."])
    six = ".".join("2" + "0" * 28 + "0df")[::1] + ".ip6.arpa"
    assert told(answered(ask(six, "PTR"))) == ("NOERROR", ["web.net."])


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.1.in-addr.arpa", "1.2.3.4"),
        ("256.3.2.1.in-addr.arpa", ""),
        ("-1.3.2.1.in-addr.arpa", ""),
        ("3.2.1.in-addr.arpa", ""),
        ("x.3.2.1.in-addr.arpa", ""),
        ("1." + "0." * 31 + "ip6.arpa", "::1"),
        ("zz." + "0." * 31 + "ip6.arpa", ""),
        ("11." + "0." * 31 + "ip6.arpa", ""),
        ("", ""),
        ("arpa", ""),
    ],
)
def test_names_of_addresses(name, address):
    assert dns.reversed_address(name) == address


def test_a_container_name_that_does_not_fit_into_dns_is_a_failure_not_an_end():
    assert told(answered(ask("9.0.0.10.in-addr.arpa", "PTR")))[0] == "SERVFAIL"


@pytest.mark.parametrize(("edns", "limit"), [(0, 512), (1232, 1232)])
def test_what_does_not_fit_into_a_datagram_is_marked(edns, limit):
    query = ask("many", edns=edns)
    reply = answered(query)
    record = DNSRecord.parse(reply)
    assert len(reply) <= limit and record.header.tc == 1 and record.rr
    assert len(DNSRecord.parse(answered(query, datagram=False)).rr) == 200
    assert bool(record.ar) == bool(edns)  # RFC 6891: it is answered by who was asked with it


def test_a_refusal_repeats_the_question():
    record = DNSRecord.parse(dns.refuse(dns.parse(ask("Nope", id=5)), dns.NXDOMAIN))
    assert (record.header.rcode, record.header.id) == (3, 5)
    assert record.questions[0].qname.label == (b"Nope",)


# Forwarding -------------------------------------------------------------------------------------


def reply_to(query, *records, name=None, number=NUMBER, rcode=0):
    record = DNSRecord.parse(dns.with_id(query.data, number))
    reply = record.reply()
    reply.header.rcode = rcode
    if name:
        reply.questions[0].qname = name
    reply.rr = list(records)
    return bytes(reply.pack())


def test_only_an_answer_to_this_question_is_one():
    query = dns.parse(ask("ExAmple.com"))
    good = reply_to(query)
    assert dns.answers(query, NUMBER, good)
    assert dns.answers(query, NUMBER, reply_to(query, name="example.COM"))
    assert not dns.answers(query, b"\0\0", good)
    assert not dns.answers(query, NUMBER, dns.with_id(query.data, NUMBER))
    assert not dns.answers(query, NUMBER, reply_to(query, name="example.net"))
    assert not dns.answers(query, NUMBER, good[:14])
    other = bytearray(good)
    other[-4:] = struct.pack("!HH", QTYPE.AAAA, 1)
    assert not dns.answers(query, NUMBER, bytes(other))


def test_a_failure_may_come_without_the_question():
    query = dns.parse(ask("example.com"))
    head = DNSHeader(id=0x1234, qr=1, rcode=RCODE.REFUSED)
    assert dns.answers(query, NUMBER, bytes(DNSRecord(head).pack()))
    head.rcode = 0
    assert not dns.answers(query, NUMBER, bytes(DNSRecord(head).pack()))


def test_that_there_is_no_such_name_is_an_answer_and_a_refusal_is_none():
    query = dns.parse(ask("example.com"))
    assert not dns.failed(reply_to(query)) and not dns.failed(reply_to(query, rcode=RCODE.NXDOMAIN))
    assert dns.failed(reply_to(query, rcode=RCODE.SERVFAIL))
    assert dns.failed(reply_to(query, rcode=RCODE.REFUSED))


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("example.com", True),
        ("a.pypi.org", True),
        ("a.b.pypi.org", True),
        ("pypi.org", False),
        ("xpypi.org", False),
        ("a.example.com", False),
        ("example.com.evil", False),
        ("", False),
    ],
)
def test_patterns_of_names(name, good):
    assert dns.matches(name, ["Example.com.", "*.pypi.org"]) is good


def test_a_dot_inside_a_label_is_no_border_of_one():
    query = dns.parse(question(b"evil.example", b"com"))
    assert not dns.matches(query.name, ["evil.example.com", "*.example.com"])


def test_only_ascii_has_two_cases():
    kelvin = dns.parse(question("\u212aubernetes".encode(), b"io"))
    assert not dns.matches(kelvin.name, ["kubernetes.io"])


def addresses(*records, name="a.com"):
    query = dns.parse(ask(name))
    return dns.resolved(query, reply_to(query, *records))


def test_what_was_found_by_way_of_aliases():
    found = addresses(
        RR("A.com", QTYPE.CNAME, ttl=300, rdata=CNAME("b.net")),
        RR("b.net", QTYPE.A, ttl=60, rdata=A("192.0.2.1")),
        RR("b.net", QTYPE.A, ttl=90, rdata=A("192.0.2.2")),
        RR("b.net", QTYPE.AAAA, ttl=90, rdata=AAAA("2001:db8::1")),
    )
    assert found == (["192.0.2.1", "192.0.2.2", "2001:db8::1"], 60)


def test_what_does_not_belong_to_the_question_opens_nothing():
    found, _ = addresses(
        RR("other.com", QTYPE.A, ttl=60, rdata=A("192.0.2.1")),
        RR("a.com", QTYPE.TXT, ttl=60, rdata=TXT("192.0.2.2")),
        RR("c.com", QTYPE.CNAME, ttl=60, rdata=CNAME("d.com")),
        RR("d.com", QTYPE.A, ttl=60, rdata=A("192.0.2.3")),
    )
    assert found == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "::ffff:7f00:1", "fe80::1"]
)
def test_a_name_opens_no_way_to_the_machine_itself(address):
    kind = QTYPE.AAAA if ":" in address else QTYPE.A
    data = AAAA(address) if ":" in address else A(address)
    assert addresses(RR("a.com", kind, ttl=60, rdata=data))[0] == []


def test_private_addresses_are_hosts_elsewhere():
    assert addresses(RR("a.com", QTYPE.A, ttl=5, rdata=A("10.1.2.3"))) == (["10.1.2.3"], 5)


def test_an_answer_that_breaks_off_gives_what_was_there():
    query = dns.parse(ask("a.com"))
    message = reply_to(
        query,
        RR("a.com", QTYPE.A, ttl=60, rdata=A("192.0.2.1")),
        RR("a.com", QTYPE.A, ttl=60, rdata=A("192.0.2.2")),
    )
    assert dns.resolved(query, message[:-2])[0] == ["192.0.2.1"]
    wrong = message[:-6] + struct.pack("!H", 3) + message[-4:]  # an address of three bytes
    assert dns.resolved(query, wrong)[0] == ["192.0.2.1"]


@pytest.mark.parametrize("depth", [300, 8000])
def test_a_name_of_pointers_to_pointers_does_not_hold_it_up(monkeypatch, depth):
    """Each pointer leads to the one before it, and each record to the last of them."""
    followed = []
    real = DNSBuffer.decode_name
    monkeypatch.setattr(DNSBuffer, "decode_name", lambda *how: followed.append(1) or real(*how))
    query = dns.parse(ask("a.com"))
    head = struct.pack("!HHHHHH", 0x1234, 0x8180, 1, 4000, 0, 0) + query.data[12:]
    first = len(head) + 11
    chain = b"\xc0\x0c" + b"".join(struct.pack("!H", 0xC000 | first + 2 * n) for n in range(depth))
    text = b"\0" + struct.pack("!HHIH", QTYPE.TXT, 1, 60, len(chain)) + chain
    record = struct.pack("!HHHIH", 0xC000 | first + 2 * depth, QTYPE.TXT, 1, 60, 0)
    assert dns.resolved(query, head + text + record * 4000)[0] == []
    assert len(followed) < 2500


@given(st.binary(max_size=2000), st.integers(0, 60))
@settings(max_examples=300, deadline=1000)
def test_no_answer_does_harm(junk, keep):
    query = dns.parse(ask("a.com"))
    message = reply_to(query, RR("a.com", QTYPE.A, ttl=60, rdata=A("192.0.2.1")))[:keep] + junk
    dns.answers(query, NUMBER, message)
    found, ttl = dns.resolved(query, message)
    for one in found:
        socket.inet_pton(socket.AF_INET6 if ":" in one else socket.AF_INET, one)
    assert ttl >= 0
