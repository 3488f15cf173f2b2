"""``-p`` and ``--expose`` to what a :class:`~cellbox.model.container.RunSpec` holds; pure.

``[[IP:][HOST_PORT[-END]]:]PORT[-END][/PROTOCOL]``, or ``published=8080,target=80,protocol=tcp``.
What cannot be read raises :class:`~cellbox.errors.InvalidArgument` with Docker's sentence.

Source: docker/cli ``container/opts.go`` (convertToStandardNotation), go-connections ``nat``
(ParsePortSpec).
"""

from __future__ import annotations

import ipaddress
import re

from cellbox.errors import InvalidArgument
from cellbox.model.container import PortSpec

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_RANGE = re.compile("([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_LAST = 65535


def publish(text: str) -> tuple[PortSpec, ...]:
    """The ports of one ``-p``. A range of the container's needs as many ports of the host, or none;
    of a range of the host's for a single port, the first free one is meant."""
    *address, outside, inside = ["", *_standard(text).split(":")]
    number, protocol = _parted(inside)
    host_ip = _host_ip(":".join(address).removeprefix(":"))
    if not number:
        raise InvalidArgument(f"no port specified: {text}<empty>")
    first, last = _range(number, "invalid containerPort")
    ports = range(first, last + 1)
    if outside in ("", "0"):
        return tuple(PortSpec(port, protocol, host_ip) for port in ports)
    low, high = _range(outside, "invalid hostPort")
    if len(ports) == 1 and low != high:
        return (PortSpec(first, protocol, host_ip, low, high),)
    if high - low != last - first:
        raise InvalidArgument(
            f"invalid ranges specified for container and host Ports: {number} and {outside}"
        )
    return tuple(PortSpec(port, protocol, host_ip, port - first + low) for port in ports)


def expose(text: str, flag: str = "--expose") -> tuple[str, ...]:
    """``53/udp`` or ``3000-3005`` of a flag, spelled out: ``("53/udp",)``."""
    number, protocol = _parted(text)
    first, last = _range(number, f"invalid range format for {flag}")
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def _standard(text: str) -> str:
    """The long form in the short one."""
    if "=" not in text:
        return text
    told = {"protocol": "tcp", "published": "", "target": ""}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidArgument(
                f"invalid publish opts format (should be name=value but got '{word}')"
            )
        told[key] = value
    return f"{told['published']}:{told['target']}/{told['protocol']}"


def _parted(text: str) -> tuple[str, str]:
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return number, protocol


def _host_ip(text: str) -> str:
    if not text:
        return ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None


def _range(text: str, refusal: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < first <= last <= _LAST:
        raise InvalidArgument(f"{refusal}: {text}")
    return first, last
