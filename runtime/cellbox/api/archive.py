"""``docker cp`` and ``docker export``: files of a container, as tars."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.errors import InvalidArgument
from cellbox.wire.stats import stat_header

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_STAT = "X-Docker-Container-Path-Stat"
_TAR = "application/x-tar"


@route("HEAD", "/containers/{id}/archive")
def stat_path(daemon: Daemon, request: Request) -> Response:
    """What is at a path: the answer is in a header."""
    found = daemon.engine.files.stat(request.params["id"], _path(request))
    return Response(headers={_STAT: stat_header(found)})


@route("GET", "/containers/{id}/archive")
def get_archive(daemon: Daemon, request: Request) -> Response:
    """``docker cp`` out of a container."""
    files, id, path = daemon.engine.files, request.params["id"], _path(request)
    found = files.stat(id, path)

    def write(out: BinaryIO) -> None:
        files.get(id, path, out)

    return Response(body=write, headers={"Content-Type": _TAR, _STAT: stat_header(found)})


@route("PUT", "/containers/{id}/archive")
def put_archive(daemon: Daemon, request: Request) -> Response:
    """``docker cp`` into a container; the engine looks whether the tar is compressed."""
    keep = request.flag("noOverwriteDirNonDir")
    id, path = request.params["id"], _path(request)
    daemon.engine.files.put(id, path, request.body, keep_kinds=keep)
    return Response()


@route("GET", "/containers/{id}/export")
def export(daemon: Daemon, request: Request) -> Response:
    """``docker export``."""
    files, id = daemon.engine.files, daemon.engine.containers.get(request.params["id"]).id

    def write(out: BinaryIO) -> None:
        files.export(id, out)

    return Response(body=write, headers={"Content-Type": _TAR})


@route("GET", "/containers/{id}/layer")
def get_layer(daemon: Daemon, request: Request) -> Response:
    """The writable layer, for who moves a container; Docker has no such route."""
    files, id = daemon.engine.files, daemon.engine.containers.get(request.params["id"]).id

    def write(out: BinaryIO) -> None:
        files.get_layer(id, out)

    return Response(body=write, headers={"Content-Type": _TAR})


@route("PUT", "/containers/{id}/layer")
def put_layer(daemon: Daemon, request: Request) -> Response:
    """The inverse."""
    daemon.engine.files.put_layer(request.params["id"], request.body)
    return Response()


def _path(request: Request) -> str:
    path = request.one("path")
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path
