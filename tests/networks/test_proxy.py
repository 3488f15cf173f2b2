"""The proxy between two namespaces of the tests' own: ``host`` has the published ports, ``box`` is
the container."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import socket
import struct
import subprocess
import termios
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.networks.conftest import rights

from cellbox.model.container import PortSpec
from cellbox.networks import ports, proxy

pytestmark = pytest.mark.root
TCP, UDP = PortSpec(80, host_port=8080), PortSpec(53, "udp", host_port=8053)


class Host:
    """Both namespaces, below ``apart``; what is published is served by a child."""

    def __init__(self, box):
        self.box = box
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        box.run("ip", "link", "set", "lo", "up")
        box.run("ip", "address", "add", "10.9.0.2/32", "dev", "lo")

    @contextmanager
    def published(self, *specs, address="127.0.0.1", **settings):
        bound = ports.bind(specs)
        stop, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(end)
            gc.disable()  # as in all that the launcher forks: nothing may need it
            for name, value in settings.items():
                setattr(proxy, name, value)
            code = 1
            try:
                proxy.serve(bound, self.box.fd, address, stop)
                code = 0
            finally:
                os._exit(code)
        os.close(stop)
        try:
            yield pid
        finally:
            os.close(end)
            assert os.waitpid(pid, 0)[1] == 0

    def bound(self, kind, port, address="127.0.0.1"):
        """A socket of the container."""
        with self.box.entered():
            made = socket.socket(socket.AF_INET, kind)
            made.bind((address, port))
        made.settimeout(5)
        return made

    def serving(self, handle, port=80):
        """A server in the container, one thread per connection."""
        listener = self.box.listen("127.0.0.1", port)
        listener.listen(2048)

        def accept():
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listener


@pytest.fixture
def host(apart, space):
    """``host(action)``: call it with a Host, in a child."""
    return lambda action: apart(lambda: action(Host(space())))


def connect(address="127.0.0.1"):
    made = socket.create_connection((address, 8080), 5)
    made.settimeout(10)
    return made


def read(connection, count):
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


def read_all(connection):
    data = bytearray()
    while chunk := connection.recv(1 << 20):
        data += chunk
    return bytes(data)


def echo(connection):
    with connection, suppress(OSError):
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def echo_many(listener):
    """As :func:`echo`, for all in one thread."""
    poll, connections = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
            elif data := connections[fd].recv(100):
                connections[fd].send(data)
            else:
                poll.unregister(fd)
                connections.pop(fd).close()


def memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return {line.split()[0]: int(line.split()[1]) for line in file if "kB" in line}


# TCP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_bytes_go_both_ways(host, address):
    def action(host):
        with host.published(TCP):
            host.serving(echo)
            with connect(address) as client:
                for word in (b"one", b"two", b"x" * 100_000):
                    client.sendall(word)
                    assert read(client, len(word)) == word

    host(action)


def test_the_containers_own_address(host):
    def action(host):
        listener = host.box.listen("10.9.0.2", 80)
        with host.published(TCP, address="10.9.0.2"), connect() as client:
            server, _ = listener.accept()
            server.sendall(b"here")
            return client.recv(10)

    assert host(action) == b"here"


@pytest.mark.parametrize("first", ["client", "server"])
def test_each_direction_ends_for_itself(host, first):
    def action(host):
        listener = host.box.listen("127.0.0.1", 80)
        with host.published(TCP), connect() as client:
            server, _ = listener.accept()
            server.settimeout(5)
            one, other = (client, server) if first == "client" else (server, client)
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            assert read_all(other) == b"question"
            other.sendall(b"answer")
            other.close()
            assert read_all(one) == b"answer"

    host(action)


def test_a_refused_connection_ends_the_clients(host):
    def action(host):
        with host.published(TCP) as pid:
            counts = []
            for _ in range(3):
                with pytest.raises(ConnectionResetError), connect() as client:
                    client.recv(1)
                counts.append(len(os.listdir(f"/proc/{pid}/fd")))
            return counts

    assert len(set(host(action))) == 1


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_is_passed_on_as_one(host, first):
    def action(host):
        listener = host.box.listen("127.0.0.1", 80)
        with host.published(TCP), connect() as client:
            server, _ = listener.accept()
            server.settimeout(5)
            client.sendall(b"x")
            server.recv(1)
            one, other = (client, server) if first == "client" else (server, client)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            with pytest.raises(ConnectionResetError):
                other.recv(1)

    host(action)


def test_who_does_not_read_holds_up_who_sends(host):
    """Memory is bounded, nothing is lost, and another connection is not held up."""

    def action(host):
        listener = host.box.listen("127.0.0.1", 80)
        with host.published(TCP), connect() as client:
            server, _ = listener.accept()
            client.setblocking(False)
            sent = 0
            while select.select([], [client], [], 0.5)[1]:
                sent += client.send(bytes(1 << 16))
                assert sent < 64 << 20
            with connect() as second:
                other, _ = listener.accept()
                other.sendall(b"quick")
                assert second.recv(10) == b"quick"
            client.shutdown(socket.SHUT_WR)
            server.settimeout(10)
            return sent, len(read_all(server))

    sent, received = host(action)
    assert sent == received


def test_nothing_spins_while_one_side_has_ended_and_the_other_lags_behind(host):
    """The kernel tells that again and again (EPOLLHUP), of a socket from which nothing is wanted:
    that is, when it has all that its sender sent, and both directions of it have ended."""

    def action(host):
        with host.box.entered():  # so that little is on its way there, and more waits here
            for name in ("tcp_rmem", "tcp_wmem"):
                with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                    file.write("4096 16384 65536")
        listener = host.box.listen("127.0.0.1", 80)
        with host.published(TCP) as pid, connect() as client:
            server, _ = listener.accept()
            server.settimeout(10)
            server.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            sent = 0
            while not stuck(client):
                sent += client.send(bytes(1 << 14))
            client.shutdown(socket.SHUT_WR)
            received = 0
            while stuck(client, 0.02):  # until all of it, its end too, is where the proxy is
                received += len(server.recv(1 << 12))
            before = ticks(pid)
            time.sleep(0.3)
            spent = ticks(pid) - before
            return sent, received + len(read_all(server)), spent

    sent, received, spent = host(action)
    assert sent == received and spent < 10


def outstanding(connection):
    """Bytes that the other side has not acknowledged (SIOCOUTQ of tcp(7))."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]


