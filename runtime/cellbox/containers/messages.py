"""What launcher, shim, init and client say to each other; pure.

**Bundle.** All that is needed to run a container, written once to ``bundle.json`` in the
container's directory before it is first started. The shim reads it there, so that a restart, an
engine of a later day, or a person can see what runs.

**Control.** A client sends one JSON object a packet (SOCK_SEQPACKET) to the launcher's or a shim's
socket, with file descriptors beside it where the request says so, and gets one JSON object back.
``{"error": {...}}`` tells a failure as data (:class:`Failure`).

**Stream.** Standard streams travel over a socket pair of the same kind, one end of which is handed
over with the request. A packet is one byte of kind and its payload (:class:`Kind`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypedDict

from cellbox.linux import capabilities
from cellbox.linux.mounts import Mount
from cellbox.model.container import (
    HealthCheck,
    Limits,
    LogConfig,
    PortSpec,
    RestartPolicy,
    Ulimit,
)
from cellbox.networks.wiring import Place, Plug, Wiring

MAX_PAYLOAD = 65536
"""Bytes of payload in one packet of a stream."""

MAX_REQUEST = 131072
"""Bytes of a request."""


class Kind(IntEnum):
    """The first byte of a packet of a stream."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STDIN_END = 3
    RESIZE = 4  # rows and columns, two big-endian 16-bit numbers
    SIGNAL = 5  # a number, one byte
    STARTED = 6  # the host's pid in decimal
    FAILED = 7  # a Failure as JSON
    EXITED = 8  # the exit code in decimal; nothing follows


@dataclass(frozen=True)
class Failure:
    """Why a process did not start: the ``stage``, the kernel's ``errno``, a few words of
    ``detail``, and Docker's exit code for it (125, 126 or 127)."""

    stage: str
    errno: int
    detail: str
    exit_code: int = 125


@dataclass(frozen=True)
class IdMap:
    """One line of uid_map and gid_map: ``count`` ids from ``inside`` are ``outside`` and on, as the
    launcher sees them."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True)
class Process:
    """One program to run in a container.

    ``user`` is as the user wrote it (``name``, ``uid``, ``name:group``, ...) and is looked up in
    the container's own /etc/passwd. ``env`` holds ``NAME=value``. ``capabilities`` are names
    without ``CAP_``. ``seccomp`` is the path of a compiled filter (an array of struct sock_filter),
    empty for none.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    rlimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None


@dataclass(frozen=True)
class Namespaces:
    """Which namespaces are the container's own. ``network``, ``pid``, ``ipc`` and ``uts`` are
    ``private``, ``host``, or the host's pid of a process whose namespace is shared, in decimal;
    ``user`` is ``private`` or ``host``."""

    network: str = "private"
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    user: str = "private"


@dataclass(frozen=True)
class Bundle:
    """A container, ready to run.

    ``mounts`` are in the order in which they are made, the first one is the root. ``masked`` and
    ``read_only`` are paths inside. ``directory`` is the container's own on disk (``bundle.json``,
    ``exit.json``, ``container.log``). ``events`` is the path of the engine's event log,
    ``attributes`` what its events say of the container; ``volumes`` are the drivers of those that
    it has, by name.
    """

    id: str
    name: str
    directory: str
    process: Process
    mounts: tuple[Mount, ...]
    hostname: str = ""
    domainname: str = ""
    masked: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    namespaces: Namespaces = Namespaces()
    id_map: tuple[IdMap, ...] = ()
    limits: Limits = Limits()
    init: bool = False
    auto_remove: bool = False
    stop_signal: str = "TERM"
    stop_timeout: float = 10.0
    restart: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    log: LogConfig = LogConfig()
    wiring: Wiring = Wiring()
    events: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparation:
    """What can be made of a container before it is known: its namespaces and the kernel's own file
    systems in it, with what is masked and protected there. All capabilities but those of
    ``bounding`` are given up for good."""

    namespaces: Namespaces = Namespaces()
    mounts: tuple[Mount, ...] = ()
    masked: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    bounding: tuple[str, ...] = capabilities.ALL

    def looks_like(self, other: Preparation) -> bool:
        """Are the file systems the same, in the same namespaces?"""
        return self._looks() == other._looks()

    def _looks(self) -> tuple[object, ...]:
        return self.namespaces, self.mounts, self.masked, self.read_only

    def allows(self, process: Process) -> bool:
        """Was nothing given up that ``process`` is to hold?"""
        return set(process.capabilities) <= set(self.bounding)


