"""``PortBindings`` and ``ExposedPorts``: ports between Docker's JSON and the model; pure.

Source: Engine API 1.45, ``PortMap``; go-connections ``nat``; moby ``daemon/container.go``
(validatePortBindings).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cellbox.errors import InvalidArgument
from cellbox.model.container import PortSpec, RunSpec
from cellbox.wire.fields import Fields, Json

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_DIGITS = re.compile("[0-9]{1,5}", re.ASCII)
_LAST = 65535


def port_bindings_json(ports: Iterable[PortSpec]) -> Json:
    """``HostConfig.PortBindings``: ``{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}``."""
    told: Json = {}
    for port in ports:
        binding = {"HostIp": port.host_ip, "HostPort": _host_port(port)}
        told.setdefault(_name(port), []).append(binding)
    return told


def read_port_bindings(host_config: Fields) -> tuple[PortSpec, ...]:
    """The inverse. A port with no binding gets one of its own, as Docker does below API 1.53."""
    bindings = host_config.lists("PortBindings", "PortBinding")
    return tuple(
        _bound(port_name(name), binding.text("HostIp"), binding.text("HostPort"))
        for name, found in bindings.items()
        for binding in found or [Fields({}, "PortBinding")]
    )


def exposed_ports_json(spec: RunSpec, image: Iterable[str] = ()) -> Json | None:
    """``Config.ExposedPorts``: what the image and the request expose, and all that is published
    (older daemons publish nothing else)."""
    return {name: {} for name in (*image, *spec.exposed, *map(_name, spec.ports))} or None


def read_exposed_ports(config: Fields, published: Iterable[PortSpec] = ()) -> tuple[str, ...]:
    """The inverse, without those that are published anyway: ``("53/udp",)``."""
    known = {_name(port) for port in published}
    asked = dict.fromkeys(port_name(name) for name in config.names("ExposedPorts"))
    return tuple(name for name in asked if name not in known)


def port_name(text: str) -> str:
    """``80``, ``80/`` and ``80/TCP`` as ``80/tcp``. Raises InvalidArgument, for ranges too: it is
    the client who spells them out."""
    port, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return f"{_number(port, text)}/{protocol}"


def _name(port: PortSpec) -> str:
    return f"{port.port}/{port.protocol}"


def _host_port(port: PortSpec) -> str:
    if not port.host_port:
        return ""
    if port.host_port_end in (0, port.host_port):
        return str(port.host_port)
    return f"{port.host_port}-{port.host_port_end}"


def _bound(name: str, host_ip: str, host_port: str) -> PortSpec:
    port, _, protocol = name.partition("/")
    first, dash, last = host_port.partition("-")
    low = _number(first, host_port, least=0) if host_port else 0
    high = _number(last, host_port) if dash else low
    if high < low:
        raise InvalidArgument(f'invalid port specification: "{host_port}"')
    return PortSpec(int(port), protocol, host_ip, low, high if high != low else 0)


def _number(text: str, whole: str, least: int = 1) -> int:
    if _DIGITS.fullmatch(text) and least <= int(text) <= _LAST:
        return int(text)
    raise InvalidArgument(f'invalid port specification: "{whole}"')
