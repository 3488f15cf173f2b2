"""Ports as Docker prints them; pure.

Ports come as the entries of ``Ports`` in the API's list of containers. Source: docker/cli
``formatter/container.go`` (DisplayablePorts), ``container/port.go``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

Port = Mapping[str, Any]


def summary(ports: Iterable[Port]) -> str:
    """``0.0.0.0:8080->80/tcp, 443/tcp``: neighbours with the same number on both sides are one
    range (``0.0.0.0:90-92->90-92/tcp``)."""
    groups: dict[tuple[str, str], list[list[int]]] = {}
    mapped = []
    for port in sorted(ports, key=_order):
        inside, ip = port["PrivatePort"], port.get("IP", "")
        if ip and port["PublicPort"] != inside:
            mapped.append(f"{joined(ip, port['PublicPort'])}->{inside}/{port['Type']}")
            continue
        runs = groups.setdefault((ip, port["Type"]), [])
        if runs and runs[-1][1] in (inside, inside - 1):
            runs[-1][1] = inside
        else:
            runs.append([inside, inside])
    shown = [
        _run(ip, protocol, first, last)
        for (ip, protocol), runs in groups.items()
        for first, last in runs
    ]
    return ", ".join([*shown, *mapped])


def joined(ip: str, port: object) -> str:
    """``127.0.0.1:80``, ``[::1]:80``."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that sorts ``80/tcp`` before ``443/tcp``."""
    parts = re.findall(r"\d+|\D+", text, re.ASCII)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _run(ip: str, protocol: str, first: int, last: int) -> str:
    number = str(first) if first == last else f"{first}-{last}"
    return f"{joined(ip, number)}->{number}/{protocol}" if ip else f"{number}/{protocol}"


def _order(port: Port) -> tuple[int, int, int, int, str]:
    ip = port.get("IP", "")
    address = ipaddress.ip_address(ip) if ip else None
    return (
        port["PrivatePort"],
        address.version if address else 0,
        int(address) if address else 0,
        port.get("PublicPort", 0),
        port["Type"],
    )
