"""Every rule on a request, and the sentence for each way to break it."""

from __future__ import annotations

import math

import pytest

from cellbox.containers import checks
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import (
    DeviceSpec,
    Dns,
    HealthCheck,
    Limits,
    MountKind,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Ulimit,
)
from cellbox.model.network import EndpointSpec

BIND, TMPFS, VOLUME = MountKind.BIND, MountKind.TMPFS, MountKind.VOLUME
MIB = 1 << 20


@pytest.mark.parametrize("good", ["a", "web-1", "a.example.org", "A1", "1a", "x" * 64])
def test_hostnames(good: str) -> None:
    assert checks.hostname(good) == good


@pytest.mark.parametrize(
    "bad",
    ["", "-a", "a-", "a..b", ".a", "a b", "a\n127.0.0.1 evil", "a\n", "a_b", "x" * 65, "é", "a\0"],
)
def test_hostnames_that_are_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid hostname format"):
        checks.hostname(bad)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("db:10.0.0.2", ("db", "10.0.0.2")),
        ("db=10.0.0.2", ("db", "10.0.0.2")),
        ("db:::1", ("db", "::1")),
        ("db=[::1]", ("db", "::1")),
        ("my_db:10.0.0.2", ("my_db", "10.0.0.2")),
        ("host.docker.internal:host-gateway", ("host.docker.internal", "host-gateway")),
    ],
)
def test_extra_hosts(entry: str, expected: tuple[str, str]) -> None:
    assert checks.extra_host(entry) == expected


@pytest.mark.parametrize(
    "entry", ["db", "", ":1.2.3.4", "db:", "db:1.2.3", "d b:1.2.3.4", "a\nb:1.2.3.4", "a:1.1.1.1\n"]
)
def test_extra_hosts_that_are_refused(entry: str) -> None:
    with pytest.raises(InvalidArgument, match="add-host"):
        checks.extra_host(entry)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [("/", "/"), ("/a/./b/../c/", "/a/c"), ("//a", "/a"), ("/..", "/"), ("/a//b", "/a/b")],
)
def test_working_directories(path: str, canonical: str) -> None:
    assert checks.workdir(path) == canonical


@pytest.mark.parametrize("path", ["a", "", "./a", "~", "/a\0b"])
def test_working_directories_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="working directory"):
        checks.workdir(path)


@pytest.mark.parametrize("entry", ["", "=x", "=", "a=b\0"])
def test_environment_that_is_refused(entry: str) -> None:
    with pytest.raises(InvalidArgument, match="environment variable"):
        checks.env((entry,))


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("SIGINT", "INT"), ("int", "INT"), ("9", "9"), ("RTMIN+3", "RTMIN+3"), ("sigquit", "QUIT")],
)
def test_signals(name: str, canonical: str) -> None:
    assert checks.signal(name) == canonical


