"""Networks, and the containers in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellbox import handles
from cellbox.api.http import Request, Response
from cellbox.api.routing import route
from cellbox.wire.fields import Fields
from cellbox.wire.filters import with_moments
from cellbox.wire.network_requests import endpoint_spec, network_spec
from cellbox.wire.networks import network_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon


@route("GET", "/networks")
def list_networks(daemon: Daemon, request: Request) -> Response:
    """``docker network ls``. As in moby, only one network's own page tells who is in it."""
    found = daemon.engine.networks.list(filters=request.filters())
    return Response(json=[{**network_json(facts), "Containers": {}} for facts in found])


@route("GET", "/networks/{id:path}")
def inspect_network(daemon: Daemon, request: Request) -> Response:
    """``docker network inspect``."""
    return Response(json=network_json(daemon.engine.networks.get(request.params["id"])))


@route("POST", "/networks/create")
def create_network(daemon: Daemon, request: Request) -> Response:
    """``docker network create``. No two networks have one name, whatever ``CheckDuplicate``
    says."""
    network = daemon.engine.networks.create(network_spec(request.json()))
    return Response(201, json={"Id": network.id, "Warning": ""})


@route("DELETE", "/networks/{id:path}")
def remove_network(daemon: Daemon, request: Request) -> Response:
    """``docker network rm``."""
    daemon.engine.networks.remove(request.params["id"])
    return Response(204)


@route("POST", "/networks/{id:path}/connect")
def connect_network(daemon: Daemon, request: Request) -> Response:
    """``docker network connect``."""
    body, network = request.json(), request.params["id"]
    container = Fields(body, "ConnectOptions").text("Container")
    endpoint = endpoint_spec(network, body.get("EndpointConfig") or {})
    daemon.engine.networks.connect(network, container, endpoint)
    return Response()


@route("POST", "/networks/{id:path}/disconnect")
def disconnect_network(daemon: Daemon, request: Request) -> Response:
    """``docker network disconnect``."""
    body = Fields(request.json(), "DisconnectOptions")
    container, force = body.text("Container"), body.flag("Force")
    daemon.engine.networks.disconnect(request.params["id"], container, force=force)
    return Response()


@route("POST", "/networks/prune")
def prune_networks(daemon: Daemon, request: Request) -> Response:
    """``docker network prune``."""
    pruned = handles.prune_networks(daemon.engine, filters=with_moments(request.filters()))
    return Response(json={"NetworksDeleted": list(pruned.removed) or None})
