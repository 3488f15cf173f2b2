"""Plugins: those that somebody added to this engine. Ours are a part of it and in ``/info``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cellbox.api.http import Json, Request, Response
from cellbox.api.routing import route
from cellbox.errors import InvalidArgument, NotFound, NotSupported
from cellbox.model.plugin import Plugin, PluginKind
from cellbox.plugins import BUILT_IN_ORIGIN
from cellbox.wire.filters import flag

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_CAPABILITIES = {
    PluginKind.VOLUME: "volumedriver",
    PluginKind.NETWORK: "networkdriver",
    PluginKind.LOG: "logdriver",
}
"""What Docker calls our kinds, where it has them."""


@route("GET", "/plugins")
def list_plugins(daemon: Daemon, request: Request) -> Response:
    """``docker plugin ls``. Filters: enabled, capability."""
    found = [_json(plugin) for plugin in _added(daemon)]
    for key, values in request.filters().items():
        found = [one for one in found if _holds(one, key, values)]
    return Response(json=found)


@route("GET", "/plugins/{name:path}/json")
def inspect_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin inspect``."""
    return Response(json=_find(daemon, request.params["name"]))


@route("DELETE", "/plugins/{name:path}")
@route("POST", "/plugins/{name:path}/enable")
@route("POST", "/plugins/{name:path}/disable")
@route("POST", "/plugins/{name:path}/upgrade")
@route("POST", "/plugins/{name:path}/push")
@route("POST", "/plugins/{name:path}/set")
def change_plugin(daemon: Daemon, request: Request) -> Response:
    """What manages a plugin; those that are there belong to the packages that brought them."""
    name = _find(daemon, request.params["name"])["Name"]
    raise NotSupported(f"plugin {name} came with a Python package: use pip to change it")


@route("GET", "/plugins/privileges")
@route("POST", "/plugins/pull")
@route("POST", "/plugins/create")
def add_plugin(daemon: Daemon, request: Request) -> Response:
    """What brings a plugin as an image."""
    raise NotSupported("this version takes plugins as Python packages only, not as images")


def _added(daemon: Daemon) -> list[Plugin]:
    return [one for one in daemon.engine.plugins() if one.origin != BUILT_IN_ORIGIN]


def _find(daemon: Daemon, ref: str) -> Json:
    for plugin in map(_json, _added(daemon)):
        if ref in (plugin["Name"], plugin["Name"].removesuffix(":latest"), plugin["Id"]):
            return plugin
    error = NotFound("plugin", ref)
    error.args = (f'plugin "{ref}" not found',)
    raise error


def _json(plugin: Plugin) -> Json:
    word = _CAPABILITIES.get(plugin.kind, str(plugin.kind))
    interface = {"Prefix": "docker", "Capability": word, "Version": "1.0"}
    text = f"{plugin.origin} {plugin.kind}.{plugin.name}"
    return {
        "Id": hashlib.sha256(text.encode()).hexdigest(),
        "Name": f"{plugin.name}:latest",
        "Enabled": not plugin.error,
        "PluginReference": plugin.reference,
        "Settings": {"Mounts": [], "Env": [], "Args": [], "Devices": []},
        "Config": {
            "Description": plugin.error or f"{plugin.kind} of the Python package {plugin.origin}",
            "Documentation": "",
            "Interface": {"Types": [interface], "Socket": "", "ProtocolScheme": ""},
            "Entrypoint": [],
            "WorkDir": "",
            "Network": {"Type": ""},
            "Linux": {"Capabilities": None, "AllowAllDevices": False, "Devices": None},
            "PropagatedMount": "",
            "IpcHost": False,
            "PidHost": False,
            "Mounts": [],
            "Env": [],
            "Args": {"Name": "", "Description": "", "Settable": None, "Value": []},
        },
    }


def _holds(plugin: Json, key: str, values: list[str]) -> bool:
    if key == "enabled":
        return any(flag(value) == plugin["Enabled"] for value in values)
    if key == "capability":
        types = plugin["Config"]["Interface"]["Types"]
        return any(value == each["Capability"] for value in values for each in types)
    raise InvalidArgument(f"Invalid filter '{key}'")
