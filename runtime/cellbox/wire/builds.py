"""The parameters of ``POST /build``, between a query and the model; pure, both directions.

A query is what ``parse_qs`` makes of it: every value of every name. What this engine has no use for
(``cachefrom``, ``forcerm``) is passed over, what it cannot do is refused.

Source: Engine API 1.45, ``ImageBuild``; moby ``api/server/router/build``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.build import BuildSpec
from cellbox.model.container import Limits
from cellbox.model.registry import Credential
from cellbox.wire.fields import Fields
from cellbox.wire.filters import flag
from cellbox.wire.host_config import limits_json, read_limits, read_ulimit, ulimit_json
from cellbox.wire.registry import credential_from, credential_json

Query = Mapping[str, Sequence[str]]

CONFIG_HEADER = "X-Registry-Config"
_RESOURCES = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
}
_REFUSED = {
    "remote": "this engine fetches no context: send it as a tar",
    "squash": "this engine does not squash: build in several stages, and COPY --from the last one",
    "outputs": "this engine builds images only: leave the output out",
}
_DOCKER_HUB = "docker.io"


def build_spec(query: Query, credentials: Mapping[str, Credential] | None = None) -> BuildSpec:
    """What a client asks for. Raises InvalidArgument, NotSupported."""
    read = _Query(query)
    read.refuse()
    return BuildSpec(
        dockerfile=read.one("dockerfile"),
        tags=tuple(name for name in query.get("t", ()) if name),
        arguments={name: value for name, value in read.table("buildargs") if value is not None},
        labels={name: value or "" for name, value in read.table("labels")},
        target=read.one("target"),
        no_cache=flag(read.one("nocache")),
        pull=flag(read.one("pull")),
        keep=not flag(read.one("rm", "1")),
        network=read.one("networkmode") or "default",
        platform=read.one("platform"),
        extra_hosts=tuple(query.get("extrahosts", ())),
        shm_size=read.number("shmsize") or None,
        limits=read.limits(),
        ulimits=tuple(map(read_ulimit, read.objects("ulimits", "Ulimit"))),
        credentials=credentials or {},
    )


def build_query(spec: BuildSpec) -> dict[str, Any]:
    """The inverse; names that say nothing are None."""
    resources = limits_json(spec.limits)
    return {
        "dockerfile": spec.dockerfile or None,
        "t": list(spec.tags),
        "buildargs": json.dumps(dict(spec.arguments)) if spec.arguments else None,
        "labels": json.dumps(dict(spec.labels)) if spec.labels else None,
        "target": spec.target or None,
        "nocache": spec.no_cache or None,
        "pull": spec.pull or None,
        "rm": not spec.keep,
        "forcerm": True,
        "networkmode": spec.network,
        "platform": spec.platform or None,
        "extrahosts": list(spec.extra_hosts),
        "shmsize": spec.shm_size,
        **{name: resources.get(member) or None for name, member in _RESOURCES.items()},
        **_cpu_quota(spec.limits),
        "cpusetcpus": spec.limits.cpuset or None,
        "ulimits": json.dumps([ulimit_json(one) for one in spec.ulimits]) if spec.ulimits else None,
    }


def _cpu_quota(limits: Limits) -> dict[str, Any]:
    """A build has no parameter for processors, but one for their share of a period."""
    if not limits.cpus:
        return {}
    return {"cpuperiod": 100_000, "cpuquota": round(limits.cpus * 100_000)}


def credentials_from_header(text: str) -> dict[str, Credential]:
    """What ``X-Registry-Config`` says, by registry; one that cannot be read says nothing, as in
    Docker."""
    try:
        told = json.loads(base64.b64decode(text, altchars=b"-_") or b"{}")
        return {_host(key): credential_from(value) for key, value in told.items()}
    except (binascii.Error, ValueError, AttributeError, RecursionError, InvalidArgument):
        return {}


def credentials_header(credentials: Mapping[str, Credential]) -> str:
    """The inverse."""
    told = {host: credential_json(one, host) for host, one in credentials.items()}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _host(key: str) -> str:
    """The registry that a key of Docker's configuration means."""
    host = key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
    return _DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host


class _Query:
    """The values of a query by name."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def one(self, name: str, default: str = "") -> str:
        return self._query.get(name, [default])[0]

    def refuse(self) -> None:
        for name, reason in _REFUSED.items():
            if self.one(name) not in ("", "0", "false", "null", "[]"):
                raise NotSupported(f"{name}: {reason}")
        if self.one("version") == "2":
            raise NotSupported(
                "this engine does not speak BuildKit's protocol: set DOCKER_BUILDKIT=0"
            )

    def number(self, name: str) -> int:
        try:
            return int(self.one(name) or 0)
        except ValueError:
            raise InvalidArgument(f"invalid value for {name}: {self.one(name)!r}") from None

    def table(self, name: str) -> list[tuple[str, str | None]]:
        """A JSON object of strings and nulls."""
        told = self._json(name, {})
        if not isinstance(told, dict) or not all(
            value is None or isinstance(value, str) for value in told.values()
        ):
            raise InvalidArgument(f"error reading {name}: it must be a JSON object of strings")
        return list(told.items())

    def objects(self, name: str, struct: str) -> list[Fields]:
        """A JSON list of objects."""
        told = self._json(name, [])
        if not isinstance(told, list):
            raise InvalidArgument(f"error reading {name}: it must be a JSON list")
        return [Fields(one, struct) for one in told]

    def _json(self, name: str, default: Any) -> Any:
        try:
            return json.loads(self.one(name) or "null") or default
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"error reading {name}: {error}") from None

    def limits(self) -> Limits:
        told = {member: self.number(name) for name, member in _RESOURCES.items()}
        return read_limits(Fields({**told, "CpusetCpus": self.one("cpusetcpus")}, "Resources"))
