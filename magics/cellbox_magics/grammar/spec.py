"""The values of the flags to a :class:`~cellbox.model.container.RunSpec` or ``ExecSpec``; pure.

What the caller's process lends to it (environment, working directory, files named by
``--env-file``) comes in as a :class:`Caller`, so that the same words and the same caller give the
same value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import (
    ExecSpec,
    HealthCheck,
    Limits,
    LogConfig,
    MountSpec,
    PortSpec,
    RunSpec,
    Security,
)
from cellbox.wire.filters import duration

from . import mounts, networking, ports, values

HOST = "host"
"""The image that needs no download; it is used when none is named."""


@dataclass(frozen=True)
class Caller:
    """What the words mean depends on who says them: environment, directory, home, files."""

    environ: Mapping[str, str]
    cwd: str
    home: str
    read: Callable[[str], str]


def run_spec(
    flags: Mapping[str, Any], image: str, command: tuple[str, ...], who: Caller
) -> RunSpec:
    """The request that the flags of ``run`` or ``create`` make; raises InvalidArgument,
    NotSupported."""
    _conflicts(flags)
    entrypoint = flags["entrypoint"]
    attached = networking.attached(flags)
    return RunSpec(
        image=image,
        command=command,
        entrypoint=None if entrypoint is None else tuple(filter(None, (entrypoint,))),
        env=environment(flags, who),
        workdir=flags["workdir"] or "",
        user=flags["user"] or "",
        groups=tuple(flags["group_add"]),
        hostname=flags["hostname"] or "",
        domainname=flags["domainname"] or "",
        extra_hosts=tuple(networking.extra_host(word) for word in flags["add_host"]),
        labels=_labels(flags, who),
        annotations=values.labels(flags["annotation"]),
        tty=flags["tty"],
        interactive=bool(flags.get("interactive")),
        auto_remove=flags["rm"],
        detach=bool(flags.get("detach")),
        init=flags["init"],
        stop_signal=flags["stop_signal"] or "",
        stop_timeout=_number(flags, "stop_timeout", float),
        network=attached.network,
        endpoints=attached.endpoints,
        links=attached.links,
        ports=published(flags),
        exposed=_exposed(flags),
        publish_all=flags["publish_all"],
        dns=networking.dns(flags),
        egress=networking.egress(flags["egress"], attached.network),
        pid=flags["pid"] or "",
        ipc=flags["ipc"] or "",
        uts=flags["uts"] or "",
        platform=flags["platform"] or "",
        mounts=mounted(flags, who),
        volumes_from=tuple(flags["volumes_from"]),
        volume_driver=flags["volume_driver"] or "",
        devices=tuple(mounts.device(word) for word in flags["device"]),
        shm_size=_size(flags, "shm_size"),
        limits=limits(flags),
        ulimits=tuple(values.ulimit(word) for word in flags["ulimit"]),
        sysctls=values.pairs(flags["sysctl"], "--sysctl"),
        security=_security(flags, who),
        restart=values.restart(flags["restart"] or "no"),
        health=_health(flags),
        log=LogConfig(
            flags["log_driver"] or "json-file", values.pairs(flags["log_opt"], "--log-opt")
        ),
    )


def exec_spec(flags: Mapping[str, Any], command: tuple[str, ...], who: Caller) -> ExecSpec:
    """The request that the flags of ``exec`` make."""
    return ExecSpec(
        command=command,
        env=environment(flags, who),
        workdir=flags["workdir"] or "",
        user=flags["user"] or "",
        tty=flags["tty"],
        interactive=bool(flags.get("interactive")),
        privileged=flags["privileged"],
    )


def environment(flags: Mapping[str, Any], who: Caller) -> tuple[str, ...]:
    """``NAME=value`` of ``--env-file`` and then ``-e``; a bare name takes the caller's value, and
    is left out where the caller has none."""
    words = [line for path in flags["env_file"] for line in _lines(path, "--env-file", who)]
    found: dict[str, str] = {}
    for word in (*words, *flags["env"]):
        name, equals, value = word.partition("=")
        if not name or name != name.strip():
            raise InvalidArgument(
                f"{word!r} is not an environment variable: write it as NAME=value"
            )
        if equals:
            found[name] = value
        elif name in who.environ:
            found[name] = who.environ[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def mounted(flags: Mapping[str, Any], who: Caller) -> tuple[MountSpec, ...]:
    """The mounts of ``-v``, ``--mount`` and ``--tmpfs``."""
    return (
        *(mounts.volume(word, who.cwd, who.home) for word in flags["volume"]),
        *(mounts.mount(word, who.cwd, who.home) for word in flags["mount"]),
        *(mounts.tmpfs(word) for word in flags["tmpfs"]),
    )


def published(flags: Mapping[str, Any]) -> tuple[PortSpec, ...]:
    """The ports of ``-p``."""
    return tuple(port for word in flags["publish"] for port in ports.publish(word))


def limits(flags: Mapping[str, Any]) -> Limits:
    """The limits that ``run``, ``create`` and ``update`` set; what was not said stays None."""
    swap = flags["memory_swap"]
    pids = _number(flags, "pids_limit", int)
    return Limits(
        memory=_size(flags, "memory"),
        memory_swap=None if swap is None else values.size_or_unlimited(swap),
        memory_reservation=_size(flags, "memory_reservation"),
        cpus=_cpus(flags),
        cpu_shares=_number(flags, "cpu_shares", int),
        cpuset=flags["cpuset_cpus"] or "",
        pids=None if pids is None or pids <= 0 else pids,
        oom_score_adj=_number(flags, "oom_score_adj", int) if "oom_score_adj" in flags else None,
    )


def _conflicts(flags: Mapping[str, Any]) -> None:
    if flags["rm"] and (flags["restart"] or "no") != "no":
        raise InvalidArgument("--rm and --restart exclude each other: a container that is removed "
                              "when it ends cannot be started again")  # fmt: skip
    if flags["no_healthcheck"] and any(flags[f"health_{part}"] for part in _HEALTH):
        raise InvalidArgument("--no-healthcheck and the --health-* flags exclude each other")


_HEALTH = ("cmd", "interval", "retries", "start_interval", "start_period", "timeout")


def _health(flags: Mapping[str, Any]) -> HealthCheck | None:
    if flags["no_healthcheck"]:
        return HealthCheck(test=("NONE",))
    if not any(flags[f"health_{part}"] for part in _HEALTH):
        return None
    command = flags["health_cmd"]
    return HealthCheck(
        test=("CMD-SHELL", command) if command else (),
        interval=duration(flags["health_interval"] or "0"),
        timeout=duration(flags["health_timeout"] or "0"),
        start_period=duration(flags["health_start_period"] or "0"),
        start_interval=duration(flags["health_start_interval"] or "0"),
        retries=_number(flags, "health_retries", int) or 0,
    )


def _security(flags: Mapping[str, Any], who: Caller) -> Security:
    options = dict(_security_option(word, who) for word in flags["security_opt"])
    userns = flags["userns"] or "private"
    if userns not in ("private", "host"):
        raise InvalidArgument(f"--userns {userns}: use host, or leave it out for a private one")
    return Security(
        cap_add=tuple(_capability(word) for word in flags["cap_add"]),
        cap_drop=tuple(_capability(word) for word in flags["cap_drop"]),
        privileged=flags["privileged"],
        no_new_privileges=options.get("no-new-privileges") == "true",
        seccomp=options.get("seccomp", "default"),
        userns=userns,
        read_only=flags["read_only"],
        systempaths_unconfined="systempaths" in options,
    )


def _security_option(word: str, who: Caller) -> tuple[str, str]:
    """Docker's ``key=value`` (or the old ``key:value``); profiles are read here, on the caller's
    side."""
    key, _, value = (
        word.replace(":", "=", 1).partition("=") if "=" not in word else word.partition("=")
    )
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return key, value or "true"
    if key == "seccomp" and value in ("unconfined", "builtin", "default"):
        return key, "unconfined" if value == "unconfined" else "default"
    if key == "seccomp" and value:
        return key, _profile(value, who)
    if (key, value) in (
        ("apparmor", "unconfined"),
        ("label", "disable"),
        ("systempaths", "unconfined"),
    ):
        return key, value
    if key in ("apparmor", "label"):
        raise NotSupported(f"--security-opt {word}: this engine loads no {key} profile; "
                           "its own user namespace and seccomp hold the container")  # fmt: skip
    raise InvalidArgument(
        f"--security-opt {word} is not known: use no-new-privileges, seccomp=FILE, "
        "seccomp=unconfined or systempaths=unconfined"
    )


def _profile(path: str, who: Caller) -> str:
    text = _read(path, "--security-opt seccomp", who)
    try:
        json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"--security-opt seccomp={path} is not JSON: {error}") from None
    return text


def _capability(word: str) -> str:
    name = word.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def _exposed(flags: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for word in flags["expose"] for name in ports.expose(word)))


def _labels(flags: Mapping[str, Any], who: Caller) -> dict[str, str]:
    lines = [line for path in flags["label_file"] for line in _lines(path, "--label-file", who)]
    return values.labels([*lines, *flags["label"]])


def _lines(path: str, flag: str, who: Caller) -> list[str]:
    lines = (line.lstrip() for line in _read(path, flag, who).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read(path: str, flag: str, who: Caller) -> str:
    try:
        return who.read(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidArgument(f"{flag} {path}: {reason}") from error


def _cpus(flags: Mapping[str, Any]) -> float | None:
    cpus: float | None = _number(flags, "cpus", float)
    quota = _number(flags, "cpu_quota", int)
    period = _number(flags, "cpu_period", int)
    if quota is None or quota <= 0:
        return cpus or None
    if cpus is not None:
        raise InvalidArgument("--cpus and --cpu-quota exclude each other: use --cpus")
    return float(quota) / (period or 100_000)


def _size(flags: Mapping[str, Any], key: str) -> int | None:
    return None if flags[key] is None else values.size(flags[key])


def _number(flags: Mapping[str, Any], key: str, kind: type) -> Any:
    word = flags[key]
    if word is None:
        return None
    try:
        return kind(word)
    except ValueError:
        flag = "--" + key.replace("_", "-")
        raise InvalidArgument(f"{flag} {word}: {word!r} is not a number") from None
