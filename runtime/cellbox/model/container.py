"""A container: what a user asks for (:class:`RunSpec`), and what became of it (:class:`Container`).

A ``RunSpec`` says only what was asked; every default of the image is filled in by
``containers.spec``, a pure function, so that the same request over another image is the same value.
Sizes are bytes, times are seconds, instants are seconds since the epoch (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cellbox.model.network import Endpoint, EndpointSpec


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
    """Docker's ``type=`` of ``--mount``."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


@dataclass(frozen=True)
class MountSpec:
    """One ``-v``, ``--mount`` or ``--tmpfs``.

    ``source`` is an absolute host path for a bind, a volume's name (empty: an anonymous one) for a
    volume, and empty for a tmpfs. ``size`` (bytes) and ``mode`` belong to a tmpfs; ``propagation``,
    ``recursive``, ``shallow`` (``read_only`` is not for what is mounted below) and ``make_source``
    (a missing directory of the host is made, as ``-v`` does) to a bind; ``no_copy`` (what the image
    has there is not copied into an empty volume), ``subpath``, ``driver``, ``driver_options`` and
    ``labels`` to a volume.
    """

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    size: int | None = None
    mode: int = 0o1777
    propagation: str = ""
    recursive: bool = True
    shallow: bool = False
    make_source: bool = False
    no_copy: bool = False
    subpath: str = ""
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MountPoint:
    """What is mounted in a container: ``source`` is a path on the host, ``name`` the volume's."""

    kind: MountKind
    target: str
    source: str
    read_only: bool = False
    name: str = ""
    driver: str = ""
    propagation: str = ""


@dataclass(frozen=True)
class DeviceSpec:
    """One ``--device``: a device node of the host and where the container sees it."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True)
class PortSpec:
    """One ``-p``: ``port`` (1 to 65535) of the container, ``protocol`` ``tcp``, ``udp`` or
    ``sctp``; ``host_ip`` empty for all addresses; of the host's ports ``host_port`` up to
    ``host_port_end`` the first free one, any free one where both are 0."""

    port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True)
class Dns:
    """What its resolver is told: ``--dns``, ``--dns-search``, ``--dns-option``."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


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
    """``no``, ``always``, ``unless-stopped``, ``on-failure`` or ``on-unhealthy`` (which is not
    Docker's: also when its health check finds it unhealthy), the last two with at most ``retries``
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
    image's. ``env`` holds ``NAME=value``. ``network`` is ``default``, ``none``, ``host``,
    ``container:ID`` or a network; ``endpoints`` say more of that one and name further ones.
    ``ports`` are published; ``exposed`` (``80/tcp``) are too where ``publish_all`` is set.
    ``egress`` restricts what can be reached outside: ``none``, ``dns:NAME`` or CIDR, all that is
    listed; empty for no restriction. ``volumes_from`` are ``CONTAINER[:ro]``. ``stdin_once`` ends
    its standard input with the first client that has attached to it; ``attached`` names the streams
    (``stdin``, ...) that this client wanted. ``platform`` is ``os/architecture[/variant]`` or
    empty. Without ``image_volumes`` it has no volumes but those that are asked for.
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
    annotations: Mapping[str, str] = field(default_factory=dict)
    tty: bool = False
    interactive: bool = False
    auto_remove: bool = False
    detach: bool = False
    stdin_once: bool = False
    attached: tuple[str, ...] = ()
    init: bool = False
    stop_signal: str = ""
    stop_timeout: float | None = None
    network: str = "default"
    endpoints: tuple[EndpointSpec, ...] = ()
    links: tuple[str, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    exposed: tuple[str, ...] = ()
    publish_all: bool = False
    dns: Dns = Dns()
    egress: tuple[str, ...] = ()
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    platform: str = ""
    mounts: tuple[MountSpec, ...] = ()
    volumes_from: tuple[str, ...] = ()
    volume_driver: str = ""
    image_volumes: bool = True
    devices: tuple[DeviceSpec, ...] = ()
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
    belongs to the last run; ``error`` says why a start failed. ``endpoints`` are its places in
    networks, ``ports`` those that are published now, each with its ``host_port``; ``mounts`` what
    the user and the image have mounted there.
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
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    mounts: tuple[MountPoint, ...] = ()

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
