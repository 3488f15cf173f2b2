"""Config, asked for and shown."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import HealthCheck, MountKind, MountSpec, PortSpec, RunSpec
from cellbox.model.image import ImageConfig
from cellbox.wire.config import attached_streams, config_body, config_json, read_config
from cellbox.wire.fields import Fields

IMAGE = ImageConfig(
    user="www", env=("PATH=/bin", "A=image"), entrypoint=("/entry",), command=("serve",),
    workdir="/srv", labels={"from": "image"}, volumes=("/data",), exposed_ports=("80/tcp",),
    stop_signal="SIGQUIT", on_build=("RUN x",), health=HealthCheck(("CMD", "true"), interval=1.5),
)  # fmt: skip


def read(**members: object) -> dict[str, object]:
    return read_config(Fields(members, "CreateRequest"))


def test_a_request_says_only_what_was_asked():
    told = config_body(RunSpec("w", detach=True))
    assert (told["Env"], told["Cmd"], told["Entrypoint"], told["Volumes"]) == (None,) * 4
    assert not {"StopSignal", "StopTimeout", "Healthcheck"} & set(told)
    assert not (told["AttachStdout"] or told["StdinOnce"] or told["ExposedPorts"])


def test_the_image_fills_in_what_was_not_asked():
    spec = RunSpec(
        "w", env=("A=mine",), labels={"l": "1"}, exposed=("53/udp",), ports=(PortSpec(81),),
        mounts=(MountSpec(MountKind.VOLUME, "/v"),),
    )  # fmt: skip
    told = config_json(spec, IMAGE, hostname="f" * 12)
    assert told["Env"] == ["A=mine", "PATH=/bin"]
    assert (told["Entrypoint"], told["Cmd"]) == (["/entry"], ["serve"])
    assert told["Labels"] == {"from": "image", "l": "1"}
    assert set(told["Volumes"]) == {"/data", "/v"}
    assert set(told["ExposedPorts"]) == {"80/tcp", "53/udp", "81/tcp"}
    assert (told["Hostname"], told["User"], told["WorkingDir"]) == ("f" * 12, "www", "/srv")
    assert (told["StopSignal"], told["OnBuild"]) == ("SIGQUIT", ["RUN x"])
    assert told["Healthcheck"]["Interval"] == 1_500_000_000


def test_what_was_asked_outdoes_the_image():
    spec = RunSpec(
        "w", entrypoint=("sh",), user="me", workdir="/w", hostname="h", stop_signal="INT",
        health=HealthCheck(("NONE",)), stop_timeout=1.5,
    )  # fmt: skip
    told = config_json(spec, IMAGE, hostname="x")
    assert (told["Entrypoint"], told["Cmd"]) == (["sh"], None)
    assert (told["Hostname"], told["User"], told["WorkingDir"]) == ("h", "me", "/w")
    assert (told["StopSignal"], told["StopTimeout"]) == ("INT", 2)
    assert told["Healthcheck"]["Test"] == ["NONE"]


@pytest.mark.parametrize(
    ("spec", "streams"),
    [
        (RunSpec("w"), ("stdout", "stderr")),
        (RunSpec("w", interactive=True), ("stdin", "stdout", "stderr")),
        (RunSpec("w", detach=True, interactive=True), ()),
        (RunSpec("w", detach=True, attached=("stderr",)), ("stderr",)),
    ],
)
def test_streams_of_the_first_client(spec, streams):
    assert attached_streams(spec) == streams
    told = config_body(spec)
    for name in ("stdin", "stdout", "stderr"):
        assert told[f"Attach{name.capitalize()}"] is (name in streams)


@pytest.mark.parametrize("interactive", [True, False])
def test_in_the_foreground_input_ends_with_its_client(interactive):
    assert config_body(RunSpec("w", interactive=interactive))["StdinOnce"] is interactive
    assert config_body(RunSpec("w", stdin_once=True, detach=True))["StdinOnce"] is True


@pytest.mark.parametrize(
    ("told", "entrypoint"),
    [
        (None, None),
        ([""], ()),
        ("", ()),
        ([], ()),
        ("/bin/sh", ("/bin/sh",)),
        (["sh", "-c"], ("sh", "-c")),
        (["", "x"], ("", "x")),
    ],
)
def test_entrypoints(told, entrypoint):
    assert read(Entrypoint=told)["entrypoint"] == entrypoint
    again = config_body(RunSpec("w", entrypoint=entrypoint))["Entrypoint"]
    assert read(Entrypoint=again)["entrypoint"] == entrypoint


def test_an_entrypoint_that_is_cleared_leaves_the_images_command():
    told = config_json(RunSpec("w", entrypoint=()), IMAGE)
    assert (told["Entrypoint"], told["Cmd"]) == (None, ["serve"])


@pytest.mark.parametrize(
    ("told", "command"), [(None, ()), ([], ()), ("ls", ("ls",)), (["a", ""], ("a", ""))]
)
def test_commands(told, command):
    assert read(Cmd=told)["command"] == command


def test_durations_are_nanoseconds_on_the_wire():
    told = {"Test": ["CMD", "x"], "Interval": 290_000_000, "Timeout": None, "Retries": 2}
    health = read(Healthcheck=told)["health"]
    assert health == HealthCheck(("CMD", "x"), interval=0.29, retries=2)
    assert config_body(RunSpec("w", health=health))["Healthcheck"]["Interval"] == 290_000_000
    assert read(Healthcheck={})["health"] == HealthCheck()
    assert read()["health"] is None


@pytest.mark.parametrize(("told", "seconds"), [(None, None), (0, 0.0), (-1, -1.0), (7, 7.0)])
def test_the_time_to_stop(told, seconds):
    assert read(StopTimeout=told)["stop_timeout"] == seconds


def test_a_wrong_type_names_its_member():
    with pytest.raises(InvalidArgument) as caught:
        read(Healthcheck={"Interval": "1s"})
    assert str(caught.value) == (
        "json: cannot unmarshal string into Go struct field HealthConfig.Healthcheck.Interval "
        "of type int64"
    )
