"""The volumes of a remote engine."""

from __future__ import annotations

import builtins
import dataclasses
from collections import defaultdict
from typing import BinaryIO

from cellbox.engine import Filters
from cellbox.errors import NotFound
from cellbox.model.volume import Volume, VolumeSpec
from cellbox.remote import paths
from cellbox.remote.own import own
from cellbox.remote.transport import Transport
from cellbox.wire.requests import volume_body
from cellbox.wire.volumes import volume_from


class RemoteVolumes:
    """See :class:`cellbox.engine.Volumes`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def create(self, spec: VolumeSpec) -> Volume:
        made = volume_from(self._http.json("POST", "/volumes/create", json=volume_body(spec)))
        return self._with_users([made])[0]

    def get(self, name: str) -> Volume:
        return self._with_users([volume_from(self._http.json("GET", paths.volume(name)))])[0]

    def list(self, *, filters: Filters | None = None) -> builtins.list[Volume]:
        found = self._http.json("GET", "/volumes", {"filters": filters or None})
        volumes = [volume_from(one) for one in found.get("Volumes") or ()]
        return self._with_users(sorted(volumes, key=lambda one: one.name))

    def _with_users(self, volumes: builtins.list[Volume]) -> builtins.list[Volume]:
        """Docker tells of a container's volumes, not of a volume's containers."""
        if not volumes:
            return []
        users: defaultdict[str, builtins.list[str]] = defaultdict(builtins.list)
        for container in self._http.json("GET", "/containers/json", {"all": True}):
            for mount in container.get("Mounts") or ():
                users[mount.get("Name") or ""].append(container["Id"])
        return [dataclasses.replace(one, users=tuple(users[one.name])) for one in volumes]

    def remove(self, name: str, *, force: bool = False) -> None:
        self._http.request("DELETE", paths.volume(name), {"force": force})

    def rename(self, name: str, to: str) -> Volume:
        with own("rename a volume"):
            path = paths.volume(name, "/rename")
            return volume_from(self._http.json("POST", path, {"name": to}))

    def export(self, name: str, out: BinaryIO) -> None:
        with own("tell what is in a volume"):
            with self._http.download(paths.volume(name, "/export"), method="POST") as archive:
                archive.write_to(out)

    def import_(self, name: str, source: BinaryIO) -> None:
        with own("fill a volume"):
            self._http.request("POST", paths.volume(name, "/import"), body=source)

    def size(self, name: str) -> int:
        query = {"type": "volume"}  # before API 1.42 it is ignored
        found = self._http.json("GET", "/system/df", query).get("Volumes") or ()
        for one in found:
            if one["Name"] == name:
                return max(0, int((one.get("UsageData") or {}).get("Size") or 0))
        raise NotFound("volume", name)
