"""Addresses that a program gives which speaks Docker's IPAM plugin protocol (``IpamDriver.*``).

Source: moby ``libnetwork/ipams/remote`` and libnetwork's ``docs/ipam.md``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from cellbox.drivers.client import Client
from cellbox.errors import CellboxError, EngineError, NotSupported
from cellbox.model.network import Subnet

INTERFACE = "IpamDriver"

_KIND = "RequestAddressType"
_GATEWAY = "com.docker.network.gateway"
_MAC = "com.docker.network.endpoint.macaddress"


class IpamProgram:
    """One address manager. Raises as :meth:`~cellbox.drivers.client.Client.call`, and EngineError
    for an answer that is none."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def wants_mac(self) -> bool:
        """Must it know an endpoint's hardware address to give it another one?"""
        try:
            return self._call("GetCapabilities").get("RequiresMACAddress") is True
        except NotSupported:  # it is free to have no such method
            return False

    def take_pool(self, asked: Subnet, options: Mapping[str, str], *, v6: bool) -> Subnet:
        """A pool, the one that is asked for if any is, with its gateway, and what is to be reserved
        in it. What was taken of one that cannot be had whole is given back."""
        spaces = self._call("GetDefaultAddressSpaces")
        told = self._call(
            "RequestPool",
            AddressSpace=str(spaces.get("LocalDefaultAddressSpace") or ""),
            Pool=asked.subnet,
            SubPool=asked.address_range,
            Options=dict(options),
            V6=v6,
        )
        found = replace(asked, pool=self._id(told), gateway="", reserved={})
        try:
            found = replace(found, subnet=self._block(told.get("Pool")))
            gateway = self._gateway(found, asked.gateway, told.get("Data"))
            found = replace(found, gateway=gateway)
            for name, address in asked.reserved.items():
                self.take(found, address)
                found = replace(found, reserved={**found.reserved, name: address})
        except BaseException:
            with suppress(CellboxError):
                self.drop_pool(found)
            raise
        return found

    def _gateway(self, pool: Subnet, asked: str, data: Any) -> str:
        """The pool's gateway: the one that is asked for, that it has by itself, or any."""
        own = data.get(_GATEWAY) if isinstance(data, dict) else None
        if own and not asked:
            return self._address(own).partition("/")[0]
        return self.take(pool, asked, **{_KIND: _GATEWAY}).partition("/")[0]

    def drop_pool(self, pool: Subnet) -> None:
        """Give a pool back, with its gateway and what was reserved in it."""
        with ExitStack() as all_:  # whichever of them fails
            all_.callback(self._call, "ReleasePool", PoolID=pool.pool)
            for address in filter(None, (pool.gateway, *pool.reserved.values())):
                all_.callback(self.drop, pool, address)

    def take(self, pool: Subnet, asked: str = "", *, mac: str = "", **options: str) -> str:
        """An address with prefix length: ``asked``, or any of the pool."""
        options |= {_MAC: mac} if mac else {}
        told = self._call("RequestAddress", PoolID=pool.pool, Address=asked, Options=options)
        return self._address(told.get("Address"))

    def drop(self, pool: Subnet, address: str) -> None:
        """Give an address (without prefix length) back."""
        self._call("ReleaseAddress", PoolID=pool.pool, Address=address)

    def _call(self, method: str, **body: Any) -> dict[str, Any]:
        return self._client.call(f"{INTERFACE}.{method}", body)

    def _id(self, told: Mapping[str, Any]) -> str:
        found = told.get("PoolID")
        if not isinstance(found, str) or not found:
            raise self._lie("RequestPool", "the id of a pool")
        return found

    def _block(self, text: Any) -> str:
        try:
            return str(ipaddress.ip_network(_with_length(text)))
        except ValueError:
            raise self._lie("RequestPool", "a pool such as 10.0.0.0/16") from None

    def _address(self, text: Any) -> str:
        try:
            return str(ipaddress.ip_interface(_with_length(text)))
        except ValueError:
            raise self._lie("RequestAddress", "an address such as 10.0.0.2/16") from None

    def _lie(self, method: str, wanted: str) -> EngineError:
        name = self._client.place.name
        return EngineError(f"the plugin {name} does not answer {INTERFACE}.{method} with {wanted}")


def _with_length(text: Any) -> str:
    """The text, if it is one and has a prefix length; :mod:`ipaddress` would think of one."""
    return text if isinstance(text, str) and "/" in text else ""
