"""Containers as ``docker inspect`` and ``docker ps`` tell them, and back; pure.

Source: Engine API 1.45, ``ContainerInspect`` and ``ContainerSummary``; moby ``daemon/inspect.go``,
``daemon/list.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellbox.errors import InvalidArgument, InvalidReference
from cellbox.model import reference
from cellbox.model.container import (
    Container,
    Health,
    MountKind,
    MountPoint,
    RunSpec,
    Status,
)
from cellbox.model.image import Image, ImageConfig
from cellbox.model.network import Endpoint, EndpointSpec
from cellbox.model.times import instant, timestamp
from cellbox.wire.config import config_json
from cellbox.wire.endpoints import (
    network_settings_json,
    networks_json,
    ports_summary,
    read_networks,
    read_ports,
)
from cellbox.wire.fields import Fields, Json
from cellbox.wire.host_config import SHM_SIZE, host_config_json
from cellbox.wire.humanize import status
from cellbox.wire.ports import exposed_ports_json
from cellbox.wire.requests import run_spec

Sizes = tuple[int, int]
"""Bytes of a container's writable layer, and of that and the image together."""

_ALIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
_NO_NETWORK = frozenset({"host", "none"})


def container_json(
    facts: Container,
    image: Image | None = None,
    *,
    sizes: Sizes | None = None,
    execs: Sequence[str] = (),
) -> Json:
    """``docker inspect CONTAINER``; ``image`` fills in what the request left to it, ``execs`` are
    the ids of further processes that run in it."""
    spec = facts.spec
    config = image.config if image else ImageConfig()
    path, *arguments = facts.command or ("",)
    return {
        "Id": facts.id,
        "Created": timestamp(facts.created),
        "Path": path,
        "Args": arguments,
        "State": _state(facts),
        "Image": facts.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{facts.name}",
        "RestartCount": facts.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(execs) or None,
        "HostConfig": host_config_json(spec),
        "GraphDriver": {"Name": "overlay2", "Data": None},
        **_sizes_json(sizes),
        "Mounts": [_mount_point(mount) for mount in facts.mounts],
        "Config": config_json(spec, config, hostname=facts.short_id),
        "NetworkSettings": network_settings_json(facts, _exposed(spec, config)),
    }


def container_summary(
    facts: Container, image: Image | None = None, *, sizes: Sizes | None = None, now: float
) -> Json:
    """One entry of ``docker ps``; ``now`` is what its age is measured from."""
    config = image.config if image else ImageConfig()
    return {
        "Id": facts.id,
        "Names": [f"/{facts.name}"],
        "Image": _image_name(facts, image),
        "ImageID": facts.image_id,
        "Command": " ".join(_quoted(facts.command)),
        "Created": int(facts.created),
        "Ports": ports_summary(facts, _exposed(facts.spec, config)),
        **_sizes_json(sizes),
        "Labels": {**config.labels, **facts.spec.labels},
        "State": str(facts.status),
        "Status": status(facts, now),
        "HostConfig": {"NetworkMode": facts.spec.network},
        "NetworkSettings": {"Networks": networks_json(facts)},
        "Mounts": [_mount_point(mount) for mount in facts.mounts],
    }


def _state(facts: Container) -> Json:
    state: Json = {
        "Status": str(facts.status),
        "Running": facts.status in _ALIVE,
        "Paused": facts.status is Status.PAUSED,
        "Restarting": facts.status is Status.RESTARTING,
        "OOMKilled": facts.oom_killed,
        "Dead": facts.status is Status.DEAD,
        "Pid": facts.pid,
        "ExitCode": facts.exit_code,
        "Error": facts.error,
        "StartedAt": timestamp(facts.started),
        "FinishedAt": timestamp(facts.finished),
    }
    if facts.health is not None:
        state["Health"] = {
            "Status": facts.health.status,
            "FailingStreak": facts.health.failing_streak,
            "Log": [_probe(entry) for entry in facts.health.log],
        }
    return state


def _probe(entry: Mapping[str, Any]) -> Json:
    return {
        "Start": timestamp(entry.get("start")),
        "End": timestamp(entry.get("end")),
        "ExitCode": entry.get("exit_code", 0),
        "Output": entry.get("output", ""),
    }


def _sizes_json(sizes: Sizes | None) -> Json:
    return {"SizeRw": sizes[0], "SizeRootFs": sizes[1]} if sizes else {}


def _exposed(spec: RunSpec, image: ImageConfig) -> Iterable[str]:
    """The ports that are or may be published, of which a container without a network of its own has
    none."""
    if spec.network in _NO_NETWORK or spec.network.startswith("container:"):
        return ()
    return exposed_ports_json(spec, image.exposed_ports) or ()


