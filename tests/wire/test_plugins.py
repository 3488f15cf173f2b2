"""Plugins as JSON, both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.plugin import (
    Plugin,
    PluginConfig,
    PluginDevice,
    PluginKind,
    PluginMount,
    PluginSettings,
    PluginVariable,
    Privilege,
)
from cellbox.wire.plugins import (
    config_from,
    config_json,
    plugin_from,
    plugin_json,
    privileges_from,
    privileges_json,
)

CONFIG = PluginConfig(
    description="Shelves",
    documentation="https://example.org",
    types=("docker.volumedriver/1.0", "docker.authz/1.0"),
    socket="it.sock",
    entrypoint=("/it", "-v"),
    workdir="/w",
    user="5:6",
    network="host",
    capabilities=("CAP_SYS_ADMIN",),
    all_devices=True,
    devices=(PluginDevice("fuse", "d", "/dev/fuse", ("path",)),),
    mounts=(PluginMount("srv", "d", "/srv", "/mnt", "bind", ("rbind",), ("source",)),),
    propagated="/data",
    host_ipc=True,
    host_pid=True,
    env=(PluginVariable("A", "d", "1", ("value",)), PluginVariable("B")),
    arguments=("x",),
    arguments_name="args",
    arguments_description="d",
    arguments_settable=("value",),
)
MANAGED = Plugin(
    PluginKind.VOLUME, "lab/x:1", "image lab/x:1", "lab/x:1", enabled=True, id="ab" * 32,
    config=CONFIG, settings=PluginSettings(("A=2",), ("y",), {"srv": "/other"}, {"fuse": "/dev/f"}),
)  # fmt: skip


def test_a_config_comes_back_whole():
    assert config_from(config_json(CONFIG)) == CONFIG
    assert config_from(config_json(PluginConfig())) == PluginConfig()


def test_a_config_as_its_maker_writes_it():
    found = config_from({
        "description": "d", "interface": {"types": ["docker.volumedriver/1.0"], "socket": "s.sock"},
        "linux": {"capabilities": ["CAP_NET_ADMIN"]}, "propagatedMount": "/m",
        "env": [{"name": "A", "value": None}], "user": {"uid": 5},
    })  # fmt: skip
    assert (found.types, found.socket) == (("docker.volumedriver/1.0",), "s.sock")
    assert (found.capabilities, found.propagated, found.user) == (("CAP_NET_ADMIN",), "/m", "5:0")
    assert found.env == (PluginVariable("A"),)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"interface": []},
        {"interface": {"types": 5}},
        {"interface": {"types": [5]}},
        {"interface": {"socket": "../x"}},
        {"interface": {"socket": ".."}},
        {"env": {}},
        {"mounts": [5]},
    ],
)
def test_nonsense_is_refused(body):
    with pytest.raises(InvalidArgument):
        config_from(body)


@pytest.mark.parametrize(
    "plugin",
    [
        MANAGED,
        replace(MANAGED, enabled=False),
        Plugin(PluginKind.VOLUME, "nfs", "nfs-volumes", "nfs:Volumes"),
        Plugin(PluginKind.SCHEDULER, "spread", "mine", "mine:Spread"),
        Plugin(PluginKind.AUTHZ, "gate", "socket /run/gate.sock", "unix:///run/gate.sock"),
        Plugin(PluginKind.LOG, "bad", "bad-logs", "bad:Log", "no module", enabled=False),
    ],
)
def test_a_plugin_comes_back_whole(plugin):
    assert plugin_from(plugin_json(plugin)) == plugin


def test_settings_are_what_is_inspected():
    told = plugin_json(MANAGED)
    assert told["Settings"]["Mounts"][0]["Source"] == "/other"
    assert told["Config"]["Mounts"][0]["Source"] == "/srv"
    assert told["Settings"]["Devices"][0]["Path"] == "/dev/f"
    assert (told["Settings"]["Env"], told["Settings"]["Args"]) == (["A=2"], ["y"])


def test_privileges():
    wanted = [Privilege("mount", "host path to mount", ("/srv",)), Privilege("x", "", ())]
    assert privileges_from(privileges_json(wanted)) == wanted
    assert privileges_from(None) == []
    with pytest.raises(InvalidArgument):
        privileges_from([5])
