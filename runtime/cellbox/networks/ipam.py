"""Which addresses a network and its containers get (pure).

A network's pools are chosen or checked when it is made (:func:`choose`), a container's addresses
when it joins (:func:`pick`); both are given what is taken as data. The pools to choose from, the
rules and the sentences of the errors are those of Docker's default address manager.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cellbox.errors import Conflict, InvalidArgument, PermissionDenied
from cellbox.model.network import NetworkSpec, Subnet

Address = IPv4Address | IPv6Address
Pool = IPv4Network | IPv6Network

_POOLS = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
_OVERLAP = "Pool overlaps with other one on this address space"
_TAKEN = "Address already in use"


# Networks ---------------------------------------------------------------------------------------


def choose(
    spec: NetworkSpec, taken: Collection[str], *, routes: Collection[str] = (), seed: str = ""
) -> tuple[Subnet, ...]:
    """The subnets of a new network: those asked for, checked and with their gateways, and for each
    family that it has to have and names none, one of the default pools.

    ``taken`` are the subnets (CIDR) of other networks, which none may overlap (PermissionDenied);
    ``routes`` are where the host's routes lead, which only what is chosen here avoids. IPv6 pools
    are /64 of the unique local /48 (RFC 4193) that belongs to ``seed``. Raises InvalidArgument.
    """
    others = [ipaddress.ip_network(one, strict=False) for one in taken]
    found: list[Subnet] = []
    for asked in spec.subnets:
        if asked.subnet:
            checked = check(asked)
            pool = ipaddress.ip_network(checked.subnet)
            if _overlaps(pool, others):
                raise PermissionDenied(_OVERLAP)
            others.append(pool)
            found.append(checked)
        elif asked != Subnet():
            raise InvalidArgument(
                "invalid network config: a gateway, ip-range or auxiliary address needs a subnet"
            )
    occupied = [*others, *(ipaddress.ip_network(one, strict=False) for one in routes)]
    versions = {ipaddress.ip_network(one.subnet).version for one in found}
    if 4 not in versions:
        found.insert(0, check(Subnet(str(_free(_POOLS, occupied, "IPv4")))))
    if spec.ipv6 and 6 not in versions:
        found.append(check(Subnet(str(_free(_local_pools(seed), occupied, "IPv6")))))
    return tuple(found)


def check_free(subnets: Iterable[Subnet], taken: Collection[str]) -> None:
    """Raise PermissionDenied where one of ``subnets`` overlaps with what is ``taken`` (CIDR)."""
    others = [ipaddress.ip_network(one, strict=False) for one in taken]
    if any(_overlaps(ipaddress.ip_network(one.subnet), others) for one in subnets):
        raise PermissionDenied(_OVERLAP)


def check(asked: Subnet) -> Subnet:
    """The pool as it will be used: normal spelling, and with a gateway. Raises InvalidArgument."""
    pool = _block(asked.subnet, f"invalid subnet {asked.subnet}")
    part = _range(asked.address_range, pool) if asked.address_range else None
    gateway = _inside(asked.gateway, pool, "gateway") if asked.gateway else _first(part or pool)
    reserved = {
        name: str(_inside(address, pool, "auxiliary address"))
        for name, address in asked.reserved.items()
    }
    if str(gateway) in reserved.values():
        raise InvalidArgument(f"invalid gateway {gateway}: {_TAKEN}")
    return Subnet(str(pool), str(gateway), str(part or ""), reserved)


def _block(text: str, prefix: str) -> Pool:
    address, slash, _ = text.partition("/")
    try:
        if not slash:
            raise ValueError(text)
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidArgument(f"{prefix}: invalid CIDR block notation") from error
    if ipaddress.ip_address(address) != loose.network_address:
        raise InvalidArgument(f"{prefix}: it should be {loose}")
    return loose


def _range(text: str, pool: Pool) -> Pool:
    prefix = f"invalid ip-range {text}"
    part = _block(text, prefix)
    if part.version != pool.version:
        raise InvalidArgument(f"{prefix}: parent subnet is an IPv{pool.version} block")
    if part.prefixlen < pool.prefixlen:
        raise InvalidArgument(f"{prefix}: CIDR block is bigger than its parent subnet {pool}")
    if not _overlaps(part, [pool]):
        raise InvalidArgument(f"{prefix}: parent subnet {pool} doesn't contain ip-range")
    return part


def _inside(text: str, pool: Pool, what: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what} {text}: invalid address") from error
    if address.version != pool.version:
        raise InvalidArgument(f"invalid {what} {text}: parent subnet is an IPv{pool.version} block")
    if address not in pool:
        raise InvalidArgument(
            f"invalid {what} {text}: parent subnet {pool} doesn't contain this address"
        )
    return address


def _overlaps(pool: Pool, others: Iterable[Pool]) -> bool:
    return any(pool.version == other.version and pool.overlaps(other) for other in others)


def _free(pools: Iterable[Pool], occupied: Collection[Pool], family: str) -> Pool:
    for pool in pools:
        if not _overlaps(pool, occupied):
            return pool
    raise InvalidArgument(
        f"all predefined {family} address pools have been fully subnetted: "
        "remove networks, or name a subnet"
    )


def _local_pools(seed: str) -> Iterator[IPv6Network]:
    global_id = hashlib.sha256(seed.encode()).digest()[:5]
    base = IPv6Address(b"\xfd" + global_id + bytes(10))
    return IPv6Network((base, 48)).subnets(new_prefix=64)


# Containers -------------------------------------------------------------------------------------


def pick(subnets: Collection[Subnet], taken: Collection[str], asked: str = "", *, v6: bool) -> str:
    """An address with prefix length (``172.18.0.2/16``) from the pools of one family: ``asked``, or
    the lowest that is free; empty where the network has no pool of that family.

    ``subnets`` are as :func:`choose` gave them, ``taken`` the addresses that others have, with or
    without a prefix length. Raises InvalidArgument and PermissionDenied for what is asked, Conflict
    when all are taken.
    """
    used = {ipaddress.ip_interface(one).ip for one in taken}
    version = 6 if v6 else 4
    if asked:
        return _asked(asked, subnets, used, version)
    pools = [one for one in subnets if ipaddress.ip_network(one.subnet).version == version]
    for subnet in pools:
        pool = ipaddress.ip_network(subnet.subnet)
        for address in _candidates(subnet, pool):
            if address not in used:
                return f"{address}/{pool.prefixlen}"
    if not pools:
        return ""
    raise Conflict(f"no available IPv{version} addresses on this network's address pools")


def _asked(text: str, subnets: Collection[Subnet], used: Collection[Address], version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid IPv{version} address: {text}") from error
    if address.version != version:
        raise InvalidArgument(f"invalid IPv{version} address: {text}")
    for subnet in subnets:
        pool = ipaddress.ip_network(subnet.subnet)
        if address in pool:
            if address in used or address in _kept(subnet, pool):
                raise PermissionDenied(_TAKEN)
            return f"{address}/{pool.prefixlen}"
    raise InvalidArgument(
        f"invalid address {text}: It does not belong to any of this network's subnets"
    )


def _kept(subnet: Subnet, pool: Pool) -> set[Address]:
    """What no container gets: the network itself, its broadcast, the gateway, what is reserved."""
    kept = {ipaddress.ip_address(one) for one in (subnet.gateway, *subnet.reserved.values()) if one}
    if pool.num_addresses > 2:  # else RFC 3021 and RFC 6164: all of them are hosts
        kept.add(pool.network_address)
        if pool.version == 4:
            kept.add(pool.broadcast_address)
    return kept


def _candidates(subnet: Subnet, pool: Pool) -> Iterator[Address]:
    kept = _kept(subnet, pool)
    part = ipaddress.ip_network(subnet.address_range) if subnet.address_range else pool
    return (address for address in part if address not in kept)


def _first(pool: Pool) -> Address:
    return pool[1] if pool.num_addresses > 1 else pool[0]


def mac_of(address: str) -> str:
    """The hardware address that belongs to an address, with or without a prefix length: ``02:42``
    and its last four bytes, so that whoever gets the address later needs no new ARP entry."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + _packed(address)[-4:])


def any_mac() -> str:
    """One of the same kind, for who has no address."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + os.urandom(4))


def _packed(address: str) -> bytes:
    return ipaddress.ip_interface(address).ip.packed
