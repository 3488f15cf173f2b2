"""Networks and addresses of plugins, which speak Docker's protocol: the same program serves every
engine, the real dockerd as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, Json, cables, ledger, program

from cellbox.errors import CellboxError, NotFound, PermissionDenied
from cellbox.model.container import ExecSpec, RestartPolicy, RunSpec
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet

pytestmark = pytest.mark.root
DOCKERS = Path("/run/docker/plugins")
"""Where every engine looks."""
POOL = Subnet("10.231.77.0/24", "10.231.77.1")
_numbers = count()  # a dockerd stays connected to a plugin that it knows by name
Calls = list[tuple[str, Json]]


def ip(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def plugin(name: str, answers: Answers) -> Iterator[tuple[str, Calls]]:
    """A plugin that all engines know, with a name that no other one has."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as Docker's folder of plugins and the host's interfaces are its")
    unique = f"cb{name}{os.getpid()}-{next(_numbers)}"
    with program(DOCKERS / f"{unique}.sock", answers) as calls:
        yield unique, calls


@pytest.fixture
def wired() -> Iterator[tuple[str, Calls]]:
    """A network plugin: its name, and the calls that it got."""
    with plugin("cables", cables(ip)) as found:
        yield found


@pytest.fixture
def books() -> Iterator[tuple[str, Calls, set[str]]]:
    """An IPAM plugin, the calls that it got, and what it has given."""
    answers, given = ledger("10.231.78.0/24")
    with plugin("ledger", answers) as (name, calls):
        yield name, calls, given


def methods(calls: Calls, *, but: tuple[str, ...] = ()) -> list[str]:
    """What was called, without what engines ask when they like."""
    idle = {"Activate", "GetCapabilities", "EndpointOperInfo", "GetDefaultAddressSpaces"}
    idle |= {"DiscoverNew", "DiscoverDelete", "ProgramExternalConnectivity", *but}
    idle |= {"RevokeExternalConnectivity"}
    names = [method.partition(".")[2] for method, _ in calls]
    return [name for name in names if name not in idle]


def said(engine, id, *command):
    with engine.containers.exec(id, ExecSpec(command)) as stream:
        return b"".join(data for _, data in stream).decode()


def place(engine, id, network):
    return next(one for one in engine.containers.get(id).endpoints if one.network == network)


# Networks ---------------------------------------------------------------------------------------


def test_the_life_of_a_network(engine, start, wired):
    driver, calls = wired
    made = engine.networks.create(NetworkSpec("own", driver, (POOL,), options={"a": "b"}))
    assert (made.spec.driver, made.spec.subnets) == (driver, (POOL,))
    told = next(body for method, body in calls if method.endswith("CreateNetwork"))
    assert told["NetworkID"] == made.id
    assert told["Options"]["com.docker.network.generic"] == {"a": "b"}
    (pool,) = told["IPv4Data"]
    assert (pool["Pool"], pool["Gateway"]) == (POOL.subnet, f"{POOL.gateway}/24")
    one, two = (start(name=name, network="own") for name in ("one", "two"))
    assert " 0% packet loss" in said(engine, two.id, "ping", "-c1", "-W5", "one")
    assert place(engine, one.id, "own").ip == "10.231.77.2/24"
    assert "10.231.77.2/24" in said(engine, one.id, "ip", "address", "show", "eth0")
    with pytest.raises(PermissionDenied, match="active endpoints"):
        engine.networks.remove("own")
    for id in (one.id, two.id):
        engine.containers.remove(id, force=True)
    engine.networks.remove("own")
    assert methods(calls) == [
        "CreateNetwork",
        *("CreateEndpoint", "Join") * 2,
        *("Leave", "DeleteEndpoint") * 2,
        "DeleteNetwork",
    ]
    assert made.id[:10] not in ip("ip", "-o", "link")


