"""``HostConfig``: how a container runs on this host, between Docker's JSON and a RunSpec; pure.

:func:`host_config_body` tells what was asked, :func:`host_config_json` also the members that
``docker inspect`` shows of what this engine has none of; :func:`read_host_config` is the inverse of
the first. What Docker has no member for travels in ``Annotations``, under ``cellbox.``.

Source: Engine API 1.45, ``HostConfig`` and ``Resources``; moby ``daemon/daemon_unix.go``
(parseSecurityOpt, verifyPlatformContainerResources).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from cellbox.errors import InvalidArgument
from cellbox.model.container import (
    DeviceSpec,
    Dns,
    Limits,
    LogConfig,
    RestartPolicy,
    RunSpec,
    Security,
    Ulimit,
)
from cellbox.wire.fields import Fields, Json
from cellbox.wire.mounts import mounts_json
from cellbox.wire.ports import port_bindings_json

EGRESS = "cellbox.egress"
IMAGE_VOLUMES = "cellbox.image-volumes"
"""The annotation that restricts what a container can reach: ``none``, ``dns:NAME`` or CIDR, with
commas between them."""

_NANO = 1_000_000_000
_CPU_PERIOD = 100_000
"""The kernel's default period of CPU quotas, in microseconds."""

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm where none are asked for."""

_NOT_HERE: Json = {
    "ContainerIDFile": "",
    "ConsoleSize": [0, 0],
    "CgroupnsMode": "private",
    "Cgroup": "",
    "Runtime": "cellbox",
    "Isolation": "",
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetMems": "",
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemorySwappiness": None,
    "OomKillDisable": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}
"""What Docker shows and this engine does not have, at Docker's defaults."""

_LEFT_OUT_WHEN_EMPTY = ("Annotations", "Init", "Mounts", "Sysctls", "Tmpfs")
_IGNORED_SECURITY = frozenset({"label", "apparmor", "writable-cgroups"})
"""Security options of modules that no container of this engine is confined by."""


def host_config_json(spec: RunSpec) -> Json:
    """``HostConfig`` of ``docker inspect``."""
    told = host_config_body(spec)
    empty = [name for name in _LEFT_OUT_WHEN_EMPTY if told[name] is None]
    kept = {name: value for name, value in told.items() if name not in empty}
    defaults = {"IpcMode": spec.ipc or "private", "ShmSize": spec.shm_size or SHM_SIZE}
    return {**_NOT_HERE, **kept, **defaults}


def host_config_body(spec: RunSpec) -> Json:
    """``HostConfig`` of a create request."""
    security = spec.security
    # What Docker's own client makes of systempaths=unconfined, which the daemon does not know.
    paths: list[str] | None = [] if security.systempaths_unconfined else None
    return {
        **mounts_json(spec.mounts),
        "LogConfig": {"Type": spec.log.driver, "Config": dict(spec.log.options)},
        "NetworkMode": spec.network,
        "PortBindings": port_bindings_json(spec.ports),
        "RestartPolicy": restart_json(spec.restart),
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": spec.volume_driver,
        "VolumesFrom": list(spec.volumes_from) or None,
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "Dns": list(spec.dns.servers),
        "DnsOptions": list(spec.dns.options),
        "DnsSearch": list(spec.dns.search),
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.groups) or None,
        "IpcMode": spec.ipc,
        "Links": list(spec.links) or None,
        "PidMode": spec.pid,
        "Privileged": security.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": security.read_only,
        "SecurityOpt": _security_options(security) or None,
        "UTSMode": spec.uts,
        "UsernsMode": "" if security.userns == "private" else security.userns,
        "ShmSize": spec.shm_size or 0,
        "Sysctls": dict(spec.sysctls) or None,
        "Init": spec.init or None,
        "MaskedPaths": paths,
        "ReadonlyPaths": paths,
        "Annotations": _annotations(spec) or None,
        "Devices": [_device(device) for device in spec.devices],
        "Ulimits": [ulimit_json(limit) for limit in spec.ulimits] or None,
        **limits_json(spec.limits),
    }


def read_host_config(host: Fields) -> dict[str, Any]:
    """What ``HostConfig`` says of a :class:`RunSpec`, by the names of its fields, without mounts
    and ports."""
    annotations = host.text_map("Annotations")
    egress = annotations.pop(EGRESS, "")
    image_volumes = annotations.pop(IMAGE_VOLUMES, "") != "ignore"
    return {
        "log": _read_log(host.inner("LogConfig", "LogConfig")),
        "network": host.text("NetworkMode") or "default",
        "restart": read_restart(host) or RestartPolicy(),
        "auto_remove": host.flag("AutoRemove"),
        "volume_driver": host.text("VolumeDriver"),
        "volumes_from": host.texts("VolumesFrom"),
        "dns": Dns(host.texts("Dns"), host.texts("DnsSearch"), host.texts("DnsOptions")),
        "extra_hosts": host.texts("ExtraHosts"),
        "groups": host.texts("GroupAdd"),
        "ipc": host.text("IpcMode"),
        "links": host.texts("Links"),
        "pid": host.text("PidMode"),
        "publish_all": host.flag("PublishAllPorts"),
        "security": _read_security(host),
        "uts": host.text("UTSMode"),
        "shm_size": host.whole("ShmSize") or None,
        "sysctls": host.text_map("Sysctls"),
        "init": host.flag("Init"),
        "annotations": annotations,
        "egress": tuple(word for word in egress.split(",") if word),
        "image_volumes": image_volumes,
        "devices": tuple(map(_read_device, host.items("Devices", "DeviceMapping"))),
        "ulimits": tuple(map(read_ulimit, host.items("Ulimits", "Ulimit"))),
        "limits": _unbounded(read_limits(host)),
    }


