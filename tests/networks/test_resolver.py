"""The resolver between a container's namespace, ``box``, and the host's, both of the tests' own, in
which name servers of the test listen on addresses of the loopback interface."""

from __future__ import annotations

import gc
import os
import select
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest
from dnslib import QTYPE, RCODE, RR, TXT, A, DNSRecord
from tests.networks.conftest import rights

from cellbox.networks import resolver
from cellbox.networks.names import publish, withdraw
from cellbox.networks.resolver import Settings
from cellbox.networks.wiring import RESOLVER

pytestmark = pytest.mark.root
FIRST, SECOND = "127.0.0.53", "127.0.0.54"


class Box:
    """A container's namespace with the sockets of its resolver, below ``apart``."""

    def __init__(self, space, tmp_path):
        self.space = space
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        space.run("ip", "link", "set", "lo", "up")
        self.network = str(tmp_path / "net")
        publish(self.network, "1" * 64, "c" * 64, ["web"], "10.0.0.2", "fd00::2")
        publish(self.network, "2" * 64, "d" * 64, ["db"], "10.0.0.3")
        self.listener = space.listen(RESOLVER, 53)
        self.asked = self.socket(socket.SOCK_DGRAM, (RESOLVER, 53))

    def socket(self, kind, address=None):
        """A socket in there."""
        with self.space.entered():
            made = socket.socket(socket.AF_INET, kind)
        if address:
            made.bind(address)
        made.settimeout(5)
        return made

    @contextmanager
    def resolver(self, *upstreams, allow=None, aliases=(), learned=None, inside=False, **constants):
        settings = Settings({"net": self.network}, dict(aliases), upstreams, allow)
        stop, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(end)
            gc.disable()  # as in all that the launcher forks: nothing may need it
            for name, value in constants.items():
                setattr(resolver, name, value)
            code = 1
            try:
                fds = self.asked.fileno(), self.listener.fileno()
                netns = self.space.fd if inside else None
                resolver.serve(*fds, settings, stop, netns=netns, learned=learned)
                code = 0
            finally:
                os._exit(code)
        os.close(stop)
        try:
            yield pid
        finally:
            os.close(end)
            assert os.waitpid(pid, 0)[1] == 0

    def client(self):
        made = self.socket(socket.SOCK_DGRAM)
        made.connect((RESOLVER, 53))
        return made

    def stream(self):
        made = self.socket(socket.SOCK_STREAM)
        made.connect((RESOLVER, 53))
        return made

    def ask(self, name, kind="A"):
        with self.client() as client:
            query = DNSRecord.question(name, kind)
            client.send(query.pack())
            reply = DNSRecord.parse(client.recv(4096))
        assert reply.header.id == query.header.id and reply.q == query.q
        return RCODE[reply.header.rcode], [str(one.rdata) for one in reply.rr]


@pytest.fixture
def box(apart, space, tmp_path):
    """``box(action)``: call it with a Box, in a child."""
    return lambda action: apart(lambda: action(Box(space(), tmp_path)))


class Server:
    """A name server of the host; ``answer`` maps a query to a reply or several, as records or
    bytes."""

    def __init__(self, address, answer, box=None, *, tcp=True):
        def make(kind):
            made = box.socket(kind) if box else socket.socket(socket.AF_INET, kind)
            made.settimeout(None)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, 53))
            return made

        self.answer, self.seen = answer, []
        self.datagrams = make(socket.SOCK_DGRAM)
        threading.Thread(target=self._serve, daemon=True).start()
        if tcp:
            self.listener = make(socket.SOCK_STREAM)
            self.listener.listen(16)
            threading.Thread(target=self._serve_streams, daemon=True).start()

    def _replies(self, data, stream):
        self.seen.append(data)
        replies = self.answer(DNSRecord.parse(data), stream)
        many = replies if isinstance(replies, list) else [replies]
        return [bytes(one.pack()) if isinstance(one, DNSRecord) else one for one in many]

    def _serve(self):
        while True:
            data, sender = self.datagrams.recvfrom(4096)
            for reply in self._replies(data, False):
                self.datagrams.sendto(reply, sender)

    def _serve_streams(self):
        while True:
            connection, _ = self.listener.accept()
            with connection, suppress(OSError):
                length = struct.unpack("!H", connection.recv(2))[0]
                for reply in self._replies(connection.recv(length), True):
                    connection.sendall(struct.pack("!H", len(reply)) + reply[:10])
                    connection.sendall(reply[10:])