def test_a_container_joins_at_each_start(engine, run, wired):
    driver, calls = wired
    engine.networks.create(NetworkSpec("own", driver, (POOL,)))
    ran = run("ip", "address", "show", "eth0", network="own")
    assert (ran.code, "10.231.77.2/24" in ran.out) == (0, True)
    engine.containers.start(ran.id)
    assert engine.containers.wait(ran.id) == 0
    engine.containers.remove(ran.id, force=True)
    cycle = ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]
    assert methods(calls) == ["CreateNetwork", *cycle * 2]
    engine.networks.remove("own")


def test_each_run_of_a_restart_policy_has_the_network(engine, start, wired, until):
    driver, calls = wired
    engine.networks.create(NetworkSpec("own", driver, (POOL,)))
    script = "ip -4 -o address show eth0; exit 1"
    id = start("sh", "-c", script, network="own", restart=RestartPolicy("on-failure", 2)).id
    until(lambda: engine.containers.get(id).status == "exited", 20)
    written = b"".join(data for _, _, data in engine.containers.logs(id))
    assert written.count(b"10.231.77.2/24") == 3
    cycle = ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]
    until(lambda: methods(calls) == ["CreateNetwork", *cycle * 3])
    engine.containers.remove(id)
    engine.networks.remove("own")


def test_what_a_user_wants_is_told(engine, run, wired):
    driver, calls = wired
    engine.networks.create(NetworkSpec("own", driver, (POOL,)))
    wanted = EndpointSpec("own", ip="10.231.77.9", mac="02:42:01:02:03:04")
    wanted = EndpointSpec(**{**vars(wanted), "driver_options": {"speed": "slow"}})
    ran = run("ip", "address", "show", "eth0", network="own", endpoints=(wanted,))
    assert "10.231.77.9/24" in ran.out
    told = next(body for method, body in calls if method.endswith("CreateEndpoint"))
    assert told["Interface"]["Address"] == "10.231.77.9/24"
    assert told["Options"]["speed"] == "slow"
    engine.containers.remove(ran.id)
    engine.networks.remove("own")


def test_what_the_driver_chooses_is_the_containers(engine, start):
    chosen = {"Address": "10.231.79.5/24", "MacAddress": "02:42:0a:0b:0c:0d"}
    routes = [
        {"Destination": "10.99.0.0/16", "RouteType": 0, "NextHop": "10.231.79.7"},
        {"Destination": "10.98.0.0/16", "RouteType": 1},
    ]
    said_too = {"Gateway": "10.231.79.1", "StaticRoutes": routes}
    answers = cables(ip, {"CreateEndpoint": chosen, "Join": said_too})
    with plugin("choosing", answers) as (driver, _):
        engine.networks.create(NetworkSpec("own", driver, ipam_driver="null"))
        one = start(name="one", network="own")
        found = place(engine, one.id, "own")
        assert (found.ip, found.mac) == ("10.231.79.5/24", "02:42:0a:0b:0c:0d")
        assert "02:42:0a:0b:0c:0d" in said(engine, one.id, "ip", "link", "show", "eth0")
        table = said(engine, one.id, "ip", "route")
        assert "default via 10.231.79.1 dev eth0" in table
        assert "10.99.0.0/16 via 10.231.79.7 dev eth0" in table
        assert "10.98.0.0/16 dev eth0" in table
        engine.containers.remove(one.id, force=True)
        engine.networks.remove("own")


def test_a_running_container_is_connected_and_disconnected(engine, start, wired):
    driver, calls = wired
    engine.networks.create(NetworkSpec("own", driver, (POOL,)))
    more = engine.networks.create(NetworkSpec("more", driver, (Subnet("10.231.76.0/24"),)))
    one = start(name="one", network="own")
    engine.networks.connect("more", one.id)
    assert "10.231.76.2/24" in said(engine, one.id, "ip", "address", "show", "eth1")
    engine.networks.disconnect("more", one.id)
    assert "eth1" not in said(engine, one.id, "ip", "link")
    assert methods(calls)[-2:] == ["Leave", "DeleteEndpoint"]
    engine.containers.remove(one.id, force=True)
    for name in ("own", "more"):
        engine.networks.remove(name)
    assert more.id[:10] not in ip("ip", "-o", "link")


