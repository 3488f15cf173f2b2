"""What a plugin from an image wants of the host, how its user sets it up, and how it runs; pure.

Source: moby ``daemon/pkg/plugin`` (``computePrivileges``, ``Plugin.Set``, ``InitSpec``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import (
    DeviceSpec,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Security,
)
from cellbox.model.plugin import PluginConfig, PluginSettings, Privilege

SOCKETS = "/run/docker/plugins"
"""Where a plugin makes its socket."""

_MODES = {"host": "host", "bridge": "bridge"}


def privileges(config: PluginConfig) -> list[Privilege]:
    """What its user has to agree to."""
    wanted = [
        ("network", "permissions to access a network", _network(config)),
        ("host ipc namespace", "allow access to host ipc namespace", _true(config.host_ipc)),
        ("host pid namespace", "allow access to host pid namespace", _true(config.host_pid)),
        *(("mount", "host path to mount", (one.source,)) for one in config.mounts if one.source),
        *(("device", "host device to access", (one.path,)) for one in config.devices if one.path),
        (
            "allow-all-devices",
            "allow 'rwm' access to all devices",
            _true(config.all_devices),
        ),
        ("capabilities", "list of additional capabilities required", config.capabilities),
    ]
    return [Privilege(name, about, tuple(values)) for name, about, values in wanted if values]


def _network(config: PluginConfig) -> tuple[str, ...]:
    return (config.network,) if config.network not in ("", "null", "none", "bridge") else ()


def _true(wanted: bool) -> tuple[str, ...]:
    return ("true",) if wanted else ()


def check_agreed(config: PluginConfig, agreed: Iterable[Privilege]) -> None:
    """Raise InvalidArgument unless the user has agreed to just what the plugin wants."""
    if sorted(map(_essence, privileges(config))) != sorted(map(_essence, agreed)):
        raise InvalidArgument("incorrect privileges")


def _essence(one: Privilege) -> tuple[str, tuple[str, ...]]:
    return one.name, tuple(sorted(one.values))


def defaults(config: PluginConfig) -> PluginSettings:
    """What is set before anybody has set anything."""
    lines = [f"{one.name}={one.value}" for one in config.env if one.value is not None]
    return PluginSettings(env=tuple(lines), arguments=config.arguments)


# Setting -----------------------------------------------------------------------------------------


def changed(config: PluginConfig, settings: PluginSettings, text: str) -> PluginSettings:
    """``settings`` with one ``NAME[.FIELD]=value``. Raises InvalidArgument."""
    left, equals, value = text.partition("=")
    name, _, field = left.partition(".")
    if not equals or not name:
        raise InvalidArgument(f"invalid setting {text!r}: write it as NAME=value")
    for one in config.env:
        if one.name == name:
            _allow(left, field or "value", one.settable, ("value",))
            rest = [line for line in settings.env if line.partition("=")[0] != name]
            return replace(settings, env=(*rest, f"{name}={value}"))
    for mount in config.mounts:
        if mount.name == name:
            _allow(left, field or "source", mount.settable, ("source",))
            return replace(settings, mounts={**settings.mounts, name: value})
    for device in config.devices:
        if device.name == name:
            _allow(left, field or "path", device.settable, ("path",))
            return replace(settings, devices={**settings.devices, name: value})
    if name in ("args", config.arguments_name):
        _allow(left, field or "value", config.arguments_settable, ("value",))
        return replace(settings, arguments=tuple(value.split()))
    raise InvalidArgument(f"setting {name!r} not found in the plugin configuration")


def _allow(what: str, field: str, settable: Sequence[str], known: Sequence[str]) -> None:
    if field not in known or field not in settable:
        raise InvalidArgument(f"{what!r} is not settable")


# Running -----------------------------------------------------------------------------------------


def run_spec(
    image: str, config: PluginConfig, settings: PluginSettings, *, sockets: str, propagated: str
) -> RunSpec:
    """How the plugin runs: its sockets are in the host's directory ``sockets``, what it has for
    containers in ``propagated``. Raises InvalidArgument, NotSupported.

    One that wants nothing of the host has a user namespace of its own, as any container.
    """
    if config.all_devices:
        raise NotSupported("a plugin cannot have all devices of the host here: name those it needs")
    if config.propagated and "CAP_SYS_ADMIN" in config.capabilities:
        raise NotSupported(
            "what a plugin mounts stays in the plugin here, and containers would see an empty "
            f"{config.propagated}: run it as a program of the host, with its socket in "
            f"{SOCKETS}"
        )
    wants = bool(privileges(config))
    return RunSpec(
        image,
        command=settings.arguments,
        entrypoint=config.entrypoint,
        env=settings.env,
        workdir=config.workdir,
        user=config.user,
        detach=True,
        network=_MODES.get(config.network, "none"),
        pid="host" if config.host_pid else "",
        ipc="host" if config.host_ipc else "",
        mounts=tuple(_mounts(config, settings, sockets, propagated)),
        devices=tuple(_devices(config, settings)),
        security=Security(
            cap_add=tuple(config.capabilities), userns="host" if wants else "private"
        ),
        restart=RestartPolicy("on-failure", 5),
    )


def _mounts(
    config: PluginConfig, settings: PluginSettings, sockets: str, propagated: str
) -> Iterator[MountSpec]:
    yield MountSpec(MountKind.BIND, SOCKETS, sockets)
    if config.propagated:
        yield MountSpec(MountKind.BIND, config.propagated, propagated)
    for one in config.mounts:
        source = settings.mounts.get(one.name) or one.source
        read_only = "ro" in one.options
        if one.kind == "tmpfs":
            yield MountSpec(MountKind.TMPFS, one.target, read_only=read_only)
        elif not source:
            raise InvalidArgument(f"mount {one.name!r} of the plugin has no source: set it first")
        else:
            yield MountSpec(MountKind.BIND, one.target, source, read_only)


def _devices(config: PluginConfig, settings: PluginSettings) -> Iterator[DeviceSpec]:
    for one in config.devices:
        path = settings.devices.get(one.name) or one.path
        if not path:
            raise InvalidArgument(f"device {one.name!r} of the plugin has no path: set it first")
        yield DeviceSpec(path, path)
