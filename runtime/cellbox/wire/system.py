"""The engine as a whole: ``docker info``, ``docker version`` and ``docker system df``, and back;
pure.

Source: Engine API 1.45, ``SystemInfo``, ``SystemVersion``, ``SystemDataUsageResponse``; docker/cli
``cli/command/system``, ``cli/command/formatter/disk_usage.go`` (what is read of them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellbox.model.container import Container
from cellbox.model.image import Image, Platform
from cellbox.model.plugin import Plugin, PluginKind
from cellbox.model.system import DiskUsage, Info
from cellbox.model.times import timestamp
from cellbox.model.volume import Volume
from cellbox.wire.containers import Sizes, container_summary
from cellbox.wire.fields import Fields, Json
from cellbox.wire.images import image_summary
from cellbox.wire.volumes import volume_json

API_VERSION = "1.45"
"""The newest version of the Engine API that is spoken. From 1.52 on shapes that clients read are
gone."""

MIN_API_VERSION = "1.12"

_RUNTIME = "cellbox"
_DRIVERS = {"overlay": "overlay2", "copying": "vfs"}
"""Docker's names of storage drivers for our snapshotters."""

_CONTROLLERS = {
    "memory": ("MemoryLimit", "SwapLimit"),
    "cpu": ("CpuCfsPeriod", "CpuCfsQuota", "CPUShares"),
    "cpuset": ("CPUSet",),
    "pids": ("PidsLimit",),
}
"""For each controller of a control group what it makes possible."""

_PLUGINS = {
    PluginKind.VOLUME: "Volume",
    PluginKind.NETWORK: "Network",
    PluginKind.LOG: "Log",
}
_ACTIVE = frozenset({"running", "paused", "restarting"})
_NO_COMMIT = {"ID": "", "Expected": ""}


# --- info ----------------------------------------------------------------------------------------


def info_json(
    info: Info, plugins: Iterable[Plugin] = (), *, name: str = "", now: float, listeners: int = 0
) -> Json:
    """``docker info``; ``name`` is the host's, ``listeners`` counts clients that follow events."""
    return {
        "ID": info.id,
        **_counts(info),
        "Driver": _DRIVERS.get(info.snapshotter, info.snapshotter),
        "DriverStatus": [["Snapshotter", info.snapshotter], ["Mode", info.mode]],
        "Plugins": _plugins(plugins),
        **_abilities(info),
        "Debug": False,
        "NFd": 0,
        "NGoroutines": 0,
        "SystemTime": timestamp(now),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs" if info.cgroup_controllers else "none",
        "CgroupVersion": info.cgroup_version,
        "NEventsListener": listeners,
        **_machine(info, name),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registry_config(),
        "GenericResources": None,
        "DockerRootDir": info.root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": info.version,
        **_runtimes(),
        "Swarm": _no_swarm(),
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "ProductLicense": "",
        "DefaultAddressPools": None,
        "SecurityOptions": _security_options(info),
        "CDISpecDirs": [],
        "Warnings": list(info.warnings) or None,
    }


def _counts(info: Info) -> Json:
    return {
        "Containers": info.containers,
        "ContainersRunning": info.containers_running,
        "ContainersPaused": info.containers_paused,
        "ContainersStopped": info.containers_stopped,
        "Images": info.images,
    }


def _machine(info: Info, name: str) -> Json:
    return {
        "Name": name,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": info.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
    }


def _plugins(plugins: Iterable[Plugin]) -> Json:
    found: Json = {told: [] for told in _PLUGINS.values()}
    for plugin in plugins:
        if plugin.kind in _PLUGINS and plugin.enabled and not plugin.error:
            found[_PLUGINS[plugin.kind]].append(plugin.name)
    return {"Authorization": None, **{told: sorted(names) for told, names in found.items()}}


def _abilities(info: Info) -> Json:
    limits = {
        ability: controller in info.cgroup_controllers
        for controller, abilities in _CONTROLLERS.items()
        for ability in abilities
    }
    return {
        **limits,
        "KernelMemoryTCP": False,
        "OomKillDisable": False,
        "IPv4Forwarding": True,
        "BridgeNfIptables": False,
        "BridgeNfIp6tables": False,
    }


def _registry_config() -> Json:
    """Registries on this machine may be reached without TLS, as with Docker."""
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": {
            "docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
        },
        "Mirrors": None,
    }


def _runtimes() -> Json:
    return {
        "Runtimes": {_RUNTIME: {"path": _RUNTIME}},
        "DefaultRuntime": _RUNTIME,
        "InitBinary": "",
        "ContainerdCommit": dict(_NO_COMMIT),
        "RuncCommit": dict(_NO_COMMIT),
        "InitCommit": dict(_NO_COMMIT),
    }


def _no_swarm() -> Json:
    return {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    }


def _security_options(info: Info) -> list[str]:
    """Every container has a user namespace of its own; without root the engine has one too."""
    own = "name=userns" if info.mode == "root" else "name=rootless"
    return ["name=seccomp,profile=builtin", own, "name=cgroupns"]


def info_from(body: object) -> Info:
    """The facts that a daemon tells of itself; ``mode`` and ``snapshotter`` as near as it says."""
    told = Fields(body, "Info")
    driver = told.text("Driver")
    status = _driver_status(body)
    mode = "rootless" if "name=rootless" in told.texts("SecurityOptions") else "root"
    return Info(
        id=told.text("ID"),
        version=told.text("ServerVersion"),
        root=told.text("DockerRootDir"),
        mode=status.get("Mode", mode),
        kernel=told.text("KernelVersion"),
        architecture=told.text("Architecture"),
        operating_system=told.text("OperatingSystem"),
        cpus=told.whole("NCPU"),
        memory=told.whole("MemTotal"),
        snapshotter=status.get("Snapshotter", driver),
        cgroup_version=told.text("CgroupVersion") or "1",
        cgroup_controllers=tuple(
            name for name, (ability, *_) in _CONTROLLERS.items() if told.flag(ability)
        ),
        containers=told.whole("Containers"),
        containers_running=told.whole("ContainersRunning"),
        containers_paused=told.whole("ContainersPaused"),
        containers_stopped=told.whole("ContainersStopped"),
        images=told.whole("Images"),
        warnings=told.texts("Warnings"),
    )


