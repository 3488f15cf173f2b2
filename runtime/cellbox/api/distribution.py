"""What a registry has under a name, asked on the client's behalf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellbox.api.http import Request, Response
from cellbox.api.images import auth_of
from cellbox.api.routing import route
from cellbox.wire.registry import distribution_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon


@route("GET", "/distribution/{name:path}/json")
def inspect_distribution(daemon: Daemon, request: Request) -> Response:
    """Descriptor and platforms."""
    found = daemon.engine.images.distribution(request.params["name"], auth=auth_of(request))
    return Response(json=distribution_json(found))
