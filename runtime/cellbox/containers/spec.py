"""From what the user asked for and what the image says to what is run; pure.

:func:`bundle` makes a :class:`~cellbox.containers.messages.Bundle` of a
:class:`~cellbox.model.container.RunSpec` and an image's config: the image's defaults filled in by
Docker's rules, every input checked (``containers.checks``), and Docker's mounts, masks and
capabilities spelled out as data. Nothing is looked up on the machine; what depends on it comes in
as arguments. :func:`process` does the same for a further process in a running container.

Three mounts cannot be made anew in a container that does not own the namespace they show, since the
kernel asks for power over it (mount(2), EPERM): proc without an own pid namespace, sysfs without an
own network namespace, mqueue without an own ipc namespace. What the namespace's owner sees is bound
in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellbox.containers import checks, etc, logs
from cellbox.containers.messages import Bundle, IdMap, Namespaces, Process
from cellbox.errors import InvalidArgument, WrongState
from cellbox.linux import capabilities
from cellbox.linux.mounts import Mount
from cellbox.model.container import (
    DeviceSpec,
    ExecSpec,
    HealthCheck,
    LogConfig,
    MountKind,
    MountSpec,
    RunSpec,
)
from cellbox.model.image import Image, ImageConfig

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 << 20
PROPAGATION = "rprivate"
STOP_SIGNAL = "TERM"
STOP_TIMEOUT = 10.0
SHELL = ("/bin/sh", "-c")

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
"""Docker's: what tells of the host or reaches its hardware."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Docker's: what would change the host."""

_THROTTLE = "/sys/devices/system/cpu/cpu{}/thermal_throttle"
_NOTHING_BUT_DATA = ("nosuid", "noexec", "nodev")


@dataclass(frozen=True)
class Host:
    """What a bundle takes from the machine: its name, its number of processors (0: unknown), and
    the mounts below /sys/fs/cgroup that show a container its own group."""

    name: str = ""
    cpus: int = 0
    cgroups: tuple[Mount, ...] = ()


def bundle(
    spec: RunSpec,
    image: Image,
    *,
    id: str,
    name: str,
    directory: str,
    rootfs: Sequence[Mount],
    id_map: Sequence[IdMap] = (),
    seccomp: str = "",
    shared: Mapping[str, int] | None = None,
    host: Host = Host(),
    events: str = "",
    volumes: Mapping[str, str] | None = None,
    devices: Sequence[DeviceSpec] = (),
) -> Bundle:
    """All that is needed to run ``spec`` on ``image``.

    Volumes are given names by now, and ``volumes`` says where on the host each of them is.
    ``devices`` are those of the request as they were found, their sources nodes that can be bound.
    ``rootfs`` are the snapshotter's mounts, the root first. ``seccomp`` is the path of the
    compiled filter for this request. ``shared`` gives the host's pid of each running container
    that the request names as ``container:REF``, by REF. Raises InvalidArgument, and WrongState for
    a container to share with that does not run.
    """
    config = image.config
    namespaces = _namespaces(spec, shared or {})
    hostname = _hostname(spec, id, host)
    limits = checks.limits(spec.limits, host.cpus)
    masked, read_only = _covered(spec, host)
    return Bundle(
        id=id,
        name=name,
        directory=directory,
        process=_first_process(spec, config, hostname, seccomp),
        mounts=_mounts(
            spec,
            rootfs,
            _own_mounts(spec, directory, namespaces, tuple(id_map), host),
            _asked_mounts(spec, volumes or {}, devices),
        ),
        hostname=hostname,
        domainname=checks.hostname(spec.domainname, "domain name") if spec.domainname else "",
        masked=masked,
        read_only=read_only,
        sysctls=checks.sysctls(
            spec.sysctls,
            own_ipc=namespaces.ipc == "private",
            own_network=namespaces.network == "private",
        ),
        namespaces=namespaces,
        id_map=tuple(id_map) if namespaces.user == "private" else (),
        limits=limits,
        init=spec.init,
        auto_remove=spec.auto_remove,
        stop_signal=checks.signal(spec.stop_signal or config.stop_signal or STOP_SIGNAL),
        stop_timeout=STOP_TIMEOUT if spec.stop_timeout is None else spec.stop_timeout,
        restart=checks.restart(spec.restart, spec.auto_remove),
        health=_health(spec, config),
        log=_log(spec.log),
        events=events,
        attributes={**config.labels, **spec.labels, "image": spec.image, "name": name},
        volumes={
            mount.source: mount.driver for mount in spec.mounts if mount.kind is MountKind.VOLUME
        },
    )


def process(spec: ExecSpec, container: Bundle, seccomp: str | None = None) -> Process:
    """A further process of a container; what ``spec`` leaves open is as its first process has it.

    A privileged one has every capability and no filter. ``seccomp`` replaces the container's
    filter. Raises InvalidArgument.
    """
    if not spec.command or not spec.command[0]:
        raise InvalidArgument("No exec command specified")
    checks.strings(spec.command, "an argument")
    checks.env(spec.env)
    checks.strings((spec.user,), "the user")
    first = container.process
    terminal = ("TERM=xterm",) if spec.tty else ()
    return Process(
        argv=spec.command,
        env=merge_env(terminal, first.env, spec.env),
        cwd=checks.workdir(spec.workdir) if spec.workdir else first.cwd,
        user=spec.user or first.user,
        groups=first.groups,
        tty=spec.tty,
        stdin=spec.interactive,
        capabilities=capabilities.ALL if spec.privileged else first.capabilities,
        no_new_privileges=first.no_new_privileges,
        seccomp="" if spec.privileged else first.seccomp if seccomp is None else seccomp,
        rlimits=first.rlimits,
        oom_score_adj=first.oom_score_adj,
    )


def command(spec: RunSpec, config: ImageConfig) -> tuple[str, ...]:
    """The argument vector: entrypoint, then command, each the user's or else the image's.

    An entrypoint of the user's drops the image's command, since that was written for another one.
    Raises InvalidArgument where neither says anything.
    """
    asked = spec.entrypoint
    if asked == ("",):  # how a command line clears it
        asked = ()
    entrypoint = config.entrypoint if asked is None else asked
    arguments = spec.command or (() if asked else config.command)
    argv = (*entrypoint, *arguments)
    if not argv or not argv[0]:
        raise InvalidArgument("No command specified")
    checks.strings(argv, "an argument")
    return argv


def merge_env(*layers: Iterable[str]) -> tuple[str, ...]:
    """``NAME=value`` strings of which later ones win; ``NAME`` alone takes a variable away."""
    values: dict[str, str | None] = {}
    for layer in layers:
        for entry in layer:
            name, equals, value = entry.partition("=")
            values[name] = value if equals else None
    return tuple(f"{name}={value}" for name, value in values.items() if value is not None)


def seccomp_wanted(spec: RunSpec) -> bool:
    """Does ``spec`` want a filter at all? A privileged container has none, as in Docker."""
    return not spec.security.privileged and spec.security.seccomp != "unconfined"


def _first_process(spec: RunSpec, config: ImageConfig, hostname: str, seccomp: str) -> Process:
    security = spec.security
    checks.env((*spec.env, *config.env))
    user = spec.user or config.user
    checks.strings((user, *spec.groups), "the user")
    defaults = (PATH, f"HOSTNAME={hostname}", *(("TERM=xterm",) if spec.tty else ()))
    return Process(
        argv=command(spec, config),
        env=merge_env(defaults, config.env, spec.env),
        cwd=checks.workdir(spec.workdir or config.workdir or "/"),
        user=user,
        groups=spec.groups,
        tty=spec.tty,
        stdin=spec.interactive,
        capabilities=capabilities.effective(
            security.cap_add, security.cap_drop, security.privileged
        ),
        no_new_privileges=security.no_new_privileges,
        seccomp=seccomp if seccomp_wanted(spec) else "",
        rlimits=checks.ulimits(spec.ulimits),
        oom_score_adj=spec.limits.oom_score_adj,
    )


def _log(config: LogConfig) -> LogConfig:
    logs.driver(config.driver).check(config.options)
    return config


def _health(spec: RunSpec, config: ImageConfig) -> HealthCheck | None:
    check = checks.health(spec.health, config.health)
    if check is None or check.test[0] == "CMD":
        return check
    # Spelled out here, so that who runs the probe need not know the image's shell.
    words = ("CMD", *(config.shell or SHELL), *check.test[1:])
    return HealthCheck(
        words,
        check.interval,
        check.timeout,
        check.start_period,
        check.start_interval,
        check.retries,
    )


# Namespaces -----------------------------------------------------------------------------------


def _namespaces(spec: RunSpec, shared: Mapping[str, int]) -> Namespaces:
    if spec.security.userns not in ("private", "host"):
        raise InvalidArgument(f"invalid USER mode: {spec.security.userns}")
    return Namespaces(
        network=_owner("network", spec.network, shared, any_name=True),
        pid=_owner("PID", spec.pid, shared),
        ipc=_owner("IPC", spec.ipc, shared, ("private", "shareable", "none")),
        uts=_owner("UTS", spec.uts, shared),
        user=spec.security.userns,
    )


def _owner(
    what: str,
    asked: str,
    shared: Mapping[str, int],
    own: Sequence[str] = ("private",),
    *,
    any_name: bool = False,
) -> str:
    if asked == "host":
        return "host"
    kind, colon, ref = asked.partition(":")
    if kind == "container" and colon and what != "UTS":
        if not ref:
            raise InvalidArgument(f"invalid {what} mode: {asked}")
        if ref not in shared:
            raise WrongState(f"cannot join {what} namespace of a non running container: {ref}")
        return str(shared[ref])
    if asked and asked not in own and not any_name:
        raise InvalidArgument(f"invalid {what} mode: {asked}")
    return "private"


def _hostname(spec: RunSpec, id: str, host: Host) -> str:
    if spec.hostname and spec.uts == "host":
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    checks.network_mode(spec)
    if spec.hostname:
        return checks.hostname(spec.hostname)
    takes_hosts = spec.network == "host" or spec.uts == "host"
    return host.name if takes_hosts and host.name else id[:12]


# Mounts ---------------------------------------------------------------------------------------


def _mounts(
    spec: RunSpec,
    rootfs: Sequence[Mount],
    ours: Sequence[Mount],
    asked: Sequence[Mount],
) -> tuple[Mount, ...]:
    """The root, then all others by depth, so that none hides what was mounted below it. What the
    user asked for takes the place of ours on the same target."""
    targets = {mount.target for mount in asked}
    kept = [mount for mount in ours if not _replaced(mount.target, targets)]
    root, *trees = (_root(mount, spec) for mount in rootfs)
    rest = [*trees, *kept, *asked]
    return (root, *sorted(rest, key=lambda mount: mount.target.count("/")))


def _own_mounts(
    spec: RunSpec,
    directory: str,
    namespaces: Namespaces,
    id_map: tuple[IdMap, ...],
    host: Host,
) -> list[Mount]:
    return [*_kernel_mounts(spec, namespaces, id_map), *host.cgroups, *_etc_mounts(directory)]


def _asked_mounts(
    spec: RunSpec, volumes: Mapping[str, str], devices: Sequence[DeviceSpec]
) -> list[Mount]:
    mounts = [_user_mount(mount, spec, volumes) for mount in checks.mounts(spec.mounts)]
    return [*mounts, *(_device(device) for device in checks.devices(devices))]


def _replaced(target: str, by: set[str]) -> bool:
    return target in by or ("/dev" in by and target.startswith("/dev/"))


def _root(mount: Mount, spec: RunSpec) -> Mount:
    if not spec.security.read_only or "ro" in mount.flags:
        return mount
    return Mount(**{**vars(mount), "flags": (*mount.flags, "ro")})


def _kernel_mounts(
    spec: RunSpec, namespaces: Namespaces, id_map: tuple[IdMap, ...]
) -> Iterable[Mount]:
    # Group 5 is tty, to whom terminals belong; a map of a single id has no such group.
    tty = ",gid=5" if not id_map or any(line.inside <= 5 < _end(line) for line in id_map) else ""
    sys_flags = _NOTHING_BUT_DATA if spec.security.privileged else ("ro", *_NOTHING_BUT_DATA)
    yield _proc(namespaces.pid)
    yield Mount("tmpfs", "/dev", flags=("nosuid",), data="mode=755,size=65536k")
    yield Mount(
        "devpts", "/dev/pts", flags=("nosuid", "noexec"), data=f"mode=0620,ptmxmode=0666{tty}"
    )
    if namespaces.network == "private":
        yield Mount("sysfs", "/sys", flags=sys_flags)
    else:
        yield Mount("bind", "/sys", source="/sys", flags=sys_flags, recursive=True)
    yield from _ipc_mounts(spec, namespaces.ipc)


def _end(line: IdMap) -> int:
    return line.inside + line.count


def _proc(pid: str) -> Mount:
    if pid == "private":
        return Mount("proc", "/proc", flags=_NOTHING_BUT_DATA)
    source = "/proc" if pid == "host" else f"/proc/{pid}/root/proc"
    return Mount("bind", "/proc", source=source, flags=_NOTHING_BUT_DATA, recursive=True)


def _ipc_mounts(spec: RunSpec, ipc: str) -> Iterable[Mount]:
    size = SHM_SIZE if spec.shm_size is None else spec.shm_size
    if size <= 0:
        raise InvalidArgument(
            "SHM size can not be less than 0" if size else "SHM size can not be 0"
        )
    if ipc == "host":
        yield Mount("bind", "/dev/shm", source="/dev/shm", flags=_NOTHING_BUT_DATA)
    elif ipc != "private":
        for name in ("shm", "mqueue"):
            source = f"/proc/{ipc}/root/dev/{name}"
            yield Mount("bind", f"/dev/{name}", source=source, flags=_NOTHING_BUT_DATA)
    else:
        yield Mount("mqueue", "/dev/mqueue", flags=_NOTHING_BUT_DATA)
        if spec.ipc != "none":
            data = f"mode=1777,size={size}"
            yield Mount("tmpfs", "/dev/shm", flags=_NOTHING_BUT_DATA, data=data)


def _etc_mounts(directory: str) -> Iterable[Mount]:
    for target, source in etc.sources(directory).items():
        yield Mount("bind", target, source=source, idmap=True)


def _user_mount(asked: MountSpec, spec: RunSpec, volumes: Mapping[str, str]) -> Mount:
    read_only = ("ro",) if asked.read_only else ()
    if asked.kind is MountKind.TMPFS:
        size = "" if asked.size is None else f",size={asked.size}"
        data = f"mode={asked.mode:04o}{size}"
        return Mount("tmpfs", asked.target, flags=(*_NOTHING_BUT_DATA, *read_only), data=data)
    is_volume = asked.kind is MountKind.VOLUME
    # With mapped ids the container's root is the owner of root's files, device nodes among them.
    nodev = () if spec.security.privileged else ("nodev",)
    return Mount(
        "bind",
        asked.target,
        source=volumes[asked.source] if is_volume else asked.source,
        flags=(*nodev, *read_only),
        idmap=True,
        recursive=is_volume or asked.recursive,
        shallow=asked.shallow,
        propagation=asked.propagation or PROPAGATION,
        subpath=asked.subpath,
    )


def _device(device: DeviceSpec) -> Mount:
    flags = ("nosuid", "noexec")
    # Without a map the node is nobody's, and its root has no more rights to it than the node gives.
    return Mount("bind", device.target, source=device.source, flags=flags, idmap=has_all(device))


def has_all(device: DeviceSpec) -> bool:
    """May it be read and written? Docker's ``m``, to make such a node, nobody may here."""
    return {"r", "w"} <= set(device.permissions)


def _covered(spec: RunSpec, host: Host) -> tuple[tuple[str, ...], tuple[str, ...]]:
    security = spec.security
    if security.privileged or security.systempaths_unconfined:
        return (), ()
    throttles = (_THROTTLE.format(number) for number in range(host.cpus))
    # The directory that holds the mounts of cgroup v1 is a tmpfs, sealed once they are made.
    sealed = (mount.target for mount in host.cgroups if mount.kind == "tmpfs")
    return (*MASKED, *throttles), (*READ_ONLY, *sealed)
