"""Bodies of the network requests, between Docker's JSON and the model; pure.

Source: Engine API 1.45, ``NetworkCreate``, ``IPAM``, ``EndpointSettings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet
from cellbox.wire.fields import Fields, Json

_BRIDGE = frozenset({"bridge", "default"})
"""Two names of one network."""


def network_body(spec: NetworkSpec) -> Json:
    """``POST /networks/create``."""
    return {
        "Name": spec.name,
        "CheckDuplicate": True,
        "Driver": spec.driver,
        "EnableIPv6": spec.ipv6,
        "IPAM": ipam_json(spec),
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Options": dict(spec.options),
        "Labels": dict(spec.labels),
    }


def network_spec(body: object) -> NetworkSpec:
    """The inverse; also of what ``docker network inspect`` shows, as far as it was asked for."""
    network = Fields(body, "CreateRequest")
    ipam = network.inner("IPAM", "IPAM")
    return NetworkSpec(
        network.text("Name"),
        driver=network.text("Driver") or "bridge",
        subnets=tuple(map(_read_subnet, ipam.items("Config", "IPAMConfig"))),
        ipv6=network.flag("EnableIPv6"),
        internal=network.flag("Internal"),
        attachable=network.flag("Attachable"),
        options=network.text_map("Options"),
        labels=network.text_map("Labels"),
        ipam_driver=ipam.text("Driver") or "default",
        ipam_options=ipam.text_map("Options"),
    )


def ipam_json(spec: NetworkSpec) -> Json:
    """``IPAM``: the address manager and its pools."""
    return {
        "Driver": spec.ipam_driver,
        "Options": dict(spec.ipam_options) or None,
        "Config": [_subnet(subnet) for subnet in spec.subnets],
    }


def endpoint_body(spec: EndpointSpec) -> Json:
    """``EndpointConfig`` of a connect request, and one of ``EndpointsConfig`` of a create request;
    the name of the network is not in it."""
    addresses = {
        **({"IPv4Address": spec.ip} if spec.ip else {}),
        **({"IPv6Address": spec.ip6} if spec.ip6 else {}),
    }
    return {
        "IPAMConfig": addresses or None,
        "Links": list(spec.links) or None,
        "Aliases": list(spec.aliases) or None,
        "MacAddress": spec.mac,
        "DriverOpts": dict(spec.driver_options) or None,
        "GwPriority": spec.priority,
    }


def endpoint_spec(network: str, body: object) -> EndpointSpec:
    """The inverse; null asks for nothing. What only the engine says (addresses that were chosen,
    ids) is passed over."""
    return read_endpoint(network, Fields(body, "EndpointSettings", "EndpointConfig"))


def endpoints_body(endpoints: tuple[EndpointSpec, ...]) -> Json:
    """``NetworkingConfig`` of a create request."""
    return {"EndpointsConfig": {spec.network: endpoint_body(spec) for spec in endpoints}}


def read_endpoints(request: Fields) -> tuple[EndpointSpec, ...]:
    """The inverse, of a whole create request."""
    networking = request.inner("NetworkingConfig", "NetworkingConfig")
    found = networking.members("EndpointsConfig", "EndpointSettings")
    return tuple(read_endpoint(name, settings) for name, settings in found.items())


def main_endpoint(endpoints: Iterable[EndpointSpec], network: str) -> EndpointSpec | None:
    """What is asked of the network that a request's ``NetworkMode`` names."""
    names = _BRIDGE if network in _BRIDGE else {network}
    return next((spec for spec in endpoints if spec.network in names), None)


def read_endpoint(network: str, settings: Fields) -> EndpointSpec:
    """One ``EndpointSettings``."""
    addresses = settings.inner("IPAMConfig", "EndpointIPAMConfig")
    return EndpointSpec(
        network,
        aliases=settings.texts("Aliases"),
        ip=addresses.text("IPv4Address"),
        ip6=addresses.text("IPv6Address"),
        mac=settings.text("MacAddress"),
        links=settings.texts("Links"),
        driver_options=settings.text_map("DriverOpts"),
        priority=settings.whole("GwPriority"),
    )


def _subnet(subnet: Subnet) -> Json:
    told: Mapping[str, object] = {
        "Subnet": subnet.subnet,
        "IPRange": subnet.address_range,
        "Gateway": subnet.gateway,
        "AuxiliaryAddresses": dict(subnet.reserved),
    }
    return {name: value for name, value in told.items() if value}


def _read_subnet(config: Fields) -> Subnet:
    return Subnet(
        subnet=config.text("Subnet"),
        gateway=config.text("Gateway"),
        address_range=config.text("IPRange"),
        reserved=config.text_map("AuxiliaryAddresses"),
    )
