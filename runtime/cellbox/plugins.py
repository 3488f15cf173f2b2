"""Plugins: the engine's seams, and how an implementation of one is found.

A plugin is an entry point in the group ``cellbox.plugins``, named ``KIND.NAME``, that names a
callable: a class, most often. The room that has the seam calls it; what with, and what comes back,
is the contract of its kind below. A package adds one in its pyproject.toml::

    [project.entry-points."cellbox.plugins"]
    "volume.nfs" = "mypackage.nfs:NfsVolumes"

Our own defaults are registered in the same way. They are also in :data:`BUILT_IN`, which is looked
at first: so a bare checkout has them, and who uses nothing else never pays for the search through
all installed packages.

**Two of one name.** A built-in name cannot be taken: nobody swaps the snapshotter by installing a
package. Of two others, the one whose distribution comes first in the alphabet has it. Who lost is
listed with the reason. A plugin that cannot be loaded is listed with its error, and only who asks
for that one meets it. Kinds that this engine does not know are left alone.

The contract of a snapshotter needs the words of its room and stands there: ``images.snapshots``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol

from cellbox.errors import EngineError, NotFound
from cellbox.model.container import RunSpec
from cellbox.model.network import Endpoint, NetworkSpec
from cellbox.model.plugin import Plugin, PluginKind

GROUP = "cellbox.plugins"
BUILT_IN_ORIGIN = "built in"

BUILT_IN: Mapping[str, str] = {
    "snapshotter.overlay": "cellbox.images.overlay:OverlaySnapshotter",
    "snapshotter.copying": "cellbox.images.copying:CopyingSnapshotter",
    "volume.local": "cellbox.volumes:LocalDriver",
    "log.json-file": "cellbox.containers.logs:JsonFile",
    "log.local": "cellbox.containers.logs:Local",
    "log.none": "cellbox.containers.logs:NoLog",
}
"""Our defaults: the same lines as in pyproject.toml."""


# --- the contracts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """How a driver connects a container. ``interface`` is one of the host that is the container's
    from then on, empty where it needs none. Addresses (``ip`` and ``ip6`` with prefix length) and
    ``mac`` are those that the driver itself has chosen, as nobody had. ``routes`` are destinations
    (CIDR), each with its gateway, empty for what is on the link."""

    interface: str = ""
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    gateway: str = ""
    gateway6: str = ""
    routes: Mapping[str, str] = field(default_factory=dict)


class NetworkDriver(Protocol):
    """Networks of one driver, as Docker's network plugin protocol has them; made without arguments,
    by the engine and by the keeper of its networks.

    Raises :class:`~cellbox.errors.CellboxError` and OSError; every method may be repeated.
    """

    def create(self, network: str, spec: NetworkSpec) -> None:
        """Make the network with this id; ``spec`` has its subnets, where it has any."""
        ...

    def remove(self, network: str) -> None:
        """Take it away; nobody is in it any more."""
        ...

    def join(self, endpoint: Endpoint) -> Joined:
        """Make a container's place ready, before its program runs."""
        ...

    def leave(self, endpoint: Endpoint) -> None:
        """Free what :meth:`join` took; the interface may be gone."""
        ...


class VolumeDriver(Protocol):
    """Volumes of one driver, as Docker's volume plugin protocol has them; made without arguments
    (the engine's own, ``local``, is told where the store is).

    Raises :class:`~cellbox.errors.CellboxError` and OSError; every method may be repeated.
    """

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make the volume, or find it."""
        ...

    def remove(self, name: str) -> None:
        """Delete it with all that is in it; nobody has it mounted. Raises NotFound."""
        ...

    def mount(self, name: str, container: str) -> str:
        """Make it ready for this container: an absolute path on the host. Raises NotFound."""
        ...

    def unmount(self, name: str, container: str) -> None:
        """This container does not need it any more."""
        ...

    def path(self, name: str) -> str:
        """Where it is now; empty where it is not mounted."""
        ...

    def names(self) -> Sequence[str]:
        """All volumes there are."""
        ...


class LogSink(Protocol):
    """Where a shim puts one container's output; nothing here may raise OSError or block long."""

    def write(self, stream: str, data: bytes) -> None:
        """``stream`` is ``"stdout"`` or ``"stderr"``; pieces come as they were written."""
        ...

    def close(self) -> None:
        """No more comes."""
        ...


class LogSource(Protocol):
    """What can be read of a log."""

    def entries(
        self,
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        ended: Callable[[], bool] = ...,
    ) -> Iterator[tuple[float, str, bytes]]:
        """Time, stream and bytes, the oldest first; ``follow`` goes on until ``ended`` says so."""
        ...


class LogDriver(Protocol):
    """Where output is kept; made without arguments."""

    def check(self, options: Mapping[str, str]) -> None:
        """Raise InvalidArgument for options that it does not know."""
        ...

    def writer(self, path: str, options: Mapping[str, str]) -> LogSink:
        """For the shim; ``path`` is a file of this container's own, which need not be used."""
        ...

    def reader(self, path: str) -> LogSource:
        """For anybody. Raises NotSupported where nothing can be read back."""
        ...


