"""``Config``: what a container runs and as whom, between Docker's JSON and a RunSpec; pure.

:func:`config_body` tells what was asked, :func:`config_json` also what the image fills in, as
``docker inspect`` shows it; :func:`read_config` is the inverse of the first.

Source: Engine API 1.45, ``ContainerConfig`` and ``HealthConfig``; moby ``daemon/commit.go``
(merge).
"""

from __future__ import annotations

import math
from typing import Any

from cellbox.model.container import HealthCheck, RunSpec
from cellbox.model.image import ImageConfig
from cellbox.wire.fields import Fields, Json
from cellbox.wire.mounts import volumes_json
from cellbox.wire.network_requests import main_endpoint
from cellbox.wire.ports import exposed_ports_json

_NANO = 1_000_000_000
_STREAMS = {"stdin": "AttachStdin", "stdout": "AttachStdout", "stderr": "AttachStderr"}


def config_body(spec: RunSpec) -> Json:
    """``Config`` of a create request."""
    attached = attached_streams(spec)
    main = main_endpoint(spec.endpoints, spec.network)
    return {
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        **{member: stream in attached for stream, member in _STREAMS.items()},
        "ExposedPorts": exposed_ports_json(spec),
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "StdinOnce": spec.stdin_once or (spec.interactive and not spec.detach),
        "Env": list(spec.env) or None,
        "Cmd": list(spec.command) or None,
        "Image": spec.image,
        "Volumes": volumes_json(spec.mounts),
        "WorkingDir": spec.workdir,
        "Entrypoint": None if spec.entrypoint is None else list(spec.entrypoint),
        "Labels": dict(spec.labels),
        # Daemons before API 1.44 take the address of the main network from here only.
        **({"MacAddress": main.mac} if main and main.mac else {}),
        **life_json(spec.stop_signal, spec.health),
        **({} if spec.stop_timeout is None else {"StopTimeout": math.ceil(spec.stop_timeout)}),
    }


def config_json(spec: RunSpec, image: ImageConfig, *, hostname: str = "") -> Json:
    """``Config`` of ``docker inspect``: the request, and the image's where it leaves it to the
    image. ``hostname`` is the one that was chosen where none was asked."""
    own = spec.entrypoint
    command = spec.command or (() if own else image.command)
    entrypoint = image.entrypoint if own is None else own
    volumes: Json = {path: {} for path in image.volumes} | (volumes_json(spec.mounts) or {})
    return {
        **config_body(spec),
        "Hostname": spec.hostname or hostname,
        "User": spec.user or image.user,
        "ExposedPorts": exposed_ports_json(spec, image.exposed_ports),
        "Env": _merged(spec.env, image.env),
        "Cmd": list(command) or None,
        "Volumes": volumes or None,
        "WorkingDir": spec.workdir or image.workdir,
        "Entrypoint": list(entrypoint) or None,
        "OnBuild": list(image.on_build) or None,
        "Labels": {**image.labels, **spec.labels},
        **life_json(spec.stop_signal or image.stop_signal, spec.health or image.health),
    }


def read_config(config: Fields) -> dict[str, Any]:
    """What ``Config`` says of a :class:`RunSpec`, by the names of its fields; mounts, ports and
    networks, which it shares with HostConfig, are left out."""
    return {
        "image": config.text("Image"),
        "command": config.words("Cmd") or (),
        "entrypoint": _read_entrypoint(config),
        "env": config.texts("Env"),
        "workdir": config.text("WorkingDir"),
        "user": config.text("User"),
        "hostname": config.text("Hostname"),
        "domainname": config.text("Domainname"),
        "labels": config.text_map("Labels"),
        "tty": config.flag("Tty"),
        "interactive": config.flag("OpenStdin"),
        "stdin_once": config.flag("StdinOnce"),
        "attached": tuple(name for name, member in _STREAMS.items() if config.flag(member)),
        "stop_signal": config.text("StopSignal"),
        "stop_timeout": _seconds_to_stop(config),
        "health": read_health(config),
    }


def attached_streams(spec: RunSpec) -> tuple[str, ...]:
    """The streams that the container's first client is attached to: those it named, or all that
    there are where it runs in the foreground."""
    if spec.attached or spec.detach:
        return spec.attached
    return ("stdin", "stdout", "stderr") if spec.interactive else ("stdout", "stderr")


def life_json(stop_signal: str, health: HealthCheck | None) -> Json:
    """``StopSignal`` and ``Healthcheck``, which Docker leaves out where they say nothing."""
    told: Json = {}
    if stop_signal:
        told["StopSignal"] = stop_signal
    if health is not None:
        told["Healthcheck"] = {
            "Test": list(health.test),
            "Interval": round(health.interval * _NANO),
            "Timeout": round(health.timeout * _NANO),
            "StartPeriod": round(health.start_period * _NANO),
            "StartInterval": round(health.start_interval * _NANO),
            "Retries": health.retries,
        }
    return told


def read_health(config: Fields) -> HealthCheck | None:
    """``Healthcheck`` of a container's or an image's config; its durations are nanoseconds."""
    if not config.given("Healthcheck"):
        return None
    health = config.inner("Healthcheck", "HealthConfig")
    return HealthCheck(
        test=health.texts("Test"),
        interval=health.whole("Interval") / _NANO,
        timeout=health.whole("Timeout") / _NANO,
        start_period=health.whole("StartPeriod") / _NANO,
        start_interval=health.whole("StartInterval") / _NANO,
        retries=health.whole("Retries"),
    )


def _read_entrypoint(config: Fields) -> tuple[str, ...] | None:
    asked = config.words("Entrypoint")
    return () if asked == ("",) else asked


def _seconds_to_stop(config: Fields) -> float | None:
    return float(config.whole("StopTimeout")) if config.given("StopTimeout") else None


def _merged(asked: tuple[str, ...], image: tuple[str, ...]) -> list[str]:
    names = {word.partition("=")[0] for word in asked}
    return [*asked, *(word for word in image if word.partition("=")[0] not in names)]
