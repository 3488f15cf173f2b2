"""Finding the program that a driver's name means, and what each one there is implements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cellbox.drivers import places
from cellbox.drivers.client import Client
from cellbox.drivers.places import Place
from cellbox.errors import CellboxError, InvalidArgument, NotFound
from cellbox.model.plugin import Plugin, PluginKind

KINDS: Mapping[str, PluginKind] = {
    "VolumeDriver": PluginKind.VOLUME,
    "NetworkDriver": PluginKind.NETWORK,
    "IpamDriver": PluginKind.IPAM,
    "LogDriver": PluginKind.LOG,
    "authz": PluginKind.AUTHZ,
}
"""What the protocol calls our kinds."""

_LOOK = 2.0
"""Seconds that a program has to say what it is, when all are listed."""
_AT_ONCE = 8


@dataclass(frozen=True)
class _Seen:
    """Where a program was found: another file or another address is another program."""

    name: str
    address: str
    source: str


class Finder:
    """The programs in ``folders``; before those, what ``managed`` knows by name: the ones that the
    engine itself runs, which it starts when they are asked for."""

    def __init__(
        self,
        folders: Sequence[Path],
        managed: Callable[[str], Place | None] = lambda name: None,
    ) -> None:
        self._folders = folders
        self._managed = managed
        self._lock = threading.Lock()
        self._clients: dict[_Seen, Client] = {}

    def find(self, name: str, interface: str) -> Client:
        """The program ``name``, which implements ``interface``. Raises NotFound, InvalidArgument,
        and as :meth:`~cellbox.drivers.client.Client.implements`."""
        place = self._managed(name) or places.named(name, self._folders)
        if place is None:
            raise NotFound("plugin", name)
        client = self._client(place)
        if interface not in client.implements():
            told = ", ".join(sorted(client.implements())) or "nothing"
            raise InvalidArgument(f"the plugin {name} implements {told}, but no {interface}")
        return client

    def plugins(self) -> list[Plugin]:
        """Every program in the folders, once for each kind that it implements; one that does not
        answer has its error."""
        found = list(places.all_places(self._folders))
        if not found:
            return []
        with ThreadPoolExecutor(min(len(found), _AT_ONCE)) as pool:
            return [one for some in pool.map(self._described, found) for one in some]

    def _described(self, found: tuple[str, Path]) -> list[Plugin]:
        name, path = found
        origin = f"socket {path}"
        try:
            place = places.read(name, path)
            implements = self._client(place).implements(patience=_LOOK)
        except CellboxError as error:
            return [Plugin(PluginKind.OTHER, name, origin, str(path), str(error), enabled=False)]
        return [
            Plugin(kind, name, origin, place.address) for kind in sorted(set(_kinds(implements)))
        ]

    def _client(self, place: Place) -> Client:
        with self._lock:
            key = _Seen(place.name, place.address, place.source)
            return self._clients.setdefault(key, Client(place))


def _kinds(implements: Sequence[str] | frozenset[str]) -> Iterator[PluginKind]:
    known = [KINDS[one] for one in implements if one in KINDS]
    yield from known or [PluginKind.OTHER]
