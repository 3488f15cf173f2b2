"""Networks of plugins, where something goes wrong: who was killed, what is gone, who may not."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, cables, program

from cellbox.containers import records
from cellbox.containers.messages import RunState
from cellbox.errors import CellboxError, EngineError, InvalidArgument, NotFound, NotSupported
from cellbox.local.network_drivers import NetworkDrivers
from cellbox.model.container import PortSpec, RestartPolicy, RunSpec
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet

pytestmark = pytest.mark.root
OWN = NetworkSpec("own", "wires", (Subnet("10.231.70.0/24"),))
CYCLE = ["CreateEndpoint", "Join", "Leave", "DeleteEndpoint"]


def ip(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def answers() -> Answers:
    return cables(ip)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Answers) -> Iterator[list]:
    """The calls that the program ``wires`` got; at the end, no interface of its own is left."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make interfaces of the host")
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    with program(tmp_path / "sockets" / "wires.sock", answers) as calls:
        yield calls


@pytest.fixture
def own(engine, busybox, calls):
    made = engine.networks.create(OWN)
    yield made
    for container in engine.containers.list(all=True):
        engine.containers.remove(container.id, force=True)
    engine.networks.remove("own")
    assert made.id[:10] not in ip("ip", "-o", "link")


def verbs(calls: list) -> list[str]:
    return [method.partition(".")[2] for method, _ in calls if not method.endswith("Activate")]


def run(engine, *words: str, network: str = "own", **more) -> str:
    spec = RunSpec("busybox", words, detach=True, network=network, **more)
    id = engine.containers.create(spec).id
    engine.containers.start(id)
    return id


# Ends -------------------------------------------------------------------------------------------


def test_a_driver_hears_of_an_end_that_no_engine_sees(engine, own, calls, until):
    id = run(engine, "true")
    until(lambda: verbs(calls) == ["CreateNetwork", *CYCLE])
    assert engine.containers.wait(id) == 0


def test_a_shim_that_was_killed_is_tidied_up_after(engine, own, calls, until):
    id = run(engine, "sleep", "1000")
    state = records.read(RunState, str(engine.containers.run_directory(id) / records.STATE))
    os.kill(state.shim, signal.SIGKILL)
    until(lambda: engine.containers.get(id).status == "exited")
    assert verbs(calls) == ["CreateNetwork", *CYCLE]
    engine.containers.start(id)
    assert verbs(calls)[5:] == CYCLE[:2]


def test_each_run_of_a_restart_policy_joins(engine, own, calls, until):
    id = run(engine, "false", restart=RestartPolicy("on-failure", 2))
    until(lambda: engine.containers.get(id).status == "exited", 20)
    until(lambda: verbs(calls) == ["CreateNetwork", *CYCLE * 3])
    assert engine.containers.get(id).restarts == 2


STARTS = """
import os
from cellbox.connecting import connect
from cellbox.networks import driven
join = driven.join
def joined(run, endpoint):
    join(run, endpoint)
    os.kill(os.getpid(), 9)
driven.join = joined
connect().containers.start(os.environ["ID"])
"""


def test_an_engine_that_was_killed_before_the_start(engine, own, calls, python, monkeypatch):
    spec = RunSpec("busybox", ("true",), network="own")
    id = engine.containers.create(spec).id
    monkeypatch.setenv("ID", id)
    assert python(STARTS).wait(20) == -signal.SIGKILL
    assert verbs(calls) == ["CreateNetwork", *CYCLE[:2]]
    engine.containers.start(id)  # which uses what is there
    assert engine.containers.wait(id) == 0
    engine.containers.remove(id)
    assert verbs(calls) == ["CreateNetwork", *CYCLE]


def test_one_that_is_removed_before_it_ran(engine, own, calls, python, monkeypatch):
    id = engine.containers.create(RunSpec("busybox", ("true",), network="own")).id
    monkeypatch.setenv("ID", id)
    python(STARTS).wait(20)
    engine.containers.remove(id)
    assert verbs(calls) == ["CreateNetwork", *CYCLE]


def test_a_start_that_fails_for_another_reason_is_left_again(engine, own, calls):
    id = engine.containers.create(RunSpec("busybox", ("/nosuch",), network="own")).id
    with pytest.raises(CellboxError, match="nosuch"):
        engine.containers.start(id)
    engine.containers.remove(id)
    assert verbs(calls) == ["CreateNetwork", *CYCLE]


