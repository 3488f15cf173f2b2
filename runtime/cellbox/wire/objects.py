"""Containers and images in the shape of Docker's ``inspect``; pure.

Every key that the Engine API names for these objects and this engine can answer is there, also when
it is empty: templates that ask for an absent key fail. ``[]`` or null for nothing as moby has it.

Source: Engine API 1.45, ``ContainerInspect`` and ``ImageInspect``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cellbox.model.container import Container, HealthCheck, MountKind, MountSpec, RunSpec, Status
from cellbox.model.image import Image, ImageConfig, Platform

Json = dict[str, Any]

_NANO = 1_000_000_000
_ALIVE = frozenset({Status.RUNNING, Status.PAUSED})


def timestamp(moment: float | None) -> str:
    """RFC 3339 in UTC with the digits a float holds; Go's zero time for None."""
    if moment is None:
        return "0001-01-01T00:00:00Z"
    text = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".")
    return f"{text}Z"


def container_json(facts: Container, image: Image | None = None) -> Json:
    """``docker inspect CONTAINER``; ``image`` fills in what the request left to it."""
    spec = facts.spec
    path, *arguments = facts.command or ("",)
    return {
        "Id": facts.id,
        "Created": timestamp(facts.created),
        "Path": path,
        "Args": arguments,
        "State": _state(facts),
        "Image": facts.image_id,
        "Name": f"/{facts.name}",
        "RestartCount": facts.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(spec),
        "Mounts": [_mount_point(mount) for mount in spec.mounts if mount.kind is MountKind.BIND],
        "Config": _container_config(facts, image.config if image else ImageConfig()),
        "NetworkSettings": _network_settings(spec),
    }


def image_json(facts: Image) -> Json:
    """``docker inspect IMAGE``."""
    return {
        "Id": facts.id,
        "RepoTags": list(facts.tags),
        "RepoDigests": list(facts.digests),
        "Parent": facts.parent,
        "Comment": facts.comment,
        "Created": timestamp(facts.created),
        "DockerVersion": "",
        "Author": facts.author,
        "Config": _image_config(facts.config),
        "Architecture": facts.platform.architecture,
        "Variant": facts.platform.variant,
        "Os": facts.platform.os,
        "Size": facts.size,
        "VirtualSize": facts.size,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in facts.layers]},
        "Metadata": {"LastTagTime": timestamp(None)},
    }


def version_json(version: str, kernel: str, platform: Platform) -> Json:
    """``docker version``: the server's half."""
    return {
        "Version": version,
        "ApiVersion": "1.45",
        "MinAPIVersion": "1.12",
        "Os": platform.os,
        "Arch": platform.architecture,
        "KernelVersion": kernel,
    }


def _state(facts: Container) -> Json:
    state: Json = {
        "Status": str(facts.status),
        "Running": facts.status in _ALIVE or facts.status is Status.RESTARTING,
        "Paused": facts.status is Status.PAUSED,
        "Restarting": facts.status is Status.RESTARTING,
        "OOMKilled": facts.oom_killed,
        "Dead": facts.status is Status.DEAD,
        "Pid": facts.pid,
        "ExitCode": facts.exit_code,
        "Error": facts.error,
        "StartedAt": timestamp(facts.started),
        "FinishedAt": timestamp(facts.finished),
    }
    if facts.health is not None:
        state["Health"] = {
            "Status": facts.health.status,
            "FailingStreak": facts.health.failing_streak,
            "Log": [_probe(entry) for entry in facts.health.log],
        }
    return state


def _probe(entry: Mapping[str, Any]) -> Json:
    return {
        "Start": timestamp(entry.get("start")),
        "End": timestamp(entry.get("end")),
        "ExitCode": entry.get("exit_code", 0),
        "Output": entry.get("output", ""),
    }


def _container_config(facts: Container, image: ImageConfig) -> Json:
    spec = facts.spec
    entrypoint = image.entrypoint if spec.entrypoint is None else spec.entrypoint
    command = spec.command or (image.command if spec.entrypoint is None else ())
    attached = not spec.detach
    return {
        "Hostname": spec.hostname or facts.short_id,
        "Domainname": spec.domainname,
        "User": spec.user or image.user,
        "AttachStdin": spec.interactive and attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "StdinOnce": spec.interactive and attached,
        "Env": _merged(image.env, spec.env),
        "Cmd": list(command) or None,
        "Image": spec.image,
        "Volumes": {path: {} for path in image.volumes} or None,
        "WorkingDir": spec.workdir or image.workdir,
        "Entrypoint": list(entrypoint) or None,
        "OnBuild": list(image.on_build) or None,
        "Labels": {**image.labels, **spec.labels},
        **_optional(spec.stop_signal or image.stop_signal, spec.health or image.health),
        **({} if spec.stop_timeout is None else {"StopTimeout": int(spec.stop_timeout)}),
    }


