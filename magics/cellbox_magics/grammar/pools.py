"""``--subnet``, ``--ip-range``, ``--gateway`` and ``--aux-address`` to what a
:class:`~cellbox.model.network.NetworkSpec` holds; pure.

Each is given for itself; it is where an address lies that tells to which subnet it belongs.
Sentences of errors are Docker's. Source: docker/cli ``network/create.go`` (createIPAMConfig).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cellbox.errors import InvalidArgument
from cellbox.model.network import Subnet

_Block = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class _Pool:
    subnet: str
    block: _Block
    gateway: str = ""
    address_range: str = ""
    reserved: dict[str, str] = field(default_factory=dict)


def subnets(
    asked: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    reserved: Mapping[str, str],
) -> tuple[Subnet, ...]:
    """The subnets ``asked`` for, each with what lies in it. ``reserved`` are addresses by name.
    Raises InvalidArgument."""
    if len(asked) < max(len(ranges), len(gateways)):
        raise InvalidArgument("every ip-range or gateway must have a corresponding subnet")
    pools: list[_Pool] = []
    for text in asked:
        block = _block(text, "subnet")
        if any(_overlap(block, other.block) for other in pools):
            raise InvalidArgument("multiple overlapping subnet configuration is not supported")
        pools.append(_Pool(text, block))
    for text in ranges:
        pool = _around(text, "range", pools)
        _once("ranges", pool, pool.address_range, text)
        pool.address_range = text
    for text in gateways:
        pool = _around(text, "gateway", pools)
        _once("gateways", pool, pool.gateway, text)
        pool.gateway = text
    for name, text in reserved.items():
        _around(text, "aux-address", pools).reserved[name] = text
    return tuple(Subnet(one.subnet, one.gateway, one.address_range, one.reserved) for one in pools)


def _block(text: str, what: str) -> _Block:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidArgument(f"invalid {what} {text}: invalid CIDR block notation") from None


def _overlap(one: _Block, other: _Block) -> bool:
    return one.version == other.version and one.overlaps(other)


def _around(text: str, what: str, pools: Iterable[_Pool]) -> _Pool:
    block = _block(text, what)
    for pool in pools:
        if block.version == pool.block.version and block.network_address in pool.block:
            return pool
    raise InvalidArgument(f"no matching subnet for {what} {text}")


def _once(what: str, pool: _Pool, there: str, text: str) -> None:
    if there:
        raise InvalidArgument(
            f"cannot configure multiple {what} ({text}, {there}) on the same subnet ({pool.subnet})"
        )
