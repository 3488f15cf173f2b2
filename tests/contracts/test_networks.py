"""Networks: what containers in them reach, what is refused, what is left when they go."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request

import pytest

from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    InUse,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from cellbox.model.container import Dns, ExecSpec, PortSpec, RunSpec
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet

pytestmark = [
    pytest.mark.root,
    pytest.mark.differs(dockerd="the daemon of these tests has no networks of its own"),
]
SERVE = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"
OWN = NetworkSpec("own", subnets=(Subnet("10.231.8.0/24", "10.231.8.254"),))


@pytest.fixture
def own(engine):
    return engine.networks.create(OWN)


def said(engine, id, *command):
    with engine.containers.exec(id, ExecSpec(command)) as stream:
        return b"".join(data for _, data in stream).decode()


def place(engine, id, network="own"):
    return next(one for one in engine.containers.get(id).endpoints if one.network == network)


# Making -----------------------------------------------------------------------------------------


def test_three_are_always_there(engine):
    assert [one.name for one in engine.networks.list()] == ["bridge", "host", "none"]
    for name in ("bridge", "host", "none"):
        assert engine.networks.get(name).built_in
        with pytest.raises(PermissionDenied, match="pre-defined"):
            engine.networks.remove(name)


def test_what_is_made_is_found_by_name_id_and_prefix(engine, own):
    for ref in ("own", own.id, own.short_id):
        assert engine.networks.get(ref).id == own.id
    assert own.spec.subnets == OWN.subnets
    assert time.time() - 60 < own.created <= time.time() + 1
    engine.networks.remove("own")
    with pytest.raises(NotFound, match="own"):
        engine.networks.get("own")


def test_subnets_are_chosen_and_do_not_overlap(engine, own):
    made = [engine.networks.create(NetworkSpec(name, ipv6=name == "b")) for name in ("a", "b")]
    subnets = [subnet.subnet for one in made for subnet in one.spec.subnets]
    assert len(set(subnets)) == 3
    assert any(":" in one for one in subnets)
    with pytest.raises(PermissionDenied, match="overlaps"):
        engine.networks.create(NetworkSpec("c", subnets=(Subnet("10.231.8.128/25"),)))


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (OWN, AlreadyExists),
        (NetworkSpec("a b"), InvalidArgument),
        (NetworkSpec("../x"), InvalidArgument),
        (NetworkSpec("host"), PermissionDenied),
        (NetworkSpec("x", subnets=(Subnet("10.1.2.3/24"),)), InvalidArgument),
        (NetworkSpec("x", subnets=(Subnet("10.9.0.0/24", "10.8.0.1"),)), InvalidArgument),
        (NetworkSpec("x", driver="nosuch"), NotFound),
    ],
)
def test_wrong_input_leaves_nothing(engine, own, spec, error):
    with pytest.raises(error):
        engine.networks.create(spec)
    assert [one.name for one in engine.networks.list() if not one.built_in] == ["own"]


def test_labels_and_filters(engine, own):
    engine.networks.create(NetworkSpec("other", labels={"tier": "b"}))
    for filters, names in (
        ({"label": ["tier=b"]}, ["other"]),
        ({"name": ["ow"]}, ["own"]),
        ({"id": [own.short_id]}, ["own"]),
        ({"type": ["custom"]}, ["other", "own"]),
        ({"driver": ["host"]}, ["host"]),
    ):
        assert [one.name for one in engine.networks.list(filters=filters)] == names
    with pytest.raises(InvalidArgument):
        engine.networks.list(filters={"nosuch": ["x"]})


# Being in one -----------------------------------------------------------------------------------


def test_a_container_has_the_address_that_it_asked_for(engine, own, start):
    wanted = EndpointSpec("own", aliases=("db",), ip="10.231.8.77", mac="02:42:0a:0b:0c:0d")
    id = start(network="own", endpoints=(wanted,), name="web").id
    found = place(engine, id)
    assert (found.ip, found.gateway) == ("10.231.8.77/24", "10.231.8.254")
    assert found.mac == "02:42:0a:0b:0c:0d"
    shown = said(engine, id, "ip", "addr", "show", "eth0")
    assert "10.231.8.77/24" in shown and "02:42:0a:0b:0c:0d" in shown
    assert "default via 10.231.8.254" in said(engine, id, "ip", "route")
    assert [one.container for one in engine.networks.get("own").endpoints] == [id]
    with pytest.raises((PermissionDenied, InvalidArgument), match="in use"):
        engine.containers.create(
            RunSpec("busybox", ("true",), network="own", endpoints=(wanted,)), name="second"
        )
    assert [one.name for one in engine.containers.list(all=True)] == ["web"]


def test_names_are_answered_and_others_are_not(engine, own, start, run):
    id = start(network="own", endpoints=(EndpointSpec("own", aliases=("db",)),), name="web").id
    address = place(engine, id).ip.partition("/")[0]
    for name in ("web", "db", id[:12], "WEB", "web.own"):
        assert address in run("nslookup", name, network="own").out, name
    assert run("nslookup", "nosuch", network="own").code == 1
    assert "127.0.0.11" in said(engine, id, "cat", "/etc/resolv.conf")
    engine.containers.stop(id, timeout=0)
    assert run("nslookup", "web", network="own").code == 1, "it does not run any more"


def test_networks_are_apart(engine, own, start, run):
    engine.networks.create(NetworkSpec("other"))
    id = start(network="own").id
    ping = ("ping", "-c1", "-W1", place(engine, id).ip.partition("/")[0])
    assert run(*ping, network="own").code == 0
    assert run(*ping, network="other").code == 1
    assert run(*ping).code == 1


def test_an_internal_network_has_no_way_out(engine, run):
    engine.networks.create(NetworkSpec("closed", internal=True))
    assert "default" not in run("ip", "route", network="closed").out


def test_several_networks_and_a_priority(engine, own, run):
    engine.networks.create(NetworkSpec("other"))
    endpoints = (EndpointSpec("own"), EndpointSpec("other", priority=5))
    shown = run("ip", "route", network="own", endpoints=endpoints).out
    assert "default via 10.231.8.254" not in shown
    assert "dev eth1" in shown


def test_one_that_runs_joins_and_leaves(engine, own, start, run):
    id = start(name="web").id
    engine.networks.connect("own", "web", EndpointSpec("own", aliases=("late",)))
    assert [one.network for one in engine.containers.get(id).endpoints] == ["bridge", "own"]
    assert "eth1" in said(engine, id, "ip", "addr")
    assert run("ping", "-c1", "-W2", "late", network="own").code == 0
    assert "10.231.8." in said(engine, id, "nslookup", "late")
    with pytest.raises((AlreadyExists, PermissionDenied), match="already exists"):
        engine.networks.connect("own", "web")
    engine.networks.disconnect("own", "web")
    assert "eth1" not in said(engine, id, "ip", "addr")
    assert run("nslookup", "late", network="own").code == 1
    with pytest.raises(CellboxError, match="is not connected"):
        engine.networks.disconnect("own", "web")
    engine.networks.disconnect("own", "web", force=True)


def test_one_that_has_not_started_joins_too(engine, own, busybox, start):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "99"), detach=True)).id
    engine.networks.connect("own", id)
    engine.containers.start(id)
    assert "eth1" in said(engine, id, "ip", "addr")
    engine.containers.restart(id, timeout=0)
    assert "eth1" in said(engine, id, "ip", "addr")


def test_nobody_joins_the_hosts_network(engine, start):
    with pytest.raises(PermissionDenied, match="host"):
        engine.networks.connect("host", start().id)


def test_one_in_use_stays(engine, own, start):
    id = start(network="own").id
    with pytest.raises((PermissionDenied, InUse), match="active endpoints"):
        engine.networks.remove("own")
    engine.containers.remove(id, force=True)
    engine.networks.remove("own")


def test_addresses_are_free_again_and_run_out_in_a_sentence(engine, start, busybox):
    engine.networks.create(NetworkSpec("tiny", subnets=(Subnet("10.231.9.0/30"),)))
    id = start(network="tiny").id
    with pytest.raises(CellboxError, match="no available"):
        engine.containers.create(RunSpec("busybox", ("true",), network="tiny"))
    engine.containers.remove(id, force=True)
    assert place(engine, start(network="tiny").id, "tiny").ip == "10.231.9.2/30"


def test_a_network_that_is_not_there(engine, busybox):
    with pytest.raises(NotFound, match="nosuch"):
        engine.containers.create(RunSpec("busybox", ("true",), network="nosuch"))
    assert engine.containers.list(all=True) == []


# Files and names of its own ---------------------------------------------------------------------


def test_hosts_and_resolv_conf_say_what_was_asked(run):
    ran = run(
        "cat", "/etc/hosts", "/etc/resolv.conf",
        hostname="box", extra_hosts=("foo:10.1.2.3", "gate:host-gateway"),
        dns=Dns(("10.9.9.9",), ("ex.test",), ("ndots:3",)),
    )  # fmt: skip
    assert "10.1.2.3\tfoo" in ran.out
    assert "\tgate" in ran.out
    assert "nameserver 10.9.9.9\nsearch ex.test\noptions ndots:3\n" in ran.out
    assert any(line.endswith("\tbox") for line in ran.out.splitlines())


def test_links_are_names_and_variables(start, run):
    start(name="db", env=("K=1",))
    ran = run("sh", "-c", "env; ping -c1 -W2 store", links=("db:store",))
    assert "STORE_ENV_K=1" in ran.out
    assert "1 packets received" in ran.out


# Ports ------------------------------------------------------------------------------------------


def test_a_published_port_serves_until_the_end(engine, start, until, busybox):
    id = start("sh", "-c", SERVE, ports=(PortSpec(80, host_ip="127.0.0.1"),)).id
    port = engine.containers.get(id).ports[0].host_port
    url = f"http://127.0.0.1:{port}/"
    until(lambda: _fetched(url) == b"served\n", 20)
    taken = (PortSpec(80, host_ip="127.0.0.1", host_port=port),)
    second = engine.containers.create(RunSpec("busybox", ("true",), detach=True, ports=taken)).id
    with pytest.raises(CellboxError, match="port is already allocated"):
        engine.containers.start(second)
    own = RunSpec("busybox", ("true",), detach=True, auto_remove=True, ports=taken)
    third = engine.containers.create(own).id
    with pytest.raises(CellboxError, match="port is already allocated"):
        engine.containers.start(third)
    assert engine.containers.wait(second, timeout=5) == 0
    with pytest.raises(NotFound):
        engine.containers.get(third)
    engine.containers.restart(id, timeout=0)
    port = engine.containers.get(id).ports[0].host_port
    until(lambda: _fetched(f"http://127.0.0.1:{port}/") == b"served\n", 20)
    engine.containers.stop(id, timeout=0)
    assert engine.containers.get(id).ports == ()
    with socket.create_server(("127.0.0.1", port)):
        pass  # it is free again


def test_all_that_is_exposed_is_published(engine, start):
    id = start(exposed=("81/tcp", "5353/udp"), publish_all=True).id
    found = {(one.port, one.protocol) for one in engine.containers.get(id).ports}
    assert found == {(81, "tcp"), (5353, "udp")}
    assert all(one.host_port for one in engine.containers.get(id).ports)


def test_events_tell_of_networks(engine, start):
    began = time.time()
    made = engine.networks.create(NetworkSpec("seen"))
    id = start().id
    engine.networks.connect("seen", id)
    engine.networks.disconnect("seen", id)
    engine.networks.remove("seen")
    events = engine.events(since=began, until=time.time(), filters={"type": ["network"]})
    told = [event.action for event in events if event.id == made.id]
    assert told == ["create", "connect", "disconnect", "destroy"]


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.read()
    except OSError:
        return b""


def test_any_user_may_listen_on_any_port(run):
    assert run("httpd", "-p", "80", "-h", "/", user="1000").code == 0


@pytest.mark.differs(
    remote="its bridge is the same embedded engine's", dockerd="it makes its bridges once"
)
def test_a_bridge_that_somebody_took_away_is_made_again(engine, own, run):
    subprocess.run(["ip", "link", "del", f"cb-{own.short_id}"], check=True)
    assert run("ping", "-c1", "-W1", "10.231.8.254", network="own").code == 0
