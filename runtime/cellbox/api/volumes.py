"""Volumes. Names of a plugin's volumes may have slashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from cellbox import handles
from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.api.swarm import not_a_manager
from cellbox.wire.filters import flag
from cellbox.wire.requests import volume_spec
from cellbox.wire.volumes import volume_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_ANONYMOUS_ONLY = (1, 42)
"""Since this version a prune spares volumes that have a name, unless ``all`` is among the
filters."""


@route("GET", "/volumes")
def list_volumes(daemon: Daemon, request: Request) -> Response:
    """``docker volume ls``."""
    found = daemon.engine.volumes.list(filters=request.filters())
    return Response(json={"Volumes": [volume_json(facts) for facts in found], "Warnings": None})


@route("POST", "/volumes/{name:path}/export")
def export_volume(daemon: Daemon, request: Request) -> Response:
    """A tar of all that is in it; Docker has no such route."""
    volumes = daemon.engine.volumes
    name = volumes.get(request.params["name"]).name

    def write(out: BinaryIO) -> None:
        volumes.export(name, out)

    return Response(body=write, headers={"Content-Type": "application/x-tar"})


@route("POST", "/volumes/{name:path}/import")
def import_volume(daemon: Daemon, request: Request) -> Response:
    """The inverse: what such a tar holds is all that is in it afterwards."""
    daemon.engine.volumes.import_(request.params["name"], request.body)
    return Response(204)


@route("POST", "/volumes/{name:path}/rename")
def rename_volume(daemon: Daemon, request: Request) -> Response:
    """Another name for it; Docker has no such route."""
    renamed = daemon.engine.volumes.rename(request.params["name"], request.one("name"))
    return Response(json=volume_json(renamed))


@route("GET", "/volumes/{name:path}")
def inspect_volume(daemon: Daemon, request: Request) -> Response:
    """``docker volume inspect``."""
    return Response(json=volume_json(daemon.engine.volumes.get(request.params["name"])))


@route("POST", "/volumes/create")
def create_volume(daemon: Daemon, request: Request) -> Response:
    """``docker volume create``."""
    return Response(
        201, json=volume_json(daemon.engine.volumes.create(volume_spec(request.json())))
    )


@route("PUT", "/volumes/{name:path}")
def update_volume(daemon: Daemon, request: Request) -> Response:
    """``docker volume update``, which is for the volumes of a cluster only."""
    return not_a_manager(daemon, request)


@route("DELETE", "/volumes/{name:path}")
def remove_volume(daemon: Daemon, request: Request) -> Response:
    """``docker volume rm``."""
    daemon.engine.volumes.remove(request.params["name"], force=request.flag("force"))
    return Response(204)


@route("POST", "/volumes/prune")
def prune_volumes(daemon: Daemon, request: Request) -> Response:
    """``docker volume prune``."""
    filters = request.filters()
    named = filters.pop("all", [])
    every = request.version < _ANONYMOUS_ONLY or any(flag(word) for word in named)
    pruned = handles.prune_volumes(daemon.engine, all=every, filters=filters)
    return Response(
        json={"VolumesDeleted": list(pruned.removed) or None, "SpaceReclaimed": pruned.bytes}
    )
