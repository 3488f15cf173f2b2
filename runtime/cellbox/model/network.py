"""A network: a set of containers that reach each other, and how they reach the rest.

What a user asks for is a :class:`NetworkSpec`; what a container's place in one is to be, an
:class:`EndpointSpec`. What became of them are :class:`Network` and :class:`Endpoint`. Addresses are
text as :mod:`ipaddress` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Subnet:
    """One pool of addresses. ``subnet`` and ``address_range`` (the part of it that addresses are
    taken from) are CIDR; an empty ``subnet`` is chosen by the engine, an empty ``gateway`` is the
    first address. ``reserved`` names further addresses that no container gets. ``pool`` is what an
    address manager that is not the engine's own calls it."""

    subnet: str = ""
    gateway: str = ""
    address_range: str = ""
    reserved: Mapping[str, str] = field(default_factory=dict)
    pool: str = ""


@dataclass(frozen=True)
class NetworkSpec:
    """What the user asked for. ``internal`` has no way out. ``options`` belong to the driver
    (``com.docker.network.bridge.name``, ...), ``ipam_options`` to the address manager."""

    name: str
    driver: str = "bridge"
    subnets: tuple[Subnet, ...] = ()
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EndpointSpec:
    """What one container wants of one network; empty fields are the engine's to choose.

    ``network`` is a name or id. ``links`` are ``CONTAINER[:ALIAS]``. The network with the highest
    ``priority`` gives the container its default route.
    """

    network: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    links: tuple[str, ...] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A container's place in a network.

    ``id`` is 64 hex digits. ``ip`` and ``ip6`` are addresses with prefix length, as in
    ``172.18.0.2/16``; empty where there is none. ``names`` are all that its neighbours may call it:
    its name, aliases and short id. ``interface`` is what it is called inside (``eth0``), empty
    while the container does not run.
    """

    id: str
    network: str
    network_id: str
    container: str
    container_name: str
    ip: str = ""
    ip6: str = ""
    gateway: str = ""
    gateway6: str = ""
    mac: str = ""
    interface: str = ""
    names: tuple[str, ...] = ()
    spec: EndpointSpec = EndpointSpec("")


@dataclass(frozen=True)
class Network:
    """One network. ``id`` is 64 hex digits; ``spec`` what was asked, with the subnets that were
    chosen; ``endpoints`` those of containers that run. ``built_in``: ``bridge``, ``host`` and
    ``none`` are always there."""

    id: str
    spec: NetworkSpec
    created: float
    endpoints: tuple[Endpoint, ...] = ()
    built_in: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def short_id(self) -> str:
        """The first twelve digits, as Docker prints them."""
        return self.id[:12]