def found(address):
    """Answers every name by this address."""

    def answer(query, _stream):
        reply = query.reply()
        reply.add_answer(RR(query.q.qname, QTYPE.A, ttl=60, rdata=A(address)))
        return reply

    return answer


def coded(code):
    """Answers everything by a code alone."""

    def answer(query, _stream):
        reply = query.reply()
        reply.header.rcode = code
        return reply

    return answer


def silent(_query, _stream):
    return []


# Names of the container's networks --------------------------------------------------------------


def test_names_and_addresses_of_the_network(box):
    def action(box):
        with box.resolver():
            assert box.ask("web") == ("NOERROR", ["10.0.0.2"])
            assert box.ask("WEB.net.", "AAAA") == ("NOERROR", ["fd00::2"])
            assert box.ask("db", "AAAA") == ("NOERROR", [])
            assert box.ask("2.0.0.10.in-addr.arpa", "PTR") == ("NOERROR", ["web.net."])

    box(action)


def test_the_query_that_made_it_start_is_answered(box):
    """The shim sees that there is one, and leaves it where it is."""

    def action(box):
        with box.client() as client, box.stream() as stream:
            query = bytes(DNSRecord.question("web").pack())
            client.send(query)
            stream.send(struct.pack("!H", len(query)) + query)
            with box.resolver():
                assert DNSRecord.parse(client.recv(4096)).rr
                assert DNSRecord.parse(stream.recv(4096)[2:]).rr

    box(action)


def test_who_comes_and_goes_meanwhile(box):
    def action(box):
        with box.resolver(FIRST):
            Server(FIRST, coded(RCODE.NXDOMAIN))
            assert box.ask("new") == ("NXDOMAIN", [])
            publish(box.network, "3" * 64, "e", ["new"], "10.0.0.4")
            assert box.ask("new") == ("NOERROR", ["10.0.0.4"])
            withdraw(box.network, "3" * 64)
            assert box.ask("new") == ("NXDOMAIN", [])

    box(action)


def test_names_of_its_own(box):
    def action(box):
        with box.resolver(aliases={"site": "web", "far": "192.0.2.1"}):
            assert box.ask("site") == ("NOERROR", ["10.0.0.2"])
            assert box.ask("far") == ("NOERROR", ["192.0.2.1"])

    box(action)


