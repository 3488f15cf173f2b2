"""-p and --expose."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import PortSpec
from cellbox_magics.grammar import ports


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("80", [PortSpec(80)]),
        ("8080:80", [PortSpec(80, host_port=8080)]),
        ("0:80", [PortSpec(80)]),
        (":80", [PortSpec(80)]),
        ("53:53/UDP", [PortSpec(53, "udp", host_port=53)]),
        ("80/sctp", [PortSpec(80, "sctp")]),
        ("127.0.0.1:8080:80", [PortSpec(80, host_ip="127.0.0.1", host_port=8080)]),
        ("127.0.0.1::80", [PortSpec(80, host_ip="127.0.0.1")]),
        ("[::1]:8080:80/tcp", [PortSpec(80, host_ip="::1", host_port=8080)]),
        ("::1:8080:80", [PortSpec(80, host_ip="::1", host_port=8080)]),
        ("[::]::80", [PortSpec(80, host_ip="::")]),
        ("80-81", [PortSpec(80), PortSpec(81)]),
        ("9080-9081:80-81", [PortSpec(80, host_port=9080), PortSpec(81, host_port=9081)]),
        ("9000-9010:80", [PortSpec(80, host_port=9000, host_port_end=9010)]),
        ("9000-9000:80", [PortSpec(80, host_port=9000)]),
        ("published=8080,target=80", [PortSpec(80, host_port=8080)]),
        ("target=53,protocol=udp", [PortSpec(53, "udp")]),
        ("published=127.0.0.1:81,target=80", [PortSpec(80, host_ip="127.0.0.1", host_port=81)]),
    ],
)
def test_a_port_is_published_as_docker_has_it(text, made):
    assert list(ports.publish(text)) == made


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("99999:80", "invalid hostPort: 99999"),
        ("-1:80", "invalid hostPort: -1"),
        ("81-80:80", "invalid hostPort: 81-80"),
        ("0-5:80", "invalid hostPort: 0-5"),
        ("80:x", "invalid containerPort: x"),
        ("80:0", "invalid containerPort: 0"),
        ("80:65536", "invalid containerPort: 65536"),
        ("80:８０", "invalid containerPort: ８０"),
        ("80:", "no port specified: 80:<empty>"),
        ("", "no port specified: <empty>"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("[::1:80:80", "invalid IP address: [::1"),
        ("localhost:80:80", "invalid IP address: localhost"),
        ("80/icmp", "invalid proto: icmp"),
        ("80-81:90-95", "invalid ranges specified for container and host Ports: 90-95 and 80-81"),
        ("80:90-95", "invalid ranges specified for container and host Ports: 90-95 and 80"),
        ("published=80,target", "invalid publish opts format"),
        ("published=80", "no port specified"),
    ],
)
def test_what_is_no_port_is_refused_in_dockers_words(text, sentence):
    with pytest.raises(InvalidArgument) as caught:
        ports.publish(text)
    assert str(caught.value).startswith(sentence)


def test_ranges_that_are_exposed_are_spelled_out():
    assert ports.expose("80") == ("80/tcp",)
    assert ports.expose("3000-3002/udp") == ("3000/udp", "3001/udp", "3002/udp")


@pytest.mark.parametrize("text", ["abc", "0", "2-1", "80:80", "", "1-65536"])
def test_what_cannot_be_exposed(text):
    with pytest.raises(InvalidArgument, match=r"invalid range format for --expose: "):
        ports.expose(text)
