"""The networks of a remote engine."""

from __future__ import annotations

import builtins

from cellbox.engine import Filters
from cellbox.model.network import EndpointSpec, Network, NetworkSpec
from cellbox.remote import paths
from cellbox.remote.gather import gathered
from cellbox.remote.transport import Transport
from cellbox.wire.network_requests import endpoint_body, network_body
from cellbox.wire.networks import network_from


class RemoteNetworks:
    """See :class:`cellbox.engine.Networks`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def create(self, spec: NetworkSpec) -> Network:
        body = {**network_body(spec), "CheckDuplicate": True}  # before API 1.44, twins were allowed
        return self.get(self._http.json("POST", "/networks/create", json=body)["Id"])

    def get(self, ref: str) -> Network:
        return network_from(self._http.json("GET", paths.network(ref)))

    def list(self, *, filters: Filters | None = None) -> builtins.list[Network]:
        found = self._http.json("GET", "/networks", {"filters": filters or None})
        facts = gathered(self.get, [one["Id"] for one in found])  # a list has no endpoints
        return sorted(facts, key=lambda one: one.name)

    def remove(self, ref: str) -> None:
        self._http.request("DELETE", paths.network(ref))

    def connect(self, ref: str, container: str, spec: EndpointSpec | None = None) -> None:
        body = {"Container": container, "EndpointConfig": endpoint_body(spec) if spec else {}}
        self._http.request("POST", paths.network(ref, "/connect"), json=body)

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self._http.request("POST", paths.network(ref, "/disconnect"), json=body)
