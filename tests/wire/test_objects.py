"""Docker's inspect shapes."""

from __future__ import annotations

import json

import pytest

from cellbox.model.container import (
    Container,
    Health,
    HealthCheck,
    Limits,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Security,
    Status,
    Ulimit,
)
from cellbox.model.image import Image, ImageConfig, Layer, Platform
from cellbox.wire.objects import container_json, image_json, timestamp, version_json

CONFIG = ImageConfig(
    user="www", env=("PATH=/bin", "A=image"), entrypoint=("/entry",), command=("serve",),
    workdir="/srv", labels={"from": "image"}, volumes=("/data",), exposed_ports=("80/tcp",),
    stop_signal="SIGQUIT", shell=("/bin/bash", "-c"), on_build=("RUN x",),
    health=HealthCheck(("CMD", "true"), interval=1.5),
)  # fmt: skip
IMAGE = Image(
    "sha256:" + "a" * 64, ("web:1",), ("web@sha256:b",), (Layer("sha256:c", 5),), CONFIG,
    Platform(architecture="arm64", variant="v8"), 5, created=0.5, author="ada", parent="",
)  # fmt: skip


def container(spec: RunSpec, **changes: object) -> Container:
    facts = {"status": Status.RUNNING, "created": 0.0, "started": 1.0, "pid": 7} | changes
    return Container("f" * 64, "web", IMAGE.id, spec, ("/entry", "serve"), **facts)  # type: ignore


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (0.0, "1970-01-01T00:00:00Z"),
        (1.25, "1970-01-01T00:00:01.25Z"),
    ],
)
def test_times_are_rfc3339(moment, text):
    assert timestamp(moment) == text


def test_a_container_has_every_key_that_templates_ask_for():
    told = container_json(container(RunSpec("web:1")), IMAGE)
    assert {"Id", "Created", "Path", "Args", "State", "Image", "Name", "HostConfig", "Config",
            "Mounts", "NetworkSettings", "RestartCount", "Platform"} <= set(told)  # fmt: skip
    assert (told["Path"], told["Args"], told["Name"]) == ("/entry", ["serve"], "/web")
    assert told["State"]["Running"] is True
    assert told["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert "Health" not in told["State"]
    json.dumps(told)


def test_what_was_not_asked_comes_from_the_image():
    told = container_json(container(RunSpec("web:1", env=("A=mine",), labels={"l": "1"})), IMAGE)
    config = told["Config"]
    assert config["Env"] == ["PATH=/bin", "A=mine"]
    assert config["Cmd"] == ["serve"]
    assert config["Entrypoint"] == ["/entry"]
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
            MountSpec(MountKind.BIND, "/d", "/s", read_only=True),
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
    assert host["SecurityOpt"] == [
        "no-new-privileges", "seccomp=unconfined", "systempaths=unconfined",
    ]  # fmt: skip
    assert host["UsernsMode"] == "host"
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert told["Mounts"][0]["RW"] is False
    assert told["Config"]["StopTimeout"] == 5
    assert list(told["NetworkSettings"]["Networks"]) == ["host"]


def test_health_is_told_with_its_probes():
    probe = {"start": 0.0, "end": 1.0, "exit_code": 1, "output": "no"}
    told = container_json(container(RunSpec("w"), health=Health("unhealthy", 2, (probe,))))
    health = told["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("unhealthy", 2)
    assert health["Log"][0]["Output"] == "no"


def test_a_shared_network_is_the_other_containers():
    told = container_json(container(RunSpec("w", network="container:x")))
    assert told["NetworkSettings"]["Networks"] == {}


def test_an_image_as_docker_tells_it():
    told = image_json(IMAGE)
    assert told["RepoTags"] == ["web:1"]
    assert told["RootFS"] == {"Type": "layers", "Layers": ["sha256:c"]}
    assert (told["Architecture"], told["Variant"], told["Created"]) == (
        "arm64", "v8", "1970-01-01T00:00:00.5Z",
    )  # fmt: skip
    assert told["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert told["Config"]["Shell"] == ["/bin/bash", "-c"]
    json.dumps(told)


def test_the_version_names_the_api():
    told = version_json("0.1.0", "6.1", Platform())
    assert (told["ApiVersion"], told["MinAPIVersion"]) == ("1.45", "1.12")