@pytest.mark.parametrize("name", ["", "NOPE", "0", "65", "-1"])
def test_signals_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid signal"):
        checks.signal(name)


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        (Limits(), Limits()),
        (Limits(memory=6 * MIB), Limits(memory=6 * MIB, memory_swap=12 * MIB)),
        (Limits(memory=8 * MIB, memory_swap=-1), Limits(memory=8 * MIB, memory_swap=-1)),
        (Limits(memory=0, memory_swap=0), Limits()),
        (Limits(memory_swap=-1), Limits(memory_swap=-1)),
        (Limits(pids=0), Limits()),
        (Limits(pids=-1), Limits()),
        (Limits(pids=5), Limits(pids=5)),
        (Limits(cpus=0.0, cpu_shares=0), Limits()),
        (Limits(cpus=2.0), Limits(cpus=2.0)),
        (Limits(cpu_shares=1), Limits(cpu_shares=2)),
        (Limits(cpu_shares=10**6), Limits(cpu_shares=262144)),
        (Limits(cpuset="0-1,1"), Limits(cpuset="0-1,1")),
        (Limits(oom_score_adj=-1000), Limits(oom_score_adj=-1000)),
    ],
)
def test_limits(asked: Limits, canonical: Limits) -> None:
    assert checks.limits(asked, cpus=2) == canonical


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Limits(memory=6 * MIB - 1), "Minimum memory limit allowed is 6MB"),
        (Limits(memory=-5), "Minimum memory limit allowed is 6MB"),
        (Limits(memory=8 * MIB, memory_swap=7 * MIB), "Minimum memoryswap limit should be larger"),
        (Limits(memory_swap=8 * MIB), "You should always set the Memory limit"),
        (Limits(memory_swap=-2), "invalid memory swap limit"),
        (Limits(memory_reservation=1), "Minimum memory reservation allowed is 6MB"),
        (Limits(memory=8 * MIB, memory_reservation=9 * MIB), "can not be less than memory reserv"),
        (Limits(cpus=2.5), "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs"),
        (Limits(cpus=-1), "Range of CPUs"),
        (Limits(cpus=0.001), "too few"),
        (Limits(cpus=math.nan), "Range of CPUs"),
        (Limits(cpus=math.inf), "Range of CPUs"),
        (Limits(cpu_shares=-1), "invalid CPU shares"),
        (Limits(cpuset="0-2"), "Requested CPUs are not available - requested 0-2, available: 0-1"),
        (Limits(cpuset="1-0"), "Invalid value 1-0 for cpuset cpus"),
        (Limits(cpuset="a"), "Invalid value a for cpuset cpus"),
        (Limits(cpuset="0\n"), "for cpuset cpus"),
        (Limits(cpuset=","), "for cpuset cpus"),
        (Limits(pids=-2), "invalid pids limit"),
        (Limits(oom_score_adj=1001), r"range for oom score adj is \[-1000, 1000\]"),
    ],
)
def test_limits_that_are_refused(asked: Limits, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.limits(asked, cpus=2)


def test_without_a_machine_any_number_of_processors_will_do() -> None:
    assert checks.limits(Limits(cpus=64, cpuset="63")).cpus == 64
    with pytest.raises(InvalidArgument, match="invalid number of CPUs"):
        checks.limits(Limits(cpus=-1))


def test_ulimits() -> None:
    first, second = Ulimit("nofile", 1, 2), Ulimit("nofile", 3, -1)
    core = Ulimit("core", -1, -1)
    assert checks.ulimits((first, core, second)) == (second, core)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (Ulimit("nofiles", 1, 1), "invalid ulimit type"),
        (Ulimit("NOFILE", 1, 1), "invalid ulimit type"),
        (Ulimit("nofile", 2, 1), "soft limit must be less than or equal to hard limit: 2 > 1"),
        (Ulimit("nofile", -1, 1), "soft limit must be less"),
        (Ulimit("nofile", -2, 1), "invalid ulimit"),
    ],
)
def test_ulimits_that_are_refused(limit: Ulimit, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.ulimits((limit,))


@pytest.mark.parametrize(
    "name", ["kernel.msgmax", "kernel.sem", "fs.mqueue.msg_max", "net.ipv4.ip_forward"]
)
def test_sysctls(name: str) -> None:
    assert checks.sysctls({name: "1"}, own_ipc=True, own_network=True) == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "kernel.hostname",
        "kernel.semx",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net...kernel.core_pattern",
        "net.",
        "net",
        ".net.x",
        "",
        "net.a\0",
        "net.ipv4.x\n",
    ],
)
def test_sysctls_of_the_host_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="sysctl"):
        checks.sysctls({name: "1"}, own_ipc=True, own_network=True)


def test_sysctls_of_a_shared_namespace_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="host's ipc namespace"):
        checks.sysctls({"kernel.sem": "1"}, own_ipc=False, own_network=True)
    with pytest.raises(InvalidArgument, match="host's network namespace"):
        checks.sysctls({"net.core.somaxconn": "1"}, own_ipc=True, own_network=False)