# Resources and restart, which an update has too -------------------------------------------------


def limits_json(limits: Limits) -> Json:
    """Members of ``Resources``, zero (of tasks null) where there is no limit."""
    return {
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory_swap or 0,
        "MemoryReservation": limits.memory_reservation or 0,
        "NanoCpus": round((limits.cpus or 0) * _NANO),
        "CpuShares": limits.cpu_shares or 0,
        "CpusetCpus": limits.cpuset,
        "PidsLimit": limits.pids,
        "OomScoreAdj": limits.oom_score_adj or 0,
    }


def read_limits(resources: Fields) -> Limits:
    """The inverse. ``pids`` is -1 where the request lifts the limit, None where it says
    nothing."""
    pids = resources.whole("PidsLimit")
    return Limits(
        memory=resources.whole("Memory") or None,
        memory_swap=resources.whole("MemorySwap") or None,
        memory_reservation=resources.whole("MemoryReservation") or None,
        cpus=_read_cpus(resources),
        cpu_shares=resources.whole("CpuShares") or None,
        cpuset=resources.text("CpusetCpus"),
        pids=(pids if pids > 0 else -1) if resources.given("PidsLimit") else None,
        oom_score_adj=resources.whole("OomScoreAdj") or None,
    )


def restart_json(policy: RestartPolicy) -> Json:
    """``RestartPolicy``."""
    return {"Name": policy.name, "MaximumRetryCount": policy.retries}


def read_restart(host: Fields) -> RestartPolicy | None:
    """The inverse; None where the request leaves the policy alone."""
    policy = host.inner("RestartPolicy", "RestartPolicy")
    name, retries = policy.text("Name"), policy.whole("MaximumRetryCount")
    return RestartPolicy(name or "no", retries) if name or retries else None


def _unbounded(limits: Limits) -> Limits:
    return limits if limits.pids != -1 else replace(limits, pids=None)


def _read_cpus(resources: Fields) -> float | None:
    """Processors, of ``NanoCpus`` or of ``CpuQuota`` in ``CpuPeriod`` (microseconds)."""
    nano, quota = resources.whole("NanoCpus"), resources.whole("CpuQuota")
    period = resources.whole("CpuPeriod")
    for name, value in (("Period", period), ("Quota", quota)):
        if nano and value:
            raise InvalidArgument(
                f"Conflicting options: Nano CPUs and CPU {name} cannot both be set."
            )
    if period and not 1_000 <= period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < 1_000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if quota > 0:
        return quota / (period or _CPU_PERIOD)
    return nano / _NANO if nano else None


def ulimit_json(limit: Ulimit) -> Json:
    """``Ulimit``."""
    return {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}


def read_ulimit(limit: Fields) -> Ulimit:
    """The inverse."""
    return Ulimit(limit.text("Name"), limit.whole("Soft"), limit.whole("Hard"))


def _device(device: DeviceSpec) -> Json:
    return {
        "PathOnHost": device.source,
        "PathInContainer": device.target,
        "CgroupPermissions": device.permissions,
    }


def _read_device(device: Fields) -> DeviceSpec:
    source = device.text("PathOnHost")
    target = device.text("PathInContainer") or source
    return DeviceSpec(source, target, device.text("CgroupPermissions") or "rwm")


# Security -------------------------------------------------------------------------------------


def _security_options(security: Security) -> list[str]:
    return [
        *(["no-new-privileges"] if security.no_new_privileges else []),
        *([f"seccomp={security.seccomp}"] if security.seccomp != "default" else []),
    ]


def _read_security(host: Fields) -> Security:
    options = dict(_security_option(word) for word in host.texts("SecurityOpt"))
    seccomp = options.get("seccomp", "default")
    return Security(
        cap_add=host.texts("CapAdd"),
        cap_drop=host.texts("CapDrop"),
        privileged=host.flag("Privileged"),
        no_new_privileges=options.get("no-new-privileges") == "true",
        seccomp="default" if seccomp == "builtin" else seccomp,
        userns=host.text("UsernsMode") or "private",
        read_only=host.flag("ReadonlyRootfs"),
        systempaths_unconfined=options.get("systempaths") == "unconfined" or _unmasked(host),
    )


def _security_option(word: str) -> tuple[str, str]:
    """``NAME=VALUE``, or as Docker once wrote it ``NAME:VALUE``."""
    if word in ("no-new-privileges", "disable"):
        return word, "true"
    found = re.fullmatch("([^=:]*)[=:](.*)", word, re.DOTALL)
    if not found:
        raise InvalidArgument(f'invalid --security-opt 1: "{word}"')
    name, value = found.groups()
    is_flag = name == "no-new-privileges" and value in ("true", "false")
    is_open = name == "systempaths" and value == "unconfined"
    if not (is_flag or is_open or name == "seccomp" or name in _IGNORED_SECURITY):
        raise InvalidArgument(f'invalid --security-opt 2: "{word}"')
    return name, value


def _unmasked(host: Fields) -> bool:
    """Is no path masked? An empty list says so, null leaves Docker's."""
    return host.given("MaskedPaths") and not host.texts("MaskedPaths")


# Logs and annotations -------------------------------------------------------------------------


def _read_log(log: Fields) -> LogConfig:
    return LogConfig(log.text("Type") or "json-file", log.text_map("Config"))


def _annotations(spec: RunSpec) -> dict[str, str]:
    ours = {
        EGRESS: ",".join(spec.egress),
        IMAGE_VOLUMES: "" if spec.image_volumes else "ignore",
    }
    return {**spec.annotations, **{name: text for name, text in ours.items() if text}}
