"""Words to a RunSpec, with no engine."""

from __future__ import annotations

import click
import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import (
    DeviceSpec,
    Dns,
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
from cellbox.model.network import EndpointSpec
from cellbox_magics.grammar.place import Place
from cellbox_magics.grammar.programs import program
from cellbox_magics.grammar.spec import Caller, run_spec
from cellbox_magics.grammar.tree import load

FILES = {
    "/env": "# a comment\nA=1\n\nHOME\n  B=two words\nMISSING\n",
    "/labels": "one=1\ntwo\n",
    "/seccomp.json": '{"defaultAction": "SCMP_ACT_ERRNO"}',
    "/bad.json": "{",
}


def read(path: str) -> str:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory") from None


WHO = Caller({"HOME": "/home/ada", "EMPTY": ""}, "/work", "/home/ada", read)


def spec(*words: str, place: Place = Place.LINE) -> RunSpec:
    """The request of ``run WORDS``."""
    command = load("run", place)
    context = command.make_context("run", list(words))
    image, rest = program(context, context.params.pop("image"), context.params.pop("words"))
    return run_spec(context.params, image, tuple(rest), WHO)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("-d --rm --init --read-only", {
            "detach": True, "auto_remove": True, "init": True,
            "security": Security(read_only=True),
        }),
        ("-it", {"interactive": True, "tty": True}),
        ("--rm=true --tty=false", {"auto_remove": True}),
        ("-e A=1 -e HOME -e MISSING -e EMPTY --env B=", {
            "env": ("A=1", "HOME=/home/ada", "EMPTY=", "B="),
        }),
        ("--env-file /env -e A=2", {"env": ("A=2", "HOME=/home/ada", "B=two words")}),
        ("-l a=b --label c --label-file /labels", {
            "labels": {"one": "1", "two": "", "a": "b", "c": ""},
        }),
        ("-m 256m --memory-swap -1 --memory-reservation 1g --cpus .5", {
            "limits": Limits(
                memory=256 << 20, memory_swap=-1, memory_reservation=1 << 30, cpus=0.5
            ),
        }),
        ("--cpu-quota 50000 -c 512 --cpuset-cpus 0-1 --pids-limit 64 --oom-score-adj 5", {
            "limits": Limits(cpus=0.5, cpu_shares=512, cpuset="0-1", pids=64, oom_score_adj=5),
        }),
        ("--pids-limit -1", {}),
        ("--ulimit nofile=1024:4096 --ulimit core=-1", {
            "ulimits": (Ulimit("nofile", 1024, 4096), Ulimit("core", -1, -1)),
        }),
        ("-v /data:/d:ro -v ./x:/x -v ~/y:/y", {
            "mounts": (
                MountSpec(MountKind.BIND, "/d", "/data", read_only=True, make_source=True),
                MountSpec(MountKind.BIND, "/x", "/work/x", make_source=True),
                MountSpec(MountKind.BIND, "/y", "/home/ada/y", make_source=True),
            ),
        }),
        ("-v data:/d -v /e --volumes-from web:ro --volume-driver nfs --device /dev/fuse", {
            "mounts": (
                MountSpec(MountKind.VOLUME, "/d", "data"), MountSpec(MountKind.VOLUME, "/e"),
            ),
            "volumes_from": ("web:ro",),
            "volume_driver": "nfs",
            "devices": (DeviceSpec("/dev/fuse", "/dev/fuse"),),
        }),
        ("--network host --pid host --ipc host --uts host", {
            "network": "host", "pid": "host", "ipc": "host", "uts": "host",
        }),
        ("--net container:web", {"network": "container:web"}),
        ("--net a --network name=b,alias=x --ip 10.0.0.9 --network-alias y --link web:w", {
            "network": "a",
            "endpoints": (
                EndpointSpec("a", aliases=("y",), ip="10.0.0.9", links=("web:w",)),
                EndpointSpec("b", aliases=("x",)),
            ),
        }),
        ("--link web --mac-address 02-42-0A-00-00-01", {
            "links": ("web",), "endpoints": (EndpointSpec("default", mac="02:42:0a:00:00:01"),),
        }),
        ("-p 8080:80 -p 127.0.0.1::53/udp -P --expose 81 --expose 80-82 --expose 5/udp", {
            "ports": (PortSpec(80, host_port=8080), PortSpec(53, "udp", "127.0.0.1")),
            "exposed": ("81/tcp", "80/tcp", "82/tcp", "5/udp"),
            "publish_all": True,
        }),
        ("--dns 1.1.1.1 --dns-search a.b --dns-opt ndots:2", {
            "dns": Dns(("1.1.1.1",), ("a.b",), ("ndots:2",)),
        }),
        ("--egress dns:pypi.org,10.0.0.0/8 --annotation a=b", {
            "egress": ("dns:pypi.org", "10.0.0.0/8"), "annotations": {"a": "b"},
        }),
        ("--cap-add ALL --cap-add net_admin --cap-drop CAP_CHOWN --privileged", {
            "security": Security(
                cap_add=("ALL", "CAP_NET_ADMIN"), cap_drop=("CAP_CHOWN",), privileged=True
            ),
        }),
        ("--security-opt no-new-privileges --security-opt seccomp=/seccomp.json --userns host", {
            "security": Security(
                no_new_privileges=True, seccomp=FILES["/seccomp.json"], userns="host"
            ),
        }),
        ("--security-opt no-new-privileges:true --security-opt seccomp=unconfined "
         "--security-opt systempaths=unconfined --security-opt apparmor=unconfined", {
            "security": Security(
                no_new_privileges=True, seccomp="unconfined", systempaths_unconfined=True
            ),
        }),
        ("--restart on-failure:3", {"restart": RestartPolicy("on-failure", 3)}),
        ("--restart unless-stopped", {"restart": RestartPolicy("unless-stopped")}),
        ("--health-cmd true --health-interval 1m30s --health-retries 2", {
            "health": HealthCheck(("CMD-SHELL", "true"), interval=90, retries=2),
        }),
        ("--no-healthcheck", {"health": HealthCheck(("NONE",))}),
        ("--log-driver local --log-opt max-size=1m", {
            "log": LogConfig("local", {"max-size": "1m"}),
        }),
        ("-u 1000:1000 -w /w -h box --domainname d --group-add audio --add-host a:10.0.0.1", {
            "user": "1000:1000", "workdir": "/w", "hostname": "box", "domainname": "d",
            "groups": ("audio",), "extra_hosts": ("a:10.0.0.1",),
        }),
        ("--stop-signal INT --stop-timeout 3 --shm-size 1g --platform linux/arm64", {
            "stop_signal": "INT", "stop_timeout": 3.0, "shm_size": 1 << 30,
            "platform": "linux/arm64",
        }),
        ("--entrypoint sh --sysctl net.a=1", {
            "entrypoint": ("sh",), "sysctls": {"net.a": "1"},
        }),
        ("--entrypoint=", {"entrypoint": ()}),
    ],
)  # fmt: skip
def test_flags_say_what_dockers_say(words, changes):
    assert spec(*words.split(), "ubuntu") == RunSpec("ubuntu", **changes)


