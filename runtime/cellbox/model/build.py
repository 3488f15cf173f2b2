"""What a build is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellbox.model.container import Limits, Ulimit
from cellbox.model.registry import Credential


@dataclass(frozen=True)
class BuildSecret:
    """Where a secret of a build is: in a ``file``, or in a ``variable`` of the environment."""

    file: str = ""
    variable: str = ""


@dataclass(frozen=True)
class BuildSpec:
    """One ``docker build``, but for its context.

    ``dockerfile`` is a path in the context (empty: ``Dockerfile``), or, for a context that is a
    directory, any path. ``tags`` are the names that the image gets; ``arguments`` the values of
    ARGs; ``target`` a stage, empty for the last one. ``no_cache`` does every step anew, ``pull``
    asks the registry for base images that are here; ``keep`` leaves the containers of steps that
    went well. ``network`` is where RUN is, ``platform`` ``os/architecture[/variant]`` or empty.
    ``credentials`` go to the registries (``host[:port]``) of base images, in the place of what the
    engine's user is logged in with. ``secrets`` are by their id; ``ssh`` has the sockets of agents,
    by id; ``entitlements`` (``network.host``, ``security.insecure``) are what RUN may ask for
    beyond the sandbox. The rest is of the containers that RUN runs in, as in
    :class:`~cellbox.model.container.RunSpec`.
    """

    dockerfile: str = ""
    tags: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    keep: bool = False
    network: str = "default"
    platform: str = ""
    extra_hosts: tuple[str, ...] = ()
    shm_size: int | None = None
    limits: Limits = Limits()
    ulimits: tuple[Ulimit, ...] = ()
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    secrets: Mapping[str, BuildSecret] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)
    entitlements: frozenset[str] = frozenset()
