"""Volumes of a program that speaks Docker's volume plugin protocol (``VolumeDriver.*``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cellbox.drivers.client import Client
from cellbox.errors import EngineError

INTERFACE = "VolumeDriver"
_LOOK = 5.0
"""Seconds for an answer that only somebody who looks is waiting for."""


class VolumeProgram:
    """See :class:`cellbox.plugins.VolumeDriver`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make the volume, or find it."""
        self._call("Create", name, Opts=dict(options))

    def remove(self, name: str) -> None:
        """Delete it with all that is in it."""
        self._call("Remove", name)

    def mount(self, name: str, container: str) -> str:
        """Make it ready for this container: where the program says that it is."""
        return self._place(self._call("Mount", name, ID=container))

    def unmount(self, name: str, container: str) -> None:
        """This container does not need it any more."""
        self._call("Unmount", name, ID=container)

    def path(self, name: str) -> str:
        """Where it is now, empty where it is not mounted."""
        told = self._client.call(f"{INTERFACE}.Path", {"Name": name}, patience=_LOOK)
        return self._place(told) if told.get("Mountpoint") else ""

    def names(self) -> Sequence[str]:
        """All volumes there are."""
        told = self._client.call(f"{INTERFACE}.List", patience=_LOOK).get("Volumes") or []
        try:
            return [str(one["Name"]) for one in told]
        except (TypeError, KeyError):
            raise EngineError(
                f"the plugin {self._client.place.name} does not answer {INTERFACE}.List with names"
            ) from None

    def _call(self, method: str, name: str, **more: Any) -> Mapping[str, Any]:
        return self._client.call(f"{INTERFACE}.{method}", {"Name": name, **more})

    def _place(self, told: Mapping[str, Any]) -> str:
        """What it tells as a path of ours; empty where that is none or not in what it has."""
        where, place = told.get("Mountpoint"), self._client.place
        if not isinstance(where, str):
            return ""
        path = place.path(where)
        return path if not place.roots or _is_in(path, [root for _, root in place.roots]) else ""


def _is_in(path: str, roots: Sequence[str]) -> bool:
    """Is it in one of these directories, whatever links lead?"""
    real = os.path.realpath(path)
    return any(real.startswith(f"{os.path.realpath(root)}/") for root in roots)
