"""Bodies of requests: the round trip, what real clients send, and what nobody should.

``client_bodies.json`` holds bodies as they came from the docker command (28.2), the docker SDK for
Python (7.2) and docker-compose (1.29), one for each name.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.container import (
    DeviceSpec,
    Dns,
    ExecSpec,
    HealthCheck,
    Limits,
    LogConfig,
    MountKind,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Security,
    Ulimit,
)
from cellbox.model.network import EndpointSpec, NetworkSpec, Subnet
from cellbox.model.volume import VolumeSpec
from cellbox.wire import requests
from cellbox.wire.requests import create_body, run_spec

BODIES = json.loads(Path(__file__).with_name("client_bodies.json").read_text())

# The round trip -------------------------------------------------------------------------------

TEXT = st.text(max_size=8)
WORD = st.from_regex(r"[a-z][a-z0-9_.-]{0,6}", fullmatch=True)
WORDS = st.lists(WORD, max_size=3).map(tuple)
MAP = st.dictionaries(TEXT, TEXT, max_size=2)
PATH = st.lists(WORD, min_size=1, max_size=2).map(lambda parts: "/" + "/".join(parts))
BYTES = st.integers(1, 1 << 40)
SECONDS = st.integers(0, 1 << 42).map(lambda nanos: nanos / 1_000_000_000)
PROPAGATION = st.sampled_from(["", "private", "rprivate", "slave", "rslave", "shared", "rshared"])
PROTOCOL = st.sampled_from(["tcp", "udp", "sctp"])
PORT = st.integers(1, 65535)

BINDS = st.builds(
    MountSpec,
    st.just(MountKind.BIND),
    PATH,
    PATH,
    st.booleans(),
    propagation=PROPAGATION,
    recursive=st.booleans(),
    make_source=st.booleans(),
)
VOLUMES = st.builds(
    MountSpec,
    st.just(MountKind.VOLUME),
    PATH,
    WORD,
    st.booleans(),
    no_copy=st.booleans(),
    subpath=st.one_of(st.just(""), WORD),
    driver=st.one_of(st.just(""), WORD),
    driver_options=MAP,
    labels=MAP,
)
ANONYMOUS = st.builds(MountSpec, st.just(MountKind.VOLUME), PATH, labels=MAP)
TMPFS = st.builds(
    MountSpec,
    st.just(MountKind.TMPFS),
    PATH,
    st.just(""),
    st.booleans(),
    st.one_of(st.none(), BYTES),
    st.integers(0, 0o7777),
)
MOUNTS = st.lists(
    st.one_of(BINDS, VOLUMES, ANONYMOUS, TMPFS), max_size=4, unique_by=lambda one: one.target
).map(tuple)


@st.composite
def ports(draw: st.DrawFn) -> PortSpec:
    first = draw(st.integers(0, 65000))
    last = draw(st.sampled_from([0, first + 5])) if first else 0
    address = draw(st.sampled_from(["", "127.0.0.1", "::"]))
    return PortSpec(draw(PORT), draw(PROTOCOL), address, first, last)


ENDPOINTS = st.lists(
    st.builds(
        EndpointSpec,
        WORD,
        WORDS,
        ip=st.sampled_from(["", "10.0.0.5"]),
        ip6=st.sampled_from(["", "fd00::5"]),
        mac=st.sampled_from(["", "02:42:ac:11:00:09"]),
        links=WORDS,
        driver_options=MAP,
        priority=st.integers(-5, 5),
    ),
    max_size=3,
    unique_by=lambda one: one.network,
).map(tuple)
LIMITS = st.builds(
    Limits,
    memory=st.one_of(st.none(), BYTES),
    memory_swap=st.one_of(st.none(), st.just(-1), BYTES),
    memory_reservation=st.one_of(st.none(), BYTES),
    cpus=st.one_of(st.none(), st.integers(1, 1 << 40).map(lambda nanos: nanos / 1_000_000_000)),
    cpu_shares=st.one_of(st.none(), st.integers(1, 1 << 18)),
    cpuset=st.sampled_from(["", "0-1,3"]),
    pids=st.one_of(st.none(), st.integers(1, 1 << 20)),
    oom_score_adj=st.one_of(st.none(), st.integers(1, 1000), st.integers(-1000, -1)),
)
SECURITY = st.builds(
    Security,
    WORDS,
    WORDS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["default", "unconfined", '{"a": "b=c:d"}']),
    st.sampled_from(["private", "host"]),
    st.booleans(),
    st.booleans(),
)
RESTART = st.builds(
    RestartPolicy,
    st.sampled_from(["no", "always", "unless-stopped", "on-failure"]),
    st.integers(0, 9),
)
HEALTH = st.builds(
    HealthCheck,
    st.lists(TEXT, max_size=2).map(tuple),
    SECONDS,
    SECONDS,
    SECONDS,
    SECONDS,
    st.integers(0, 9),
)
STREAMS = st.sets(st.sampled_from(["stdin", "stdout", "stderr"])).map(
    lambda found: tuple(name for name in ("stdin", "stdout", "stderr") if name in found)
)
ARGUMENTS = st.lists(TEXT, max_size=3).map(tuple)


@st.composite
def run_specs(draw: st.DrawFn) -> RunSpec:
    """What a client of the API can ask for; what is published is not named as exposed too."""
    published = tuple(draw(st.lists(ports(), max_size=3)))
    bound = {f"{port.port}/{port.protocol}" for port in published}
    names = st.tuples(PORT, PROTOCOL).map(lambda pair: f"{pair[0]}/{pair[1]}")
    exposed = draw(st.lists(names, max_size=2, unique=True))
    fields: dict[str, st.SearchStrategy[Any]] = {
        "command": ARGUMENTS,
        "entrypoint": st.one_of(st.none(), ARGUMENTS.filter(lambda words: words != ("",))),
        "env": WORDS,
        "workdir": st.one_of(st.just(""), PATH),
        "groups": WORDS,
        "extra_hosts": WORDS,
        "labels": MAP,
        "annotations": MAP,
        "stdin_once": st.booleans(),
        "attached": STREAMS,
        "stop_timeout": st.one_of(st.none(), st.integers(-1, 99).map(float)),
        "network": st.sampled_from(["default", "bridge", "none", "host", "container:x", "net"]),
        "endpoints": ENDPOINTS,
        "links": WORDS,
        "dns": st.builds(Dns, WORDS, WORDS, WORDS),
        "egress": WORDS,
        "mounts": MOUNTS,
        "volumes_from": WORDS,
        "devices": st.lists(st.builds(DeviceSpec, PATH, PATH, WORD), max_size=2).map(tuple),
        "shm_size": st.one_of(st.none(), BYTES),
        "limits": LIMITS,
        "ulimits": st.lists(
            st.builds(Ulimit, WORD, st.integers(-1, 9), st.integers(-1, 9)), max_size=2
        ).map(tuple),
        "sysctls": MAP,
        "security": SECURITY,
        "restart": RESTART,
        "health": st.one_of(st.none(), HEALTH),
        "log": st.builds(LogConfig, WORD, MAP),
        **dict.fromkeys(
            ("tty", "interactive", "auto_remove", "init", "publish_all", "image_volumes"),
            st.booleans(),
        ),
        **dict.fromkeys(("user", "hostname", "domainname", "stop_signal", "pid", "ipc"), TEXT),
        **dict.fromkeys(("uts", "platform", "volume_driver"), TEXT),
    }
    return RunSpec(
        draw(WORD),
        detach=True,
        ports=published,
        exposed=tuple(name for name in exposed if name not in bound),
        **{name: draw(strategy) for name, strategy in fields.items()},
    )


def ordered(spec: RunSpec) -> RunSpec:
    """Docker keeps no order among its lists of mounts, nor among ports."""
    return replace(
        spec,
        mounts=tuple(sorted(spec.mounts, key=lambda mount: mount.target)),
        ports=tuple(sorted(spec.ports, key=repr)),
    )


@settings(max_examples=150, deadline=None)
@given(run_specs())
def test_a_request_comes_back_as_it_went(spec):
    body = json.loads(json.dumps(create_body(spec)))
    assert ordered(run_spec(body, spec.platform)) == ordered(spec)


def test_every_field_of_a_request_takes_part_in_the_round_trip():
    """A field that is new in the model would otherwise be lost on the way, unseen."""
    drawn: set[str] = {"image", "detach"}

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(run_specs())
    def collect(spec: RunSpec) -> None:
        plain = vars(RunSpec(""))
        drawn.update(name for name, value in vars(spec).items() if value != plain[name])

    collect()
    assert drawn == set(vars(RunSpec("")))


def test_what_runs_in_the_foreground_is_told_so():
    body = create_body(RunSpec("w", interactive=True))
    assert (body["AttachStdin"], body["AttachStdout"], body["StdinOnce"]) == (True, True, True)
    found = run_spec(body)
    assert found.detach
    assert (found.attached, found.stdin_once) == (("stdin", "stdout", "stderr"), True)


# What clients send ----------------------------------------------------------------------------

BUSYBOX = RunSpec(
    "busybox", detach=True, attached=("stdout", "stderr"), endpoints=(EndpointSpec("default"),)
)
MAC = "02:42:ac:11:00:09"
BIND, VOLUME, TMP = MountKind.BIND, MountKind.VOLUME, MountKind.TMPFS


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cli plain", BUSYBOX),
        ("cli process", replace(
            BUSYBOX, command=("sh", "-c", "echo hi"), entrypoint=(), env=("A=1", "B"), workdir="/w",
            user="1000:2000", groups=("3000",), hostname="box", domainname="ex", labels={"a": "b"},
            tty=True, interactive=True, stdin_once=True, attached=("stdin", "stdout", "stderr"),
            auto_remove=True, init=True, stop_signal="INT", stop_timeout=7.0,
        )),
        ("cli mounts", replace(
            BUSYBOX, shm_size=128 << 20, volumes_from=("other:ro",),
            security=Security(read_only=True), devices=(DeviceSpec("/dev/null", "/dev/n", "r"),),
            mounts=(
                MountSpec(VOLUME, "/data", "named", no_copy=True),
                MountSpec(BIND, "/in", "/host", True, propagation="rshared", make_source=True),
                MountSpec(BIND, "/b", "/h", True, propagation="rslave"),
                MountSpec(VOLUME, "/v", "v", no_copy=True, labels={"l": "1"}, subpath="s",
                          driver="local", driver_options={"type": "tmpfs"}),
                MountSpec(TMP, "/tt", size=1 << 20, mode=0o1770),
                MountSpec(TMP, "/t", size=64 << 20, mode=0o700),
                MountSpec(VOLUME, "/anon"),
            ),
        )),
        ("cli ports", replace(
            BUSYBOX, network="foo", publish_all=True, links=("db:database",),
            extra_hosts=("h:1.2.3.4",), dns=Dns(("9.9.9.9",), ("ex",), ("ndots:2",)),
            endpoints=(EndpointSpec("foo", ("al",), "10.0.0.5", mac=MAC, links=("db:database",)),),
            exposed=("1000/tcp", "1001/tcp", "1002/tcp"),
            ports=(
                PortSpec(53, "udp", "127.0.0.1"),
                PortSpec(70, host_port=7000, host_port_end=7010),
                PortSpec(80, host_port=8080),
                PortSpec(90, host_port=9000),
                PortSpec(91, host_port=9001),
            ),
        )),
        ("cli two networks", replace(
            BUSYBOX, network="a",
            endpoints=(EndpointSpec("a", ("x",), "10.1.0.2", driver_options={"k": "v"}),
                       EndpointSpec("b")),
        )),
        ("cli mac", replace(
            BUSYBOX, links=("db:database",), endpoints=(EndpointSpec("default", mac=MAC),),
        )),
        ("cli host", replace(
            BUSYBOX, pid="host", ipc="shareable", uts="host", sysctls={"net.core.somaxconn": "10"},
            security=Security(
                ("CAP_NET_ADMIN",), ("ALL",), True, True, "unconfined", "host",
                systempaths_unconfined=True,
            ),
            ulimits=(Ulimit("nofile", 1, 2),), annotations={"k": "v"},
            limits=Limits(64 << 20, -1, 32 << 20, 0.5, 512, "0", 9, 5),
            restart=RestartPolicy("on-failure", 3), log=LogConfig("local", {"max-size": "1m"}),
            health=HealthCheck(("CMD-SHELL", "test x"), 1.0, start_period=0.5, retries=2),
        )),
        ("cli quota", replace(
            BUSYBOX, attached=("stdout",), network="none", endpoints=(), limits=Limits(cpus=0.5),
            health=HealthCheck(("NONE",)),
        )),
        ("cli shared network", replace(BUSYBOX, network="container:x", endpoints=())),
        ("sdk many", RunSpec(
            "busybox", ("echo", "a b"), ("/bin/sh", "-c"), ("A=1",), "/w", "1000", ("1",), "h", "d",
            ("h:1.2.3.4",), {"a": "", "b": ""}, tty=True, interactive=True, detach=True, init=True,
            stop_signal="SIGINT", network="foo", endpoints=(EndpointSpec("foo", mac=MAC),),
            links=("db:alias",), publish_all=True, dns=Dns(("9.9.9.9",)), pid="host", ipc="host",
            ports=(
                PortSpec(80, host_port=8080),
                PortSpec(53, "udp", "127.0.0.1", 5353),
                PortSpec(90),
                PortSpec(91, host_port=1),
                PortSpec(91, host_port=2),
            ),
            mounts=(
                MountSpec(BIND, "/in", "/h", read_only=True, make_source=True),
                MountSpec(VOLUME, "/v", "v"),
                MountSpec(VOLUME, "/m", "vol"),
                MountSpec(BIND, "/b", "/bb", read_only=True, propagation="rslave"),
                MountSpec(TMP, "/t", size=1 << 20, mode=0o700),
                MountSpec(TMP, "/tt", size=3 << 30),
            ),
            volumes_from=("o",), devices=(DeviceSpec("/dev/null", "/dev/x", "r"),),
            shm_size=1 << 30, limits=Limits(64 << 20, cpus=0.5, pids=7, oom_score_adj=3),
            ulimits=(Ulimit("nofile", 1, 2),), sysctls={"net.core.somaxconn": "1"},
            security=Security(
                ("SYS_ADMIN",), no_new_privileges=True, userns="host", read_only=True
            ),
            restart=RestartPolicy("on-failure", 5), log=LogConfig(options={"max-size": "1m"}),
            health=HealthCheck(("CMD", "true"), 1.0),
        )),
        ("sdk low level", replace(
            BUSYBOX, command=("true",), stop_timeout=5.0, exposed=("1111/tcp", "2222/udp"),
            endpoints=(EndpointSpec("foo", ("a",), "10.0.0.3", mac=MAC, links=("x:y",)),),
            mounts=(MountSpec(VOLUME, "/d1"), MountSpec(VOLUME, "/d2")),
        )),
        ("compose service", RunSpec(
            "busybox", ("sh", "-c", "echo db up"), (), ("E1=one", "E2"), detach=True, init=True,
            labels=BODIES["compose service"]["Labels"], extra_hosts=("x:1.2.3.4",),
            stop_timeout=1.0, network="c_back",
            endpoints=(EndpointSpec("c_back", ("database", "db")),), exposed=("99/tcp",),
            ports=(
                PortSpec(80, "tcp", "127.0.0.1"),
                PortSpec(90, host_port=8000),
                PortSpec(91, host_port=8001),
            ),
            mounts=(
                MountSpec(BIND, "/host", "/tmp", read_only=True, make_source=True),
                MountSpec(VOLUME, "/data", "c_data"),
                MountSpec(TMP, "/tm"),
                MountSpec(BIND, "/hh", "/h"),
                MountSpec(TMP, "/t1"),
                MountSpec(VOLUME, "/anon"),
            ),
            limits=Limits(50 << 20, cpus=0.5), ulimits=(Ulimit("nofile", 5, 5),),
            restart=RestartPolicy("always"),
            health=HealthCheck(("CMD-SHELL", "test -f /data/ready"), 1.0, retries=5),
        )),
    ],
)  # fmt: skip
def test_what_clients_create(name, spec):
    assert run_spec(BODIES[name]) == spec


@pytest.mark.parametrize(
    ("name", "limits", "restart"),
    [
        ("cli update memory", Limits(memory=64 << 20, pids=-1), RestartPolicy("always")),
        ("cli update cpus", Limits(cpus=1.5), None),
        ("sdk update", Limits(memory=64 << 20, cpu_shares=5), RestartPolicy("no")),
    ],
)
def test_what_clients_update(name, limits, restart):
    assert requests.update(BODIES[name]) == (limits, restart)
    assert requests.update(requests.update_body(limits, restart)) == (limits, restart)


@pytest.mark.parametrize(
    "anew",
    [
        {"env": ()},
        {"env": ("A=1",), "ports": ()},
        {"ports": (PortSpec(80, host_port=8080),), "mounts": ()},
        {"mounts": (MountSpec(MountKind.TMPFS, "/t"), MountSpec(MountKind.VOLUME, "/v"))},
        {"mounts": (MountSpec(MountKind.BIND, "/b", "/srv"),)},
    ],
)
def test_what_is_made_anew(anew):
    assert requests.remake(requests.remake_body(anew)) == anew


def test_nothing_is_made_anew():
    assert requests.remake_body({"env": None}) == {}
    with pytest.raises(InvalidArgument, match="nothing to change"):
        requests.remake({})


def test_an_update_of_nothing():
    assert requests.update_body(None, None) == {}
    assert requests.update({}) == (Limits(), None)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cli exec", ExecSpec(("ls", "-l"), ("A=1",), "/w", "u", False, True, True)),
        ("sdk exec", ExecSpec(("ls", "-l"), ("A=1",), "/", "u", interactive=True)),
    ],
)
def test_what_clients_run_in_a_container(name, spec):
    assert requests.exec_spec(BODIES[name]) == spec
    assert requests.exec_spec(requests.exec_body(spec)) == spec


@pytest.mark.parametrize("body", [{}, {"Cmd": None}, {"Cmd": []}])
def test_an_exec_needs_a_command(body):
    with pytest.raises(InvalidArgument, match="No exec command specified"):
        requests.exec_spec(body)


SUBNET = Subnet("10.7.0.0/16", "10.7.0.1", "10.7.1.0/24", {"r": "10.7.0.9"})


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cli network", NetworkSpec(
            "n", "bridge", (SUBNET,), True, True, True, {"com.docker.network.bridge.name": "br7"},
            {"l": "1"}, ipam_options={"a": "b"},
        )),
        ("cli plain network", NetworkSpec("n")),
        ("sdk network", NetworkSpec(
            "n", subnets=(Subnet("10.0.0.0/24", "10.0.0.1", "10.0.0.0/25", {"a": "10.0.0.2"}),),
            ipv6=True, internal=True, options={"o": "1"}, labels={"a": "b"},
        )),
        ("compose network", NetworkSpec(
            "c_back", subnets=(Subnet("10.9.0.0/16"),), attachable=True,
            labels=BODIES["compose network"]["Labels"],
        )),
    ],
)  # fmt: skip
def test_what_networks_clients_create(name, spec):
    assert requests.network_spec(BODIES[name]) == spec


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        (
            "cli connect",
            EndpointSpec("n", ("al",), "10.7.0.5", "", "", ("a:b",), {"k": "v"}, 3),
        ),
        ("sdk connect", EndpointSpec("n", ("q",), "10.0.0.9")),
    ],
)
def test_how_clients_connect(name, spec):
    assert requests.endpoint_spec("n", BODIES[name]["EndpointConfig"]) == spec


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cli volume", VolumeSpec("v", "local", {"device": "tmpfs", "type": "tmpfs"}, {"l": "1"})),
        ("cli anonymous volume", VolumeSpec()),
        ("compose volume", VolumeSpec("c_data", labels=BODIES["compose volume"]["Labels"])),
    ],
)
def test_what_volumes_clients_create(name, spec):
    assert requests.volume_spec(BODIES[name]) == spec
    assert requests.volume_spec(requests.volume_body(spec)) == spec


# The container-wide address of old clients ------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "endpoints", "found"),
    [
        ("default", {}, [("default", MAC)]),
        ("bridge", {"default": {}}, [("default", MAC)]),
        ("net", {"other": {}}, [("net", MAC), ("other", "")]),
        ("net", {"other": {}, "net": {"MacAddress": MAC}}, [("other", ""), ("net", MAC)]),
    ],
)
def test_an_address_of_the_container_is_its_main_networks(mode, endpoints, found):
    spec = run_spec({
        "MacAddress": MAC,
        "HostConfig": {"NetworkMode": mode},
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    })  # fmt: skip
    assert [(one.network, one.mac) for one in spec.endpoints] == found


@pytest.mark.parametrize(
    ("mode", "network", "mac"),
    [("net", "net", MAC), ("default", "bridge", MAC), ("net", "other", None)],
)
def test_old_daemons_are_told_the_address_too(mode, network, mac):
    spec = RunSpec("w", network=mode, endpoints=(EndpointSpec(network, mac=MAC),))
    assert create_body(spec).get("MacAddress") == mac


def test_two_addresses_of_one_network_are_refused():
    endpoints = {"EndpointsConfig": {"default": {"MacAddress": MAC}}}
    with pytest.raises(InvalidArgument, match="container-wide MAC address must match"):
        run_spec({"MacAddress": "02:42:ac:11:00:0a", "NetworkingConfig": endpoints})


def test_a_container_may_have_no_network_at_all():
    assert run_spec({"NetworkDisabled": True}).network == "none"


# What nobody should send ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"Env": [5]}, "number 5 into Go struct field CreateRequest.Env of type string"),
        ({"Labels": []}, "array into Go struct field CreateRequest.Labels of type string"),
        ({"HostConfig": []}, "array into Go struct field CreateRequest.HostConfig of type "),
        (
            {"HostConfig": {"Init": "yes"}},
            "string into Go struct field HostConfig.HostConfig.Init of type bool",
        ),
        ([], "array into Go value of type CreateRequest"),
    ],
)
def test_wrong_types_are_told_where_they_are(body, where):
    with pytest.raises(InvalidArgument) as caught:
        run_spec(body)
    assert str(caught.value).startswith(f"json: cannot unmarshal {where}")


READERS = {
    "containers": run_spec,
    "exec": requests.exec_spec,
    "update": requests.update,
    "networks": requests.network_spec,
    "endpoints": lambda body: requests.endpoint_spec("n", body),
    "volumes": requests.volume_spec,
}
WRONG = [None, True, 0, -1, 1 << 70, 1.5, "", "x", ":", [], {}, [None], ["x"], [[]], {"x": {}},
         {"x": None}, {"x": []}, {"x": [{}]}, [{}]]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value could be another one: every member and item below ``value``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, member in inner:
        found.append((*path, key))
        if isinstance(member, dict | list):
            found += places(member, (*path, key))
    return found


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["cli mounts", "cli ports", "sdk many", "cli network", "cli exec"])
def test_any_member_may_be_of_any_type_and_is_read_or_refused(reader, name):
    for path in places(BODIES[name]):
        for wrong in WRONG:
            body = json.loads(json.dumps(BODIES[name]))
            at = body
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = wrong
            try:
                READERS[reader](body)
            except InvalidArgument as refused:
                assert str(refused)
