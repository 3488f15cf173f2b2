"""What the firewall is to know: facts, and the notes in the run directory from which they come.

::

    RUN/networks/NETWORK/up              a network that is in the kernel: its :class:`Bridge`
    RUN/networks/rules/CONTAINER.json    a container that runs: its :class:`Rules`

Who makes a network or starts a container writes its note and asks the keeper to look; the keeper
makes all rules anew from all notes, so no other process needs to know what is there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellbox.model.codec import dumps, loads
from cellbox.model.container import PortSpec
from cellbox.networks.wiring import Wiring

T = TypeVar("T")

UP = "up"
_FOLDER = "rules"


@dataclass(frozen=True)
class Bridge:
    """One network. ``icc``: containers in it may reach each other; ``masquerade``: what leaves it
    does so under the host's address."""

    name: str
    subnets: tuple[str, ...]
    internal: bool = False
    icc: bool = True
    masquerade: bool = True


@dataclass(frozen=True)
class Published:
    """A port of the host that leads to ``ip`` (an address without prefix length) of a container.
    ``host_ip`` is one address of the host, of the same family; empty for all of them."""

    host_port: int
    ip: str
    port: int
    protocol: str = "tcp"
    host_ip: str = ""


@dataclass(frozen=True)
class Egress:
    """What a container may reach outside: ``allowed`` (CIDR), and what :func:`allow` adds.
    ``container`` are twelve hex digits, ``hosts`` the host's ends of its cables, ``addresses`` its
    own (without prefix length)."""

    container: str
    hosts: tuple[str, ...]
    addresses: tuple[str, ...]
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ruleset:
    """All of a store. ``closed`` and ``closed6`` are interfaces between which the host did not
    forward before it did so for containers, and is not to."""

    bridges: tuple[Bridge, ...] = ()
    published: tuple[Published, ...] = ()
    egress: tuple[Egress, ...] = ()
    closed: tuple[str, ...] = ()
    closed6: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """Those of one container."""

    published: tuple[Published, ...] = ()
    egress: Egress | None = None


def of(wiring: Wiring, container: str, ports: tuple[PortSpec, ...]) -> Rules | None:
    """The rules of a container that is connected so and has these ``ports`` of the host; None where
    it has none."""
    plugs = [one for one in wiring.plugs if (one.ip or one.ip6) and not one.endpoint]
    if not plugs:
        return None
    ip, ip6 = (address.partition("/")[0] for address in (plugs[0].ip, plugs[0].ip6))
    published = []
    for port in ports:
        target = ip6 if ":" in port.host_ip else ip
        if target and not _is_loopback(port.host_ip):
            facts = (port.host_port, target, port.port, port.protocol, port.host_ip)
            published.append(Published(*facts))
    egress = None
    if wiring.egress is not None:
        addresses = [address for plug in plugs for address in (plug.ip, plug.ip6) if address]
        bare = tuple(address.partition("/")[0] for address in addresses)
        hosts = tuple(plug.host for plug in plugs)
        egress = Egress(container[:12], hosts, bare, wiring.egress)
    return Rules(tuple(published), egress) if published or egress else None


def _is_loopback(address: str) -> bool:
    """Connections to these are the proxy's."""
    return address.startswith("127.") or address.strip("[]") == "::1"


# Notes ------------------------------------------------------------------------------------------


def note_bridge(run: str, network: str, bridge: Bridge) -> None:
    """The network is to be in the kernel. Raises OSError."""
    write_note(Path(run, "networks", network, UP), dumps(bridge))


def forget_bridge(run: str, network: str) -> None:
    """It is not there any more."""
    with suppress(FileNotFoundError):
        os.unlink(Path(run, "networks", network, UP))


def bridge(run: str, network: str) -> Bridge | None:
    """What the network with this id is in the kernel, None where it is not noted to be there."""
    found = _read(Bridge, run, f"{network}/{UP}")
    return found[0][1] if found else None


def bridges(run: str) -> dict[str, Bridge]:
    """The bridges that are to be there, by network."""
    return {path.parent.name: one for path, one in _read(Bridge, run, f"*/{UP}")}


def note(run: str, container: str, rules: Rules) -> None:
    """The container runs, or is about to. Raises OSError."""
    write_note(Path(run, "networks", _FOLDER, f"{container}.json"), dumps(rules))


def forget(run: str, container: str) -> bool:
    """It does not run any more; whether it had rules."""
    with suppress(FileNotFoundError):
        os.unlink(Path(run, "networks", _FOLDER, f"{container}.json"))
        return True
    return False


def gather(run: str) -> Ruleset:
    """All of a store."""
    known = [one for _, one in _read(Rules, run, f"{_FOLDER}/*.json")]
    return Ruleset(
        bridges=tuple(bridges(run).values()),
        published=tuple(port for one in known for port in one.published),
        egress=tuple(one.egress for one in known if one.egress),
    )


def write_note(path: Path, text: str) -> None:
    """Let a note say ``text``, whole at any moment. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def _read(kind: type[T], run: str, pattern: str) -> list[tuple[Path, T]]:
    """What stands in the notes; one that is torn, or has just gone, is none."""
    found = []
    for path in sorted(Path(run, "networks").glob(pattern)):
        with suppress(OSError, ValueError, TypeError, AttributeError):
            found.append((path, loads(kind, path.read_text(encoding="utf-8"))))
    return found
