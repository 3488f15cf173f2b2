"""Containers as Docker tells them: what we tell, and what we read of a real daemon."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.container import (
    Container,
    Health,
    HealthCheck,
    Limits,
    MountKind,
    MountPoint,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Security,
    Status,
    Ulimit,
)
from cellbox.model.image import Image, ImageConfig, Layer, Platform
from cellbox.model.network import Endpoint, EndpointSpec
from cellbox.wire.containers import container_from, container_json, container_summary

CONFIG = ImageConfig(
    user="www", env=("PATH=/bin", "A=image"), entrypoint=("/entry",), command=("serve",),
    workdir="/srv", labels={"from": "image"}, volumes=("/data",), exposed_ports=("80/tcp",),
    stop_signal="SIGQUIT", shell=("/bin/bash", "-c"), on_build=("RUN x",),
    health=HealthCheck(("CMD", "true"), interval=1.5),
)  # fmt: skip
IMAGE = Image(
    "sha256:" + "a" * 64, ("web:1",), ("web@sha256:b",), (Layer("sha256:c", 5),), CONFIG,
    Platform(architecture="arm64", variant="v8"), 5,
)  # fmt: skip
ID = "f" * 64


def container(spec: RunSpec, **changes: object) -> Container:
    facts = {"status": Status.RUNNING, "created": 0.0, "started": 1.0, "pid": 7} | changes
    return Container(ID, "web", IMAGE.id, spec, ("/entry", "serve"), **facts)  # type: ignore


# --- what we tell --------------------------------------------------------------------------------


def test_a_container_has_every_key_that_templates_ask_for(inspected):
    told = container_json(container(RunSpec("web:1")), IMAGE)
    assert set(inspected) - {"SizeRw", "SizeRootFs"} <= set(told)
    for part in ("Config", "State", "NetworkSettings"):
        left_out = {"Health", "StopSignal", "StopTimeout", "Healthcheck"}
        assert set(inspected[part]) - left_out <= set(told[part])
    json.dumps(told)


def test_what_was_not_asked_comes_from_the_image():
    told = container_json(container(RunSpec("web:1", env=("A=mine",), labels={"l": "1"})), IMAGE)
    config = told["Config"]
    assert config["Env"] == ["A=mine", "PATH=/bin"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/entry"], ["serve"])
    assert config["Labels"] == {"from": "image", "l": "1"}
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Healthcheck"]["Interval"] == 1_500_000_000
    assert config["Hostname"] == "f" * 12


def test_an_own_entrypoint_drops_the_images_command():
    config = container_json(container(RunSpec("web:1", entrypoint=("sh",))), IMAGE)["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["sh"], None)


def test_without_its_image_a_container_is_told_all_the_same():
    config = container_json(container(RunSpec("gone")))["Config"]
    assert (config["Env"], config["Cmd"], config["Entrypoint"]) == ([], None, None)


def test_the_request_is_told_in_dockers_units():
    spec = RunSpec(
        "web:1",
        network="host",
        mounts=(
            MountSpec(MountKind.BIND, "/d", "/s", read_only=True, make_source=True),
            MountSpec(MountKind.TMPFS, "/t", size=1024, mode=0o700, read_only=True),
        ),
        limits=Limits(memory=1024, cpus=0.5, pids=9),
        ulimits=(Ulimit("nofile", 1, 2),),
        security=Security(
            cap_add=("CAP_X",), no_new_privileges=True, seccomp="unconfined", userns="host",
            systempaths_unconfined=True,
        ),
        restart=RestartPolicy("on-failure", 3),
        stop_timeout=5.0,
    )  # fmt: skip
    told = container_json(container(spec), IMAGE)
    host = told["HostConfig"]
    assert host["Binds"] == ["/s:/d:ro"]
    assert host["Tmpfs"] == {"/t": "ro,size=1024,mode=700"}
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 1024, 9)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) == ([], [])
    assert host["UsernsMode"] == "host"
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert told["Config"]["StopTimeout"] == 5
    assert list(told["NetworkSettings"]["Networks"]) == ["host"]


def test_health_is_told_with_its_probes():
    probe = {"start": 0.0, "end": 1.0, "exit_code": 1, "output": "no"}
    told = container_json(container(RunSpec("w"), health=Health("unhealthy", 2, (probe,))))
    health = told["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("unhealthy", 2)
    assert health["Log"][0]["Output"] == "no"
    assert "Health" not in container_json(container(RunSpec("w")))["State"]


def test_sizes_and_running_execs_are_told_where_they_are_known():
    told = container_json(container(RunSpec("w")), sizes=(1, 3), execs=["e"])
    assert (told["SizeRw"], told["SizeRootFs"], told["ExecIDs"]) == (1, 3, ["e"])
    bare = container_json(container(RunSpec("w")))
    assert "SizeRw" not in bare and bare["ExecIDs"] is None


def test_mounts_are_what_is_mounted():
    mounts = (
        MountPoint(MountKind.BIND, "/d", "/s", read_only=True, propagation="rprivate"),
        MountPoint(MountKind.VOLUME, "/v", "/var/v", name="vol", driver="local"),
    )
    bind, volume = container_json(container(RunSpec("w"), mounts=mounts))["Mounts"]
    assert (bind["Type"], bind["RW"], bind["Mode"], "Name" in bind) == ("bind", False, "ro", False)
    assert (volume["Name"], volume["Driver"], volume["RW"]) == ("vol", "local", True)


@pytest.mark.parametrize("name", ["web", "deft", "ex3", "cre", "pau", "hostn", "cont", "rst", "nf"])
def test_an_entry_of_ps_is_the_one_of_a_daemon(dockerd, name):
    theirs = next(one for one in dockerd["containers"] if one["Names"] == [f"/{name}"])
    facts = container_from(dockerd[f"container {name}"])
    ours = container_summary(facts, now=1795546449.99)
    for key in ("Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State",
                "HostConfig"):  # fmt: skip
        assert ours[key] == theirs[key], key
    assert set(theirs) - {"SizeRw", "SizeRootFs"} == set(ours)
    assert ours["Status"].split()[0] == theirs["Status"].split()[0]
    assert list(ours["NetworkSettings"]["Networks"]) == list(theirs["NetworkSettings"]["Networks"])


def test_a_command_is_marked_where_it_has_blanks():
    facts = replace(container(RunSpec("w")), command=("sh", "-c", "echo 'a b'", "it's"))
    assert container_summary(facts, now=0.0)["Command"] == "sh -c 'echo 'a b'' it's"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("web:1", "web:1"),
        ("docker.io/library/web:1", "docker.io/library/web:1"),
        ("web@sha256:" + "b" * 64, IMAGE.id),
        ("a" * 12, "a" * 12),
        ("sha256:" + "a" * 64, "sha256:" + "a" * 64),
        ("other:1", IMAGE.id),
        ("Not A Name", IMAGE.id),
    ],
)
def test_a_name_that_moved_on_is_told_as_the_id(asked, told):
    assert container_summary(container(RunSpec(asked)), IMAGE, now=0.0)["Image"] == told


# --- what we read --------------------------------------------------------------------------------


def test_what_a_daemon_tells_is_told_again_as_it_was(inspected):
    sizes = (inspected.get("SizeRw", 0), inspected["SizeRootFs"])
    told = container_json(container_from(inspected), sizes=sizes)
    for key in ("Id", "Path", "Args", "Image", "Name", "RestartCount", "SizeRootFs"):
        assert told[key] == inspected[key], key
    for key in ("Status", "Running", "Paused", "Restarting", "Pid", "ExitCode", "Error"):
        assert told["State"][key] == inspected["State"][key], key
    for key in ("Cmd", "Entrypoint", "Env", "Labels", "User", "Hostname", "Volumes", "Tty"):
        assert told["Config"][key] == inspected["Config"][key], key
    for key in ("Memory", "PortBindings", "RestartPolicy", "CapAdd", "NetworkMode", "ShmSize"):
        assert told["HostConfig"][key] == inspected["HostConfig"][key], key
    for key in ("Ports", "IPAddress", "Gateway", "MacAddress"):
        assert told["NetworkSettings"][key] == inspected["NetworkSettings"][key], key
    assert container_json(container_from(told), sizes=sizes) == told


def test_the_spec_is_what_was_asked(dockerd):
    facts = container_from(dockerd["container web"])
    spec = facts.spec
    assert spec.endpoints == (
        EndpointSpec("net1", aliases=("al",), ip="10.231.7.77"),
        EndpointSpec("net2", aliases=("late",)),
    )
    assert spec.limits == Limits(memory=64 << 20, memory_swap=128 << 20, cpus=0.5, pids=50)
    assert (spec.hostname, spec.ipc, spec.shm_size) == ("", "", 8 << 20)
    assert {mount.target for mount in spec.mounts} == {"/data", "/h", "/t", "/t2", "/anon", "/v"}
    assert PortSpec(81, "tcp", "", 8080) in facts.ports
    assert facts.health is not None and len(facts.health.log) == 2
    assert container_from(dockerd["container cre"]).spec.hostname == "box"
    assert container_from(dockerd["container deft"]).spec.endpoints == ()


def test_what_this_engine_has_not_got_hides_nothing_else(dockerd):
    told = dockerd["container web"]
    told["HostConfig"]["Mounts"].append({"Type": "image", "Source": "i", "Target": "/i"})
    told["Mounts"].append({"Type": "image", "Source": "i", "Destination": "/i", "RW": True})
    facts = container_from(told)
    assert len(facts.spec.mounts) == 6
    assert "/i" not in [mount.target for mount in facts.mounts]
    told["HostConfig"]["SecurityOpt"] = ["credentialspec=x"]
    facts = container_from(told)
    assert (facts.spec.network, facts.spec.env[0], facts.spec.mounts[0].target) == (
        "net1", "A=1", "/anon",
    )  # fmt: skip


@pytest.mark.parametrize(("running", "status"), [(True, Status.RUNNING), (False, Status.EXITED)])
def test_words_of_other_engines_are_read_by_whether_it_runs(dockerd, running, status):
    told = dockerd["container web"]
    told["State"] |= {"Status": "stopping", "Running": running}
    assert container_from(told).status is status


@pytest.mark.parametrize("change", [{"Id": 5}, {"Config": [1]}, {"State": {"Pid": "x"}}])
def test_values_of_the_wrong_type_are_refused(dockerd, change):
    with pytest.raises(InvalidArgument):
        container_from(dockerd["container web"] | change)


moments = st.integers(0, 1 << 32).map(lambda whole: whole + 0.25)
words = st.text("abz", min_size=1, max_size=5)


@st.composite
def containers(draw: st.DrawFn) -> Container:
    networks = draw(st.lists(words, max_size=2, unique=True))
    ip6 = draw(st.sampled_from(["", "fd::2/64"]))
    endpoints = tuple(
        Endpoint(
            "e" * 64, name, "d" * 64, ID, "web", "10.0.0.2/8", ip6,
            "10.0.0.1", "", "02:42:ac:11:00:02", "", ("web", ID[:12]),
            EndpointSpec(name, draw(st.lists(words, max_size=2, unique=True).map(tuple))),
        )
        for name in networks
    )  # fmt: skip
    spec = RunSpec(
        draw(words), command=("x",), detach=True, env=("A=1",), network=(networks or ["none"])[0],
        endpoints=tuple(
            one.spec for place, one in enumerate(endpoints) if place or one.spec.aliases
        ),
    )  # fmt: skip
    port = st.builds(
        PortSpec, st.integers(1, 65535), st.sampled_from(["tcp", "udp"]),
        st.sampled_from(["", "127.0.0.1", "::1"]), st.integers(1, 65535),
    )  # fmt: skip
    ports = draw(st.lists(port, max_size=3, unique_by=lambda one: (one.port, one.protocol)))
    return Container(
        ID, "web", IMAGE.id, spec, tuple(draw(st.lists(words, min_size=1))),
        draw(st.sampled_from([Status.RUNNING, Status.PAUSED])), draw(moments), draw(moments),
        pid=draw(st.integers(0, 9999)), exit_code=draw(st.integers(0, 255)),
        restarts=draw(st.integers(0, 9)), endpoints=endpoints, ports=tuple(ports),
        health=draw(st.none() | st.builds(Health, st.just("healthy"), st.integers(0, 9))),
        mounts=(MountPoint(MountKind.VOLUME, "/v", "/s", True, "n", "local"),),
    )  # fmt: skip


@given(containers())
def test_there_and_back(facts):
    assert container_from(json.loads(json.dumps(container_json(facts)))) == facts