def stuck(connection, seconds=0.3):
    deadline = time.monotonic() + seconds
    while outstanding(connection):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.001)
    return False


def ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().split()[13:15]))


def test_a_thousand_connections_at_once(host):
    def action(host):
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
        with host.published(TCP) as pid:
            listener = host.box.listen("127.0.0.1", 80)
            listener.listen(2048)
            threading.Thread(target=echo_many, args=(listener,), daemon=True).start()
            idle = memory(pid)["Private_Dirty:"]
            inherited = len(os.listdir(f"/proc/{pid}/fd"))  # the fork has the tests' own as well
            clients = [connect() for _ in range(1000)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number)
            for number, client in enumerate(clients):
                assert client.recv(100) == b"%d" % number
            fds = len(os.listdir(f"/proc/{pid}/fd")) - inherited
            used = memory(pid)["Private_Dirty:"] - idle
            for client in clients:
                client.close()
            deadline = time.monotonic() + 30
            while len(os.listdir(f"/proc/{pid}/fd")) > inherited + 100:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return fds, used

    fds, used = host(action)
    print(f"1000 connections: {fds} descriptors, {used} kB")
    assert fds < 2100 and used < 8000


def test_nothing_is_kept_of_connections_that_ended(host, until):
    def action(host):
        with host.published(TCP) as pid:
            host.serving(echo)

            def talk(count):
                for _ in range(count):
                    with connect() as client:
                        client.sendall(b"word")
                        client.recv(10)
                return len(os.listdir(f"/proc/{pid}/fd")), memory(pid)["Private_Dirty:"]

            fds, _ = talk(1)
            used = [talk(500)[1] for _ in range(5)]
            until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= fds, 5)
            return min(after - before for before, after in pairwise(used))

    # Of the best round: a page that is written to for the first time counts as well.
    assert host(action) < 200


def test_out_of_descriptors_others_wait_and_are_served_later(host):
    def action(host):
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 50  # whatever this process has open
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        listener = host.box.listen("127.0.0.1", 80)
        listener.listen(100)
        listener.settimeout(5)
        with host.published(TCP):
            clients = [connect() for _ in range(12)]
            servers = [listener.accept()[0] for _ in range(12)]
            extra = [socket.create_connection(("127.0.0.1", 8080), 5) for _ in range(10)]
            for one in clients + servers:
                one.close()
            threading.Thread(target=greet, args=(listener,), daemon=True).start()
            return [_greeting(one) for one in extra]

    assert host(action) == [b"late"] * 10


def greet(listener):
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.sendall(b"late")
            connection.close()


def _greeting(connection):
    with connection, suppress(ConnectionResetError):
        return connection.recv(4)
    return b""


def test_throughput(host):
    size = 1 << 30

    def action(host):
        def sink(connection):
            with connection:
                buffer = bytearray(1 << 20)
                count = 0
                while read := connection.recv_into(buffer):
                    count += read
                connection.sendall(b"%d" % count)

        def seconds(connection):
            began, chunk = time.monotonic(), bytes(1 << 20)
            for _ in range(size >> 20):
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
            assert int(read_all(connection)) == size
            return time.monotonic() - began

        with host.published(TCP):
            host.serving(sink)
            with connect() as client:
                through = seconds(client)
            with host.box.entered():
                straight = socket.create_connection(("127.0.0.1", 80))
            return through, seconds(straight)

    through, straight = host(action)
    print(f"{size / through / 1e6:.0f} MB/s through the proxy, {size / straight / 1e6:.0f} without")
    assert size / through > 50e6


