"""The bodies of Docker's requests, between their JSON and the model; pure, both directions.

What a client sends becomes a spec (the API), a spec what a client would send (the remote engine).
Each pair is lossless: ``run_spec(create_body(spec)) == spec`` for what an API client can ask.
Unknown members are passed over and members of the wrong type refused, as Docker does.

Source: Engine API 1.45, ``POST /containers/create`` and the requests named below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

from cellbox.errors import InvalidArgument
from cellbox.model.container import (
    ExecSpec,
    Limits,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
)
from cellbox.model.network import EndpointSpec
from cellbox.model.volume import VolumeSpec
from cellbox.wire.config import config_body, read_config
from cellbox.wire.fields import Fields, Json
from cellbox.wire.host_config import (
    host_config_body,
    limits_json,
    read_host_config,
    read_limits,
    read_restart,
    restart_json,
)
from cellbox.wire.mounts import mounts_json, read_mounts, volumes_json
from cellbox.wire.network_requests import (
    endpoint_body,
    endpoint_spec,
    endpoints_body,
    main_endpoint,
    network_body,
    network_spec,
    read_endpoints,
)
from cellbox.wire.ports import port_bindings_json, read_exposed_ports, read_port_bindings

__all__ = [
    "Anew",
    "create_body",
    "endpoint_body",
    "endpoint_spec",
    "exec_body",
    "exec_spec",
    "network_body",
    "network_spec",
    "remake",
    "remake_body",
    "run_spec",
    "update",
    "update_body",
    "volume_body",
    "volume_spec",
]


def create_body(spec: RunSpec) -> Json:
    """``POST /containers/create``; the platform is a parameter of its URL."""
    return {
        **config_body(spec),
        "HostConfig": host_config_body(spec),
        "NetworkingConfig": endpoints_body(spec.endpoints),
    }


def run_spec(body: object, name_platform: str = "") -> RunSpec:
    """The inverse. The container outlives its client (``detach``), whatever that attaches to."""
    config = Fields(body, "CreateRequest")
    host = config.inner("HostConfig", "HostConfig")
    ports = read_port_bindings(host)
    found = {**read_config(config), **read_host_config(host)}
    if config.flag("NetworkDisabled"):
        found["network"] = "none"
    return RunSpec(
        **found,
        detach=True,
        platform=name_platform,
        mounts=read_mounts(config, host),
        ports=ports,
        exposed=read_exposed_ports(config, ports),
        endpoints=_with_mac(read_endpoints(config), found["network"], config.text("MacAddress")),
    )


def _with_mac(
    endpoints: tuple[EndpointSpec, ...], network: str, mac: str
) -> tuple[EndpointSpec, ...]:
    """Give the container-wide MAC address of clients before API 1.44 to its main network."""
    if not mac:
        return endpoints
    main = main_endpoint(endpoints, network)
    if main is None:
        return (EndpointSpec(network, mac=mac), *endpoints)
    if main.mac not in ("", mac):
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the "
            "main network, or be left empty"
        )
    return tuple(replace(spec, mac=mac) if spec is main else spec for spec in endpoints)


def update_body(limits: Limits | None, restart: RestartPolicy | None) -> Json:
    """``POST /containers/{id}/update``: what is to change."""
    told = {name: value for name, value in limits_json(limits or Limits()).items() if value}
    return {**told, **({"RestartPolicy": restart_json(restart)} if restart else {})}


def update(body: object) -> tuple[Limits, RestartPolicy | None]:
    """The inverse. A limit that is None stays as it is; ``pids`` -1 lifts that limit."""
    request = Fields(body, "UpdateConfig")
    return read_limits(request), read_restart(request)


class Anew(TypedDict, total=False):
    """What of a container is to be other than it is, in the words of the engine's ``update``."""

    ports: Sequence[PortSpec] | None
    mounts: Sequence[MountSpec] | None
    env: Sequence[str] | None


def remake_body(anew: Anew) -> Json:
    """``POST /containers/{id}/remake``, which Docker has not: lists of a create request, of which
    those are left out that are to stay."""
    told: Json = {}
    if (env := anew.get("env")) is not None:
        told["Env"] = list(env)
    if (ports := anew.get("ports")) is not None:
        told["PortBindings"] = port_bindings_json(ports)
    if (mounts := anew.get("mounts")) is not None:
        told |= {**mounts_json(mounts), "Volumes": volumes_json(mounts)}
        told["Mounts"] = told["Mounts"] or []
    return told


def remake(body: object) -> Anew:
    """The inverse. Raises InvalidArgument where nothing is to change."""
    request, found = Fields(body, "RemakeConfig"), Anew()
    if request.given("Env"):
        found["env"] = request.texts("Env")
    if request.given("PortBindings"):
        found["ports"] = read_port_bindings(request)
    if any(request.given(name) for name in ("Binds", "Mounts", "Tmpfs", "Volumes")):
        found["mounts"] = read_mounts(request, request)
    if not found:
        raise InvalidArgument("nothing to change: say Env, PortBindings or Mounts")
    return found


def exec_body(spec: ExecSpec) -> Json:
    """``POST /containers/{id}/exec``."""
    return {
        "AttachStdin": spec.interactive,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": spec.tty,
        "Cmd": list(spec.command),
        "Env": list(spec.env),
        "WorkingDir": spec.workdir,
        "User": spec.user,
        "Privileged": spec.privileged,
    }


def exec_spec(body: object) -> ExecSpec:
    """The inverse. Raises InvalidArgument where there is no command."""
    request = Fields(body, "ExecOptions")
    command = request.words("Cmd")
    if not command:
        raise InvalidArgument("No exec command specified")
    return ExecSpec(
        command,
        env=request.texts("Env"),
        workdir=request.text("WorkingDir"),
        user=request.text("User"),
        tty=request.flag("Tty"),
        interactive=request.flag("AttachStdin"),
        privileged=request.flag("Privileged"),
    )


def volume_body(spec: VolumeSpec) -> Json:
    """``POST /volumes/create``."""
    return {
        "Name": spec.name,
        "Driver": spec.driver,
        "DriverOpts": dict(spec.options),
        "Labels": dict(spec.labels),
    }


def volume_spec(body: object) -> VolumeSpec:
    """The inverse."""
    request = Fields(body, "CreateOptions")
    return VolumeSpec(
        name=request.text("Name"),
        driver=request.text("Driver") or "local",
        options=request.text_map("DriverOpts"),
        labels=request.text_map("Labels"),
    )
