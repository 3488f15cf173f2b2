"""Networks as ``docker network inspect`` tells them, and back; pure.

Source: Engine API 1.45, ``Network`` and ``NetworkContainer``.
"""

from __future__ import annotations

from cellbox.model.network import Endpoint, Network
from cellbox.model.times import instant, timestamp
from cellbox.wire.fields import Fields, Json
from cellbox.wire.network_requests import ipam_json, network_spec

BUILT_IN = frozenset({"bridge", "host", "none"})
"""The networks that are always there, by name."""


def network_json(facts: Network) -> Json:
    """One network, with the containers that run in it."""
    spec = facts.spec
    return {
        "Name": facts.name,
        "Id": facts.id,
        "Created": timestamp(facts.created),
        "Scope": "local",
        "Driver": spec.driver,
        "EnableIPv6": spec.ipv6,
        "IPAM": ipam_json(spec),
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {one.container: _member(one) for one in facts.endpoints},
        "Options": dict(spec.options),
        "Labels": dict(spec.labels),
    }


def network_from(body: object) -> Network:
    """The network that a daemon tells; of its endpoints, names and gateways are not said."""
    network = Fields(body, "NetworkResource")
    id, name = network.text("Id"), network.text("Name")
    members = network.members("Containers", "EndpointResource")
    return Network(
        id=id,
        spec=network_spec(body),
        created=instant(network.text("Created")) or 0.0,
        endpoints=tuple(
            Endpoint(
                id=member.text("EndpointID"),
                network=name,
                network_id=id,
                container=container,
                container_name=member.text("Name"),
                ip=member.text("IPv4Address"),
                ip6=member.text("IPv6Address"),
                mac=member.text("MacAddress"),
            )
            for container, member in members.items()
        ),
        built_in=name in BUILT_IN,
    )


def _member(endpoint: Endpoint) -> Json:
    return {
        "Name": endpoint.container_name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": endpoint.ip,
        "IPv6Address": endpoint.ip6,
    }
