"""Networks of a program that speaks Docker's network plugin protocol (``NetworkDriver.*``).

What the protocol has in two steps is one here: an endpoint is created and joined before its
container runs, left and deleted when that has ended, as Docker itself does at each start. What the
interface is called inside is the engine's to say, not the program's (``DstPrefix``), and published
ports are the engine's as well, so ``ProgramExternalConnectivity`` is not called.

Source: moby ``libnetwork/drivers/remote`` and its ``api``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from cellbox.drivers.client import Client
from cellbox.errors import CellboxError, EngineError, InvalidArgument
from cellbox.model.network import Endpoint, NetworkSpec, Subnet
from cellbox.plugins import Joined
from cellbox.wire.fields import Fields

INTERFACE = "NetworkDriver"

_ADDRESSES = {"ip": "Address", "ip6": "AddressIPv6", "mac": "MacAddress"}
_GENERIC = "com.docker.network.generic"
_NEXT_HOP = 0


class NetworkProgram:
    """See :class:`cellbox.plugins.NetworkDriver`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, network: str, spec: NetworkSpec) -> None:
        """Make the network with this id."""
        options = {
            "com.docker.network.enable_ipv6": spec.ipv6,
            "com.docker.network.internal": spec.internal,
            _GENERIC: dict(spec.options),
        }
        pools = list(map(_pool, spec.subnets)) or [_pool(Subnet("0.0.0.0/0"))]
        self._call(
            "CreateNetwork",
            NetworkID=network,
            Options=options,
            IPv4Data=[one for one in pools if ":" not in one["Pool"]],
            IPv6Data=[one for one in pools if ":" in one["Pool"]],
        )

    def remove(self, network: str) -> None:
        """Take it away."""
        self._call("DeleteNetwork", NetworkID=network)

    def join(self, endpoint: Endpoint) -> Joined:
        """Create the endpoint and join it; one that cannot be joined is deleted again."""
        who = {"NetworkID": endpoint.network_id, "EndpointID": endpoint.id}
        options = dict(endpoint.spec.driver_options)
        asked = {"Address": endpoint.ip, "AddressIPv6": endpoint.ip6, "MacAddress": endpoint.mac}
        made = self._call("CreateEndpoint", **who, Interface=asked, Options=options)
        try:
            chosen = self._chosen(made.inner("Interface", "Interface"), asked)
            # The namespace is not there yet: as a key, its container's id does as well.
            told = self._call("Join", **who, SandboxKey=endpoint.container, Options=options)
            return self._joined(told, chosen)
        except BaseException as error:
            with contextlib.suppress(CellboxError):
                self.leave(endpoint)
            if isinstance(error, InvalidArgument):  # of a member that is of another type
                raise EngineError(f"the plugin {self._client.place.name}: {error}") from error
            raise

    def leave(self, endpoint: Endpoint) -> None:
        """Leave and delete the endpoint; deleted it is even if it cannot be left."""
        who = {"NetworkID": endpoint.network_id, "EndpointID": endpoint.id}
        try:
            self._call("Leave", **who)
        finally:
            self._call("DeleteEndpoint", **who)

    def _chosen(self, told: Fields, asked: Mapping[str, str]) -> dict[str, str]:
        """What the program has given the endpoint. Raises EngineError where it is not what was
        asked for."""
        chosen = {}
        for name, key in _ADDRESSES.items():
            given = told.text(key)
            if given and asked[key] and given.lower() != asked[key].lower():
                raise EngineError(
                    f"the plugin {self._client.place.name} gives the endpoint {given} instead of "
                    f"{asked[key]}"
                )
            chosen[name] = "" if asked[key] else given
        return chosen

    def _joined(self, told: Fields, chosen: Mapping[str, str]) -> Joined:
        return Joined(
            interface=told.inner("InterfaceName", "InterfaceName").text("SrcName"),
            gateway=told.text("Gateway"),
            gateway6=told.text("GatewayIPv6"),
            routes=dict(_routes(told.items("StaticRoutes", "StaticRoutes"))),
            **chosen,
        )

    def _call(self, method: str, **body: Any) -> Fields:
        return Fields(self._client.call(f"{INTERFACE}.{method}", body), method)


def _pool(subnet: Subnet) -> dict[str, Any]:
    """What is not there is left out: libnetwork's own types refuse an empty address."""
    length = subnet.subnet.partition("/")[2]
    told: dict[str, Any] = {"AddressSpace": "", "Pool": subnet.subnet}
    if subnet.gateway:
        told["Gateway"] = f"{subnet.gateway}/{length}"
    if subnet.reserved:
        reserved = {name: f"{one}/{length}" for name, one in subnet.reserved.items()}
        told["AuxAddresses"] = reserved
    return told


def _routes(told: Iterable[Fields]) -> Iterable[tuple[str, str]]:
    for one in told:
        via = one.text("NextHop") if one.whole("RouteType") == _NEXT_HOP else ""
        yield one.text("Destination"), via
