"""A container's directory: its bundle, its writable layer, and the files that its engine gives it.

::

    ROOT/containers/ID/bundle.json                       what to run (``containers.messages``)
    ROOT/containers/ID/layer/                            what it writes, as the snapshotter has it
    ROOT/containers/ID/{hostname,hosts,resolv.conf}      bound over those of the image
    RUN/c/ID12/                                          where its shim listens while it runs
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from cellbox import faults
from cellbox.containers import etc, records
from cellbox.containers import spec as specs
from cellbox.containers.messages import Bundle
from cellbox.images.host import HOST_LABEL
from cellbox.linux import capabilities, cgroups, seccomp
from cellbox.linux.mounts import Mount
from cellbox.local.store import Store
from cellbox.model.container import RunSpec
from cellbox.model.image import Image

faults.declare(
    create__layer__made="its writable layer is there, its bundle is not",
    create__bundle__written="all of a new container is there",
)


@cache
def _processors() -> int:
    return os.cpu_count() or 0


_path = lru_cache(maxsize=256)(Path)
"""A run asks twenty times where its container is."""


def is_host(image: Image) -> bool:
    """Is it made up from this machine? A stranger's image has layers, whatever its labels."""
    return not image.layers and image.config.labels.get(HOST_LABEL) == "true"


class Bundler:
    """Makes bundles for the store's containers, and writes them with what belongs to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._containers, self._run = str(store.root / "containers"), str(store.run)
        self._filters = store.root / "cache" / "seccomp"
        self._events = str(store.root / "events.jsonl")
        self._last: tuple[str, list[Path]] = ("", [])

    def directory(self, id: str) -> Path:
        """Where the container's files are."""
        return _path(f"{self._containers}/{id}")

    def run_directory(self, id: str) -> Path:
        """Where its shim listens."""
        return _path(records.run_directory(self._run, id))

    def layer(self, id: str) -> Path:
        """The container's writable directory."""
        return _path(f"{self._containers}/{id}/layer")

    def make(
        self, spec: RunSpec, image: Image, id: str, name: str, shared: Mapping[str, int]
    ) -> Bundle:
        """The bundle of a container; nothing of it need be there yet. Raises InvalidArgument."""
        rootfs = self._rootfs(image, id)
        if spec.auto_remove and rootfs[0].kind == "overlay":
            rootfs = tuple(_volatile(mount) for mount in rootfs)
        return specs.bundle(
            spec,
            image,
            id=id,
            name=name,
            directory=str(self.directory(id)),
            rootfs=rootfs,
            seccomp=self._seccomp(spec),
            shared=shared,
            host=specs.Host(os.uname().nodename, _processors(), cgroups.view(spec.limits)),
            events=self._events,
        )

    def _rootfs(self, image: Image, id: str) -> tuple[Mount, ...]:
        if is_host(image):
            return self._store.host.mounts(self.layer(id))
        lowers = self._store.layers.paths([layer.diff_id for layer in image.layers])
        self._last = image.id, lowers
        return self._store.snapshotter.mounts(lowers, self.layer(id))

    def _lowers(self, image: Image) -> list[Path]:
        """The image's layers, as they were found just now when the bundle was made."""
        id, lowers = self._last
        if id == image.id:
            return lowers
        return self._store.layers.paths([layer.diff_id for layer in image.layers])

    def _seccomp(self, spec: RunSpec) -> str:
        """The path of the compiled filter, compiled now if nobody has asked for the same before."""
        if not specs.seccomp_wanted(spec):
            return ""
        security = spec.security
        held = capabilities.effective(security.cap_add, security.cap_drop, security.privileged)
        return str(seccomp.cached(self._filters, security.seccomp, held))

    def write(self, bundle: Bundle, spec: RunSpec, image: Image) -> None:
        """Make the writable layer where it is missing, then the files, the bundle last."""
        writable = self.layer(bundle.id)
        if not writable.exists():
            writable.mkdir(mode=0o755, parents=True)
            if is_host(image):
                self._store.host.prepare(writable)
            else:
                self._store.snapshotter.prepare(self._lowers(image), writable)
        faults.point("create.layer.made")
        _write_etc(spec, bundle)
        records.write(f"{bundle.directory}/{records.BUNDLE}", bundle)
        faults.point("create.bundle.written")


def _write_etc(spec: RunSpec, bundle: Bundle) -> None:
    own = bundle.namespaces.network == "private"
    try:
        with open("/etc/resolv.conf", "rb", buffering=0) as file:
            servers = file.readall().decode("utf-8", "replace")
    except FileNotFoundError:
        servers = ""
    contents = {
        "hostname": etc.hostname(bundle.hostname),
        "hosts": etc.hosts(bundle.hostname, bundle.domainname, extra=spec.extra_hosts),
        "resolv.conf": etc.resolv_conf(servers, own_network=own),
    }
    for name, text in contents.items():
        _write_text(os.path.join(bundle.directory, name), text)


def _write_text(path: str, text: str) -> None:
    """Write a file that everybody may read, whatever this process's umask."""
    with open(path, "wb", buffering=0) as file:
        os.fchmod(file.fileno(), 0o644)
        records.write_whole(file.fileno(), text.encode(), path)


def named(bundle: Bundle, name: str) -> Bundle:
    """The same under another name."""
    attributes = {**bundle.attributes, "name": name}
    return dataclasses.replace(bundle, name=name, attributes=attributes)


def _volatile(mount: Mount) -> Mount:
    """Nobody keeps what is written there, so it need never wait for the disk."""
    if mount.kind != "overlay" or not mount.upper:
        return mount
    return dataclasses.replace(mount, data="volatile")
