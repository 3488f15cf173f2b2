"""What needs a cluster: this engine is not part of one, and says so in Docker's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.errors import NotSupported, Unavailable

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_FOR_MANAGERS = """
GET /swarm
POST /swarm/update
GET /swarm/unlockkey
GET /nodes
GET /nodes/{id}
DELETE /nodes/{id}
POST /nodes/{id}/update
GET /services
POST /services/create
GET /services/{id}
DELETE /services/{id}
POST /services/{id}/update
GET /services/{id}/logs
GET /tasks
GET /tasks/{id}
GET /tasks/{id}/logs
GET /secrets
POST /secrets/create
GET /secrets/{id}
DELETE /secrets/{id}
POST /secrets/{id}/update
GET /configs
POST /configs/create
GET /configs/{id}
DELETE /configs/{id}
POST /configs/{id}/update
"""


def not_a_manager(daemon: Daemon, request: Request) -> Response:
    """The answer of a node that manages no cluster."""
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
        "to connect this node to swarm and try again."
    )


for _line in _FOR_MANAGERS.split("\n"):
    if _line:
        route(*_line.split(" "))(not_a_manager)


@route("POST", "/swarm/leave")
@route("POST", "/swarm/unlock")
def not_in_a_swarm(daemon: Daemon, request: Request) -> Response:
    """The answer of a node that is in no cluster."""
    raise Unavailable("This node is not part of a swarm")


@route("POST", "/swarm/init")
@route("POST", "/swarm/join")
def no_swarm(daemon: Daemon, request: Request) -> Response:
    """The way into a cluster, which this engine does not have."""
    raise NotSupported("this version cannot be part of a swarm: it runs containers on one machine")
