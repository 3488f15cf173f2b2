"""The networks of a store, and the places that its containers have in them.

Names, subnets and addresses are rows (``state_networks``); what is in the kernel is made by the
keeper of the networks (``networks.keeper``), which does as it is told. That a network is there is
noted in ``RUN/networks/ID/up``, which a reboot takes as it takes the network; one that is not there
after all is made again when a container cannot be plugged into it.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellbox.containers import records as files
from cellbox.containers.messages import Bundle
from cellbox.containers.worker import rebuild
from cellbox.engine import Filters
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from cellbox.local import names, network_filters, releasing, state_networks, wirings
from cellbox.local.records import ContainerRecord, NetworkRecord
from cellbox.local.store import Store
from cellbox.model.codec import to_json
from cellbox.model.container import Container, RunSpec
from cellbox.model.network import Endpoint, EndpointSpec, Network, NetworkSpec, Subnet
from cellbox.networks import client, ipam, owed, rules
from cellbox.networks import names as published
from cellbox.networks.client import Answer
from cellbox.networks.wiring import Plug, Wiring

if TYPE_CHECKING:
    from cellbox.local.addressing import Addressing
    from cellbox.local.containers import LocalContainers
    from cellbox.local.network_drivers import NetworkDrivers

BUILT_IN = ("bridge", "host", "none")
_REACH = "reach.json"


@dataclass(frozen=True)
class Reach:
    """How far containers can be connected: ``obstacle`` says why not at all, ``missing`` why not
    beyond this machine; ``dns`` is who answers them for names, empty for who answers the host."""

    obstacle: str = ""
    missing: str = ""
    dns: str = ""


class LocalNetworks:
    """See :class:`cellbox.engine.Networks`."""

    def __init__(self, store: Store, containers: LocalContainers) -> None:
        self._store = store
        self._containers = containers
        self._built: dict[str, NetworkRecord] = {}

    # The contract --------------------------------------------------------------------------------

    def create(self, spec: NetworkSpec) -> Network:
        names.check_network(spec.name)
        if spec.name in (*BUILT_IN, "default"):
            raise PermissionDenied(
                f"operation is not permitted on predefined {spec.name} network: another name is "
                "needed"
            )
        if spec.driver in ("host", "null"):
            raise PermissionDenied(f"only one instance of {spec.driver!r} network is allowed")
        record = self._make(spec)
        try:
            if wirings.is_driven(record):
                self.drivers.create(record)
            else:
                self._bring_up(record)
        except BaseException:
            self._store.state.networks.delete(record.id)
            self._forget_addresses(record)
            raise
        self._emit(record, "create")
        return self._facts(record, {})

    def get(self, ref: str) -> Network:
        return self._facts(self._record(ref), self._occupants())

    def list(self, *, filters: Filters | None = None) -> builtins.list[Network]:
        self._ensure_built_in()
        occupants = self._occupants()
        found = [self._facts(one, occupants) for one in self._store.state.networks.all()]
        return network_filters.select(found, filters or {}, self._used())

    def remove(self, ref: str) -> None:
        record = self._record(ref)
        if record.spec.name in BUILT_IN:
            raise PermissionDenied(f"{record.spec.name} is a pre-defined network and cannot be "
                                   "removed")  # fmt: skip
        self._forget_the_gone(record.id)
        if wirings.is_driven(record):
            self._store.state.networks.check_unused(record.id)
            self.drivers.remove(record)
        self._store.state.networks.delete(record.id)
        self._take_down(record)
        self._forget_addresses(record)
        self._emit(record, "destroy")

    def connect(self, ref: str, container: str, spec: EndpointSpec | None = None) -> None:
        network = self._record(ref)
        record = self._containers.record(container)
        wanted = replace(spec or EndpointSpec(""), network=network.spec.name)
        if network.spec.name in ("host", "none") or record.spec.network == "host":
            raise PermissionDenied(
                "container cannot be disconnected from host network or connected to host network"
                if "host" in (network.spec.name, record.spec.network)
                else "container cannot be connected to multiple networks with one of the networks "
                "in private (none) mode"
            )
        if any(one.network_id == network.id for one in record.endpoints):
            raise AlreadyExists(
                f"endpoint with name {record.name} already exists in network {network.spec.name}"
            )
        with contextlib.ExitStack() as until:
            given = self._given(network, wanted, until)
            with self._store.state.write() as connection:
                made = self._place(connection, network, wanted, record, given)
                changed = self._store.state.containers.set_endpoints(
                    connection, record, (*record.endpoints, made)
                )
        try:
            self._rewire(changed, before=record)
        except BaseException:
            self._give_back(changed, network.id)
            raise
        self._emit(network, "connect", container=record.id)

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        network = self._record(ref)
        try:
            record = self._containers.record(container)
        except NotFound:
            if force:
                return
            raise
        if all(one.network_id != network.id for one in record.endpoints):
            if force:
                return
            raise InvalidArgument(
                f"container {record.id} is not connected to network {network.spec.name}"
            )
        changed = self._give_back(record, network.id)
        self._rewire(changed, before=record)
        self._emit(network, "disconnect", container=record.id)

    # What containers need ------------------------------------------------------------------------

    def plan(self, spec: RunSpec) -> tuple[EndpointSpec, ...]:
        """What a new container wants of each network. Raises NotFound, InvalidArgument."""
        default = wirings.DEFAULT if spec.network in ("", "default") else ""
        if default and self.reach().obstacle:
            default = "none"
        planned = wirings.planned(spec, default)
        for one in planned:
            self._record(one.network)
        return planned

    def join(
        self, planned: Sequence[EndpointSpec], until: contextlib.ExitStack
    ) -> Callable[[sqlite3.Connection, ContainerRecord], builtins.list[Endpoint]]:
        """Takes the places of a new container, in the transaction that makes it, which is over when
        ``until`` ends. Raises what a plugin raises that gives addresses."""
        known = [(one, self._record(one.network)) for one in planned]
        given = {record.id: self._given(record, one, until) for one, record in known}

        def take(
            connection: sqlite3.Connection, record: ContainerRecord
        ) -> builtins.list[Endpoint]:
            found = [(one, state_networks.find(connection, one.network)) for one in planned]
            return [
                self._place(connection, network, one, record, given.get(network.id))
                for one, network in found
            ]

        return take

    def _given(
        self, network: NetworkRecord, wanted: EndpointSpec, until: contextlib.ExitStack
    ) -> wirings.Given | None:
        """Addresses of a manager that is not ours; None where that is not asked."""
        if network.spec.ipam_driver in wirings.OWN_IPAM:
            return None
        return self.addressing.take(network, wanted, until)

    def wired(self, bundle: Bundle, record: ContainerRecord, spec: RunSpec | None = None) -> Bundle:
        """The bundle of a container that is connected as it is to be."""
        wiring = self.wiring(record, spec)
        return bundle if wiring == bundle.wiring else replace(bundle, wiring=wiring)

    def linked(self, spec: RunSpec) -> RunSpec:
        """The same with what ``--link`` tells of other containers in its environment. Raises
        NotFound."""
        if not spec.links:
            return spec
        told = [line for link in spec.links for line in self._environment(link)]
        return replace(spec, env=(*told, *spec.env))

    def _environment(self, link: str) -> Iterator[str]:
        name, _, alias = link.partition(":")
        other = self._containers.get(name)
        prefix = (alias or name).upper().replace("-", "_")
        yield f"{prefix}_NAME=/{alias or name}"
        for line in other.spec.env:
            yield f"{prefix}_ENV_{line}"

    def wiring(self, record: ContainerRecord, spec: RunSpec | None = None) -> Wiring:
        """How the container is connected."""
        spec = self._publishing(spec or record.spec, record.image_id)
        if not record.endpoints:
            return Wiring(ports=() if spec.network == "host" else spec.ports)
        networks = {one.network_id: self._record(one.network_id) for one in record.endpoints}
        return wirings.wiring(
            spec,
            record.endpoints,
            networks,
            links=self._links(record.endpoints),
            servers=host_servers(),
            dns=self.reach().dns,
        )

    def _publishing(self, spec: RunSpec, image: str) -> RunSpec:
        """The same with a port for each that is exposed, where all are to be published."""
        if not spec.publish_all:
            return spec
        exposed = (*spec.exposed, *self._store.state.images.get(image).config.exposed_ports)
        return replace(spec, ports=wirings.published(spec.ports, exposed))

    def ready(self, record: ContainerRecord) -> ContainerRecord:
        """See that the kernel can have what the container is to be plugged into, and that drivers
        of others know of it; the container as it is then, with what these have chosen."""
        for one in record.endpoints:
            if not self._is_up(one.network_id):
                self._bring_up(self._record(one.network_id))
        return self._joined(record)

    def renew(self, record: ContainerRecord) -> None:
        """Make what the container is to be plugged into, whatever is noted."""
        for one in record.endpoints:
            self._bring_up(self._record(one.network_id))
        self._joined(record)

    def _joined(self, record: ContainerRecord) -> ContainerRecord:
        found = [
            self.drivers.join(self._record(one.network_id), one)
            if owed.is_driven(str(self._store.run), one.network_id)
            else one
            for one in record.endpoints
        ]
        if tuple(found) == record.endpoints:
            return record
        with self._store.state.write() as connection:
            return self._store.state.containers.set_endpoints(connection, record, found)

    def reach(self) -> Reach:
        """What containers can be connected to here. Found out once for each boot."""
        known = self.known_reach()
        if known is not None:
            return known
        try:
            self._bring_up(self._record(wirings.DEFAULT))
            outlet = self._ask({"op": "check"})[0]["outlet"] or {}
            found = Reach("", outlet.get("missing", ""), outlet.get("dns", ""))
        except (CellboxError, OSError) as error:
            found = Reach(str(error))
        files.write(str(self._store.run / _REACH), found)
        return found

    def known_reach(self) -> Reach | None:
        """What :meth:`reach` has found out since the boot, None where nobody has asked."""
        return files.read(Reach, f"{self._store.run}/{_REACH}")

    # Rows ----------------------------------------------------------------------------------------

    def _record(self, ref: str) -> NetworkRecord:
        if ref in BUILT_IN:
            self._ensure_built_in()
            return self._built[ref]
        return self._store.state.networks.get(ref)

    def _ensure_built_in(self) -> None:
        if self._built:
            return
        for name in BUILT_IN:
            try:
                record = self._store.state.networks.get(name)
            except NotFound:
                with contextlib.suppress(AlreadyExists):
                    self._make(_built_in(name))
                record = self._store.state.networks.get(name)
            self._built[name] = record

    def _make(self, spec: NetworkSpec) -> NetworkRecord:
        add = self._store.state.networks.add
        if spec.driver in ("host", "null"):
            return add(spec.name, lambda others: spec)
        if spec.ipam_driver == "null":
            none = replace(spec, subnets=())
            return add(spec.name, lambda others: none)
        if spec.ipam_driver not in wirings.OWN_IPAM:
            return self._make_with_plugin(spec)
        routes, seed = self._routes(), self._store.state.id()

        def choose(others: Sequence[NetworkRecord]) -> NetworkSpec:
            found = ipam.choose(spec, _taken(others), routes=routes, seed=seed)
            return replace(spec, subnets=found)

        return add(spec.name, choose)

    def _make_with_plugin(self, spec: NetworkSpec) -> NetworkRecord:
        """One whose pools another address manager has."""
        chosen = self.addressing.choose(spec)

        def choose(others: Sequence[NetworkRecord]) -> NetworkSpec:
            if chosen.driver == "bridge":  # a driver that is not ours may have its reasons
                ipam.check_free(chosen.subnets, _taken(others))
            return chosen

        try:
            return self._store.state.networks.add(spec.name, choose)
        except BaseException:
            self.addressing.drop(chosen)
            raise

    def _place(
        self,
        connection: sqlite3.Connection,
        network: NetworkRecord,
        wanted: EndpointSpec,
        record: ContainerRecord,
        given: wirings.Given | None,
    ) -> Endpoint:
        taken = state_networks.addresses(connection, network.id)
        who = {"container": record.id, "name": record.name}
        made = wirings.endpoint(network, wanted, taken, **who, given=given)
        state_networks.take(connection, made)
        return made

    def _give_back(self, record: ContainerRecord, network: str) -> ContainerRecord:
        with self._store.state.write(shrinking=True) as connection:
            state_networks.release(connection, record.id, network)
            rest = [one for one in record.endpoints if one.network_id != network]
            changed = self._store.state.containers.set_endpoints(connection, record, rest)
        releasing.give_back(self._store, record.endpoints)
        return changed

    def _forget_the_gone(self, network: str) -> None:
        """Containers that removed themselves may still hold addresses: looking at them tells."""
        for record in self._store.state.containers.all():
            if any(one.network_id == network for one in record.endpoints):
                with contextlib.suppress(NotFound):
                    self._containers.facts(record)

    def _forget_addresses(self, record: NetworkRecord) -> None:
        """The network is gone: other address managers get back what is theirs."""
        if record.spec.ipam_driver not in wirings.OWN_IPAM:
            self.addressing.forget(record)

    @cached_property
    def drivers(self) -> NetworkDrivers:
        """The drivers that are plugins, with what it takes to speak to them."""
        from cellbox.local.network_drivers import NetworkDrivers

        return NetworkDrivers(self._store)

    @cached_property
    def addressing(self) -> Addressing:
        """The address managers that are plugins."""
        from cellbox.local.addressing import Addressing

        return Addressing(self._store)

    # Facts ---------------------------------------------------------------------------------------

    def _occupants(self) -> Mapping[str, builtins.list[Endpoint]]:
        """The places that running containers have, by network."""
        found: dict[str, builtins.list[Endpoint]] = {}
        for record in self._store.state.containers.all():
            if not record.endpoints:
                continue
            with contextlib.suppress(NotFound):
                for one in self._containers.facts(record).endpoints:
                    if one.interface:
                        found.setdefault(one.network_id, []).append(one)
        return found

    def _used(self) -> set[str]:
        """Ids of the networks in which any container has a place."""
        return {
            one.network_id
            for record in self._store.state.containers.all()
            for one in record.endpoints
        }

    def _facts(self, record: NetworkRecord, occupants: Mapping[str, Iterable[Endpoint]]) -> Network:
        return Network(
            id=record.id,
            spec=record.spec,
            created=record.created,
            endpoints=tuple(occupants.get(record.id, ())),
            built_in=record.spec.name in BUILT_IN,
        )

    def _links(self, endpoints: Iterable[Endpoint]) -> dict[str, Container]:
        """Who ``--link CONTAINER:ALIAS`` names, by alias."""
        links = [link.partition(":") for one in endpoints for link in one.spec.links]
        return {alias or name: self._containers.get(name) for name, _, alias in links}

    def _emit(self, record: NetworkRecord, action: str, **more: str) -> None:
        attributes = {"name": record.spec.name, "type": record.spec.driver, **more}
        self._store.emit("network", action, record.id, **attributes)

    # The kernel ----------------------------------------------------------------------------------

    def _folder(self, id: str) -> Path:
        return self._store.run / "networks" / id

    def _is_up(self, id: str) -> bool:
        """Is the network in the kernel? Bridges of an ordinary user are not to be seen from here,
        so the note has to do, and that somebody holds them."""
        bridge = rules.bridge(str(self._store.run), id)
        if bridge is None:
            return False
        if os.geteuid() == 0:
            return os.path.exists(f"/sys/class/net/{bridge.name}")
        holder = client.holder(str(self._store.run))
        if holder >= 0:
            os.close(holder)
        return holder >= 0

    def _bring_up(self, record: NetworkRecord) -> None:
        """Have the network's bridge made, and its rules. Raises NotSupported, EngineError."""
        if wirings.is_driven(record):
            self.drivers.note(record)
        if record.spec.driver != "bridge":
            return
        bridge = wirings.bridge(record)
        made = {"name": bridge.name, "addresses": wirings.addresses(record)}
        self._ask({"op": "bridge", **made, "mtu": wirings.mtu_of(record)})
        rules.note_bridge(str(self._store.run), record.id, bridge)
        try:
            self._ask({"op": "firewall"})
        except BaseException:
            rules.forget_bridge(str(self._store.run), record.id)
            raise

    def _take_down(self, record: NetworkRecord) -> None:
        if wirings.is_driven(record):
            self.drivers.forget(record)
            return
        rules.forget_bridge(str(self._store.run), record.id)
        with contextlib.suppress(CellboxError, OSError):  # what is left is in nobody's way
            self._ask({"op": "bridge", "name": wirings.bridge_of(record), "remove": True})
            self._ask({"op": "firewall"})
        with contextlib.suppress(OSError):
            self._folder(record.id).rmdir()

    def _routes(self) -> builtins.list[str]:
        found: builtins.list[str] = self._ask({"op": "routes"})[0]["routes"]
        return found

    def _ask(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Answer:
        with self._store.told("networks"):
            answer, received = self._store.launcher.network(request, fds)
            if "error" in answer:
                raise rebuild(answer["error"])
            return answer, received

    def _rewire(self, record: ContainerRecord, *, before: ContainerRecord) -> None:
        """The container has other places than before: tell the kernel and its shim, if it runs."""
        pid = self._containers.facts(record).pid
        if pid:
            record = self.ready(record)
        wiring, old = self.wiring(record), self.wiring(before)
        self._containers.note_wiring(record)
        if not pid:
            return
        gone = [one for one in old.plugs if one.key not in {new.key for new in wiring.plugs}]
        sockets = self._replug(pid, wiring, gone, names=wiring.resolves and not old.resolves)
        try:
            self._containers.tell_wiring(record, wiring, sockets)
        finally:
            for fd in sockets:
                os.close(fd)
        self._publish(record, wiring, old)

    def _publish(self, record: ContainerRecord, wiring: Wiring, old: Wiring) -> None:
        """Tell the neighbours of a container that runs what has changed."""
        run = self._store.run
        for place in old.places:
            if place not in wiring.places:
                published.withdraw(str(run / place.directory), place.endpoint)
        for place in wiring.places:
            if place not in old.places:
                folder = str(run / place.directory)
                facts = (place.endpoint, record.id, place.names, place.ip, place.ip6)
                published.publish(folder, *facts)

    def _replug(
        self, pid: int, wiring: Wiring, gone: Sequence[Plug], *, names: bool
    ) -> builtins.list[int]:
        """Change the cables of the container whose first process is ``pid``; the sockets on which
        it is asked for ``names``."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._plugs("unplug", [one for one in gone if not one.endpoint], namespace)
            self._plugs("release", [one for one in gone if one.endpoint], namespace)
            sockets = self._plugs("plug", wiring.own, namespace, names=names)
            try:
                self._plugs("drive", wiring.driven, namespace)
            except BaseException:
                for fd in sockets:
                    os.close(fd)
                raise
            return sockets
        finally:
            os.close(namespace)

    def _plugs(
        self, op: str, plugs: Sequence[Plug], namespace: int, **more: bool
    ) -> builtins.list[int]:
        if not plugs and not more.get("names"):
            return []
        told = {"op": op, "plugs": [to_json(one) for one in plugs], **more}
        return self._ask(told, [namespace])[1]


def _taken(others: Iterable[NetworkRecord]) -> builtins.list[str]:
    return [subnet.subnet for one in others for subnet in one.spec.subnets]


def host_servers() -> tuple[str, ...]:
    """The name servers that this machine asks (resolv.conf(5))."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(word[1] for word in words if word[:1] == ["nameserver"] and len(word) > 1)


def _built_in(name: str) -> NetworkSpec:
    if name != wirings.DEFAULT:
        return NetworkSpec(name, driver="null" if name == "none" else name)
    return NetworkSpec(name, subnets=(Subnet(),), options={
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.driver.mtu": "1500",
    })  # fmt: skip