def test_the_systems_own_resolver_understands_it(box, tmp_path):
    """What a program in a container does: getaddrinfo(3), by way of resolv.conf(5)."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {RESOLVER}\noptions ndots:0\n")

    def action(box):
        Server(FIRST, found("192.0.2.9"))
        with box.resolver(FIRST):
            script = (
                f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
                "getent ahosts web && getent hosts 10.0.0.2 && getent ahosts example.test"
            )
            return box.space.run("unshare", "-m", "sh", "-c", script)

    out = box(action).split()
    assert {"10.0.0.2", "fd00::2", "web.net", "192.0.2.9"} <= set(out)


# Other names ------------------------------------------------------------------------------------


def test_other_names_are_asked_for_from_the_hosts_namespace(box):
    def action(box):
        server = Server(FIRST, found("192.0.2.1"))
        with box.resolver(FIRST):
            assert box.ask("example.com") == ("NOERROR", ["192.0.2.1"])
            assert box.ask("single") == ("NOERROR", ["192.0.2.1"])
            for _ in range(20):
                box.ask("web.example.com")
        ids = {data[:2] for data in server.seen}
        assert len(ids) > 15  # not the client's, nor one after the other

    box(action)


def test_servers_of_the_containers_own(box):
    def action(box):
        Server(FIRST, found("192.0.2.1"))
        Server(FIRST, found("192.0.2.2"), box)
        with box.resolver(RESOLVER, FIRST, inside=True):
            return box.ask("example.com")

    assert box(action) == ("NOERROR", ["192.0.2.2"])


def test_it_does_not_ask_itself(box):
    def action(box):
        with box.resolver(RESOLVER, inside=True):
            return box.ask("example.com")

    assert box(action) == ("NXDOMAIN", [])


@pytest.mark.parametrize(
    "first", [coded(RCODE.SERVFAIL), coded(RCODE.REFUSED), silent, None, lambda *_: b"junk"]
)
def test_the_next_server_is_asked_where_one_does_not_know(box, first):
    def action(box):
        if first:
            Server(FIRST, first)
        Server(SECOND, found("192.0.2.2"))
        with box.resolver("203.0.113.1", FIRST, SECOND, UPSTREAM_SECONDS=0.2):
            return box.ask("example.com")

    assert box(action) == ("NOERROR", ["192.0.2.2"])


@pytest.mark.parametrize(
    ("answer", "code"),
    [(silent, "SERVFAIL"), (None, "SERVFAIL"), (coded(RCODE.REFUSED), "REFUSED")],
)
def test_when_none_of_them_knows_that_is_said(box, answer, code):
    def action(box):
        if answer:
            Server(FIRST, answer)
        with box.resolver(FIRST, UPSTREAM_SECONDS=0.1):
            return box.ask("example.com")

    assert box(action) == (code, [])


def test_without_servers_only_the_networks_names_exist(box):
    """CVE-2024-29018: nothing of an internal network leaves by way of a name server."""

    def action(box):
        with box.resolver():
            assert box.ask("secret.example.com") == ("NXDOMAIN", [])
            assert box.ask("web") == ("NOERROR", ["10.0.0.2"])

    box(action)


def test_a_forged_answer_is_passed_over(box):
    """Another id, another question, and no answer at all come before the right one."""

    def answer(query, _stream):
        good = found("192.0.2.1")(query, False)
        evil = found("6.6.6.6")(query, False)
        evil.header.id ^= 1
        other = found("6.6.6.6")(DNSRecord.question("other.com"), False)
        other.header.id = query.header.id
        return [evil, other, query, good]

    def action(box):
        Server(FIRST, answer)
        with box.resolver(FIRST):
            return box.ask("example.com")

    assert box(action) == ("NOERROR", ["192.0.2.1"])


def test_nobody_waits_for_another_ones_answer(box):
    def action(box):
        Server(FIRST, silent)
        with box.resolver(FIRST):
            clients = [box.client() for _ in range(50)]
            for client in clients:
                client.send(DNSRecord.question("slow.example.com").pack())
            began = time.monotonic()
            for _ in range(20):
                assert box.ask("web") == ("NOERROR", ["10.0.0.2"])
            return time.monotonic() - began

    assert box(action) < 1


def test_too_many_at_once_are_told_so_at_once(box):
    def action(box):
        Server(FIRST, silent)
        with box.resolver(FIRST, MAX_PENDING=10, UPSTREAM_SECONDS=0.5), box.client() as client:
            for number in range(30):
                query = DNSRecord.question("slow.example.com")
                query.header.id = number
                client.send(query.pack())
            replies = [DNSRecord.parse(client.recv(4096)) for _ in range(30)]
            assert {RCODE[one.header.rcode] for one in replies} == {"SERVFAIL"}
            order = [one.header.id for one in replies]
            assert order[:20] == list(range(10, 30)) and sorted(order[20:]) == list(range(10))
            return box.ask("web")

    assert box(action) == ("NOERROR", ["10.0.0.2"])


# What may be asked ------------------------------------------------------------------------------


def test_only_what_is_allowed_is_asked_for(box):
    def action(box):
        server = Server(FIRST, found("192.0.2.1"))
        with box.resolver(FIRST, allow=("example.com", "*.pypi.org")):
            assert box.ask("Example.com") == ("NOERROR", ["192.0.2.1"])
            assert box.ask("files.pypi.org") == ("NOERROR", ["192.0.2.1"])
            assert box.ask("web") == ("NOERROR", ["10.0.0.2"])
            for name in ("secret.evil.com", "pypi.org", "x.example.com", "example.com.evil.com"):
                assert box.ask(name) == ("NXDOMAIN", [])
        return len(server.seen)

    assert box(action) == 2


def test_nothing_allowed_is_nothing_asked_for(box):
    def action(box):
        server = Server(FIRST, found("192.0.2.1"))
        with box.resolver(FIRST, allow=()):
            assert box.ask("example.com") == ("NXDOMAIN", [])
        return server.seen

    assert box(action) == []


def test_what_was_found_is_told_before_the_answer(box):
    def action(box):
        Server(FIRST, found("192.0.2.1"))
        read, write = os.pipe()

        def learned(name, addresses, seconds):
            os.write(write, repr((name, addresses, seconds)).encode())

        with box.resolver(FIRST, allow=("*.example.com",), learned=learned):
            box.ask("A.example.com")
            assert select.select([read], [], [], 0)[0]  # it was, since the answer is there
            told = os.read(read, 1000).decode()
            box.ask("web")
            box.ask("b.evil.com")
            assert not select.select([read], [], [], 0)[0]
        return told

    assert box(action) == repr(("a.example.com", ["192.0.2.1"], 60))


def test_an_answer_whose_addresses_cannot_be_reached_is_none(box):
    def action(box):
        Server(FIRST, found("192.0.2.1"))

        def learned(*_):
            raise OSError(12, "no memory")

        with box.resolver(FIRST, allow=("example.com",), learned=learned):
            return box.ask("example.com")

    assert box(action) == ("SERVFAIL", [])


# TCP --------------------------------------------------------------------------------------------


def frame(query):
    data = bytes(query.pack())
    return struct.pack("!H", len(data)) + data


def unframe(stream):
    length = struct.unpack("!H", take(stream, 2))[0]
    return DNSRecord.parse(take(stream, length))


def take(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece, "it ended"
        data += piece
    return data


def big(query, stream):
    """What needs TCP: by UDP only the mark that there is more."""
    reply = query.reply()
    if stream:
        reply.add_answer(*(RR(query.q.qname, QTYPE.TXT, rdata=TXT("x" * 250)) for _ in range(100)))
    else:
        reply.header.tc = 1
    return reply


def test_many_queries_in_pieces_over_one_connection(box):
    def action(box):
        with box.resolver(), box.stream() as stream:
            data = frame(DNSRecord.question("web")) + frame(DNSRecord.question("db"))
            for byte in data:
                stream.send(bytes([byte]))
            stream.shutdown(socket.SHUT_WR)
            answers = [str(unframe(stream).a.rdata) for _ in range(2)]
            assert stream.recv(1) == b""
            return answers

    assert box(action) == ["10.0.0.2", "10.0.0.3"]


def test_what_does_not_fit_is_fetched_by_tcp_for_who_asks_by_tcp(box):
    def action(box):
        Server(FIRST, big)
        with box.resolver(FIRST):
            with box.client() as client:
                client.send(DNSRecord.question("big.example.com", "TXT").pack())
                assert DNSRecord.parse(client.recv(4096)).header.tc
            with box.stream() as stream:
                stream.send(frame(DNSRecord.question("big.example.com", "TXT")))
                stream.shutdown(socket.SHUT_WR)  # it may be waited for all the same
                return len(unframe(stream).rr)

    assert box(action) == 100


def test_a_server_without_tcp_is_one_that_does_not_know(box):
    def action(box):
        Server(FIRST, big, tcp=False)
        Server(SECOND, lambda query, stream: b"\0" * 20 if stream else big(query, stream))
        with box.resolver(FIRST, SECOND, UPSTREAM_SECONDS=0.5), box.stream() as stream:
            stream.send(frame(DNSRecord.question("big.example.com", "TXT")))
            return RCODE[unframe(stream).header.rcode]

    assert box(action) == "SERVFAIL"


def test_a_query_that_is_too_long_ends_its_connection(box):
    def action(box):
        with box.resolver(), box.stream() as stream:
            stream.send(b"\xff\xff")
            assert stream.recv(1) == b""

    box(action)


def test_the_oldest_connection_makes_room_for_a_further_one(box):
    def action(box):
        with box.resolver(MAX_CLIENTS=4):
            streams = [box.stream() for _ in range(6)]
            assert [stream.recv(1) for stream in streams[:2]] == [b"", b""]
            for stream in streams[2:]:
                stream.send(frame(DNSRecord.question("web")))
                assert unframe(stream).rr

    box(action)


def test_a_silent_connection_is_let_go(box):
    def action(box):
        with box.resolver(CLIENT_SECONDS=0.1), box.stream() as stream:
            stream.send(b"\0")  # of a length
            began = time.monotonic()
            assert stream.recv(1) == b""
            return time.monotonic() - began

    assert box(action) < 3


def test_a_client_that_does_not_read_is_let_go(box):
    def action(box):
        large = bytes(big(DNSRecord.question("big.example.com", "TXT"), True).pack())[2:]
        small = bytes(big(DNSRecord.question("big.example.com", "TXT"), False).pack())[2:]
        Server(FIRST, lambda query, stream: query.pack()[:2] + (large if stream else small))
        with box.resolver(FIRST), box.stream() as stream:
            queries = frame(DNSRecord.question("big.example.com", "TXT")) * 20
            deadline = time.monotonic() + 30
            with pytest.raises(ConnectionError):
                while time.monotonic() < deadline:
                    stream.sendall(queries)
            return box.ask("web")

    assert box(action) == ("NOERROR", ["10.0.0.2"])


# Its life ---------------------------------------------------------------------------------------


def test_it_ends_when_nobody_asks(box):
    def action(box):
        began = time.monotonic()
        with box.resolver(IDLE_SECONDS=0.3) as pid:
            time.sleep(0.2)
            box.ask("web")
            pidfd = os.pidfd_open(pid)
            assert select.select([pidfd], [], [], 5)[0]
            return time.monotonic() - began

    assert 0.5 <= box(action) < 3


def test_it_is_small_and_keeps_nothing(box):
    """A page that is written to for the first time counts as well, so that the best round counts:
    what is kept would be kept in every one."""

    def action(box):
        Server(FIRST, found("192.0.2.1"))
        with box.resolver(FIRST) as pid:

            def used(count=500):
                for number in range(count):
                    box.ask(f"n{number}.example.com")
                return private(pid)

            first = used(1)
            fds = len(os.listdir(f"/proc/{pid}/fd"))
            rounds = [used() for _ in range(5)]
            grown = min(after - before for before, after in pairwise(rounds))
            return len(os.listdir(f"/proc/{pid}/fd")) - fds, first, grown

    fds, first, grown = box(action)
    print(f"{first} kB of its own, {grown} kB more after 500 queries")
    assert fds == 0 and first < 20_000 and grown < 200


def test_it_has_no_rights(box):
    def action(box):
        with box.resolver() as pid:
            assert box.ask("web") == ("NOERROR", ["10.0.0.2"])
            return rights(pid)

    assert box(action) == (0, 0, 1)


def private(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))


def test_hostile_datagrams_do_not_end_it(box):
    def action(box):
        with box.resolver(), box.client() as client:
            for size in (0, 1, 11, 12, 13, 512, 4096, 60_000):
                client.send(os.urandom(size))
                client.send(b"\xc0\x0c" * (size // 2))
                client.send(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 9) + b"\xc0\x0c" * (size // 2))
            return box.ask("web")

    assert box(action) == ("NOERROR", ["10.0.0.2"])
