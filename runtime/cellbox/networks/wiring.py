"""How a container is connected: facts that travel in its bundle (pure).

The engine works them out from what was asked and from the addresses that were taken; the starter
and the shim do what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellbox.model.container import PortSpec
from cellbox.model.network import Endpoint

RESOLVER = "127.0.0.11"
"""Where a container finds names, as in Docker's."""


def bridge_name(network: str) -> str:
    """The bridge of the network with this id."""
    return f"cb-{network[:12]}"


def host_name(endpoint: str) -> str:
    """The host's end of the cable of the endpoint with this id."""
    return f"cbv{endpoint[:12]}"


@dataclass(frozen=True)
class Plug:
    """One cable. ``host`` is its end in ``bridge``, ``interface`` that in the container, both of 15
    characters at most. ``ip`` and ``ip6`` have a prefix length and are empty where the network has
    no such addresses; the gateways have none. ``default_route``: the container's way to all else
    leads through here. ``mtu`` 0 is the kernel's default. ``hairpin`` lets a container reach its
    own published ports; ``isolated`` keeps it from its neighbours.

    Where another driver has the network, it lays the cable for ``endpoint`` (``driven``), and there
    are no bridge and no end of ours."""

    bridge: str
    host: str
    interface: str = "eth0"
    mac: str = ""
    ip: str = ""
    ip6: str = ""
    gateway: str = ""
    gateway6: str = ""
    default_route: bool = True
    mtu: int = 0
    hairpin: bool = True
    isolated: bool = False
    endpoint: Endpoint | None = None

    @property
    def key(self) -> str:
        """What no two cables share."""
        return self.endpoint.id if self.endpoint else self.host


@dataclass(frozen=True)
class Place:
    """What the neighbours in a network are told of a container while it runs (``names``):
    ``directory`` is the network's, relative to the run directory."""

    network: str
    directory: str
    endpoint: str
    names: tuple[str, ...]
    ip: str
    ip6: str = ""


@dataclass(frozen=True)
class Wiring:
    """All of a container's connections.

    Its own resolver answers it where it has ``places``; ``aliases`` are names for it alone, and
    ``hosts`` (``NAME:ADDRESS``) are such names in its file of hosts. A container without a resolver
    of its own asks ``dns``, or whom the host asks where that is empty;
    ``servers`` are asked for all other names (from within its own network if ``inside``), as far as
    they are in ``allow`` (None: all). ``egress`` are the CIDR that it may reach outside of its
    networks, beside the addresses of names in ``allow``; None for all.
    """

    plugs: tuple[Plug, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    places: tuple[Place, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    inside: bool = False
    dns: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None
    egress: tuple[str, ...] | None = None

    @property
    def own(self) -> list[Plug]:
        """The cables that are ours to lay."""
        return [one for one in self.plugs if not one.endpoint]

    @property
    def driven(self) -> list[Plug]:
        """Those that other drivers lay."""
        return [one for one in self.plugs if one.endpoint]

    @property
    def resolves(self) -> bool:
        """Does the container ask its engine for names?"""
        return bool(self.places) or self.allow is not None