class Login(Protocol):
    """What a registry is told: a user name and password, or one of the tokens."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def identity_token(self) -> str: ...
    @property
    def registry_token(self) -> str: ...


class CredentialHelper(Protocol):
    """Knows passwords. Called with a registry (``host[:port]``, or Docker Hub's URL) itself."""

    def __call__(self, server: str) -> Login | None:
        """The login for this registry, None where it has none."""
        ...


class Candidate(Protocol):
    """A node that could run a task: what is free there, in processors and bytes."""

    @property
    def id(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def free_cpus(self) -> float: ...
    @property
    def free_memory(self) -> int: ...
    @property
    def tasks(self) -> int: ...


class Scheduler(Protocol):
    """Says where a task runs; made without arguments. Pure: same facts, same answer."""

    def choose(self, spec: RunSpec, nodes: Sequence[Candidate]) -> str | None:
        """The id of one of ``nodes``, None when none will do."""
        ...


_PROGRAMS = frozenset({PluginKind.IPAM, PluginKind.AUTHZ, PluginKind.OTHER})
"""Kinds that only other programs have, and no package."""

CONTRACTS: Mapping[PluginKind, type] = {
    PluginKind.NETWORK: NetworkDriver,
    PluginKind.VOLUME: VolumeDriver,
    PluginKind.LOG: LogDriver,
    PluginKind.SCHEDULER: Scheduler,
}
"""The kinds whose classes can be looked at before use."""


# --- finding them --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Registered:
    """An entry point: ``KIND.NAME``, ``module:attribute``, and the distribution that has it."""

    name: str
    reference: str
    origin: str


def installed() -> list[Registered]:
    """All entry points of our group among the installed distributions."""
    from importlib import metadata  # 20 ms, and nobody who is happy with the defaults needs it

    return [
        Registered(point.name, point.value, point.dist.name if point.dist else "unknown")
        for point in metadata.entry_points(group=GROUP)
    ]


class Registry:
    """The plugins of this process; each is loaded when it is first asked for."""

    def __init__(
        self,
        built_in: Mapping[str, str] = BUILT_IN,
        find: Callable[[], Iterable[Registered]] = installed,
    ) -> None:
        self._built_in = built_in
        self._find = find
        self._found: tuple[list[Plugin], list[Plugin]] | None = None
        self._loaded: dict[str, Any] = {}
        self._mutex = threading.RLock()

    def load(self, kind: PluginKind, name: str) -> Any:
        """What the plugin's entry point names. Raises NotFound, EngineError for a broken one."""
        key = f"{kind}.{name}"
        with self._mutex:
            if key not in self._loaded:
                plugin = self._plugin(kind, name)
                try:
                    self._loaded[key] = _load(plugin)
                except Exception as error:  # a stranger's module may raise anything
                    raise EngineError(f"the plugin {key} is broken: {_told(error)}") from error
            return self._loaded[key]

    def all(self) -> list[Plugin]:
        """All plugins by kind and name, each with the error that it has, if any.

        Tries to load every one.
        """
        usable, losers = self._search()
        return sorted(
            [*map(self._tried, usable), *losers],
            key=lambda plugin: (plugin.kind, plugin.name, bool(plugin.error), plugin.origin),
        )

    def names(self, kind: PluginKind) -> tuple[str, ...]:
        """The names that :meth:`load` knows, in order; nothing is loaded."""
        return tuple(sorted(plugin.name for plugin in self._search()[0] if plugin.kind == kind))

    def _plugin(self, kind: PluginKind, name: str) -> Plugin:
        reference = self._built_in.get(f"{kind}.{name}")
        if reference:
            return Plugin(kind, name, BUILT_IN_ORIGIN, reference)
        for plugin in self._search()[0]:
            if (plugin.kind, plugin.name) == (kind, name):
                return plugin
        known = ", ".join(self.names(kind)) or "none"
        raise NotFound("plugin", f"{kind}.{name}", f"known of this kind: {known}")

    def _search(self) -> tuple[list[Plugin], list[Plugin]]:
        """Those that have their name, and those that lost it."""
        with self._mutex:
            if self._found is None:
                ours = [
                    Registered(name, reference, BUILT_IN_ORIGIN)
                    for name, reference in self._built_in.items()
                ]
                others = sorted(self._find(), key=lambda one: (one.origin.lower(), one.name))
                self._found = _settle([*ours, *others])
            return self._found

    def _tried(self, plugin: Plugin) -> Plugin:
        try:
            self.load(plugin.kind, plugin.name)
        except EngineError as error:
            return replace(plugin, error=_told(error.__cause__ or error))
        return plugin


REGISTRY = Registry()
"""The plugins of this process."""


def _settle(registered: Iterable[Registered]) -> tuple[list[Plugin], list[Plugin]]:
    owners: dict[str, Plugin] = {}
    losers = []
    for one in registered:
        plugin = _as_plugin(one)
        if plugin is None:
            continue
        owner = owners.setdefault(one.name, plugin)
        if owner is not plugin and owner.reference != plugin.reference:
            losers.append(replace(plugin, error=f"the name is taken: {owner.origin} has it"))
    return list(owners.values()), losers


def _as_plugin(one: Registered) -> Plugin | None:
    kind, _, name = one.name.partition(".")
    if not name or kind not in set(PluginKind) - _PROGRAMS:
        return None
    return Plugin(PluginKind(kind), name, one.origin, one.reference)


def _load(plugin: Plugin) -> Any:
    module, _, attribute = plugin.reference.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{plugin.reference} cannot be called")
    contract = CONTRACTS.get(plugin.kind)
    lacking = _lacking(found, contract) if contract and isinstance(found, type) else []
    if lacking:
        raise TypeError(f"{plugin.reference} has no {', '.join(lacking)}")
    return found


def _lacking(kind: type, contract: type) -> list[str]:
    wanted = (name for name in vars(contract) if not name.startswith("_"))
    return [name for name in wanted if not callable(getattr(kind, name, None))]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