def _image_name(facts: Container, image: Image | None) -> str:
    """What the user called the image, or its id where that name stands for another one by now."""
    asked = facts.spec.image
    if image is None or image.id.partition(":")[2].startswith(asked.removeprefix("sha256:")):
        return asked
    try:
        familiar = reference.parse(asked).familiar
    except InvalidReference:
        return facts.image_id
    return asked if familiar in (*image.tags, *image.digests) else facts.image_id


def _quoted(command: Iterable[str]) -> Iterable[str]:
    """Docker marks arguments with blanks, and escapes nothing."""
    for place, word in enumerate(command):
        yield f"'{word}'" if place and " " in word else word


def _mount_point(mount: MountPoint) -> Json:
    names = {"Name": mount.name, "Driver": mount.driver}
    return {
        "Type": str(mount.kind),
        **{key: value for key, value in names.items() if value},
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": mount.propagation,
    }


# --- and back ------------------------------------------------------------------------------------


def container_from(body: object) -> Container:
    """The container that a daemon tells. Its spec is what was asked and what the image filled in,
    as the daemon does not tell them apart.

    Raises InvalidArgument for values of the wrong type.
    """
    told = Fields(body, "ContainerJSON")
    state = told.inner("State", "State")
    settings = told.inner("NetworkSettings", "NetworkSettings")
    id, name = told.text("Id"), told.text("Name").removeprefix("/")
    endpoints = read_networks(settings, id, name)
    return Container(
        id=id,
        name=name,
        image_id=told.text("Image"),
        spec=_read_spec(body, id, endpoints),
        command=tuple(word for word in (told.text("Path"),) if word) + told.texts("Args"),
        created=instant(told.text("Created")) or 0.0,
        restarts=told.whole("RestartCount"),
        endpoints=tuple(one for one in endpoints if one.network_id),
        ports=read_ports(settings),
        mounts=_read_mounts(told),
        **_read_state(state),
    )


def _read_state(state: Fields) -> dict[str, Any]:
    return {
        "status": _read_status(state),
        "started": instant(state.text("StartedAt")),
        "finished": instant(state.text("FinishedAt")),
        "pid": state.whole("Pid"),
        "exit_code": state.whole("ExitCode"),
        "oom_killed": state.flag("OOMKilled"),
        "error": state.text("Error"),
        "health": _read_health(state.inner("Health", "Health")),
    }


def _read_status(state: Fields) -> Status:
    try:
        return Status(state.text("Status"))
    except ValueError:  # a word of another engine's, or of a daemon that has none
        return Status.RUNNING if state.flag("Running") else Status.EXITED


def _read_health(health: Fields) -> Health | None:
    word = health.text("Status")
    if word in ("", "none"):
        return None
    log = tuple(
        {
            "start": instant(probe.text("Start")),
            "end": instant(probe.text("End")),
            "exit_code": probe.whole("ExitCode"),
            "output": probe.text("Output"),
        }
        for probe in health.items("Log", "HealthcheckResult")
    )
    return Health(word, health.whole("FailingStreak"), log)


def _read_mounts(told: Fields) -> tuple[MountPoint, ...]:
    """Those of the kinds that this model has."""
    return tuple(
        MountPoint(
            MountKind(mount.text("Type")),
            target=mount.text("Destination"),
            source=mount.text("Source"),
            read_only=not mount.flag("RW"),
            name=mount.text("Name"),
            driver=mount.text("Driver"),
            propagation=mount.text("Propagation"),
        )
        for mount in told.items("Mounts", "MountPoint")
        if mount.text("Type") in set(MountKind)
    )


def _read_spec(body: Any, id: str, endpoints: Iterable[Endpoint]) -> RunSpec:
    config, host = _member(body, "Config"), _member(body, "HostConfig")
    try:
        spec = run_spec({**config, "HostConfig": {**host, "Mounts": _known_mounts(host)}})
    except InvalidArgument:  # something that this engine has not got
        spec = run_spec({**config, "HostConfig": {"NetworkMode": host.get("NetworkMode")}})
    return replace(
        spec,
        hostname="" if spec.hostname == id[:12] else spec.hostname,
        ipc="" if spec.ipc == "private" else spec.ipc,
        shm_size=None if spec.shm_size == SHM_SIZE else spec.shm_size,
        endpoints=_asked_for(spec.network, endpoints),
    )


def _member(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name) or {}
    if not isinstance(found, Mapping):
        raise InvalidArgument(f"what the engine tells as {name} is not an object")
    return found


def _known_mounts(host: Mapping[str, Any]) -> list[Any]:
    kinds = set(MountKind)
    return [one for one in host.get("Mounts") or () if Fields(one, "Mount").text("Type") in kinds]


def _asked_for(network: str, endpoints: Iterable[Endpoint]) -> tuple[EndpointSpec, ...]:
    """What was asked of networks beyond the name of the first one."""
    main = "bridge" if network == "default" else network
    specs = [one.spec for one in endpoints]
    return tuple(spec for spec in specs if spec != EndpointSpec(main))
