"""Is a request well formed? Each check returns the canonical value or refuses it; pure.

Docker's rules and, where it has one, Docker's sentence. Two kinds of wrong input matter beyond
courtesy: bytes that would end a string or a line where the value is used later (NUL in an
argument, a newline in /etc/hosts), and paths that would lead a mount or a sysctl elsewhere.
"""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cellbox.containers.restart import COUNTED
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.linux.process import signal_number
from cellbox.model.container import (
    DeviceSpec,
    HealthCheck,
    Limits,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Ulimit,
)
from cellbox.model.volume import check_name

MIN_MEMORY = 6 << 20
MAX_HOSTNAME = 64
"""The kernel's limit (uts_namespaces(7)); a name of RFC 1123 may be longer."""

ULIMITS = frozenset(
    ("core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc")
    + ("rss", "rtprio", "rttime", "sigpending", "stack")
)
_SYSCTLS_OF_IPC = frozenset(
    ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall")
    + ("kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced")
)
# A dot of a sysctl's name becomes a slash of a path below /proc/sys, so nothing else may be one.
_SYSCTL_NAME = re.compile(r"[a-z0-9_-]+(\.[A-Za-z0-9_-]+)+", re.ASCII)
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_HOST_ALIAS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_CPUSET = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", re.ASCII)


def strings(values: Iterable[str], what: str) -> None:
    """No string may hold a NUL byte: the kernel would end it there."""
    for value in values:
        if "\0" in value:
            raise InvalidArgument(f"{what} holds a NUL byte: {value!r}")


def env(values: Iterable[str]) -> None:
    """``NAME=value``, or ``NAME`` alone, which takes the variable away."""
    values = tuple(values)
    strings(values, "an environment variable")
    for value in values:
        if not value.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {value}")


def workdir(path: str) -> str:
    """An absolute path without ``.``, ``..`` and doubled slashes."""
    strings((path,), "the working directory")
    if not path.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )
    return _normal(path)


def hostname(name: str, what: str = "hostname") -> str:
    """A name of RFC 1123 that the kernel takes; a newline would forge lines of /etc/hosts."""
    if not _HOSTNAME.fullmatch(name) or len(name) > MAX_HOSTNAME:
        raise InvalidArgument(f"invalid {what} format: {name!r}")
    return name


def extra_host(entry: str) -> tuple[str, str]:
    """``NAME:ADDRESS`` or ``NAME=ADDRESS`` as (name, address); ``host-gateway`` stays as it is."""
    equals = "=" in entry.partition(":")[0]
    name, separator, address = entry.partition("=" if equals else ":")
    if not separator or not _HOST_ALIAS.fullmatch(name):
        raise InvalidArgument(f"bad format for add-host: {entry!r}")
    if address == "host-gateway":
        return name, address
    try:
        return name, str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise InvalidArgument(f"invalid IP address in add-host: {address!r}") from None


def signal(name: str) -> str:
    """A signal by name or number, without ``SIG``."""
    try:
        signal_number(name)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    return name.upper().removeprefix("SIG")


# Resources ------------------------------------------------------------------------------------


def limits(asked: Limits, cpus: int = 0) -> Limits:
    """Canonical limits: swap is twice the memory unless said, zero and -1 tasks are no limit.

    ``cpus`` is the number of processors of the machine, 0 where it does not matter. Source: moby
    ``verifyPlatformContainerResources``.
    """
    _check_memory(asked)
    _check_cpu(asked, cpus)
    if asked.pids is not None and asked.pids < -1:
        raise InvalidArgument(f"invalid pids limit: {asked.pids}")
    adjustment = asked.oom_score_adj
    if adjustment is not None and not -1000 <= adjustment <= 1000:
        raise InvalidArgument(
            f"Invalid value {adjustment}, range for oom score adj is [-1000, 1000]"
        )
    swap = asked.memory_swap or (2 * asked.memory if asked.memory else None)
    shares = min(max(asked.cpu_shares, 2), 262144) if asked.cpu_shares else None
    return replace(
        asked,
        memory=asked.memory or None,
        memory_swap=swap,
        memory_reservation=asked.memory_reservation or None,
        cpus=asked.cpus or None,
        cpu_shares=shares,
        pids=asked.pids if asked.pids and asked.pids > 0 else None,
    )


