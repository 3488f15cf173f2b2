"""The drivers of networks that are plugins: of packages, and other programs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from cellbox.errors import NotFound, NotSupported
from cellbox.local import wirings
from cellbox.local.records import NetworkRecord
from cellbox.local.store import Store
from cellbox.model.network import Endpoint
from cellbox.model.plugin import PluginKind
from cellbox.networks import driven
from cellbox.networks.driven import Driver
from cellbox.plugins import REGISTRY


class NetworkDrivers:
    """What the drivers of others do for the networks of ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._run = str(store.run)

    def create(self, network: NetworkRecord) -> None:
        """Have the network made. Raises NotFound, NotSupported, and what the driver raises."""
        if os.geteuid() != 0:
            raise NotSupported(
                f"the network driver {network.spec.driver} connects containers with the host's own "
                "network, which only root may: use the driver bridge, or run the engine as root"
            )
        driver = self.find(network.spec.driver)
        with self._store.told(f"network {network.spec.name}"):
            driver.load().create(network.id, network.spec)
        driven.note(self._run, network.id, driver)

    def remove(self, network: NetworkRecord) -> None:
        """Have it taken away; a driver that is gone needs not be told. Raises what the driver
        raises."""
        with contextlib.suppress(NotFound), self._store.told(f"network {network.spec.name}"):
            self.find(network.spec.driver).load().remove(network.id)

    def note(self, network: NetworkRecord) -> None:
        """See that the keeper finds the driver where it is now. Raises NotFound."""
        driven.note(self._run, network.id, self.find(network.spec.driver))

    def forget(self, network: NetworkRecord) -> None:
        """The network is gone."""
        driven.forget(self._run, network.id)

    def join(self, network: NetworkRecord, endpoint: Endpoint) -> Endpoint:
        """Let the driver know of a container that is about to run; the endpoint with what the
        driver has chosen. Raises what the driver raises."""
        with self._store.told(f"network {endpoint.network}"):
            said = driven.join(self._run, wirings.as_told(endpoint, network))
        return replace(
            endpoint,
            ip=said.ip or endpoint.ip,
            ip6=said.ip6 or endpoint.ip6,
            mac=said.mac or endpoint.mac,
            gateway=said.gateway,
            gateway6=said.gateway6,
        )

    def find(self, name: str) -> Driver:
        """The driver of this name as it is now. Raises NotFound."""
        if name in REGISTRY.names(PluginKind.NETWORK):
            return Driver(name)
        from cellbox.drivers.networks import INTERFACE

        try:
            return Driver(name, self._store.drivers.find(name, INTERFACE).place)
        except NotFound as error:
            raise NotFound("network driver", name, "known: bridge, and plugins") from error