def test_it_ends_with_its_shim_also_amid_a_transfer(host):
    def action(host):
        listener = host.box.listen("127.0.0.1", 80)
        with host.published(TCP):
            client = connect()
            server, _ = listener.accept()
            client.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    client.send(bytes(1 << 16))
        server.settimeout(5)
        with suppress(ConnectionResetError):
            read_all(server)  # it comes to an end

    host(action)


# UDP --------------------------------------------------------------------------------------------


def udp_client(address="127.0.0.1"):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    made.connect((address, 8053))
    return made


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_datagrams_find_their_way_back_to_who_sent(host, address):
    def action(host):
        server = host.bound(socket.SOCK_DGRAM, 53)
        with host.published(UDP):
            clients = [udp_client(address) for _ in range(5)]
            for number, client in enumerate(clients):
                client.send(b"%d" % number)
            for _ in clients:
                data, sender = server.recvfrom(100)
                server.sendto(b"re " + data, sender)
            for number, client in enumerate(clients):
                assert client.recv(100) == b"re %d" % number

    host(action)


def test_an_answer_comes_from_the_address_that_was_asked(host):
    def action(host):
        server = host.bound(socket.SOCK_DGRAM, 53)
        with host.published(UDP), udp_client("127.1.2.3") as client:
            client.send(b"x")  # connected, so that it hears this address only
            _, sender = server.recvfrom(100)
            server.sendto(b"y", sender)
            return client.recv(100)

    assert host(action) == b"y"


def test_datagrams_keep_their_borders_and_sizes(host):
    def action(host):
        server = host.bound(socket.SOCK_DGRAM, 53)
        with host.published(UDP), udp_client() as client:
            sizes = [0, 1, 1400, 60_000]
            for size in sizes:
                client.send(bytes(size))
            return sizes, [len(server.recv(1 << 16)) for _ in sizes]

    sizes, got = host(action)
    assert sizes == got


def test_nobody_there_is_no_end_of_it(host, until):
    """The error that comes back for a datagram is not the next one's."""

    def action(host):
        with host.published(UDP) as pid, udp_client() as client:
            idle = len(os.listdir(f"/proc/{pid}/fd"))
            client.send(b"lost")
            until(lambda: len(os.listdir(f"/proc/{pid}/fd")) > idle)
            client.send(b"lost")
            server = host.bound(socket.SOCK_DGRAM, 53)
            client.send(b"found")
            while (data := server.recv(100)) == b"lost":
                continue
            return data

    assert host(action) == b"found"


def test_the_error_of_an_earlier_datagram_does_not_cost_the_next_one():
    """send(2) of a connected socket tells it instead of sending."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as session, socket.socket(*kind) as late:
        with socket.socket(*kind) as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = nobody.getsockname()
        session.connect(address)
        session.send(b"lost")
        assert select.select([session], [], [], 5)[0]  # the error is there
        late.bind(address)
        late.settimeout(5)
        proxy._send(session, b"found")
        assert late.recv(100) == b"found"


def test_silent_sessions_end_and_too_many_end_the_oldest(host, until):
    def action(host):
        server = host.bound(socket.SOCK_DGRAM, 53)
        with host.published(UDP, UDP_SECONDS=1.0, MAX_SESSIONS=8) as pid:
            clients = [udp_client() for _ in range(20)]
            before = 0
            for client in clients:
                client.send(b"x")
                server.recv(10)
                before = before or len(os.listdir(f"/proc/{pid}/fd")) - 1
            most = len(os.listdir(f"/proc/{pid}/fd")) - before
            until(lambda: len(os.listdir(f"/proc/{pid}/fd")) == before, 10)
            clients[0].send(b"again")
            return most, server.recv(10)

    assert host(action) == (8, b"again")


def test_several_ports_by_one_process(host):
    def action(host):
        server = host.bound(socket.SOCK_DGRAM, 53)
        listener = host.box.listen("127.0.0.1", 80)
        other = host.box.listen("127.0.0.1", 81)
        with host.published(TCP, replace(TCP, port=81, host_port=8081), UDP):
            with udp_client() as client:
                client.send(b"u")
                assert server.recv(10) == b"u"
            connect().close()
            listener.accept()
            socket.create_connection(("127.0.0.1", 8081)).close()
            other.accept()

    host(action)


def test_it_has_no_rights(host):
    def action(host):
        with host.published(TCP) as pid:
            host.serving(echo)
            with connect() as client:  # so it serves by now
                client.sendall(b"word")
                assert client.recv(10) == b"word"
            return rights(pid)

    assert host(action) == (0, 0, 1)
