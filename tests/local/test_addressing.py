"""Addresses that a plugin keeps the books of: none is lost, whoever is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, ledger, program

from cellbox.errors import (
    AlreadyExists,
    Conflict,
    EngineError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from cellbox.local.addressing import Addressing
from cellbox.model.container import RunSpec
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet

POOL = "10.231.71.0/24"
KEPT = {POOL, "10.231.71.1"}
OWN = NetworkSpec("own", ipam_driver="books")


@pytest.fixture
def books() -> tuple[Answers, set[str]]:
    return ledger(POOL)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, books) -> Iterator[set[str]]:
    """What the program ``books`` has given: nothing in the end."""
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    with program(tmp_path / "sockets" / "books.sock", books[0]):
        yield books[1]


@pytest.fixture
def own(engine, busybox, given):
    made = engine.networks.create(OWN)
    assert given == KEPT
    yield made
    for container in engine.containers.list(all=True):
        engine.containers.remove(container.id, force=True)
    engine.networks.remove("own")
    assert given == set()


def create(engine, name="", **more):
    return engine.containers.create(RunSpec("busybox", ("true",), network="own", **more), name=name)


def test_an_address_is_a_containers_from_creation_to_removal(engine, own, given):
    made = create(engine)
    assert given == {*KEPT, "10.231.71.2"}
    engine.containers.start(made.id)
    engine.containers.wait(made.id)
    assert given == {*KEPT, "10.231.71.2"}
    engine.containers.remove(made.id)
    assert given == KEPT


def test_one_that_removes_itself(engine, own, given, until):
    id = create(engine, auto_remove=True).id
    engine.containers.start(id)
    with pytest.raises(NotFound):
        until(lambda: engine.containers.get(id) and False)
    assert given == KEPT


def test_what_comes_to_nothing_is_given_back(engine, own, given):
    create(engine, "web")
    with pytest.raises(AlreadyExists):
        create(engine, "web")
    assert given == {*KEPT, "10.231.71.2"}
    with pytest.raises(InvalidArgument, match="does not belong to any"):
        create(engine, endpoints=(EndpointSpec("own", ip="10.1.2.3"),))
    with pytest.raises(InvalidArgument, match="invalid IP address"):
        create(engine, endpoints=(EndpointSpec("own", ip="nonsense"),))
    assert given == {*KEPT, "10.231.71.2"}


def test_live_and_back(engine, own, given):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True)).id
    engine.containers.start(id)
    engine.networks.connect("own", id)
    assert given == {*KEPT, "10.231.71.2"}
    engine.networks.disconnect("own", id)
    assert given == KEPT


def test_many_at_once_have_different_ones(engine, own, given):
    made, failed = [], []

    def act():
        try:
            made.append(create(engine))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and len(given) == len(KEPT) + 8
    assert {one.endpoints[0].ip.partition("/")[0] for one in made} == given - KEPT


CREATES = """
import os
from cellbox.connecting import connect
from cellbox.local.networks import LocalNetworks
from cellbox.model.container import RunSpec
def place(*args):
    os.kill(os.getpid(), 9)
LocalNetworks._place = place
connect().containers.create(RunSpec("busybox", ("true",), network="own"))
"""


def test_who_is_killed_while_he_takes_one(engine, own, given, python):
    assert python(CREATES).wait(20) == -signal.SIGKILL
    assert given == {*KEPT, "10.231.71.2"}
    made = create(engine)  # whose coming and going lets go of the other one
    engine.containers.remove(made.id)
    assert given == KEPT


def test_one_that_is_being_taken_is_left_alone(engine, own, given):
    addressing = Addressing(engine.containers.store)
    record = engine.containers.store.state.networks.get("own")
    with ExitStack() as until:
        taken = addressing.take(record, EndpointSpec("own"), until)
        assert taken.ip == "10.231.71.2/24" and taken.mac == ""
        addressing.sweep(record)
        assert given == {*KEPT, "10.231.71.2"}
    assert given == KEPT
    folder = engine.containers.store.root / "networks" / f"{record.id}.addresses"
    assert os.listdir(folder) == []


def test_a_manager_that_gives_one_twice(engine, own, books):
    create(engine)
    books[0]["IpamDriver.RequestAddress"] = {"Address": "10.231.71.2/24"}
    with pytest.raises(Conflict, match=r"books gives 10\.231\.71\.2 a second time"):
        create(engine)


def test_a_manager_that_must_know_the_hardware_address(engine, own, books):
    books[0]["IpamDriver.GetCapabilities"] = {"RequiresMACAddress": True}
    seen = []
    take = books[0]["IpamDriver.RequestAddress"]
    books[0]["IpamDriver.RequestAddress"] = lambda body: seen.append(body["Options"]) or take(body)
    made = create(engine)
    assert seen == [{"com.docker.network.endpoint.macaddress": made.endpoints[0].mac}]


def test_a_manager_that_has_gone_keeps_nobody(engine, tmp_path, monkeypatch, busybox, books):
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    with program(tmp_path / "sockets" / "books.sock", books[0]):
        engine.networks.create(OWN)
        made = create(engine)
    engine.containers.remove(made.id)
    with pytest.raises(NotFound, match="IPAM driver: books"):
        create(engine)
    engine.networks.remove("own")
    assert [one.name for one in engine.networks.list()] == ["bridge", "host", "none"]


def test_pools_of_bridges_must_not_overlap(engine, given):
    engine.networks.create(NetworkSpec("other", subnets=(Subnet("10.231.71.128/25"),)))
    with pytest.raises(PermissionDenied, match="overlaps"):
        engine.networks.create(OWN)
    assert given == set()
    engine.networks.remove("other")


def test_a_pool_half_taken_is_given_back(engine, books, given):
    books[0]["IpamDriver.RequestAddress"] = {"Error": "closed today"}
    with pytest.raises(EngineError, match="closed today"):
        engine.networks.create(OWN)
    assert given == set()


def test_a_network_without_addresses(engine, busybox):
    engine.networks.create(NetworkSpec("flat", ipam_driver="null"))
    made = engine.containers.create(RunSpec("busybox", ("ip", "link"), network="flat"))
    (place,) = made.endpoints
    assert (place.ip, place.ip6, place.gateway) == ("", "", "") and place.mac.startswith("02:42:")
    engine.containers.start(made.id)
    assert engine.containers.wait(made.id) == 0
    engine.containers.remove(made.id)
    engine.networks.remove("flat")