def _check_memory(asked: Limits) -> None:
    memory, swap = asked.memory or 0, asked.memory_swap or 0
    reservation = asked.memory_reservation or 0
    if memory and memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if swap < -1:
        raise InvalidArgument(f"invalid memory swap limit: {swap}")
    if swap > 0 and not memory:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if reservation and reservation < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _check_cpu(asked: Limits, cpus: int) -> None:
    wanted = asked.cpus or 0.0
    if not math.isfinite(wanted) or wanted < 0 or (cpus and wanted > cpus):
        raise InvalidArgument(
            f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            if cpus
            else f"invalid number of CPUs: {wanted}"
        )
    if 0 < wanted < 0.01:
        raise InvalidArgument(f"{wanted} CPUs are too few: the least is 0.01")
    if asked.cpu_shares is not None and asked.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({asked.cpu_shares}): must not be negative")
    if asked.cpuset:
        last = _last_cpu(asked.cpuset)
        if cpus and last >= cpus:
            raise InvalidArgument(
                f"Requested CPUs are not available - requested {asked.cpuset}, "
                f"available: 0-{cpus - 1}"
            )


def _last_cpu(text: str) -> int:
    if not _CPUSET.fullmatch(text):
        raise InvalidArgument(f"Invalid value {text} for cpuset cpus")
    last = 0
    for part in text.split(","):
        low, _, high = part.partition("-")
        if high and int(high) < int(low):
            raise InvalidArgument(f"Invalid value {text} for cpuset cpus")
        last = max(last, int(high or low))
    return last


def ulimits(asked: Iterable[Ulimit]) -> tuple[Ulimit, ...]:
    """Names of getrlimit(2) in lower case; soft is at most hard; -1 is no limit. The last one
    wins."""
    known = {}
    for limit in asked:
        if limit.name not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if min(limit.soft, limit.hard) < -1:
            raise InvalidArgument(f"invalid ulimit: {limit.name}={limit.soft}:{limit.hard}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidArgument(
                "ulimit soft limit must be less than or equal to hard limit: "
                f"{limit.soft} > {limit.hard}"
            )
        known[limit.name] = limit
    return tuple(known.values())


def sysctls(asked: Mapping[str, str], *, own_ipc: bool, own_network: bool) -> dict[str, str]:
    """Those that belong to a namespace of the container's own; all others are the host's."""
    for name, value in asked.items():
        if not _SYSCTL_NAME.fullmatch(name):
            raise InvalidArgument(f"invalid sysctl name: {name!r}")
        strings((value,), f"sysctl {name}")
        of_ipc = name in _SYSCTLS_OF_IPC or name.startswith("fs.mqueue.")
        of_network = name.startswith("net.")
        if not of_ipc and not of_network:
            raise InvalidArgument(f"sysctl '{name}' is not whitelisted")
        if (of_ipc and not own_ipc) or (of_network and not own_network):
            room = "ipc" if of_ipc else "network"
            raise InvalidArgument(
                f"sysctl '{name}' is not allowed with the host's {room} namespace"
            )
    return dict(asked)


# Mounts ---------------------------------------------------------------------------------------


def mounts(asked: Iterable[MountSpec]) -> tuple[MountSpec, ...]:
    """Well-formed mounts with canonical targets, no two on one target."""
    result: dict[str, MountSpec] = {}
    for one in asked:
        target = mount_target(one.target)
        if target in result:
            raise InvalidArgument(f"Duplicate mount point: {target}")
        _CHECKS[one.kind](one)
        result[target] = replace(one, target=target)
    return tuple(result.values())


def mount_target(path: str) -> str:
    """Where a user may mount: anywhere but ``/``, and in or on /proc and /sys.

    What is mounted there is what the masks and the identity of the container rest on
    (CVE-2019-16884, CVE-2023-27561).
    """
    strings((path,), "a mount path")
    if not path.startswith("/"):
        raise InvalidArgument(
            f"invalid mount config: invalid mount path: '{path}' mount path must be absolute"
        )
    target = _normal(path)
    if target == "/":
        raise InvalidArgument("invalid mount config: destination can't be '/'")
    if target.split("/")[1] in ("proc", "sys"):
        raise InvalidArgument(f"invalid mount config: nothing can be mounted on or in {target}")
    return target


def _check_bind(one: MountSpec) -> None:
    strings((one.source,), "a mount source")
    if not one.source.startswith("/"):
        raise InvalidArgument(
            'invalid mount config for type "bind": invalid mount path: '
            f"'{one.source}' mount path must be absolute"
        )
    _check_propagation(one.propagation)


def _check_propagation(mode: str) -> None:
    if mode not in ("", *_PROPAGATIONS):
        raise InvalidArgument(
            f'invalid mount config for type "bind": invalid propagation mode: {mode}'
        )
    if mode.endswith("shared"):
        raise NotSupported(
            f"bind-propagation={mode} is not in this engine: what a container mounts stays in its "
            "own user namespace; use rslave for what the host mounts"
        )


