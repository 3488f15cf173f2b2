"""The engine as a whole, in Docker's shapes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import Container, RunSpec, Status
from cellbox.model.image import Image, ImageConfig, Layer, Platform
from cellbox.model.plugin import Plugin, PluginKind
from cellbox.model.system import DiskUsage, Info
from cellbox.model.volume import Volume
from cellbox.wire.system import (
    disk_usage_from,
    disk_usage_json,
    info_from,
    info_json,
    plugins_from,
    shared_sizes,
    version_json,
)

INFO = Info(
    "id", "0.1.0", "/root", "root", "6.1", "x86_64", "Debian", 2, 1 << 30, "overlay", "2",
    ("memory", "pids"), 3, 1, 1, 1, 5, ("no nft",),
)  # fmt: skip
GONE = {"KernelMemory"}
"""Keys that API 1.45 has no more."""


def test_the_keys_of_info_are_those_of_a_daemon(dockerd):
    told = info_json(INFO, now=0.0)
    assert set(dockerd["info"]) - GONE <= set(told)
    for part in ("Swarm", "Plugins", "RegistryConfig"):
        assert set(told[part]) == set(dockerd["info"][part])


def test_what_clients_decide_by():
    told = info_json(INFO, now=0.0, name="box", listeners=2)
    assert told["Swarm"]["LocalNodeState"] == "inactive"
    assert told["RegistryConfig"]["InsecureRegistryCIDRs"] == ["127.0.0.0/8"]
    assert told["DefaultRuntime"] in told["Runtimes"]
    assert (told["Driver"], told["CgroupDriver"], told["CgroupVersion"]) == (
        "overlay2", "cgroupfs", "2",
    )  # fmt: skip
    assert (told["MemoryLimit"], told["PidsLimit"], told["CPUSet"]) == (True, True, False)
    assert (told["Name"], told["NEventsListener"], told["Warnings"]) == ("box", 2, ["no nft"])
    assert told["LiveRestoreEnabled"] is True


def test_isolation_is_told_as_security_options():
    assert "name=userns" in info_json(INFO, now=0.0)["SecurityOptions"]
    rootless = info_json(replace(INFO, mode="rootless", cgroup_controllers=()), now=0.0)
    assert "name=rootless" in rootless["SecurityOptions"]
    assert rootless["CgroupDriver"] == "none"


def test_plugins_that_can_be_loaded_are_named():
    plugins = [
        Plugin(PluginKind.LOG, "none", "built in", "x"),
        Plugin(PluginKind.LOG, "json-file", "built in", "x"),
        Plugin(PluginKind.VOLUME, "bad", "theirs", "x", error="no"),
        Plugin(PluginKind.SNAPSHOTTER, "overlay", "built in", "x"),
    ]
    told = info_json(INFO, plugins, now=0.0)
    assert told["Plugins"] == {
        "Volume": [], "Network": [], "Authorization": None, "Log": ["json-file", "none"],
    }  # fmt: skip
    assert [one.name for one in plugins_from(told)] == ["json-file", "none"]


def test_a_daemons_info(dockerd):
    found = info_from(dockerd["info"])
    assert (found.version, found.snapshotter, found.mode) == ("20.10.24+dfsg1", "overlay2", "root")
    assert (found.containers, found.cpus, found.root) == (14, 2, "/var/lib/docker")
    assert found.cgroup_controllers == ("memory", "cpu", "cpuset", "pids")
    assert "macvlan" in [one.name for one in plugins_from(dockerd["info"])]
    dockerd["info"]["SecurityOptions"].append("name=rootless")
    assert info_from(dockerd["info"]).mode == "rootless"


@pytest.mark.parametrize("mode", ["root", "rootless", "rootless, single id"])
def test_info_there_and_back(mode):
    facts = replace(INFO, mode=mode)
    assert info_from(json.loads(json.dumps(info_json(facts, now=0.0)))) == facts


def test_values_of_the_wrong_type_are_refused():
    with pytest.raises(InvalidArgument):
        info_from({"ID": 1})


def test_the_version_names_the_api(dockerd):
    told = version_json("0.1.0", "6.1", Platform())
    assert (told["ApiVersion"], told["MinAPIVersion"]) == ("1.45", "1.12")
    assert set(dockerd["version"]) <= set(told)
    engine = told["Components"][0]
    assert engine["Name"] == "Engine"
    assert set(engine["Details"]) == set(dockerd["version"]["Components"][0]["Details"])


# --- disk usage ----------------------------------------------------------------------------------

BASE, OWN = Layer("sha256:base", 100), Layer("sha256:own", 20)
IMAGES = (
    Image("sha256:a", ("a:1",), (), (BASE,), ImageConfig(), Platform(), 100),
    Image("sha256:b", ("b:1",), (), (BASE, OWN), ImageConfig(), Platform(), 120),
)
RUNS = Container("1" * 64, "r", "sha256:b", RunSpec("b:1"), ("x",), Status.RUNNING, 0.0)
ENDED = replace(RUNS, id="2" * 64, status=Status.EXITED)
VOLUMES = (Volume("used", "local", "", 0.0, users=("1",)), Volume("idle", "local", "", 0.0))


def usage():
    return disk_usage_json(
        IMAGES,
        (RUNS, ENDED),
        VOLUMES,
        sizes={RUNS.id: (5, 125), ENDED.id: (7, 127)},
        volume_sizes={"used": 3, "idle": 4},
        now=0.0,
    )


def test_a_shared_layer_counts_once(dockerd):
    told = usage()
    assert set(told) == set(dockerd["df"])
    assert told["LayersSize"] == 120
    assert [one["SharedSize"] for one in told["Images"]] == [100, 100]
    assert [one["Containers"] for one in told["Images"]] == [0, 2]
    assert set(told["Volumes"][0]["UsageData"]) == {"Size", "RefCount"}
    assert shared_sizes(IMAGES[1:]) == {"sha256:b": 0}


def test_layers_that_do_not_tell_their_size_count_as_their_image():
    image = replace(IMAGES[0], layers=(Layer("sha256:base", 0),))
    told = disk_usage_json((image,), (), (), sizes={}, volume_sizes={}, now=0.0)
    assert told["LayersSize"] == 100


def test_the_rows_are_the_command_lines():
    assert disk_usage_from(json.loads(json.dumps(usage()))) == [
        DiskUsage("Images", 2, 1, 120, 100),
        DiskUsage("Containers", 2, 1, 12, 7),
        DiskUsage("Local Volumes", 2, 1, 7, 4),
        DiskUsage("Build Cache", 0, 0, 0, 0),
    ]


def test_a_daemons_usage(dockerd):
    images, containers, volumes, _ = disk_usage_from(dockerd["df"])
    assert images == DiskUsage("Images", 2, 2, 1984517, 1984515)
    assert (containers.total, containers.active, containers.size) == (14, 7, 196)
    assert (volumes.total, volumes.active) == (3, 3)


def test_the_build_cache_and_what_nobody_measured():
    told = {
        "Volumes": [{"UsageData": {"Size": -1, "RefCount": -1}}, {}],
        "BuildCache": [
            {"Size": 5, "InUse": True}, {"Size": 6, "InUse": False}, {"Size": 7, "Shared": True},
        ],
    }  # fmt: skip
    _, _, volumes, cache = disk_usage_from(told)
    assert volumes == DiskUsage("Local Volumes", 2, 0, 0, 0)
    assert cache == DiskUsage("Build Cache", 3, 1, 11, 6)