# Strangers --------------------------------------------------------------------------------------


def test_an_interface_that_is_not_there(engine, own, calls, answers):
    answers["NetworkDriver.Join"] = {"InterfaceName": {"SrcName": "nosuch0"}}
    id = engine.containers.create(RunSpec("busybox", ("true",), network="own")).id
    with pytest.raises(CellboxError, match="no interface nosuch0 that it speaks of"):
        engine.containers.start(id)
    assert verbs(calls)[-2:] == ["Leave", "DeleteEndpoint"]


def test_a_driver_that_does_not_let_go_keeps_nobody(engine, own, calls, answers, until):
    answers["NetworkDriver.Leave"] = {"Err": "never"}
    id = run(engine, "true")
    until(lambda: verbs(calls) == ["CreateNetwork", *CYCLE])
    assert engine.containers.wait(id) == 0
    engine.containers.start(id)
    assert engine.containers.wait(id) == 0


def test_a_driver_that_knows_the_endpoint_of_before(engine, own, calls, answers, until):
    made = set()

    def create(body):
        if body["EndpointID"] in made:
            return {"Err": "endpoint already exists"}
        made.add(body["EndpointID"])
        return {}

    really = answers["NetworkDriver.DeleteEndpoint"]

    def delete(body):
        made.discard(body["EndpointID"])
        return really(body)

    answers |= {"NetworkDriver.CreateEndpoint": create}
    id = run(engine, "true")
    assert engine.containers.wait(id) == 0
    until(lambda: verbs(calls)[-1] == "DeleteEndpoint")
    answers["NetworkDriver.DeleteEndpoint"] = delete
    engine.containers.start(id)
    assert engine.containers.wait(id) == 0


def test_a_driver_that_has_gone_does_not_keep_the_network(engine, tmp_path, monkeypatch, busybox):
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    with program(tmp_path / "sockets" / "wires.sock", cables(lambda *words: "")):
        engine.networks.create(OWN)
    id = engine.containers.create(RunSpec("busybox", ("true",), network="own")).id
    with pytest.raises(NotFound, match="wires"):
        engine.containers.start(id)
    engine.containers.remove(id)
    engine.networks.remove("own")


def test_a_driver_that_will_not_remove_keeps_the_network(engine, calls, answers):
    engine.networks.create(OWN)
    remove = answers["NetworkDriver.DeleteNetwork"]
    answers["NetworkDriver.DeleteNetwork"] = {"Err": "somebody is in it"}
    with pytest.raises(EngineError, match="somebody is in it"):
        engine.networks.remove("own")
    assert engine.networks.get("own").name == "own"
    answers["NetworkDriver.DeleteNetwork"] = remove
    engine.networks.remove("own")


# What goes and what does not --------------------------------------------------------------------


def test_ports_are_published_and_networks_mixed(engine, own, calls, until):
    engine.networks.create(NetworkSpec("bridged"))
    script = "echo served > /index.html; exec httpd -f -p 80 -h /"
    id = engine.containers.create(
        RunSpec(
            "busybox",
            ("sh", "-c", script),
            network="own",
            endpoints=(EndpointSpec("bridged"),),
            ports=(PortSpec(80, host_ip="127.0.0.1"),),
        )
    ).id
    engine.containers.start(id)
    facts = engine.containers.get(id)
    assert [one.interface for one in facts.endpoints] == ["eth0", "eth1"]
    (port,) = facts.ports
    url = f"http://127.0.0.1:{port.host_port}/"
    asked = ["curl", "-s", "--retry", "50", "--retry-delay", "0", "--retry-connrefused", url]
    assert subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout == "served\n"
    engine.containers.remove(id, force=True)
    engine.networks.remove("bridged")


def test_a_list_of_what_may_be_reached_cannot_be_kept_to(engine, own):
    spec = RunSpec("busybox", ("true",), network="own", egress=("none",))
    with pytest.raises(InvalidArgument, match="its driver wires connects containers by itself"):
        engine.containers.create(spec)


def test_an_ordinary_user_cannot_have_one(engine, monkeypatch):
    store = engine.containers.store
    record = store.state.networks.add("own", lambda others: OWN)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotSupported, match="use the driver bridge, or run the engine as root"):
        NetworkDrivers(store).create(record)
    monkeypatch.undo()
    store.state.networks.delete(record.id)
