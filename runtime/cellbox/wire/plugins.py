"""Plugins as Docker tells them, and the ``config.json`` that one from an image has; pure.

Source: Engine API 1.45, section *Plugin*; docs.docker.com/engine/extend/config (version 0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from cellbox.errors import InvalidArgument
from cellbox.model.plugin import (
    Plugin,
    PluginConfig,
    PluginDevice,
    PluginKind,
    PluginMount,
    PluginSettings,
    PluginVariable,
    Privilege,
    kind_of,
)
from cellbox.wire.fields import Fields, Json

_IMAGE = "image "


# The config --------------------------------------------------------------------------------------


def config_from(body: object) -> PluginConfig:
    """What ``config.json`` says. Raises InvalidArgument."""
    told = Fields(body, "PluginConfig")
    linux = told.inner("Linux", "PluginConfigLinux")
    interface = told.inner("Interface", "PluginConfigInterface")
    arguments = told.inner("Args", "PluginConfigArgs")
    user = told.inner("User", "PluginConfigUser")
    return PluginConfig(
        description=told.text("Description"),
        documentation=told.text("Documentation"),
        types=interface.texts("Types"),
        socket=_file_name(interface.text("Socket")),
        entrypoint=told.texts("Entrypoint"),
        workdir=told.text("WorkDir"),
        user=f"{user.whole('UID')}:{user.whole('GID')}" if user.given("UID") else "",
        network=told.inner("Network", "PluginConfigNetwork").text("Type"),
        capabilities=linux.texts("Capabilities"),
        all_devices=linux.flag("AllowAllDevices"),
        devices=tuple(map(_device, linux.items("Devices", "PluginDevice"))),
        mounts=tuple(map(_mount, told.items("Mounts", "PluginMount"))),
        propagated=told.text("PropagatedMount"),
        host_ipc=told.flag("IpcHost"),
        host_pid=told.flag("PidHost"),
        env=tuple(map(_variable, told.items("Env", "PluginEnv"))),
        arguments=arguments.texts("Value"),
        arguments_name=arguments.text("Name"),
        arguments_description=arguments.text("Description"),
        arguments_settable=arguments.texts("Settable"),
    )


def _file_name(socket: str) -> str:
    if "/" in socket or "\0" in socket or socket in (".", ".."):
        raise InvalidArgument(f"invalid plugin config: {socket!r} is no name of a socket")
    return socket


def _mount(told: Fields) -> PluginMount:
    return PluginMount(
        name=told.text("Name"),
        description=told.text("Description"),
        source=told.text("Source"),
        target=told.text("Destination"),
        kind=told.text("Type") or "bind",
        options=told.texts("Options"),
        settable=told.texts("Settable"),
    )


def _device(told: Fields) -> PluginDevice:
    texts = (told.text("Name"), told.text("Description"), told.text("Path"))
    return PluginDevice(*texts, told.texts("Settable"))


def _variable(told: Fields) -> PluginVariable:
    value = told.text("Value") if told.given("Value") else None
    texts = (told.text("Name"), told.text("Description"), value)
    return PluginVariable(*texts, told.texts("Settable"))


def config_json(config: PluginConfig) -> Json:
    """The config as the API tells it."""
    uid, _, gid = config.user.partition(":")
    return {
        "DockerVersion": "",
        "Description": config.description,
        "Documentation": config.documentation,
        "Interface": {
            "Types": list(config.types),
            "Socket": config.socket,
            "ProtocolScheme": "moby.plugins.http/v1",
        },
        "Entrypoint": list(config.entrypoint),
        "WorkDir": config.workdir,
        **({"User": {"UID": int(uid), "GID": int(gid)}} if config.user else {"User": {}}),
        "Network": {"Type": config.network},
        "Linux": {
            "Capabilities": list(config.capabilities) or None,
            "AllowAllDevices": config.all_devices,
            "Devices": [_device_json(one) for one in config.devices] or None,
        },
        "PropagatedMount": config.propagated,
        "IpcHost": config.host_ipc,
        "PidHost": config.host_pid,
        "Mounts": [_mount_json(one) for one in config.mounts],
        "Env": [_variable_json(one) for one in config.env],
        "Args": {
            "Name": config.arguments_name,
            "Description": config.arguments_description,
            "Settable": list(config.arguments_settable) or None,
            "Value": list(config.arguments),
        },
    }


def _mount_json(one: PluginMount) -> Json:
    return {
        "Name": one.name,
        "Description": one.description,
        "Settable": list(one.settable) or None,
        "Source": one.source or None,
        "Destination": one.target,
        "Type": one.kind,
        "Options": list(one.options),
    }


def _device_json(one: PluginDevice) -> Json:
    return {
        "Name": one.name,
        "Description": one.description,
        "Settable": list(one.settable) or None,
        "Path": one.path or None,
    }


def _variable_json(one: PluginVariable) -> Json:
    return {
        "Name": one.name,
        "Description": one.description,
        "Settable": list(one.settable) or None,
        "Value": one.value,
    }


# Plugins -----------------------------------------------------------------------------------------


def plugin_json(plugin: Plugin) -> Json:
    """``docker plugin inspect``. ``Origin`` is ours: where one comes from that is no image."""
    config = plugin.config or PluginConfig(_about(plugin), types=plugin.types)
    text = f"{plugin.origin} {plugin.kind}.{plugin.name}"
    return {
        "Id": plugin.id or hashlib.sha256(text.encode()).hexdigest(),
        "Name": plugin.name if plugin.managed else f"{plugin.name}:latest",
        "Enabled": plugin.enabled and not plugin.error,
        "PluginReference": plugin.reference,
        "Origin": plugin.origin,
        "Settings": _settings_json(config, plugin.settings),
        "Config": config_json(config),
    }


def _about(plugin: Plugin) -> str:
    if plugin.origin.startswith("socket "):
        return plugin.error or f"{plugin.kind} of the program at {plugin.reference}"
    return plugin.error or f"{plugin.kind} of the Python package {plugin.origin}"


def _settings_json(config: PluginConfig, settings: PluginSettings) -> Json:
    mounts = [_mount_json(one) for one in config.mounts]
    for one in mounts:
        one["Source"] = settings.mounts.get(one["Name"]) or one["Source"]
    devices = [_device_json(one) for one in config.devices]
    for one in devices:
        one["Path"] = settings.devices.get(one["Name"]) or one["Path"]
    return {
        "Mounts": mounts,
        "Env": list(settings.env),
        "Args": list(settings.arguments),
        "Devices": devices,
    }


def plugin_from(body: object) -> Plugin:
    """The inverse, also of what a dockerd tells."""
    told = Fields(body, "Plugin")
    config = config_from(dict(body).get("Config")) if isinstance(body, dict) else PluginConfig()
    reference = told.text("PluginReference")
    origin = told.text("Origin") or f"{_IMAGE}{reference}"
    name, enabled = told.text("Name"), told.flag("Enabled")
    if origin.startswith(_IMAGE):
        settings = _settings_from(told.inner("Settings", "PluginSettings"))
        return Plugin(
            kind_of(config.types), name, origin, reference, "", enabled, told.text("Id"), config,
            settings,
        )  # fmt: skip
    error = "" if enabled else config.description
    kind = _kind_from(config.types)
    return Plugin(kind, name.removesuffix(":latest"), origin, reference, error, enabled)


def _kind_from(types: Sequence[str]) -> PluginKind:
    found = kind_of(types)
    words = [one.partition(".")[2].partition("/")[0] for one in types]
    return next((PluginKind(word) for word in words if word in set(PluginKind)), found)


def _settings_from(told: Fields) -> PluginSettings:
    mounts = told.items("Mounts", "PluginMount")
    devices = told.items("Devices", "PluginDevice")
    return PluginSettings(
        env=told.texts("Env"),
        arguments=told.texts("Args"),
        mounts={one.text("Name"): one.text("Source") for one in mounts if one.text("Source")},
        devices={one.text("Name"): one.text("Path") for one in devices if one.text("Path")},
    )


# Privileges --------------------------------------------------------------------------------------


def privileges_json(privileges: Iterable[Privilege]) -> list[Json]:
    """What a client asks its user about."""
    return [
        {"Name": one.name, "Description": one.description, "Value": list(one.values)}
        for one in privileges
    ]


def privileges_from(body: object) -> list[Privilege]:
    """The inverse. Raises InvalidArgument."""
    told = Fields({"Privileges": body}, "PluginPrivileges").items("Privileges", "PluginPrivilege")
    return [
        Privilege(one.text("Name"), one.text("Description"), one.texts("Value")) for one in told
    ]
