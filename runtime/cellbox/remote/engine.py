"""The remote engine: a :class:`~cellbox.engine.Engine` behind Docker's Engine API.

What cellbox can do and Docker's API cannot say is NotSupported here, with a sentence. Containers
are the daemon's: they run on when this object is closed, also those in the foreground.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from cellbox.engine import Containers, Files, Filters, Images, Networks, Plugins, Volumes
from cellbox.errors import CellboxError, NotSupported
from cellbox.model.event import Event
from cellbox.model.system import Damage, DiskUsage, Finding, Info
from cellbox.remote.address import Address
from cellbox.remote.containers import RemoteContainers
from cellbox.remote.exchange import Documents
from cellbox.remote.files import RemoteFiles
from cellbox.remote.images import RemoteImages
from cellbox.remote.networks import RemoteNetworks
from cellbox.remote.plugins import RemotePlugins
from cellbox.remote.transport import Transport
from cellbox.remote.volumes import RemoteVolumes
from cellbox.wire.events import event_from
from cellbox.wire.system import disk_usage_from, info_from


class RemoteEngine:
    """The engine at ``address``. Nothing is sent before it is first used."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http = Transport(address)
        self._containers = RemoteContainers(self._http)
        self._images = RemoteImages(self._http)
        self._files = RemoteFiles(self._http)
        self._networks = RemoteNetworks(self._http)
        self._volumes = RemoteVolumes(self._http)
        self._plugins = RemotePlugins(self._http)

    @property
    def url(self) -> str:
        return str(self._address)

    @property
    def images(self) -> Images:
        return self._images

    @property
    def containers(self) -> Containers:
        return self._containers

    @property
    def files(self) -> Files:
        return self._files

    @property
    def networks(self) -> Networks:
        return self._networks

    @property
    def volumes(self) -> Volumes:
        return self._volumes

    @property
    def plugins(self) -> Plugins:
        return self._plugins

    def info(self) -> Info:
        return info_from(self._http.json("GET", "/info"))

    def disk_usage(self) -> list[DiskUsage]:
        return disk_usage_from(self._http.json("GET", "/system/df"))

    def prune_build_cache(self) -> dict[str, int]:
        told = self._http.json("POST", "/build/prune")
        gone = told.get("CachesDeleted") or ()
        # The daemon tells one sum for all of them.
        return {id: 0 for id in gone[1:]} | {id: told["SpaceReclaimed"] for id in gone[:1]}

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Filters | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """Closing the iterator, from any thread, ends the listening too."""
        if since is None and until is not None:  # for dockerd that is from the beginning
            since = time.time()
        query = {"since": _text(since), "until": _text(until), "filters": filters or None}
        return Events(self._http.documents("GET", "/events", query, stop=stop))

    def doctor(self) -> list[Finding]:
        """What there is to say of the way to the daemon; its machine is asked over there."""
        return [*_reachable(self._http, self.url), *_private(self._address)]

    def check(self, *, repair: bool = False) -> list[Damage]:
        raise NotSupported(
            "a store is looked through on its own machine: run `cellbox system check` there"
        )

    def close(self) -> None:
        self._http.close()


class Events:
    """What happens over there, as it happens."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        return event_from(next(self._documents))

    def close(self) -> None:
        """Stop listening; who waits for the next one is told that there is none."""
        self._documents.close()


def _text(moment: float | None) -> str | None:
    return None if moment is None else f"{moment:.9f}"


def _reachable(transport: Transport, url: str) -> Iterator[Finding]:
    start = time.perf_counter()
    try:
        version = transport.json("GET", "/version")
    except CellboxError as error:
        yield Finding("daemon", False, str(error), f"docker --host {url} version")
        return
    took = (time.perf_counter() - start) * 1000
    yield Finding("daemon", True, f"{url} answered in {took:.0f} ms")
    spoken = ".".join(map(str, transport.api_version()))
    theirs = f"{version.get('Version', '?')} on {version.get('Os', '?')}/{version.get('Arch', '?')}"
    yield Finding("version", True, f"{theirs}, API {version.get('ApiVersion')}; we speak {spoken}")


def _private(address: Address) -> Iterator[Finding]:
    if address.in_the_clear:
        detail = f"what is said to {address} can be read and changed on the way"
        yield Finding("encryption", False, detail, f"use ssh://{address.host}, or TLS")
    elif address.tls is not None and not address.tls.verify:
        yield Finding("encryption", False, f"{address} may be anybody", "leave verify=0 out")
