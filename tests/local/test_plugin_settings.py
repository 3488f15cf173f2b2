"""What plugins want, how they are set up, and as what they run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.local import plugin_settings as settings
from cellbox.model.container import DeviceSpec, MountKind, MountSpec
from cellbox.model.plugin import (
    PluginConfig,
    PluginDevice,
    PluginMount,
    PluginVariable,
    Privilege,
)

CONFIG = PluginConfig(
    entrypoint=("/it",),
    workdir="/w",
    env=(PluginVariable("A", value="1", settable=("value",)), PluginVariable("B")),
    arguments=("x",),
    arguments_settable=("value",),
    mounts=(PluginMount("srv", target="/srv", settable=("source",)),),
    devices=(PluginDevice("fuse", settable=("path",)),),
)
GREEDY = PluginConfig(
    network="host",
    host_ipc=True,
    host_pid=True,
    mounts=(PluginMount("m", source="/a", target="/b"),),
    devices=(PluginDevice("d", path="/dev/fuse"),),
    all_devices=True,
    capabilities=("CAP_SYS_ADMIN", "CAP_NET_ADMIN"),
)


def run(config, chosen=None):
    chosen = chosen or settings.defaults(config)
    return settings.run_spec("i", config, chosen, sockets="/sockets", propagated="/shared")


def test_what_it_wants_is_told():
    assert settings.privileges(CONFIG) == []
    assert [(one.name, one.values) for one in settings.privileges(GREEDY)] == [
        ("network", ("host",)),
        ("host ipc namespace", ("true",)),
        ("host pid namespace", ("true",)),
        ("mount", ("/a",)),
        ("device", ("/dev/fuse",)),
        ("allow-all-devices", ("true",)),
        ("capabilities", ("CAP_SYS_ADMIN", "CAP_NET_ADMIN")),
    ]


def test_all_of_it_must_be_agreed_to():
    wanted = settings.privileges(GREEDY)
    settings.check_agreed(GREEDY, wanted[::-1])
    settings.check_agreed(CONFIG, [])
    for agreed in (wanted[1:], [*wanted, wanted[0]], [Privilege("mount", "", ("/c",))]):
        with pytest.raises(InvalidArgument, match="incorrect privileges"):
            settings.check_agreed(GREEDY, agreed)


def test_settings_change_one_thing():
    made = settings.defaults(CONFIG)
    assert (made.env, made.arguments) == (("A=1",), ("x",))
    for text in ("A=2=3", "args=a b", "srv.source=/data", "fuse.path=/dev/fuse"):
        made = settings.changed(CONFIG, made, text)
    assert (made.env, made.arguments) == (("A=2=3",), ("a", "b"))
    assert (made.mounts, made.devices) == ({"srv": "/data"}, {"fuse": "/dev/fuse"})


@pytest.mark.parametrize("text", ["B=1", "A.settable=1", "C=1", "=1", "A", "srv.target=/"])
def test_what_may_not_be_set(text):
    with pytest.raises(InvalidArgument):
        settings.changed(CONFIG, settings.defaults(CONFIG), text)


def test_it_runs_as_any_container_unless_it_wants_more():
    chosen = settings.defaults(CONFIG)
    with pytest.raises(InvalidArgument, match="mount 'srv' .*set it first"):
        run(CONFIG)
    chosen = settings.changed(CONFIG, chosen, "srv.source=/data")
    with pytest.raises(InvalidArgument, match="device 'fuse' .*set it first"):
        run(CONFIG, chosen)
    spec = run(CONFIG, settings.changed(CONFIG, chosen, "fuse.path=/dev/fuse"))
    assert spec.mounts == (
        MountSpec(MountKind.BIND, "/run/docker/plugins", "/sockets"),
        MountSpec(MountKind.BIND, "/srv", "/data"),
    )
    assert spec.devices == (DeviceSpec("/dev/fuse", "/dev/fuse"),)
    assert (spec.network, spec.security.userns, spec.detach) == ("none", "private", True)
    assert (spec.entrypoint, spec.command, spec.env) == (("/it",), ("x",), ("A=1",))


def test_one_that_wants_more_gets_it():
    with pytest.raises(NotSupported, match="all devices"):
        run(GREEDY)
    with pytest.raises(NotSupported, match="what a plugin mounts stays in the plugin"):
        run(replace(GREEDY, all_devices=False, propagated="/p"))
    greedy = replace(GREEDY, all_devices=False, capabilities=("CAP_NET_ADMIN",))
    spec = run(replace(greedy, propagated="/p"))
    assert (spec.network, spec.pid, spec.ipc) == ("host", "host", "host")
    assert (spec.security.userns, spec.security.cap_add) == ("host", ("CAP_NET_ADMIN",))
    assert MountSpec(MountKind.BIND, "/p", "/shared") in spec.mounts
