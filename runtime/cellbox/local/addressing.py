"""Addresses of networks whose address manager is a plugin (:mod:`cellbox.drivers.ipam`).

The manager keeps the books, so what it has given must go back to it. Each address that it gave to a
container is a file, locked while somebody is about to use it::

    ROOT/networks/ID.addresses/ADDRESS

One that nobody holds, and that no container has, is given back by whoever looks next: so none is
lost, whenever who took it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cellbox.drivers.ipam import INTERFACE, IpamProgram
from cellbox.errors import CellboxError, Conflict, InvalidArgument, NotFound
from cellbox.local import state_networks
from cellbox.local.records import NetworkRecord
from cellbox.local.releasing import addresses_of
from cellbox.local.store import Store
from cellbox.local.wirings import Given
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet
from cellbox.networks import ipam


class Addressing:
    """What the address managers of ``store`` give its networks and containers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Networks ------------------------------------------------------------------------------------

    def choose(self, spec: NetworkSpec) -> NetworkSpec:
        """The same with the pools that the network's manager gives; they are to be dropped
        (:meth:`drop`) if nothing comes of it. Raises NotFound, and what the manager raises."""
        manager = self._manager(spec)
        asked = [one for one in spec.subnets if one.subnet]
        versions = {ipaddress.ip_network(one.subnet).version for one in asked}
        asked += [Subnet()] if 4 not in versions else []
        wanted = [(one, ":" in one.subnet) for one in asked]
        wanted += [(Subnet(), True)] if spec.ipv6 and 6 not in versions else []
        with ExitStack() as undo:
            found: list[Subnet] = []
            for one, v6 in wanted:
                found.append(manager.take_pool(one, spec.ipam_options, v6=v6))
                undo.callback(self._quietly, manager, found[-1])
            undo.pop_all()
        return replace(spec, subnets=tuple(found))

    def drop(self, spec: NetworkSpec) -> None:
        """Give the pools back. A manager that fails does not keep the network."""
        with contextlib.suppress(CellboxError):
            manager = self._manager(spec)
            for pool in spec.subnets:
                self._quietly(manager, pool)

    def forget(self, network: NetworkRecord) -> None:
        """Give all back that a network had which is not there any more."""
        self.sweep(network)
        self.drop(network.spec)
        shutil.rmtree(self._folder(network.id), ignore_errors=True)

    def _quietly(self, manager: IpamProgram, pool: Subnet) -> None:
        with contextlib.suppress(CellboxError):
            manager.drop_pool(pool)

    # Containers ----------------------------------------------------------------------------------

    def take(self, network: NetworkRecord, wanted: EndpointSpec, until: ExitStack) -> Given:
        """Addresses for a container, which are its own if it has them in the database when
        ``until`` ends. Raises Conflict, InvalidArgument, and what the manager raises."""
        manager = self._manager(network.spec)
        until.callback(self.sweep, network)
        mac = ipam.any_mac() if not wanted.mac and manager.wants_mac() else wanted.mac
        ip = self._take(manager, network, wanted.ip, False, mac, until)
        ip6 = self._take(manager, network, wanted.ip6, True, mac, until)
        return Given(ip, ip6, mac)

    def _take(
        self,
        manager: IpamProgram,
        network: NetworkRecord,
        asked: str,
        v6: bool,
        mac: str,
        until: ExitStack,
    ) -> str:
        pools = [one for one in network.spec.subnets if (":" in one.subnet) == v6]
        if asked:
            pools = [one for one in pools if _holds(one, asked)]
            if not pools:
                raise InvalidArgument(
                    f"invalid address {asked}: It does not belong to any of this network's subnets"
                )
        for pool in pools:
            try:
                address = manager.take(pool, asked, mac=mac)
            except CellboxError:
                if pool is pools[-1]:
                    raise
                continue
            self._note(network, address, until)
            return address
        return ""

    def _note(self, network: NetworkRecord, address: str, until: ExitStack) -> None:
        """Keep the address from being given back until then. Raises Conflict for one that the
        manager has given before."""
        folder = self._folder(network.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / _bare(address)
        file = until.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="."))
        fcntl.flock(file, fcntl.LOCK_EX)
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
                return
            with contextlib.suppress(FileNotFoundError), path.open() as other:
                fcntl.flock(other, fcntl.LOCK_EX)  # somebody is just giving it back
        raise Conflict(
            f"the address manager {network.spec.ipam_driver} gives {path.name} a second time"
        )

    def sweep(self, network: NetworkRecord) -> None:
        """Give back what no container has any more."""
        given = self._given(network.id)
        if not given:
            return
        with self._store.state.read() as connection:
            used = state_networks.addresses(connection, network.id)
        left = [address for address in given if address not in used]
        if left:
            with contextlib.suppress(CellboxError):
                manager = self._manager(network.spec)
                for address in left:
                    self._give_back(manager, network, address)

    def _give_back(self, manager: IpamProgram, network: NetworkRecord, address: str) -> None:
        """Unless somebody is about to use it."""
        path = self._folder(network.id) / address
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._store.state.read() as connection:  # as it is now that we have it
                if address in state_networks.addresses(connection, network.id):
                    return
            for pool in network.spec.subnets:
                if _holds(pool, address):
                    with contextlib.suppress(CellboxError):
                        manager.drop(pool, address)
            path.unlink(missing_ok=True)

    # Files ---------------------------------------------------------------------------------------

    def _given(self, id: str) -> list[str]:
        try:
            return [one for one in os.listdir(self._folder(id)) if not one.startswith(".")]
        except FileNotFoundError:
            return []

    def _folder(self, id: str) -> Path:
        return addresses_of(self._store, id)

    def _manager(self, spec: NetworkSpec) -> IpamProgram:
        try:
            return IpamProgram(self._store.drivers.find(spec.ipam_driver, INTERFACE))
        except NotFound as error:
            known = "known: default, null, and plugins"
            raise NotFound("IPAM driver", spec.ipam_driver, known) from error


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _holds(pool: Subnet, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(pool.subnet)
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {address}") from None
