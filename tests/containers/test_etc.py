"""The generated files of /etc, and lines that nobody may forge in them."""

from __future__ import annotations

import pytest

from cellbox.containers import etc
from cellbox.errors import InvalidArgument


def test_hostname() -> None:
    assert etc.hostname("web") == "web\n"
    with pytest.raises(InvalidArgument):
        etc.hostname("web\nx")


def test_hosts() -> None:
    text = etc.hosts(
        "web",
        "example.org",
        ("10.0.0.2", "fd00::2"),
        ("db:10.0.0.3", "up:host-gateway"),
        "10.0.0.1",
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-4:] == [
        "10.0.0.3\tdb",
        "10.0.0.1\tup",
        "10.0.0.2\tweb.example.org web",
        "fd00::2\tweb.example.org web",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "web\n1.2.3.4 bank"},
        {"name": "web", "domain": "x\n1.2.3.4 bank"},
        {"name": "web", "addresses": ("10.0.0.2\n1.2.3.4 bank",)},
        {"name": "web", "extra": ("a:1.2.3.4\n5.6.7.8 bank",)},
        {"name": "web", "extra": ("a\n5.6.7.8 bank:1.2.3.4",)},
        {"name": "web", "extra": ("a:host-gateway",), "gateway": "1.2.3.4\nx"},
    ],
)
def test_no_line_of_hosts_can_be_forged(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        etc.hosts(**arguments)  # type: ignore[arg-type]


def test_a_gateway_must_be_there() -> None:
    with pytest.raises(InvalidArgument, match="no gateway"):
        etc.hosts("web", extra=("a:host-gateway",))


HOST = """\
# made by a program
nameserver 127.0.0.53
nameserver 192.168.1.1
nameserver
search lan
options edns0 trust-ad
"""


def test_the_hosts_network_keeps_its_servers() -> None:
    assert etc.resolv_conf(HOST, own_network=False) == (
        "nameserver 127.0.0.53\nnameserver 192.168.1.1\nsearch lan\noptions edns0 trust-ad\n"
    )


def test_an_own_network_cannot_reach_the_hosts_loopback() -> None:
    text = etc.resolv_conf(HOST, own_network=True)
    assert "127.0.0.53" not in text
    assert text.startswith("nameserver 192.168.1.1\n")


@pytest.mark.parametrize(
    "host", ["", "nameserver ::1\n", "nameserver fe80::1%eth0\n", "nameserver x\n"]
)
def test_public_servers_are_the_last_resort(host: str) -> None:
    assert etc.resolv_conf(host, own_network=True) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_servers_and_domains_can_be_given() -> None:
    text = etc.resolv_conf(HOST, own_network=True, servers=("127.0.0.11",), search=("a.b", "c"))
    assert text == "nameserver 127.0.0.11\nsearch a.b c\noptions edns0 trust-ad\n"
    assert "search" not in etc.resolv_conf(HOST, own_network=True, search=(".",))


@pytest.mark.parametrize(
    "wrong", [{"servers": ("1.1.1.1\nnameserver 6.6.6.6",)}, {"search": ("a\nnameserver 6.6.6.6",)}]
)
def test_no_line_of_resolv_conf_can_be_forged(wrong: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvalidArgument):
        etc.resolv_conf(HOST, own_network=True, **wrong)  # type: ignore[arg-type]
