"""Building images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellbox.api.http import Json, Request, Response
from cellbox.api.routing import route
from cellbox.errors import NotSupported

if TYPE_CHECKING:
    from cellbox.api.server import Daemon


@route("POST", "/build")
@route("POST", "/build/cancel")
def build(daemon: Daemon, request: Request) -> Response:
    """``docker build``."""
    raise NotSupported(
        "this version cannot build: run a container and docker commit it, "
        "or build elsewhere and docker load the image"
    )


@route("POST", "/build/prune")
def prune_builds(daemon: Daemon, request: Request) -> Response:
    """``docker builder prune``: there is no cache, so nothing of it goes."""
    nothing: Json = {"CachesDeleted": None, "SpaceReclaimed": 0}
    return Response(json=nothing)


@route("POST", "/session")
@route("POST", "/grpc")
def no_buildkit(daemon: Daemon, request: Request) -> Response:
    """BuildKit's own protocol, which buildx speaks."""
    raise NotSupported("this engine does not speak BuildKit's protocol: set DOCKER_BUILDKIT=0")