def test_a_driver_that_fails_leaves_nothing(engine, busybox, wired):
    driver, calls = wired
    failing = {**cables(ip), "NetworkDriver.Join": {"Err": "all lines are busy"}}
    with plugin("failing", failing) as (other, _):
        engine.networks.create(NetworkSpec("own", other, (POOL,)))
        id = engine.containers.create(RunSpec("busybox", ("true",), network="own")).id
        with pytest.raises(CellboxError, match="all lines are busy"):
            engine.containers.start(id)
        engine.containers.remove(id)
        engine.networks.remove("own")
    with plugin("refusing", {**cables(ip), "NetworkDriver.CreateNetwork": {"Err": "no"}}) as (
        it,
        _,
    ):
        with pytest.raises(CellboxError, match="no"):
            engine.networks.create(NetworkSpec("own", it, (POOL,)))
        with pytest.raises(NotFound):
            engine.networks.get("own")
    assert methods(calls) == []


@pytest.mark.differs(dockerd="it looks for each of them for 15 seconds")
def test_a_driver_that_is_not_there(engine):
    with pytest.raises(CellboxError, match="nosuch"):
        engine.networks.create(NetworkSpec("own", "nosuch"))
    with pytest.raises(CellboxError, match="nosuch"):
        engine.networks.create(NetworkSpec("own", ipam_driver="nosuch"))
    assert {one.name for one in engine.networks.list()} <= {"bridge", "host", "none"}


# Addresses --------------------------------------------------------------------------------------


def test_addresses_of_a_plugin(engine, start, wired, books):
    driver, _ = wired
    manager, calls, given = books
    made = engine.networks.create(NetworkSpec("own", driver, ipam_driver=manager))
    assert [one.subnet for one in made.spec.subnets] == ["10.231.78.0/24"]
    assert given == {"10.231.78.0/24", "10.231.78.1"}
    one = start(name="one", network="own")
    assert place(engine, one.id, "own").ip == "10.231.78.2/24"
    assert "10.231.78.2/24" in said(engine, one.id, "ip", "address", "show", "eth0")
    assert given == {"10.231.78.0/24", "10.231.78.1", "10.231.78.2"}
    engine.containers.remove(one.id, force=True)
    assert given == {"10.231.78.0/24", "10.231.78.1"}
    engine.networks.remove("own")
    assert given == set()
    assert methods(calls)[:2] == ["RequestPool", "RequestAddress"]
    asked = [body["Options"] for method, body in calls if method.endswith("RequestAddress")]
    assert asked[0] == {"RequestAddressType": "com.docker.network.gateway"}


def test_an_address_that_is_asked_for(engine, start, wired, books):
    driver, _ = wired
    manager, _, given = books
    spec = NetworkSpec("own", driver, (Subnet("10.231.78.0/24", "10.231.78.254"),))
    engine.networks.create(NetworkSpec(**{**vars(spec), "ipam_driver": manager}))
    wanted = EndpointSpec("own", ip="10.231.78.40")
    one = start(network="own", endpoints=(wanted,))
    assert place(engine, one.id, "own").ip == "10.231.78.40/24"
    assert given == {"10.231.78.0/24", "10.231.78.254", "10.231.78.40"}
    with pytest.raises(CellboxError, match="is taken"):
        start(network="own", endpoints=(wanted,))
    for left in engine.containers.list(all=True):
        engine.containers.remove(left.id, force=True)
    engine.networks.remove("own")
    assert given == set()


def test_a_pool_that_cannot_be_had(engine, books):
    manager, _, given = books
    with pytest.raises(CellboxError, match="is not ours"):
        engine.networks.create(
            NetworkSpec("own", subnets=(Subnet("10.9.0.0/16"),), ipam_driver=manager)
        )
    assert given == set()
