"""Ports as Docker prints them."""

from __future__ import annotations

import pytest

from cellbox_magics import published


def port(inside, outside=0, ip="", protocol="tcp"):
    told = {"PrivatePort": inside, "Type": protocol}
    return told | ({"IP": ip, "PublicPort": outside} if ip else {})


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([port(443), port(80)], "80/tcp, 443/tcp"),
        ([port(80), port(81), port(82), port(90)], "80-82/tcp, 90/tcp"),
        ([port(80), port(81, protocol="udp")], "80/tcp, 81/udp"),
        ([port(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp"),
        ([port(80, 80, "127.0.0.1")], "127.0.0.1:80->80/tcp"),
        (
            [port(80, 8080, "::"), port(80, 8080, "0.0.0.0"), port(443)],
            "443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        ),
        (
            [port(91, 91, "0.0.0.0"), port(90, 90, "0.0.0.0"), port(92, 93, "0.0.0.0")],
            "0.0.0.0:90-91->90-91/tcp, 0.0.0.0:93->92/tcp",
        ),
        ([port(90, 90, "::"), port(91, 91, "::")], "[::]:90-91->90-91/tcp"),
    ],
)
def test_the_ports_of_a_container_in_one_line(ports, text):
    assert published.summary(ports) == text


def test_numbers_sort_as_numbers():
    lines = ["80/tcp -> 0.0.0.0:9", "80/tcp -> 0.0.0.0:10", "80/udp -> 0.0.0.0:2", "443/tcp -> x"]
    assert sorted(reversed(lines), key=published.natural) == lines