def _check_volume(one: MountSpec) -> None:
    if one.source:
        check_name(one.source)
    reason = ""
    if one.subpath and not one.source:
        reason = "must not set Subpath when using anonymous volumes"
    elif one.subpath.startswith("/") or ".." in one.subpath.split("/"):
        reason = "subpath must be a relative path within the volume"
    if reason:
        raise InvalidArgument(f'invalid mount config for type "volume": {reason}')
    strings((one.subpath,), "a subpath")


def _check_tmpfs(one: MountSpec) -> None:
    if one.source:
        raise InvalidArgument('invalid mount config for type "tmpfs": field Source must not be set')
    if one.size is not None and one.size < 0:
        raise InvalidArgument(f"invalid size of a tmpfs: {one.size}")
    if not 0 <= one.mode <= 0o7777:
        raise InvalidArgument(f"invalid mode of a tmpfs: {one.mode:o}")


_CHECKS = {
    MountKind.BIND: _check_bind,
    MountKind.VOLUME: _check_volume,
    MountKind.TMPFS: _check_tmpfs,
}


def devices(asked: Iterable[DeviceSpec]) -> tuple[DeviceSpec, ...]:
    """Well-formed devices with canonical targets; of two on one target the last one wins."""
    result = {}
    for one in asked:
        strings((one.source,), "a device")
        if not one.source.startswith("/"):
            raise InvalidArgument(f"invalid device: {one.source!r} is not an absolute path")
        if not one.permissions or not set(one.permissions) <= set("rwm"):
            raise InvalidArgument(f"invalid device mode: {one.permissions}")
        target = mount_target(one.target or one.source)
        result[target] = replace(one, target=target)
    return tuple(result.values())


def _normal(path: str) -> str:
    # POSIX keeps two leading slashes apart from one; Linux does not.
    return "/" + posixpath.normpath(path).lstrip("/")


# Networks -------------------------------------------------------------------------------------


def network_mode(spec: RunSpec) -> None:
    """A network that is shared has its names, addresses and ports from whom it is shared with.

    Source: moby ``runconfig`` (validateNetMode).
    """
    joined = spec.network.startswith("container:")
    if not joined and spec.network != "host":
        return
    kind = "container type network" if joined else "host type networking"
    conflicts: tuple[tuple[object, str], ...] = (
        (joined and spec.hostname, "hostname and the network mode"),
        (
            spec.links,
            f"{kind} can't be used with links. This would result in undefined behavior",
        ),
        (joined and spec.dns.servers, "dns and the network mode"),
        (joined and spec.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (any(one.mac for one in spec.endpoints), "mac-address and the network mode"),
        (
            joined and (spec.ports or spec.publish_all),
            "port publishing and the container type network mode",
        ),
        (joined and spec.exposed, "port exposing and the container type network mode"),
    )
    for holds, what in conflicts:
        if holds:
            raise InvalidArgument(f"conflicting options: {what}")
    if any(one.network != spec.network for one in spec.endpoints):
        raise InvalidArgument(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )


# Life -----------------------------------------------------------------------------------------


def restart(policy: RestartPolicy, auto_remove: bool) -> RestartPolicy:
    """A known policy that does not contradict the rest of the request."""
    if policy.name not in ("", "no", "always", "unless-stopped", *COUNTED):
        raise InvalidArgument(f"invalid restart policy: unknown policy '{policy.name}'")
    if policy.retries < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if policy.retries and policy.name not in COUNTED:
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    return policy


def health(asked: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    """What is asked, with what the image says where nothing is; None where nothing is to be
    asked."""
    merged = _merge_health(asked, image)
    if merged is None or not merged.test or merged.test[0] == "NONE":
        return None
    if merged.test[0] not in ("CMD", "CMD-SHELL"):
        raise InvalidArgument(f"Unknown healthcheck type '{merged.test[0]}' (expected 'CMD')")
    if len(merged.test) < 2:
        raise InvalidArgument(f"the healthcheck {merged.test[0]} has no command")
    strings(merged.test, "the healthcheck")
    for name in ("interval", "timeout", "start_period", "start_interval"):
        seconds = getattr(merged, name)
        if not math.isfinite(seconds) or (seconds and seconds < 0.001):
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if merged.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    return merged


def _merge_health(asked: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    if asked is None or image is None:
        return asked or image
    if asked.test[:1] == ("NONE",):
        return asked
    return HealthCheck(
        test=asked.test or image.test,
        interval=asked.interval or image.interval,
        timeout=asked.timeout or image.timeout,
        start_period=asked.start_period or image.start_period,
        start_interval=asked.start_interval or image.start_interval,
        retries=asked.retries or image.retries,
    )
