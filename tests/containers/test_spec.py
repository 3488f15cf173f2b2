"""From a request and an image to a bundle, by Docker's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cellbox.containers import spec as specs
from cellbox.containers.messages import Bundle, IdMap
from cellbox.errors import InvalidArgument, NotSupported, WrongState
from cellbox.linux import capabilities
from cellbox.linux.mounts import Mount
from cellbox.model.codec import from_json, to_json
from cellbox.model.container import (
    DeviceSpec,
    ExecSpec,
    HealthCheck,
    Limits,
    LogConfig,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Security,
    Ulimit,
)
from cellbox.model.image import Image, ImageConfig, Platform

ID = "0123456789abcdef" * 4
ROOT = Mount("overlay", "/", lowers=("/layers/1",), upper="/c/upper", work="/c/work")
RANGE = (IdMap(0, 100000, 65536),)
SH = ImageConfig(command=("sh",))


def image(config: ImageConfig) -> Image:
    return Image("sha256:" + "0" * 64, (), (), (), config, Platform(), 0)


def make(config: ImageConfig = SH, **options: Any) -> Bundle:
    """A bundle; options of ``bundle`` go there, all others into the request."""
    known = ("rootfs", "id_map", "seccomp", "shared", "host", "events", "volumes", "devices")
    place = {name: options.pop(name) for name in known if name in options}
    return specs.bundle(
        RunSpec("app", **options),
        image(config),
        id=ID,
        name="box",
        directory="/store/box",
        **{"rootfs": (ROOT,), "id_map": RANGE, "seccomp": "/filter", **place},
    )


def targets(bundle: Bundle) -> Mapping[str, Mount]:
    return {mount.target: mount for mount in bundle.mounts}


# The program ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entrypoint", "command", "asked_entrypoint", "asked_command", "argv"),
    [
        ((), ("sh",), None, (), ("sh",)),
        ((), ("sh",), None, ("ls", "-l"), ("ls", "-l")),
        (("e",), ("c",), None, (), ("e", "c")),
        (("e",), ("c",), None, ("d",), ("e", "d")),
        (("e",), ("c",), ("f",), (), ("f",)),
        (("e",), ("c",), ("f",), ("d",), ("f", "d")),
        (("e",), ("c",), (), (), ("c",)),
        (("e",), ("c",), ("",), ("d",), ("d",)),
        ((), (), ("f", "g"), (), ("f", "g")),
        (("/bin/sh", "-c", "echo"), (), None, ("x",), ("/bin/sh", "-c", "echo", "x")),
    ],
)
def test_what_runs(
    entrypoint: tuple[str, ...],
    command: tuple[str, ...],
    asked_entrypoint: tuple[str, ...] | None,
    asked_command: tuple[str, ...],
    argv: tuple[str, ...],
) -> None:
    config = ImageConfig(entrypoint=entrypoint, command=command)
    bundle = make(config, entrypoint=asked_entrypoint, command=asked_command)
    assert bundle.process.argv == argv


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (ImageConfig(), {}),
        (ImageConfig(), {"entrypoint": ()}),
        (ImageConfig(entrypoint=("e",)), {"entrypoint": ("",)}),
        (SH, {"command": ("",)}),
    ],
)
def test_nothing_to_run(config: ImageConfig, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="No command specified"):
        make(config, **options)


def test_environment() -> None:
    config = ImageConfig(command=("sh",), env=("PATH=/image", "A=1", "B=2", "C=3"))
    bundle = make(config, env=("B=x=y", "D=", "C"), tty=True)
    assert bundle.process.env == (
        "PATH=/image",
        f"HOSTNAME={ID[:12]}",
        "TERM=xterm",
        "A=1",
        "B=x=y",
        "D=",
    )
    assert make().process.env == (specs.PATH, f"HOSTNAME={ID[:12]}")


def test_a_newline_in_a_variable_is_kept_as_it_is() -> None:
    assert "A=1\nB=2" in make(env=("A=1\nB=2",)).process.env


def test_user_and_working_directory() -> None:
    config = replace(SH, user="app", workdir="/srv/")
    assert (make(config).process.user, make(config).process.cwd) == ("app", "/srv")
    bundle = make(config, user="7:8", workdir="/tmp/../x", groups=("video",))
    assert (bundle.process.user, bundle.process.cwd) == ("7:8", "/x")
    assert bundle.process.groups == ("video",)
    assert make().process.cwd == "/"


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SH, {"workdir": "relative"}, "absolute path"),
        (replace(SH, workdir="relative"), {}, "absolute path"),
        (SH, {"env": ("=x",)}, "invalid environment variable"),
        (replace(SH, env=("A=\0",)), {}, "NUL"),
        (SH, {"command": ("a\0b",)}, "NUL"),
        (SH, {"user": "a\0"}, "NUL"),
        (SH, {"hostname": "a\nb"}, "invalid hostname format"),
        (SH, {"domainname": "a b"}, "invalid domain name format"),
        (SH, {"hostname": "a", "uts": "host"}, "hostname and the UTS mode"),
        (SH, {"pid": "mine"}, "invalid PID mode: mine"),
        (SH, {"ipc": "mine"}, "invalid IPC mode: mine"),
        (SH, {"uts": "container:x"}, "invalid UTS mode"),
        (SH, {"pid": "container:"}, "invalid PID mode"),
        (SH, {"security": Security(userns="auto")}, "invalid USER mode"),
        (SH, {"security": Security(cap_add=("MAGIC",))}, "unknown capability"),
        (SH, {"shm_size": 0}, "SHM size"),
        (SH, {"shm_size": -1}, "SHM size"),
        (SH, {"stop_signal": "NOPE"}, "Invalid signal"),
        (replace(SH, stop_signal="NOPE"), {}, "Invalid signal"),
        (SH, {"limits": Limits(memory=1)}, "Minimum memory limit"),
        (SH, {"ulimits": (Ulimit("x", 1, 1),)}, "invalid ulimit type"),
        (SH, {"sysctls": {"kernel.core_pattern": "|x"}}, "not whitelisted"),
        (SH, {"sysctls": {"net.core.x": "1"}, "network": "host"}, "host's network"),
        (SH, {"mounts": (MountSpec(MountKind.BIND, "/proc/sys", "/x"),)}, "nothing can be mounted"),
        (SH, {"restart": RestartPolicy("x")}, "invalid restart policy"),
        (SH, {"log": LogConfig("x")}, "no log driver"),
        (SH, {"log": LogConfig("json-file", {"size": "1"})}, "unknown log opt"),
        (SH, {"health": HealthCheck(("X", "y"))}, "Unknown healthcheck type"),
    ],
)
def test_wrong_requests(config: ImageConfig, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make(config, **options)


# Isolation ------------------------------------------------------------------------------------


def test_the_defaults_are_dockers() -> None:
    bundle = make()
    assert bundle.process.capabilities == capabilities.DEFAULT
    assert bundle.process.seccomp == "/filter"
    assert not bundle.process.no_new_privileges
    assert bundle.masked == specs.MASKED
    assert bundle.read_only == specs.READ_ONLY
    assert bundle.id_map == RANGE
    assert "/proc/kcore" in bundle.masked and "/proc/sys" in bundle.read_only


def test_a_privileged_container() -> None:
    bundle = make(security=Security(privileged=True))
    assert bundle.process.capabilities == capabilities.ALL
    assert (bundle.process.seccomp, bundle.masked, bundle.read_only) == ("", (), ())
    assert bundle.namespaces.user == "private"
    assert "ro" not in targets(bundle)["/sys"].flags


def test_without_a_filter_or_masks() -> None:
    assert make(security=Security(seccomp="unconfined")).process.seccomp == ""
    bundle = make(security=Security(systempaths_unconfined=True, no_new_privileges=True))
    assert (bundle.masked, bundle.read_only) == ((), ())
    assert bundle.process.no_new_privileges and bundle.process.seccomp


def test_every_processors_throttle_counter_is_masked() -> None:
    bundle = make(host=specs.Host(cpus=2))
    assert "/sys/devices/system/cpu/cpu1/thermal_throttle" in bundle.masked
    assert len(bundle.masked) == len(specs.MASKED) + 2


def test_the_hosts_user_namespace_has_no_map() -> None:
    bundle = make(security=Security(userns="host"))
    assert (bundle.namespaces.user, bundle.id_map) == ("host", ())


# Mounts ---------------------------------------------------------------------------------------


def test_the_standard_mounts() -> None:
    bundle = make()
    assert [mount.target for mount in bundle.mounts] == [
        "/",
        "/proc",
        "/dev",
        "/sys",
        "/dev/pts",
        "/dev/mqueue",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
    ]
    found = targets(bundle)
    assert found["/"] == ROOT
    assert found["/proc"] == Mount("proc", "/proc", flags=("nosuid", "noexec", "nodev"))
    assert found["/sys"].flags == ("ro", "nosuid", "noexec", "nodev")
    assert found["/dev"].data == "mode=755,size=65536k"
    assert found["/dev/pts"].data == "mode=0620,ptmxmode=0666,gid=5"
    assert found["/dev/shm"].data == "mode=1777,size=67108864"
    assert found["/etc/hosts"].source == "/store/box/hosts"


def test_a_single_id_has_no_tty_group() -> None:
    pts = targets(make(id_map=(IdMap(0, 1000, 1),)))["/dev/pts"]
    assert pts.data == "mode=0620,ptmxmode=0666"


def test_the_hosts_network_cannot_be_shown_by_a_new_sysfs() -> None:
    for options in ({"network": "host"}, {"network": "container:x", "shared": {"x": 5}}):
        found = targets(make(**options))["/sys"]
        assert (found.kind, found.source, found.recursive) == ("bind", "/sys", True)
        assert "ro" in found.flags


def test_processes_of_others_are_shown_by_their_proc() -> None:
    assert targets(make(pid="host"))["/proc"].source == "/proc"
    shared = make(pid="container:x", shared={"x": 42})
    assert targets(shared)["/proc"].source == "/proc/42/root/proc"
    assert shared.namespaces.pid == "42"


def test_shared_memory() -> None:
    assert targets(make(shm_size=1 << 20))["/dev/shm"].data == "mode=1777,size=1048576"
    assert "/dev/shm" not in targets(make(ipc="none"))
    host = targets(make(ipc="host"))
    assert host["/dev/shm"].source == "/dev/shm" and "/dev/mqueue" not in host
    shared = targets(make(ipc="container:x", shared={"x": 42}))
    assert shared["/dev/shm"].source == "/proc/42/root/dev/shm"
    assert shared["/dev/mqueue"].source == "/proc/42/root/dev/mqueue"


def test_a_container_to_share_with_must_run() -> None:
    for option in ("network", "pid", "ipc"):
        with pytest.raises(WrongState, match="non running container: x"):
            make(**{option: "container:x"})


def test_user_mounts_come_by_depth() -> None:
    bundle = make(
        mounts=(
            MountSpec(MountKind.BIND, "/a/b/c", "/host/c", read_only=True),
            MountSpec(MountKind.TMPFS, "/etc", size=4096, mode=0o700),
            MountSpec(MountKind.BIND, "/a", "/host/a"),
        )
    )
    order = [mount.target for mount in bundle.mounts]
    assert order.index("/a") < order.index("/a/b/c")
    assert order.index("/etc") < order.index("/etc/hosts")
    found = targets(bundle)
    assert found["/a/b/c"] == Mount(
        "bind",
        "/a/b/c",
        "/host/c",
        flags=("nodev", "ro"),
        idmap=True,
        recursive=True,
        propagation="rprivate",
    )
    assert found["/etc"].data == "mode=0700,size=4096"
    assert found["/etc"].flags == ("nosuid", "noexec", "nodev")


def test_a_bind_may_be_shallow_or_hear_of_the_host() -> None:
    bundle = make(
        mounts=(
            MountSpec(MountKind.BIND, "/a", "/a", recursive=False, propagation="slave"),
            MountSpec(MountKind.BIND, "/b", "/b", read_only=True, shallow=True),
        )
    )
    found = targets(bundle)
    assert (found["/a"].recursive, found["/a"].propagation) == (False, "slave")
    assert (found["/b"].recursive, found["/b"].shallow) == (True, True)
    with pytest.raises(NotSupported, match="rslave"):
        make(mounts=(MountSpec(MountKind.BIND, "/a", "/a", propagation="rshared"),))


def test_a_volume_is_bound_from_where_it_is() -> None:
    mount = MountSpec(MountKind.VOLUME, "/v", "data", True, subpath="a/b", driver="local")
    bundle = make(mounts=(mount,), volumes={"data": "/store/data/_data"})
    assert targets(bundle)["/v"] == Mount(
        "bind",
        "/v",
        "/store/data/_data",
        flags=("nodev", "ro"),
        idmap=True,
        recursive=True,
        propagation="rprivate",
        subpath="a/b",
    )
    assert bundle.volumes == {"data": "local"}


def test_a_device_is_a_node_in_dev() -> None:
    bundle = make(devices=(DeviceSpec("/n/0", "/dev/x"), DeviceSpec("/n/1", "/dev/y", "r")))
    found = targets(bundle)
    assert found["/dev/x"] == Mount(
        "bind", "/dev/x", "/n/0", flags=("nosuid", "noexec"), idmap=True
    )
    assert not found["/dev/y"].idmap  # its root has no rights there but what the node gives
    order = [mount.target for mount in bundle.mounts]
    assert order.index("/dev") < order.index("/dev/x")


def test_a_user_mount_takes_the_place_of_ours() -> None:
    mounts = (
        MountSpec(MountKind.BIND, "/etc/hosts", "/host/hosts"),
        MountSpec(MountKind.TMPFS, "/dev/shm"),
    )
    bundle = make(mounts=mounts)
    assert len(bundle.mounts) == len(targets(bundle))
    assert targets(bundle)["/etc/hosts"].source == "/host/hosts"
    dev = make(mounts=(MountSpec(MountKind.BIND, "/dev", "/dev"),), ipc="host")
    assert [mount.target for mount in dev.mounts if mount.target.startswith("/dev")] == ["/dev"]


def test_a_read_only_root() -> None:
    assert make(security=Security(read_only=True)).mounts[0] == replace(ROOT, flags=("ro",))


def test_further_mounts_of_the_snapshotter_are_kept() -> None:
    extra = Mount("bind", "/usr", source="/usr", flags=("ro",))
    assert extra in make(rootfs=(ROOT, extra)).mounts


def test_the_containers_own_group_is_shown() -> None:
    cgroups = (
        Mount("tmpfs", "/sys/fs/cgroup"),
        Mount("cgroup", "/sys/fs/cgroup/memory", data="memory"),
    )
    bundle = make(host=specs.Host(cgroups=cgroups))
    order = [mount.target for mount in bundle.mounts]
    assert (
        order.index("/sys") < order.index("/sys/fs/cgroup") < order.index("/sys/fs/cgroup/memory")
    )
    assert bundle.read_only[-1] == "/sys/fs/cgroup"


# The rest -------------------------------------------------------------------------------------


def test_names() -> None:
    assert make().hostname == ID[:12]
    assert make(hostname="web", domainname="example.org").domainname == "example.org"
    host = specs.Host(name="laptop")
    assert make(network="host", host=host).hostname == "laptop"
    assert make(uts="host", host=host).hostname == "laptop"
    assert make(network="host", hostname="web", host=host).hostname == "web"


def test_life() -> None:
    bundle = make()
    assert (bundle.stop_signal, bundle.stop_timeout) == ("TERM", 10.0)
    config = replace(SH, stop_signal="SIGQUIT")
    assert make(config).stop_signal == "QUIT"
    assert make(config, stop_signal="int", stop_timeout=-1).stop_signal == "INT"
    assert make(stop_timeout=0).stop_timeout == 0
    assert make(init=True, auto_remove=True).init


def test_a_health_check_in_the_images_shell() -> None:
    config = replace(SH, health=HealthCheck(("CMD-SHELL", "curl x"), interval=3))
    health = make(config).health
    assert health is not None
    assert (health.test, health.interval) == (("CMD", "/bin/sh", "-c", "curl x"), 3)
    bash = make(replace(config, shell=("bash", "-ec"))).health
    assert bash is not None and bash.test == ("CMD", "bash", "-ec", "curl x")
    assert make(config, health=HealthCheck(("NONE",))).health is None


def test_attributes_of_events() -> None:
    config = replace(SH, labels={"a": "1", "b": "2"})
    bundle = make(config, labels={"b": "3", "name": "forged"}, events="/store/events.jsonl")
    assert bundle.attributes == {"a": "1", "b": "3", "name": "box", "image": "app"}
    assert bundle.events == "/store/events.jsonl"


def test_a_bundle_travels() -> None:
    bundle = make(limits=Limits(memory=64 << 20), ulimits=(Ulimit("nofile", 1, 2),))
    assert from_json(Bundle, to_json(bundle)) == bundle


# Exec -----------------------------------------------------------------------------------------


def test_a_further_process_is_as_the_first_one() -> None:
    container = make(replace(SH, env=("A=1",), user="app", workdir="/srv"), env=("B=2",))
    process = specs.process(ExecSpec(("ls",)), container)
    assert process == replace(container.process, argv=("ls",))


def test_a_further_process_may_differ() -> None:
    container = make(env=("A=1", "B=2"))
    asked = ExecSpec(("ls",), ("A=3", "B"), "/tmp", "7", tty=True, interactive=True)
    process = specs.process(asked, container)
    assert (process.cwd, process.user, process.tty, process.stdin) == ("/tmp", "7", True, True)
    assert {"A=3", "TERM=xterm"} <= set(process.env) and "B=2" not in process.env
    assert process.seccomp == "/filter"


def test_a_privileged_further_process() -> None:
    process = specs.process(ExecSpec(("ls",), privileged=True), make())
    assert (process.capabilities, process.seccomp) == (capabilities.ALL, "")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (ExecSpec(()), "No exec command specified"),
        (ExecSpec(("",)), "No exec command specified"),
        (ExecSpec(("ls\0",)), "NUL"),
        (ExecSpec(("ls",), workdir="../x"), "absolute path"),
        (ExecSpec(("ls",), env=("=",)), "invalid environment variable"),
        (ExecSpec(("ls",), user="\0"), "NUL"),
    ],
)
def test_wrong_further_processes(asked: ExecSpec, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        specs.process(asked, make())
