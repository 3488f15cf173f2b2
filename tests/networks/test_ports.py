"""Ports of the host: who gets which, and what is said to who does not. In namespaces of the tests'
own, where every port is free."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from cellbox.errors import Conflict, InUse, InvalidArgument, NotSupported, PermissionDenied
from cellbox.linux import syscalls
from cellbox.model.container import PortSpec
from cellbox.networks import ports

pytestmark = pytest.mark.root


@pytest.fixture
def host(apart):
    """``host(action)``: run it where there is nothing but a loopback interface."""

    def run(action):
        def inside():
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            return action()

        return apart(inside)

    return run


def families(bound):
    return [one.family for one in bound.sockets]


def open_fds():
    return len(os.listdir("/proc/self/fd"))


def test_a_port_of_all_addresses_answers_on_all(host):
    def action():
        (bound,) = ports.bind([PortSpec(80, host_port=8080)])
        assert bound.spec == PortSpec(80, host_port=8080)
        assert families(bound) == [socket.AF_INET, socket.AF_INET6]
        assert not any(one.get_inheritable() or one.getblocking() for one in bound.sockets)
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, 8080), 2).close()
        bound.close()
        return [one.fileno() for one in bound.sockets]

    assert host(action) == [-1, -1]


def test_an_address_of_its_own(host):
    def action():
        four, six, brackets = ports.bind(
            [
                PortSpec(80, host_ip="127.0.0.1", host_port=80),
                PortSpec(80, host_ip="::1", host_port=80),
                PortSpec(81, host_ip="[::1]", host_port=81),
            ]
        )
        assert four.sockets[0].getsockname() == ("127.0.0.1", 80)
        assert six.sockets[0].getsockname()[:2] == ("::1", 80)
        assert brackets.sockets[0].getsockname()[:2] == ("::1", 81)

    host(action)


def test_any_port_is_the_same_for_both_families(host):
    def action():
        for protocol in ("tcp", "udp"):
            (bound,) = ports.bind([PortSpec(80, protocol)])
            numbers = {one.getsockname()[1] for one in bound.sockets}
            assert numbers == {bound.spec.host_port} and bound.spec.host_port > 0

    host(action)


def test_any_port_is_found_where_the_first_ones_are_taken_by_ipv6(host, tmp_path):
    """The kernel looks at IPv4 only when it chooses; three of four are taken in IPv6."""

    def action():
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write("50000 50003")
        held = ports.bind([PortSpec(1, host_ip="::1", host_port=50000 + n) for n in range(3)])
        (bound,) = ports.bind([PortSpec(80)])
        assert bound.spec.host_port == 50003 and len(held) == 3

    host(action)


def test_the_first_free_one_of_a_range(host):
    def action():
        wanted = PortSpec(80, host_port=8000, host_port_end=8002)
        got = [ports.bind([wanted], "box")[0] for _ in range(3)]
        assert [one.spec.host_port for one in got] == [8000, 8001, 8002]
        with pytest.raises(InUse, match="port is already allocated"):
            ports.bind([wanted], "box")
        got[1].close()
        assert ports.bind([wanted])[0].spec.host_port == 8001

    host(action)


def test_who_takes_any_port_does_not_take_one_that_another_asks_for(host):
    def action():
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write("50000 50001")
        wanted = [
            PortSpec(1),
            PortSpec(2, host_port=50000, host_port_end=50001),
            PortSpec(3, host_port=50000),
        ]
        with pytest.raises(InUse):
            ports.bind(wanted)  # three of two
        return [one.spec.host_port for one in ports.bind(wanted[1:])]

    assert host(action) == [50001, 50000]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_taken_port_is_refused_in_dockers_words_and_nothing_is_kept(host, protocol):
    def action():
        first = ports.bind([PortSpec(80, protocol, host_port=8080)])
        before = open_fds()
        with pytest.raises(Conflict) as caught:
            ports.bind(
                [PortSpec(1, protocol, host_port=8081), PortSpec(80, protocol, host_port=8080)],
                "web",
            )
        assert open_fds() == before
        assert first and ports.bind([PortSpec(1, protocol, host_port=8081)])
        return str(caught.value)

    assert host(action) == (
        "driver failed programming external connectivity on endpoint web: "
        "Bind for 0.0.0.0:8080 failed: port is already allocated"
    )


def test_a_port_that_only_ipv6_has_taken(host):
    def action():
        held = ports.bind([PortSpec(80, host_ip="::", host_port=8080)])
        before = open_fds()
        with pytest.raises(InUse):
            ports.bind([PortSpec(80, host_port=8080)])
        assert open_fds() == before and held
        ports.bind([PortSpec(80, host_ip="0.0.0.0", host_port=8080)])
        with pytest.raises(InUse, match=r"Bind for \[::\]:8080 failed"):
            ports.bind([PortSpec(80, host_ip="::", host_port=8080)])

    host(action)


def test_the_same_number_for_another_protocol_is_another_port(host):
    host(
        lambda: [
            one.close()
            for one in ports.bind([PortSpec(53, p, host_port=53) for p in ("tcp", "udp")])
        ]
    )


def test_a_port_whose_connections_have_just_ended_is_free(host):
    def action():
        (bound,) = ports.bind([PortSpec(80, host_port=8080)])
        client = socket.create_connection(("127.0.0.1", 8080))
        server, _ = bound.sockets[0].accept()
        server.close()  # it ends first, so it is the one in TIME_WAIT
        client.close()
        bound.close()
        ports.bind([PortSpec(80, host_port=8080)])

    host(action)


def test_without_ipv6_the_other_one_is_enough(host):
    def action():
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as file:
            file.write("1")
        real = ports.socket.socket

        def four_only(family, *how):
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            return real(family, *how)

        ports.socket.socket = four_only
        (bound,) = ports.bind([PortSpec(80, host_port=80)])
        with pytest.raises(InvalidArgument, match="does not speak IPv6"):
            ports.bind([PortSpec(80, host_ip="::1", host_port=81)])
        return families(bound)

    assert host(action) == [socket.AF_INET]


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (PortSpec(80, "sctp", host_port=80), NotSupported, "sctp"),
        (PortSpec(80, host_ip="10.11.12.13", host_port=80), InvalidArgument, "have this address"),
        (PortSpec(80, host_ip="localhost", host_port=80), InvalidArgument, "not an IP address"),
    ],
)
def test_what_cannot_be_published(host, spec, error, text):
    def action():
        before = open_fds()
        with pytest.raises(error, match=text):
            ports.bind([spec], "box")
        assert open_fds() == before

    host(action)


def test_an_ordinary_user_is_told_which_ports_are_free_for_all(host):
    def action():
        syscalls.capset(0, 0, 0)
        with pytest.raises(PermissionDenied, match="ip_unprivileged_port_start"):
            ports.bind([PortSpec(80, host_port=80)])
        return ports.bind([PortSpec(80, host_port=8080)])[0].spec.host_port

    assert host(action) == 8080


def test_nothing_asked_for_is_nothing_taken():
    assert ports.bind([]) == []
