"""A container: what a user asks for (:class:`RunSpec`), and what became of it (:class:`Container`).

A ``RunSpec`` says only what was asked; every default of the image is filled in by
``containers.spec``, a pure function, so that the same request over another image is the same value.
Sizes are bytes, times are seconds, instants are seconds since the epoch (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """Where a container is in its life; the words are Docker's."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"


ALLOWED: Mapping[str, frozenset[Status]] = {
    "start": frozenset({Status.CREATED, Status.EXITED}),
    "stop": frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING}),
    "kill": frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING}),
    "pause": frozenset({Status.RUNNING}),
    "unpause": frozenset({Status.PAUSED}),
    "exec": frozenset({Status.RUNNING}),
    "top": frozenset({Status.RUNNING, Status.PAUSED}),
    "attach": frozenset({Status.CREATED, Status.RUNNING, Status.PAUSED, Status.RESTARTING}),
    "remove": frozenset({Status.CREATED, Status.EXITED, Status.DEAD, Status.REMOVING}),
    "commit": frozenset({Status.CREATED, Status.RUNNING, Status.PAUSED, Status.EXITED}),
}
"""For each verb the statuses that allow it; a verb that is not here is always allowed."""


class MountKind(StrEnum):
    """Docker's ``type=`` of ``--mount``, as far as this engine has them."""

    BIND = "bind"
    TMPFS = "tmpfs"


@dataclass(frozen=True)
class MountSpec:
    """One ``-v``, ``--mount`` or ``--tmpfs``.

    ``source`` is an absolute host path for a bind and empty for a tmpfs; ``size`` (bytes) and
    ``mode`` belong to a tmpfs.
    """

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    size: int | None = None
    mode: int = 0o1777


@dataclass(frozen=True)
class Limits:
    """Resource limits; ``None`` leaves a resource unlimited.

    ``memory``, ``memory_swap`` (memory and swap together, -1 for no limit) and
    ``memory_reservation`` in bytes; ``cpus`` in processors, 0.5 is half of one; ``cpu_shares`` as
    Docker's (1024 is one share); ``cpuset`` a list such as ``0-2,4``; ``pids`` counts tasks.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset: str = ""
    pids: int | None = None
    oom_score_adj: int | None = None


@dataclass(frozen=True)
class Ulimit:
    """One ``--ulimit name=soft[:hard]``; -1 is no limit. ``name`` as in getrlimit(2), lower
    case."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True)
class Security:
    """What the process may do, as asked. The defaults are Docker's, plus an own user namespace.

    ``seccomp`` is ``"default"``, ``"unconfined"`` or a profile in Docker's JSON. ``userns`` is
    ``"private"`` (a range of ids of its own) or ``"host"``.
    """

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = "default"
    userns: str = "private"
    read_only: bool = False
    systempaths_unconfined: bool = False


@dataclass(frozen=True)
class RestartPolicy:
    """``no``, ``always``, ``unless-stopped`` or ``on-failure``, the last with at most ``retries``
    (0: no bound)."""

    name: str = "no"
    retries: int = 0


@dataclass(frozen=True)
class HealthCheck:
    """How to ask whether a container is well. ``test`` is ``("CMD", ...)``, ``("CMD-SHELL", line)``
    or ``("NONE",)``; zero durations mean Docker's defaults (30 s, 30 s, 0 s, 3 retries)."""

    test: tuple[str, ...] = ()
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0


@dataclass(frozen=True)
class LogConfig:
    """Where output is kept: a log driver by name, and its options (``max-size``, ``max-file``)."""

    driver: str = "json-file"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSpec:
    """What the user asked for; nothing here is resolved yet.

    ``entrypoint`` None keeps the image's, an empty tuple clears it; ``command`` empty keeps the
    image's. ``env`` holds ``NAME=value``. ``network`` is ``none``, ``host`` or ``container:ID``, or
    the name of a driver's network. ``platform`` is ``os/architecture[/variant]`` or empty.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    extra_hosts: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tty: bool = False
    interactive: bool = False
    auto_remove: bool = False
    detach: bool = False
    init: bool = False
    stop_signal: str = ""
    stop_timeout: float | None = None
    network: str = "none"
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    platform: str = ""
    mounts: tuple[MountSpec, ...] = ()
    shm_size: int | None = None
    limits: Limits = Limits()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    security: Security = Security()
    restart: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    log: LogConfig = LogConfig()


@dataclass(frozen=True)
class ExecSpec:
    """A further process in a running container; unset fields are the container's own."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    privileged: bool = False


@dataclass(frozen=True)
class Health:
    """``status`` is ``starting``, ``healthy`` or ``unhealthy``; ``log`` the last probes, oldest
    first, each ``{start, end, exit_code, output}``."""

    status: str
    failing_streak: int = 0
    log: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Container:
    """One container as the engine sees it now.

    ``id`` is 64 hex digits; ``image_id`` the digest of the image's config; ``command`` the argument
    vector that runs; ``pid`` the first process as the host sees it, 0 when none runs. ``exit_code``
    belongs to the last run; ``error`` says why a start failed.
    """

    id: str
    name: str
    image_id: str
    spec: RunSpec
    command: tuple[str, ...]
    status: Status
    created: float
    started: float | None = None
    finished: float | None = None
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restarts: int = 0
    health: Health | None = None

    @property
    def short_id(self) -> str:
        """The first twelve digits, as Docker prints them."""
        return self.id[:12]


@dataclass(frozen=True)
class FileChange:
    """One path that differs from the image: ``kind`` is ``C`` changed, ``A`` added, ``D``
    deleted."""

    kind: str
    path: str


@dataclass(frozen=True)
class FileStat:
    """A path inside a container. ``mode`` as st_mode of stat(2), ``mtime`` in seconds; ``target``
    is what a symbolic link points to."""

    name: str
    size: int
    mode: int
    mtime: float
    target: str = ""


@dataclass(frozen=True)
class ProcessTable:
    """``top``: column titles, and one row a process, pids as the host sees them."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Stats:
    """Resources at the instant ``read``. CPU times in nanoseconds since the start, the rest bytes
    or counts; a limit of 0 is no limit. ``memory`` leaves out the page cache that can be
    dropped."""

    read: float
    cpu: int = 0
    system_cpu: int = 0
    cpus: int = 1
    memory: int = 0
    memory_limit: int = 0
    pids: int = 0
    pids_limit: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