def test_mounts_get_canonical_targets() -> None:
    asked = MountSpec(BIND, "/data/../srv//x/", "/host")
    assert checks.mounts((asked,))[0].target == "/srv/x"


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (MountSpec(BIND, "/", "/h"), "destination can't be '/'"),
        (MountSpec(BIND, "/..", "/h"), "destination can't be '/'"),
        (MountSpec(BIND, "data", "/h"), "mount path must be absolute"),
        (MountSpec(BIND, "", "/h"), "mount path must be absolute"),
        (MountSpec(BIND, "/a\0", "/h"), "NUL"),
        (MountSpec(BIND, "/proc", "/h"), "nothing can be mounted"),
        (MountSpec(BIND, "/proc/sys", "/h"), "nothing can be mounted"),
        (MountSpec(BIND, "/x/../proc/self", "/h"), "nothing can be mounted"),
        (MountSpec(BIND, "//proc", "/h"), "nothing can be mounted"),
        (MountSpec(TMPFS, "/sys/fs/cgroup"), "nothing can be mounted"),
        (MountSpec(BIND, "/data", "host"), "mount path must be absolute"),
        (MountSpec(BIND, "/data", ""), "mount path must be absolute"),
        (MountSpec(BIND, "/data", "/h\0"), "NUL"),
        (MountSpec(TMPFS, "/data", "/h"), "Source must not be set"),
        (MountSpec(TMPFS, "/data", size=-1), "invalid size"),
        (MountSpec(TMPFS, "/data", mode=0o10000), "invalid mode"),
    ],
)
def test_mounts_that_are_refused(mount: MountSpec, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.mounts((mount,))


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (MountSpec(VOLUME, "/v", "../up"), "invalid characters"),
        (MountSpec(VOLUME, "/v", "a"), "too short"),
        (MountSpec(VOLUME, "/v", "data", subpath="/etc"), "relative path within the volume"),
        (MountSpec(VOLUME, "/v", "data", subpath="a/../../b"), "relative path within the volume"),
        (MountSpec(VOLUME, "/v", "data", subpath="a\0b"), "NUL"),
        (MountSpec(VOLUME, "/v", subpath="a"), "anonymous"),
        (MountSpec(VOLUME, "/proc", "data"), "/proc"),
        (MountSpec(BIND, "/v", "/a", propagation="odd"), "invalid propagation mode: odd"),
    ],
)
def test_volumes_that_are_refused(mount: MountSpec, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.mounts((mount,))


def test_what_a_container_mounts_stays_there() -> None:
    for mode in ("shared", "rshared"):
        with pytest.raises(NotSupported, match="use rslave"):
            checks.mounts((MountSpec(BIND, "/v", "/a", propagation=mode),))
    asked = (MountSpec(BIND, "/v", "/a", propagation="rslave"), MountSpec(VOLUME, "/w"))
    assert checks.mounts(asked) == asked


def test_devices_get_canonical_targets() -> None:
    asked = (DeviceSpec("/dev/a", ""), DeviceSpec("/dev/b", "/x/../y/", "r"))
    assert checks.devices((*asked, asked[1])) == (
        DeviceSpec("/dev/a", "/dev/a"),
        DeviceSpec("/dev/b", "/y", "r"),
    )


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (DeviceSpec("a", "/a"), "not an absolute path"),
        (DeviceSpec("/dev/a", "/a", "rx"), "invalid device mode: rx"),
        (DeviceSpec("/dev/a", "/a", ""), "invalid device mode"),
        (DeviceSpec("/dev/a", "/proc/a"), "/proc"),
        (DeviceSpec("/dev/a\0", "/a"), "NUL"),
    ],
)
def test_devices_that_are_refused(device: DeviceSpec, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.devices((device,))


def test_two_mounts_on_one_target_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /data"):
        checks.mounts((MountSpec(BIND, "/data", "/a"), MountSpec(TMPFS, "/data/")))


@pytest.mark.parametrize(
    ("policy", "auto_remove", "message"),
    [
        (RestartPolicy("sometimes"), False, "unknown policy 'sometimes'"),
        (RestartPolicy("always", 3), False, "can only be used with 'on-failure'"),
        (RestartPolicy("on-failure", -1), False, "cannot be negative"),
        (RestartPolicy("always"), True, "AutoRemove"),
    ],
)
def test_restart_policies_that_are_refused(
    policy: RestartPolicy, auto_remove: bool, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.restart(policy, auto_remove)


def test_restart_policies() -> None:
    for policy in (RestartPolicy(), RestartPolicy("on-failure", 3), RestartPolicy("always")):
        assert checks.restart(policy, False) == policy
    assert checks.restart(RestartPolicy(""), True).name == ""


JOINED = "container:x"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RunSpec("w", network=JOINED, hostname="h"), "hostname and the network mode"),
        (RunSpec("w", network=JOINED, links=("a",)), "container type network can't be used with"),
        (RunSpec("w", network="host", links=("a",)), "host type networking can't be used with"),
        (RunSpec("w", network=JOINED, dns=Dns(("1.1.1.1",))), "dns and the network mode"),
        (RunSpec("w", network=JOINED, extra_hosts=("a:1.1.1.1",)), "custom host-to-IP mapping"),
        (
            RunSpec(
                "w", network="host", endpoints=(EndpointSpec("host", mac="02:00:00:00:00:01"),)
            ),
            "mac-address and the network mode",
        ),
        (RunSpec("w", network=JOINED, ports=(PortSpec(80),)), "port publishing and the container"),
        (RunSpec("w", network=JOINED, publish_all=True), "port publishing and the container"),
        (RunSpec("w", network=JOINED, exposed=("80/tcp",)), "port exposing and the container"),
        (RunSpec("w", network="host", endpoints=(EndpointSpec("n"),)), "any other network"),
    ],
)
def test_what_a_shared_network_leaves_no_room_for(spec: RunSpec, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.network_mode(spec)


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec("w", network="host", hostname="h", dns=Dns(("1.1.1.1",)), ports=(PortSpec(80),)),
        RunSpec("w", network="host", endpoints=(EndpointSpec("host"),)),
        RunSpec("w", network="n", links=("a",), hostname="h", publish_all=True),
    ],
)
def test_what_a_network_allows(spec: RunSpec) -> None:
    checks.network_mode(spec)


