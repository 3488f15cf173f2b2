"""Building images, told in the words of Docker's classic builder.

The context is the body, a tar. A client that hangs up gives the build up: the step that runs is
ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellbox.api.http import Json, Request, Response
from cellbox.api.routing import route
from cellbox.api.tasks import told
from cellbox.engine import Tell
from cellbox.errors import CellboxError, NotSupported
from cellbox.model.image import Progress
from cellbox.wire.builds import CONFIG_HEADER, build_spec, credentials_from_header

if TYPE_CHECKING:
    from cellbox.api.server import Daemon


@route("POST", "/build")
def build(daemon: Daemon, request: Request) -> Response:
    """``docker build``. With ``q`` only the id is told, or, when it fails, all that was."""
    credentials = credentials_from_header(request.headers.get(CONFIG_HEADER.lower(), ""))
    spec = build_spec(request.query, credentials)
    images = daemon.engine.images

    def build(tell: Tell) -> Iterable[Json]:
        image = images.build(request.body, spec, tell=tell, stop=request.gone)
        return [{"aux": {"ID": image.id}}]

    def build_quietly(tell: Tell) -> Iterable[Json]:
        pieces: list[str | Progress] = []
        try:
            image = images.build(request.body, spec, tell=pieces.append, stop=request.gone)
        except CellboxError:
            for piece in pieces:
                tell(piece)
            raise
        return [{"aux": {"ID": image.id}}, {"stream": f"{image.id}\n"}]

    return told(build_quietly if request.flag("q") else build)


@route("POST", "/build/prune")
def prune_builds(daemon: Daemon, request: Request) -> Response:
    """``docker builder prune``: the caches of RUN; cached steps are images, which ``docker image
    prune`` takes."""
    gone = daemon.engine.prune_build_cache()
    told: Json = {"CachesDeleted": list(gone) or None, "SpaceReclaimed": sum(gone.values())}
    return Response(json=told)


@route("POST", "/build/cancel")
@route("POST", "/session")
@route("POST", "/grpc")
def no_buildkit(daemon: Daemon, request: Request) -> Response:
    """BuildKit's own protocol, which buildx speaks."""
    raise NotSupported("this engine does not speak BuildKit's protocol: set DOCKER_BUILDKIT=0")
