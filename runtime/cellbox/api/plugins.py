"""Plugins: those that somebody added to this engine. Ours are a part of it and in ``/info``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellbox.api.http import Json, Request, Response
from cellbox.api.images import auth_of
from cellbox.api.routing import route
from cellbox.api.tasks import told
from cellbox.engine import Tell
from cellbox.errors import InvalidArgument, NotFound, NotSupported
from cellbox.model import reference
from cellbox.model.plugin import Plugin
from cellbox.plugins import BUILT_IN_ORIGIN
from cellbox.wire.plugins import plugin_json, privileges_from, privileges_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_NAME = "Docker-Plugin-Name"
"""The header by which a client learns what it has installed is called."""


@route("GET", "/plugins")
def list_plugins(daemon: Daemon, request: Request) -> Response:
    """``docker plugin ls``. Filters: enabled, capability."""
    found = daemon.engine.plugins.list(filters=request.filters())
    return Response(json=[plugin_json(one) for one in found if one.origin != BUILT_IN_ORIGIN])


@route("GET", "/plugins/{name:path}/json")
def inspect_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin inspect``."""
    return Response(json=plugin_json(_find(daemon, request)))


@route("GET", "/plugins/privileges")
def plugin_privileges(daemon: Daemon, request: Request) -> Response:
    """What ``docker plugin install`` asks its user about."""
    found = daemon.engine.plugins.privileges(_remote(request), auth=auth_of(request))
    return Response(json=privileges_json(found))


@route("POST", "/plugins/pull")
def pull_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin install``, after the user has agreed."""
    ref, agreed, auth = _remote(request), privileges_from(request.json_list()), auth_of(request)
    name = request.one("name") or reference.parse(ref).familiar

    def install(tell: Tell) -> Iterable[Json]:
        daemon.engine.plugins.install(ref, name=name, privileges=agreed, auth=auth, watch=tell)
        return ()

    return _headed(told(install), name)


@route("POST", "/plugins/{name:path}/upgrade")
def upgrade_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin upgrade``."""
    name, ref = _find(daemon, request).name, _remote(request)
    agreed, auth = privileges_from(request.json_list()), auth_of(request)

    def upgrade(tell: Tell) -> Iterable[Json]:
        daemon.engine.plugins.upgrade(name, ref, privileges=agreed, auth=auth, watch=tell)
        return ()

    return _headed(told(upgrade), name)


@route("POST", "/plugins/create")
def create_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin create``: a tar, compressed or not."""
    daemon.engine.plugins.create(request.one("name"), request.body)
    return Response(204)


@route("POST", "/plugins/{name:path}/enable")
def enable_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin enable``."""
    name = _find(daemon, request).name
    daemon.engine.plugins.enable(name, timeout=request.number("timeout") or 0)
    return Response(200)


@route("POST", "/plugins/{name:path}/disable")
def disable_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin disable``."""
    daemon.engine.plugins.disable(_find(daemon, request).name, force=request.flag("force"))
    return Response(200)


@route("DELETE", "/plugins/{name:path}")
def remove_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin rm``."""
    daemon.engine.plugins.remove(_find(daemon, request).name, force=request.flag("force"))
    return Response(200)


@route("POST", "/plugins/{name:path}/set")
def set_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin set``."""
    settings = request.json_list()
    if not all(isinstance(one, str) for one in settings):
        raise InvalidArgument("the settings of a plugin are a list of strings")
    daemon.engine.plugins.set(_find(daemon, request).name, settings)
    return Response(204)


@route("POST", "/plugins/{name:path}/push")
def push_plugin(daemon: Daemon, request: Request) -> Response:
    """``docker plugin push``."""
    name = _find(daemon, request).name
    raise NotSupported(f"this version cannot push: plugin {name} stays on this machine")


def _remote(request: Request) -> str:
    ref = request.one("remote")
    if not ref:
        raise InvalidArgument("the name of a plugin in a registry is missing (remote)")
    return ref


def _find(daemon: Daemon, request: Request) -> Plugin:
    ref = request.params["name"]
    try:
        return daemon.engine.plugins.get(ref)
    except NotFound as error:
        error.args = (f'plugin "{ref}" not found',)
        raise


def _headed(response: Response, name: str) -> Response:
    headers = {**response.headers, _NAME: name}
    return Response(response.status, body=response.body, headers=headers)
