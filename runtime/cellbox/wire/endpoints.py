"""``NetworkSettings``: where a container is in its networks, and back; pure.

Source: Engine API 1.45, ``NetworkSettings`` and ``EndpointSettings``; moby ``daemon/inspect.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cellbox.model.container import Container, PortSpec, RunSpec, Status
from cellbox.model.network import Endpoint, EndpointSpec
from cellbox.wire.fields import Fields, Json
from cellbox.wire.network_requests import endpoint_body, read_endpoint
from cellbox.wire.networks import BUILT_IN
from cellbox.wire.ports import port_name

_ALL = ("0.0.0.0", "::")
"""The two addresses that stand for all of a host."""

_DEFAULT = {"default": "bridge"}
_JOINED = "container:"
_RUNNING = frozenset({Status.RUNNING, Status.PAUSED})
_ADDRESSES = {
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}


def network_settings_json(facts: Container, exposed: Iterable[str]) -> Json:
    """``NetworkSettings`` of ``docker inspect``; ``exposed`` are the ports that are or may be
    published. The addresses on the network ``bridge`` are there twice, as before API 1.21."""
    networks = networks_json(facts)
    running = facts.status in _RUNNING
    bridge = networks.get("bridge", {"EndpointID": "", **_ADDRESSES})
    return {
        "Bridge": "",
        "SandboxID": facts.id if running else "",
        "SandboxKey": f"/proc/{facts.pid}/ns/net" if running else "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "Ports": _ports(facts, exposed) if running else {},
        "EndpointID": bridge["EndpointID"],
        **{name: bridge[name] for name in _ADDRESSES},
        "Networks": networks,
    }


def networks_json(facts: Container) -> Json:
    """``Networks``: by name the container's place in each; those of the request where it has none
    yet."""
    if facts.endpoints:
        return {one.network: _endpoint(one, facts) for one in facts.endpoints}
    return {
        spec.network: {**_asked(spec, facts), "NetworkID": "", "EndpointID": "", **_ADDRESSES}
        for spec in _wanted(facts.spec)
    }


def _wanted(spec: RunSpec) -> Iterator[EndpointSpec]:
    if spec.network.startswith(_JOINED):
        return
    main = _DEFAULT.get(spec.network, spec.network)
    named = [replace(one, network=_DEFAULT.get(one.network, one.network)) for one in spec.endpoints]
    if main not in [one.network for one in named]:
        yield EndpointSpec(main)
    yield from named


def _asked(spec: EndpointSpec, facts: Container) -> Json:
    told = endpoint_body(spec)
    if spec.network not in BUILT_IN:
        aliases = dict.fromkeys((*spec.aliases, facts.short_id))
        told |= {"Aliases": list(aliases), "DNSNames": [facts.name, *aliases]}
    return {"DNSNames": None, **told}


def _endpoint(facts: Endpoint, container: Container) -> Json:
    ip, _, prefix = facts.ip.partition("/")
    ip6, _, prefix6 = facts.ip6.partition("/")
    asked = _asked(replace(facts.spec, network=facts.network), container)
    return {
        **asked,
        "DNSNames": list(facts.names) or asked["DNSNames"],
        "NetworkID": facts.network_id,
        "EndpointID": facts.id,
        "Gateway": facts.gateway,
        "IPAddress": ip,
        "IPPrefixLen": int(prefix or 0),
        "IPv6Gateway": facts.gateway6,
        "GlobalIPv6Address": ip6,
        "GlobalIPv6PrefixLen": int(prefix6 or 0),
        "MacAddress": facts.mac,
    }


# --- ports ---------------------------------------------------------------------------------------


def _ports(facts: Container, exposed: Iterable[str]) -> Json:
    """``Ports``: each with its addresses on the host, null for one that is not published."""
    told: Json = dict.fromkeys(map(port_name, exposed))
    for port in facts.ports:
        bindings = told.get(f"{port.port}/{port.protocol}") or []
        found = [{"HostIp": ip, "HostPort": str(port.host_port)} for ip in _addresses(port)]
        told[f"{port.port}/{port.protocol}"] = bindings + found
    return told


def ports_summary(facts: Container, exposed: Iterable[str]) -> list[Json]:
    """``Ports`` of an entry of ``docker ps``."""
    if facts.status not in _RUNNING:
        return []
    published = {f"{port.port}/{port.protocol}" for port in facts.ports}
    names = dict.fromkeys(map(port_name, exposed))
    closed = [name.partition("/")[::2] for name in names if name not in published]
    return [
        {
            "IP": ip,
            "PrivatePort": port.port,
            "PublicPort": port.host_port,
            "Type": port.protocol,
        }
        for port in facts.ports
        for ip in _addresses(port)
    ] + [{"PrivatePort": int(port), "Type": protocol} for port, protocol in closed]


def _addresses(port: PortSpec) -> tuple[str, ...]:
    return (port.host_ip,) if port.host_ip else _ALL


# --- and back ------------------------------------------------------------------------------------


def read_ports(settings: Fields) -> tuple[PortSpec, ...]:
    """The published ports that ``NetworkSettings`` tells."""
    return tuple(
        PortSpec(int(port), protocol, ip, host_port)
        for name, bindings in settings.lists("Ports", "PortBinding").items()
        for port, _, protocol in [port_name(name).partition("/")]
        for ip, host_port in _joined(bindings)
    )


def _joined(bindings: Iterable[Fields]) -> Iterator[tuple[str, int]]:
    """Address and port of the host, empty for the two addresses that stand for all of it."""
    found = [(one.text("HostIp"), _number(one.text("HostPort"))) for one in bindings]
    for ip, port in found:
        if ip in _ALL and all((each, port) in found for each in _ALL):
            if ip == _ALL[0]:
                yield "", port
        else:
            yield ip, port


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


def read_networks(settings: Fields, id: str, name: str) -> tuple[Endpoint, ...]:
    """The places in networks that ``NetworkSettings`` tells of the container ``id``."""
    networks = settings.members("Networks", "EndpointSettings")
    return tuple(_read(network, told, id, name) for network, told in networks.items())


def _read(network: str, told: Fields, id: str, name: str) -> Endpoint:
    spec = read_endpoint(network, told)
    aliases = tuple(alias for alias in spec.aliases if alias != id[:12])
    return Endpoint(
        id=told.text("EndpointID"),
        network=network,
        network_id=told.text("NetworkID"),
        container=id,
        container_name=name,
        ip=_address(told, "IPAddress", "IPPrefixLen"),
        ip6=_address(told, "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
        gateway=told.text("Gateway"),
        gateway6=told.text("IPv6Gateway"),
        mac=told.text("MacAddress"),
        names=told.texts("DNSNames") or ((name, *spec.aliases) if spec.aliases else ()),
        spec=replace(spec, aliases=aliases, mac=""),
    )


def _address(told: Fields, ip: str, prefix: str) -> str:
    return f"{told.text(ip)}/{told.whole(prefix)}" if told.text(ip) else ""