@pytest.mark.parametrize(
    ("words", "image", "command"),
    [
        (["ubuntu", "ls", "-l", "--rm"], "ubuntu", ("ls", "-l", "--rm")),
        (["--rm", "ubuntu", "--", "x"], "ubuntu", ("--", "x")),
        (["--", "ls", "-l"], "host", ("ls", "-l")),
        (["-d", "--name", "x", "--", "ls"], "host", ("ls",)),
        ([], "host", ()),
        (["--rm"], "host", ()),
    ],
)
def test_what_follows_the_image_belongs_to_the_command(words, image, command):
    made = spec(*words)
    assert (made.image, made.command) == (image, command)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("--link-local-ip 169.254.1.1", click.UsageError, "--ip"),
        ("-p 99999:80", InvalidArgument, "invalid hostPort: 99999"),
        ("--expose x", InvalidArgument, "invalid range format for --expose: x"),
        ("--dns x", InvalidArgument, "not correctly formatted: x"),
        ("--net a --net b --net a", InvalidArgument, "multiple times"),
        ("--egress none --net host", InvalidArgument, "--egress needs a network"),
        ("--gpus all", click.UsageError, "--device"),
        ("--memori 5m", click.UsageError, "Did you mean"),
        ("--pull sometimes", click.UsageError, "always"),
        ("-v d:/d", InvalidArgument, "-v d:/d: volume name is too short"),
        ("--device fuse", InvalidArgument, "/dev/host"),
        ("--memory much", InvalidArgument, "256m"),
        ("--cpus many", InvalidArgument, "not a number"),
        ("--rm --restart always", InvalidArgument, "exclude"),
        ("--no-healthcheck --health-cmd x", InvalidArgument, "exclude"),
        ("--cpus 1 --cpu-quota 5", InvalidArgument, "exclude"),
        ("--env-file /none", InvalidArgument, "No such file"),
        ("--security-opt seccomp=/bad.json", InvalidArgument, "not JSON"),
        ("--security-opt x=y", InvalidArgument, "no-new-privileges"),
        ("--security-opt apparmor=mine", NotSupported, "apparmor"),
        ("--userns mine", InvalidArgument, "host"),
        ("--add-host nothing", InvalidArgument, "name:address"),
        ("--ulimit nofile=9:5", InvalidArgument, "soft limit"),
        ("--restart on-failure:x", InvalidArgument, "on-failure"),
        ("-e =x", InvalidArgument, "NAME=value"),
        ("--sysctl a", InvalidArgument, "key=value"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words, error, hint):
    with pytest.raises(error) as caught:
        spec(*words.split(), "ubuntu")
    text = caught.value.format_message() if hasattr(caught.value, "format_message") else None
    assert hint in (text or str(caught.value))


def test_in_a_cell_i_and_o_name_variables():
    command = load("run", Place.CELL)
    context = command.make_context("run", ["-i", "df,x", "-i", "y", "-o", "model", "ubuntu"])
    assert context.params["inputs"] == ("df,x", "y")
    assert context.params["outputs"] == ("model",)
