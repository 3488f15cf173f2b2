"""The engine as a whole: is it there, what is it, how full is it, and who may enter a registry."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

from cellbox import handles
from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.errors import InvalidArgument
from cellbox.images.config import parse_platform
from cellbox.wire.fields import Fields
from cellbox.wire.registry import credential_from
from cellbox.wire.system import disk_usage_json, info_json, version_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_PING = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Builder-Version": "1",
    "Swarm": "inactive",
}
"""``Builder-Version`` 1 keeps the docker command from BuildKit's protocol."""


@route("GET", "/_ping")
def ping(daemon: Daemon, request: Request) -> Response:
    """Whether somebody is there, and what it speaks."""
    return Response(body=b"OK", headers=_PING)


@route("HEAD", "/_ping")
def ping_head(daemon: Daemon, request: Request) -> Response:
    """The same without a body."""
    return Response(headers=_PING)


@route("GET", "/version")
def version(daemon: Daemon, request: Request) -> Response:
    """``docker version``."""
    info = daemon.about
    return Response(json=version_json(info.version, info.kernel, parse_platform(info.architecture)))


@route("GET", "/info")
def info(daemon: Daemon, request: Request) -> Response:
    """``docker info``."""
    told = info_json(
        daemon.engine.info(),
        daemon.engine.plugins.list(),
        name=platform.node(),
        now=time.time(),
        listeners=len(daemon.events),
    )
    if daemon.gate is not None:
        told["Plugins"]["Authorization"] = list(daemon.gate.names)
    return Response(json=told)


_USAGE = {
    "image": ("Images", "LayersSize"),
    "container": ("Containers",),
    "volume": ("Volumes",),
    "build-cache": ("BuildCache", "BuilderSize"),
}
"""What each type of ``docker system df`` is in the answer."""


@route("GET", "/system/df")
def disk_usage(daemon: Daemon, request: Request) -> Response:
    """``docker system df``; sizes are measured for the types that are asked for only."""
    types = request.query.get("type") or list(_USAGE)
    for unknown in set(types) - set(_USAGE):
        raise InvalidArgument(f"unknown object type: {unknown}")
    engine = daemon.engine
    containers = engine.containers.list(all=True)
    volumes = engine.volumes.list() if "volume" in types else []
    measured = [one.id for one in containers] if "container" in types else []
    told = disk_usage_json(
        engine.images.list() if "image" in types else [],
        containers,
        volumes,
        sizes=dict(handles.each(measured, engine.files.size).done),
        volume_sizes=dict(handles.each([one.name for one in volumes], engine.volumes.size).done),
        now=time.time(),
    )
    wanted = {key for kind in types for key in _USAGE[kind]}
    return Response(json={key: told[key] if key in wanted else _nothing(told[key]) for key in told})


def _nothing(told: object) -> int | None:
    return 0 if isinstance(told, int) else None


@route("POST", "/auth")
def auth(daemon: Daemon, request: Request) -> Response:
    """``docker login``: whether the registry takes the credentials. Nothing is kept of them."""
    body = request.json()
    server = Fields(body, "AuthConfig").text("serveraddress")
    daemon.engine.images.login(server, credential_from(body))
    return Response(json={"Status": "Login Succeeded", "IdentityToken": ""})