def preparation(bundle: Bundle) -> Preparation:
    """The part of ``bundle`` that can be prepared; shared namespaces cannot."""
    own = [mount for mount in bundle.mounts[1:] if _is_kernel(mount)]
    tops = tuple(mount.target for mount in own if mount.target in KERNEL_TOPS)
    below = tuple(f"{top}/" for top in tops)
    return Preparation(
        namespaces=bundle.namespaces,
        mounts=tuple(mount for mount in own if mount.target.startswith(tops)),
        masked=tuple(path for path in bundle.masked if path.startswith(below)),
        read_only=tuple(
            path for path in bundle.read_only if path.startswith("/proc/") and "/proc" in tops
        ),
        bounding=bundle.process.capabilities,
    )


KERNEL_TOPS = ("/proc", "/dev", "/sys")


def _is_kernel(mount: Mount) -> bool:
    """Is it made from nothing? What lies below /sys goes on after the control groups."""
    made = mount.kind not in ("bind", "overlay")
    return made and (mount.target in KERNEL_TOPS or mount.target.startswith("/dev/"))


class Handover(TypedDict):
    """What a starter tells a shim of its container; with it come descriptors, in this order: what
    holds the slot, the mount namespace of init if it was there to be opened (``mounted``), the
    client's connection if it is ``owned``, the shim's listening socket if it is ``listening``, its
    ends of the ``pipes`` that are there (standard input, output and error), the streams to
    ``attach``, which say whether they take standard input, and the sockets of each of the
    ``ports``, a PortSpec as JSON and their number.

    It comes while init is on its way. How that went follows: ``runs``, with the master of a
    terminal if there is one and the sockets for names, or a Failure as JSON, null where nothing
    ``fits``, with the connection of the client, who waits for an answer."""

    directory: str
    run_directory: str
    facts: dict[str, Any]  # of the bundle, what a shim is to know
    slot: int
    mounted: bool
    fits: bool  # what was prepared; else the shim starts the container by itself
    started: float
    owned: bool  # the container ends when the client's connection closes

    listening: bool
    pipes: list[bool]
    attach: list[bool | None]
    ports: list[tuple[dict[str, Any], int]]


@dataclass(frozen=True)
class RunState:
    """``state.json``: the run that is going on. Start times are in clock ticks since boot, as in
    /proc/PID/stat, and tell a pid from a later process with the same number."""

    shim: int
    shim_start: int
    pid: int = 0
    pid_start: int = 0
    started: float = 0.0
    paused: bool = False
    restarts: int = 0
    restarting: bool = False
    health: str = ""
    failing_streak: int = 0
    ports: tuple[PortSpec, ...] = ()


@dataclass(frozen=True)
class ExitRecord:
    """``exit.json``: how the last run ended. ``error`` says why it could not start, else empty."""

    exit_code: int
    started: float
    finished: float
    oom_killed: bool = False
    error: str = ""
    restarts: int = 0


def group_name(run: str, shim: int) -> str:
    """The name of the control group of a container whose shim has this pid, in the store with the
    run directory ``run``.

    Not the container's own name, since the group is made before it is known whose it will be.
    """
    return f"{zlib.crc32(os.fsencode(run)):08x}-{shim}"


def group_shim(run: str, name: str) -> int:
    """The pid of the shim that a group belongs to, 0 for one of another store."""
    store, _, shim = name.partition("-")
    return int(shim) if shim.isdecimal() and name == group_name(run, int(shim)) else 0


def packet(kind: Kind, payload: bytes = b"") -> bytes:
    """One packet of a stream."""
    return bytes((kind,)) + payload


def unpack(data: bytes) -> tuple[Kind, bytes]:
    """Kind and payload of a packet. Raises ValueError for an empty packet or an unknown kind."""
    if not data:
        raise ValueError("an empty packet")
    return Kind(data[0]), data[1:]


SAMPLE = Bundle(
    id="sample",
    name="sample",
    directory="/",
    process=Process(
        argv=("true",),
        env=("PATH=/bin",),
        capabilities=("CHOWN",),
        rlimits=(Ulimit("nofile", 1024, 1024),),
        oom_score_adj=0,
    ),
    mounts=(Mount("overlay", "/", lowers=("/",), flags=("ro",), idmap=True),),
    sysctls={"a": "b"},
    namespaces=Namespaces(user="host"),
    id_map=(IdMap(0, 0, 1),),
    limits=Limits(memory=1),
    restart=RestartPolicy("always"),
    health=HealthCheck(test=("NONE",)),
    log=LogConfig("none", {"a": "b"}),
    wiring=Wiring(
        plugs=(Plug("a", "b"),), ports=(PortSpec(1),), places=(Place("a", "b", "c", (), ""),)
    ),
    attributes={"a": "b"},
)
"""One of everything: what the launcher reads and writes once, so that all that is worked out at
first use is there before it forks."""
