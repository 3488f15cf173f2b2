"""Who is called what in a network: one small file for each endpoint, in a directory per network.

``DIRECTORY/ENDPOINT.json`` is ``{"container": ID, "names": [...], "ip": "172.18.0.2", "ip6": ""}``,
addresses without prefix length. Whoever attaches a container writes it, whoever detaches it takes
it away, and the resolver of every container in that network reads them; nobody has to tell anybody.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from cellbox.networks.wiring import RESOLVER

_PORT = 53
_SETTLED = 0.1
"""Seconds after which a directory's time tells one change of it from the next."""


@dataclass(frozen=True)
class Entry:
    """One endpoint as it was published."""

    container: str
    names: tuple[str, ...]
    ip: str
    ip6: str

    def address(self, version: int) -> str:
        """Its address of IP ``version`` 4 or 6, or nothing."""
        return self.ip if version == 4 else self.ip6


def publish(
    directory: str, endpoint: str, container: str, names: Sequence[str], ip: str, ip6: str = ""
) -> None:
    """Let ``names`` mean these addresses for all that look into ``directory``, which is made where
    it is not there; the first name is what an address is called. Raises OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    entry = {"container": container, "names": [*names], "ip": ip, "ip6": ip6}
    temporary = os.path.join(directory, f".{endpoint}.{os.urandom(6).hex()}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            json.dump(entry, file)
        os.rename(temporary, _file(directory, endpoint))
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def withdraw(directory: str, endpoint: str) -> None:
    """Take back what was published of ``endpoint``, if anything was."""
    with suppress(FileNotFoundError):
        os.unlink(_file(directory, endpoint))


def listen() -> tuple[socket.socket, socket.socket]:
    """Two sockets, of UDP and of TCP, on which whoever is in the network namespace of now asks its
    resolver. Raises OSError."""
    with ExitStack() as undo:
        udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for end in (udp, tcp):
            end.bind((RESOLVER, _PORT))
        tcp.listen(64)
        undo.pop_all()
        return udp, tcp


def _file(directory: str, endpoint: str) -> str:
    return os.path.join(directory, f"{endpoint}.json")


class Names:
    """What a container may ask for.

    ``networks`` maps the names of its networks to their directories; ``aliases`` are names that are
    its own affair, each for an address or for a container's name or id.
    """

    def __init__(self, networks: Mapping[str, str], aliases: Mapping[str, str] | None = None):
        self._directories = {name.lower(): _Directory(path) for name, path in networks.items()}
        self._aliases = {_plain(alias): meant for alias, meant in (aliases or {}).items()}
        self._turns = {4: 0, 6: 0}

    def lookup(self, name: str, version: int = 4) -> list[str] | None:
        """The addresses of IP ``version`` that ``name`` has, each time another one first; None
        where nobody is called so. ``name`` is as in DNS: no matter in which case, with or without a
        dot at its end, alone or followed by the name of a network."""
        meant = self._aliases.get(_plain(name), "")
        if _version(meant):
            return [meant] if _version(meant) == version else []
        entries = self._find(_plain(meant or name))
        if not entries:
            return None
        found = dict.fromkeys(filter(None, (entry.address(version) for entry in entries)))
        addresses = list(found)
        self._turns[version] += 1
        turn = self._turns[version] % len(addresses) if addresses else 0
        return addresses[turn:] + addresses[:turn]

    def reverse(self, address: str) -> str:
        """``NAME.NETWORK`` of who has ``address``, empty where nobody has."""
        for network, directory in self._directories.items():
            for entry in directory.entries():
                if address in (entry.ip, entry.ip6) and entry.names:
                    return f"{entry.names[0]}.{network}"
        return ""

    def _find(self, name: str) -> list[Entry]:
        """All who are called ``name``, in any of the networks or in the one that it names."""
        found = [entry for one in self._directories.values() for entry in one.called(name)]
        for network, directory in self._directories.items():
            if name.endswith(f".{network}"):
                found += directory.called(name.removesuffix(f".{network}"))
        return found


class _Directory:
    """The entries of one directory, read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = -1
        self._entries: list[Entry] = []
        self._index: dict[str, list[Entry]] = {}

    def entries(self) -> list[Entry]:
        """All that can be read; none of a directory that is not there."""
        self._refresh()
        return self._entries

    def called(self, name: str) -> list[Entry]:
        """Those with this name or container id, which is in lower case."""
        self._refresh()
        return self._index.get(name, [])

    def _refresh(self) -> None:
        try:
            changed = os.stat(self._path).st_mtime_ns
        except OSError:
            changed = 0
        if changed == self._seen:
            return
        # A change right after this one may bear the same time, so that this look does not count.
        settled = time.time_ns() - changed > _SETTLED * 1e9
        self._seen = changed if settled else -1
        self._entries = _read(self._path)
        self._index = {}
        for entry in self._entries:
            for name in {one.lower() for one in (*entry.names, entry.container)}:
                self._index.setdefault(name, []).append(entry)


def _read(directory: str) -> list[Entry]:
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):
            if name.endswith(".json"):
                with suppress(OSError, ValueError, KeyError, TypeError):  # withdrawn, or damaged
                    with open(os.path.join(directory, name), encoding="utf-8") as file:
                        found.append(_entry(json.load(file)))
    return found


def _entry(said: dict[str, Any]) -> Entry:
    return Entry(
        str(said["container"]), tuple(map(str, said["names"])), str(said["ip"]), str(said["ip6"])
    )


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _version(text: str) -> int:
    """4 or 6 for an address, 0 for a name; no name has a colon or ends in a number."""
    return 6 if ":" in text else 4 if text.rpartition(".")[2].isdecimal() and "." in text else 0
