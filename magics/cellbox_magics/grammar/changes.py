"""The flags of ``update`` that make a container anew, over what it was made with; pure.

What is given joins what is there: a variable by its name, a published port by the port inside, a
mount by its path inside; the ``-rm`` flags take such a one away, as those of ``docker service
update`` do.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, TypeVar

from cellbox.model.container import MountSpec, PortSpec, RunSpec

from . import ports
from . import spec as specs

T = TypeVar("T")

_ANEW = "the container is made anew, and keeps its writable layer"
ANEW = (
    ("-e/--env", f"Set environment variables: {_ANEW}"),
    ("--env-file", f"Read in a file of environment variables: {_ANEW}"),
    ("--env-rm", f"Remove an environment variable (NAME): {_ANEW}"),
    ("--mount", f"Attach a filesystem mount to the container: {_ANEW}"),
    ("--mount-rm", f"Remove a mount by its path in the container: {_ANEW}"),
    ("-p/--publish", f"Publish a container's port(s) to the host: {_ANEW}"),
    ("--publish-rm", f"Remove a published port by its port in the container: {_ANEW}"),
    ("--tmpfs", f"Mount a tmpfs directory: {_ANEW}"),
    ("-v/--volume", f"Bind mount a volume, or a host directory: {_ANEW}"),
)
"""The flags, each of which may be given more than once, and their help."""


class Anew(TypedDict, total=False):
    """What of a container is to be other than it is, in the words of the engine's ``update``."""

    env: tuple[str, ...]
    mounts: tuple[MountSpec, ...]
    ports: tuple[PortSpec, ...]


def anew(spec: RunSpec, flags: Mapping[str, Any], who: specs.Caller) -> Anew:
    """What the flags name, as it is to be."""
    found: Anew = {}
    if flags["env"] or flags["env_file"] or flags["env_rm"]:
        found["env"] = _merged(spec.env, specs.environment(flags, who), flags["env_rm"], _name)
    if flags["mount"] or flags["volume"] or flags["tmpfs"] or flags["mount_rm"]:
        targets = map(posixpath.normpath, flags["mount_rm"])
        found["mounts"] = _merged(spec.mounts, specs.mounted(flags, who), targets, _target)
    if flags["publish"] or flags["publish_rm"]:
        names = [one for word in flags["publish_rm"] for one in ports.expose(word, "--publish-rm")]
        found["ports"] = _merged(spec.ports, specs.published(flags), names, _inside)
    return found


def _merged(
    there: Iterable[T], given: Iterable[T], gone: Iterable[str], key: Callable[[T], str]
) -> tuple[T, ...]:
    given = tuple(given)
    left_out = {*map(key, given), *gone}
    return (*(one for one in there if key(one) not in left_out), *given)


def _name(line: str) -> str:
    return line.partition("=")[0]


def _target(mount: MountSpec) -> str:
    return mount.target


def _inside(port: PortSpec) -> str:
    return f"{port.port}/{port.protocol}"