def _image_config(config: ImageConfig) -> Json:
    return {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "ExposedPorts": {port: {} for port in config.exposed_ports} or None,
        "Env": list(config.env) or None,
        "Cmd": list(config.command) or None,
        "Image": "",
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.workdir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(config.labels) or None,
        **_optional(config.stop_signal, config.health),
        **({"Shell": list(config.shell)} if config.shell else {}),
    }


def _optional(stop_signal: str, health: HealthCheck | None) -> Json:
    """Keys that Docker leaves out when they say nothing."""
    found: Json = {}
    if stop_signal:
        found["StopSignal"] = stop_signal
    if health is not None:
        found["Healthcheck"] = {
            "Test": list(health.test),
            "Interval": int(health.interval * _NANO),
            "Timeout": int(health.timeout * _NANO),
            "StartPeriod": int(health.start_period * _NANO),
            "StartInterval": int(health.start_interval * _NANO),
            "Retries": health.retries,
        }
    return found


def _merged(image: tuple[str, ...], asked: tuple[str, ...]) -> list[str]:
    names = {word.partition("=")[0]: word for word in (*image, *asked)}
    return list(names.values())


def _host_config(spec: RunSpec) -> Json:
    security = spec.security
    tmpfs = [mount for mount in spec.mounts if mount.kind is MountKind.TMPFS]
    return {
        "Binds": [_bind(mount) for mount in spec.mounts if mount.kind is MountKind.BIND] or None,
        "Tmpfs": {mount.target: _tmpfs_options(mount) for mount in tmpfs},
        "LogConfig": {"Type": spec.log.driver, "Config": dict(spec.log.options)},
        "NetworkMode": spec.network,
        "PortBindings": {},
        "RestartPolicy": {"Name": spec.restart.name, "MaximumRetryCount": spec.restart.retries},
        "AutoRemove": spec.auto_remove,
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.groups) or None,
        "IpcMode": spec.ipc or "private",
        "PidMode": spec.pid,
        "UTSMode": spec.uts,
        "UsernsMode": "" if security.userns == "private" else security.userns,
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only,
        "SecurityOpt": _security_options(spec) or None,
        "Sysctls": dict(spec.sysctls) or None,
        "ShmSize": spec.shm_size or 64 << 20,
        "Init": spec.init or None,
        "Runtime": "cellbox",
        **_resources(spec),
    }


def _resources(spec: RunSpec) -> Json:
    limits = spec.limits
    return {
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory_swap or 0,
        "MemoryReservation": limits.memory_reservation or 0,
        "NanoCpus": round((limits.cpus or 0) * _NANO),
        "CpuShares": limits.cpu_shares or 0,
        "CpusetCpus": limits.cpuset,
        "PidsLimit": limits.pids,
        "OomScoreAdj": limits.oom_score_adj or 0,
        "Ulimits": [
            {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in spec.ulimits
        ]
        or None,
    }


def _security_options(spec: RunSpec) -> list[str]:
    security = spec.security
    return [
        *(["no-new-privileges"] if security.no_new_privileges else []),
        *([f"seccomp={security.seccomp}"] if security.seccomp != "default" else []),
        *(["systempaths=unconfined"] if security.systempaths_unconfined else []),
    ]


def _bind(mount: MountSpec) -> str:
    return f"{mount.source}:{mount.target}" + (":ro" if mount.read_only else "")


def _tmpfs_options(mount: MountSpec) -> str:
    words = [
        *(["ro"] if mount.read_only else []),
        *([f"size={mount.size}"] if mount.size is not None else []),
        *([f"mode={mount.mode:o}"] if mount.mode != 0o1777 else []),
    ]
    return ",".join(words)


def _mount_point(mount: MountSpec) -> Json:
    return {
        "Type": str(mount.kind),
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": "rprivate",
    }


def _network_settings(spec: RunSpec) -> Json:
    mode = spec.network
    networks = {} if mode.startswith("container:") else {mode: _endpoint()}
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": {},
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "MacAddress": "",
        "Networks": networks,
    }


def _endpoint() -> Json:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": None,
    }