IMAGE_HEALTH = HealthCheck(("CMD", "true"), interval=5, retries=2)


@pytest.mark.parametrize(
    ("asked", "image", "result"),
    [
        (None, None, None),
        (None, IMAGE_HEALTH, IMAGE_HEALTH),
        (HealthCheck(("NONE",)), IMAGE_HEALTH, None),
        (None, HealthCheck(("NONE",)), None),
        (HealthCheck(retries=7), IMAGE_HEALTH, HealthCheck(("CMD", "true"), 5, retries=7)),
        (HealthCheck(("CMD", "x")), IMAGE_HEALTH, HealthCheck(("CMD", "x"), 5, retries=2)),
        (HealthCheck(interval=3), None, None),
    ],
)
def test_health_checks(
    asked: HealthCheck | None, image: HealthCheck | None, result: HealthCheck | None
) -> None:
    assert checks.health(asked, image) == result


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (HealthCheck(("RUN", "x")), "Unknown healthcheck type 'RUN'"),
        (HealthCheck(("CMD",)), "has no command"),
        (HealthCheck(("CMD", "x\0")), "NUL"),
        (HealthCheck(("CMD", "x"), interval=0.0001), "interval .* less than 1ms"),
        (HealthCheck(("CMD", "x"), timeout=-1), "timeout .* less than 1ms"),
        (HealthCheck(("CMD", "x"), start_period=math.nan), "start_period"),
        (HealthCheck(("CMD", "x"), retries=-1), "Retries"),
    ],
)
def test_health_checks_that_are_refused(check: HealthCheck, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checks.health(None, check)