def _driver_status(body: Any) -> dict[str, str]:
    pairs = body.get("DriverStatus") or ()
    return {str(pair[0]): str(pair[1]) for pair in pairs if len(pair) == 2}


def plugins_from(body: object) -> list[Plugin]:
    """The drivers that ``docker info`` names, each as a plugin of the daemon's."""
    told = Fields(body, "Info").inner("Plugins", "PluginsInfo")
    return [
        Plugin(kind, name, origin="engine", reference=name)
        for kind, list_of_names in _PLUGINS.items()
        for name in told.texts(list_of_names)
    ]


# --- version -------------------------------------------------------------------------------------


def version_json(version: str, kernel: str, platform: Platform) -> Json:
    """``docker version``: the server's half."""
    details = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": platform.os,
        "Arch": platform.architecture,
        "KernelVersion": kernel,
        "BuildTime": "",
    }
    return {
        "Platform": {"Name": "cellbox"},
        "Version": version,
        **details,
        "Experimental": False,
        "Components": [
            {
                "Name": "Engine",
                "Version": version,
                "Details": {**details, "Experimental": "false"},
            }
        ],
    }


# --- disk usage ----------------------------------------------------------------------------------


def disk_usage_json(
    images: Sequence[Image],
    containers: Sequence[Container],
    volumes: Sequence[Volume],
    *,
    sizes: Mapping[str, Sizes],
    volume_sizes: Mapping[str, int],
    now: float,
) -> Json:
    """``docker system df``: each object with its size. ``sizes`` are by a container's id,
    ``volume_sizes`` by a volume's name; what is not there counts as empty."""
    layers = {layer.diff_id: layer.size for image in images for layer in image.layers}
    users = Counter(one.image_id for one in containers)
    shared = shared_sizes(images)
    return {
        "LayersSize": sum(layers.values()) + sum(map(_unknown_size, images)),
        "Images": [
            {**image_summary(one, users[one.id]), "SharedSize": shared[one.id]} for one in images
        ],
        "Containers": [
            container_summary(one, sizes=sizes.get(one.id, (0, 0)), now=now) for one in containers
        ],
        "Volumes": [volume_json(one, volume_sizes.get(one.name, 0)) for one in volumes],
        "BuildCache": [],
        "BuilderSize": 0,
    }


def _unknown_size(image: Image) -> int:
    """The size of an image whose layers do not tell theirs, as some daemons have it."""
    return 0 if any(layer.size for layer in image.layers) else image.size


def shared_sizes(images: Iterable[Image]) -> dict[str, int]:
    """For each image, by its id, the bytes of the layers that another one of them has too."""
    layers = {one.id: {layer.diff_id: layer.size for layer in one.layers} for one in images}
    users = Counter(diff_id for own in layers.values() for diff_id in own)
    return {
        id: sum(size for diff_id, size in own.items() if users[diff_id] > 1)
        for id, own in layers.items()
    }


def disk_usage_from(body: Json) -> list[DiskUsage]:
    """The rows of ``docker system df``, as the docker command works them out."""
    return [
        _of_images(body.get("Images") or (), int(body.get("LayersSize") or 0)),
        _of_containers(body.get("Containers") or ()),
        _of_volumes(body.get("Volumes") or ()),
        _of_build_cache(body.get("BuildCache") or ()),
    ]


def _of_images(images: Sequence[Json], total: int) -> DiskUsage:
    used = [one for one in images if _number(one, "Containers")]
    known = [one for one in used if -1 not in (_number(one, "Size"), _number(one, "SharedSize"))]
    own = sum(_number(one, "Size") - _number(one, "SharedSize") for one in known)
    active = sum(_number(one, "Containers") > 0 for one in used)
    return DiskUsage("Images", len(images), active, total, total - own)


def _of_containers(containers: Sequence[Json]) -> DiskUsage:
    active = [one for one in containers if one.get("State") in _ACTIVE]
    size = sum(_number(one, "SizeRw") for one in containers)
    busy = sum(_number(one, "SizeRw") for one in active)
    return DiskUsage("Containers", len(containers), len(active), size, size - busy)


def _of_volumes(volumes: Sequence[Json]) -> DiskUsage:
    usages = [one.get("UsageData") or {"Size": -1, "RefCount": -1} for one in volumes]
    known = [one for one in usages if _number(one, "Size") != -1]
    active = sum(_number(one, "RefCount") > 0 for one in usages)
    size = sum(_number(one, "Size") for one in known)
    idle = sum(_number(one, "Size") for one in known if not _number(one, "RefCount"))
    return DiskUsage("Local Volumes", len(volumes), active, size, idle)


def _of_build_cache(records: Sequence[Json]) -> DiskUsage:
    own = [one for one in records if not one.get("Shared")]
    active = sum(bool(one.get("InUse")) for one in records)
    size = sum(_number(one, "Size") for one in own)
    idle = sum(_number(one, "Size") for one in own if not one.get("InUse"))
    return DiskUsage("Build Cache", len(records), active, size, idle)


def _number(told: Mapping[str, Any], key: str) -> int:
    return int(told.get(key) or 0)
