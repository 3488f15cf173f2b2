"""A container's directory: its bundle, its writable layer, and the files that its engine gives it.

::

    ROOT/containers/ID/bundle.json                       what to run (``containers.messages``)
    ROOT/containers/ID/layer/                            what it writes, as the snapshotter has it
    ROOT/containers/ID/{hostname,hosts,resolv.conf}      bound over those of the image
    ROOT/containers/ID/devices/N                         nodes of the host's devices that it has
    RUN/c/ID12/                                          where its shim listens while it runs
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from cellbox import faults
from cellbox.containers import etc, records
from cellbox.containers import spec as specs
from cellbox.containers.messages import Bundle
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.images.host import HOST_LABEL
from cellbox.linux import capabilities, cgroups, seccomp
from cellbox.linux.mounts import Mount
from cellbox.local.store import Store
from cellbox.model.container import DeviceSpec, MountKind, RunSpec
from cellbox.model.image import Image
from cellbox.model.network import Endpoint
from cellbox.networks.wiring import RESOLVER

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
        self,
        spec: RunSpec,
        image: Image,
        id: str,
        name: str,
        shared: Mapping[str, int],
        volumes: Mapping[str, str] | None = None,
    ) -> Bundle:
        """The bundle of a container; nothing of it need be there yet. ``volumes`` says where on
        the host each of its volumes is. Raises InvalidArgument."""
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
            volumes=volumes,
            devices=self._devices(spec, id),
        )

    def _devices(self, spec: RunSpec, id: str) -> list[DeviceSpec]:
        if not spec.devices:
            return []
        found = list(_found_devices(spec))
        if not self._owns_nodes():
            if not all(map(specs.has_all, found)):
                raise NotSupported("only root can let a container only read or only write a "
                                   "device: leave its mode out")  # fmt: skip
            return found
        folder = self.directory(id) / "devices"
        return [
            dataclasses.replace(one, source=str(folder / str(number)))
            for number, one in enumerate(found)
        ]

    def _owns_nodes(self) -> bool:
        """Can a container have device nodes of its own? Only root makes them."""
        nodev = os.statvfs(self._store.root).f_flag & os.ST_NODEV
        return os.geteuid() == 0 and not nodev

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

    def write(
        self,
        bundle: Bundle,
        spec: RunSpec,
        image: Image,
        endpoints: Sequence[Endpoint] = (),
        fill: Callable[[Bundle], object] | None = None,
    ) -> None:
        """Make the writable layer where it is missing, then the files, the bundle last; ``fill`` is
        called before that."""
        writable = self.layer(bundle.id)
        if not writable.exists():
            writable.mkdir(mode=0o755, parents=True)
            if is_host(image):
                self._store.host.prepare(writable)
            else:
                self._store.snapshotter.prepare(self._lowers(image), writable)
        faults.point("create.layer.made")
        self.write_etc(bundle, spec, endpoints)
        if spec.devices and self._owns_nodes():
            _make_nodes(self.directory(bundle.id) / "devices", spec)
        if fill is not None:
            fill(bundle)
        records.write(f"{bundle.directory}/{records.BUNDLE}", bundle)
        faults.point("create.bundle.written")

    def write_etc(self, bundle: Bundle, spec: RunSpec, endpoints: Sequence[Endpoint]) -> None:
        """Write the files that are bound over those of the image."""
        own = bundle.namespaces.network == "private"
        try:
            with open("/etc/resolv.conf", "rb", buffering=0) as file:
                servers = file.readall().decode("utf-8", "replace")
        except FileNotFoundError:
            servers = ""
        asked = bundle.wiring.dns or spec.dns.servers
        contents = {
            "hostname": etc.hostname(bundle.hostname),
            "hosts": etc.hosts(
                bundle.hostname,
                bundle.domainname,
                [ip.partition("/")[0] for one in endpoints for ip in (one.ip, one.ip6) if ip],
                spec.extra_hosts,
                next((one.gateway for one in endpoints if one.gateway), ""),
                bundle.wiring.hosts,
            ),
            "resolv.conf": etc.resolv_conf(
                servers,
                own_network=own,
                servers=(RESOLVER,) if bundle.wiring.resolves else asked,
                search=spec.dns.search,
                options=(*spec.dns.options, *(("ndots:0",) if bundle.wiring.resolves else ())),
            ),
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


# Mounts and devices ------------------------------------------------------------------------------


def wants_volumes(spec: RunSpec, image: Image) -> bool:
    """Has a container of this image any volume?"""
    return bool(
        spec.volumes_from
        or (spec.image_volumes and image.config.volumes)
        or any(mount.kind is MountKind.VOLUME for mount in spec.mounts)
    )


def check_binds(spec: RunSpec) -> None:
    """Refuse a bind of what is not there, unless it is to be made. Raises InvalidArgument."""
    for mount in spec.mounts:
        if mount.kind is MountKind.BIND and not (mount.make_source or os.path.exists(mount.source)):
            raise InvalidArgument(
                'invalid mount config for type "bind": bind source path does not exist: '
                f"{mount.source}"
            )


def make_binds(spec: RunSpec) -> None:
    """Make the directories of the host that are to be bound and are not there. Raises OSError."""
    for mount in spec.mounts:
        if mount.kind is MountKind.BIND and mount.make_source and not os.path.exists(mount.source):
            os.makedirs(mount.source, mode=0o755, exist_ok=True)


def harmless(mount: Mount) -> Mount:
    """The same, with nothing in it that acts on whoever looks."""
    below = ("ro",) if "ro" in mount.flags and mount.target != "/" else ()
    return dataclasses.replace(mount, flags=("nosuid", "nodev", *below), data="")


def read_only_view(mount: Mount) -> Mount:
    """What is seen there, for reading beside a container that may be writing to it."""
    mount = harmless(mount)
    if not mount.upper:
        return mount
    return dataclasses.replace(mount, lowers=(mount.upper, *mount.lowers), upper="", work="")


def _found_devices(spec: RunSpec) -> Iterator[DeviceSpec]:
    """The nodes that are asked for; a directory stands for all nodes below it."""
    for one in spec.devices:
        try:
            mode = os.stat(one.source).st_mode
        except OSError as error:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{one.source}": '
                f"{(error.strerror or '').lower()}"
            ) from None
        if stat.S_ISDIR(mode):
            yield from _below(one)
        elif _is_node(mode):
            yield one
        else:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{one.source}": '
                "not a device node"
            )


def _below(folder: DeviceSpec) -> Iterator[DeviceSpec]:
    target = folder.target or folder.source
    for entry in sorted(os.scandir(folder.source), key=lambda entry: entry.name):
        mode = entry.stat(follow_symlinks=False).st_mode
        inner = DeviceSpec(entry.path, f"{target.rstrip('/')}/{entry.name}", folder.permissions)
        if stat.S_ISDIR(mode):
            yield from _below(inner)
        elif _is_node(mode):
            yield inner


def _is_node(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _make_nodes(folder: Path, spec: RunSpec) -> None:
    """Nodes that belong to one container, so that owner and rights can be as it is to have them.

    Where reading or writing is not allowed the node belongs to nobody in the container, as there is
    no other rule that its root would have to obey (see ``containers.spec``).
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for number, one in enumerate(_found_devices(spec)):
        facts = os.stat(one.source)
        path = folder / str(number)
        path.unlink(missing_ok=True)
        os.mknod(path, stat.S_IFMT(facts.st_mode) | 0o600, facts.st_rdev)
        if specs.has_all(one):
            os.chown(path, facts.st_uid, facts.st_gid)
            path.chmod(stat.S_IMODE(facts.st_mode))
        else:
            rights = {"r": 0o4, "w": 0o2}
            path.chmod(sum(rights.get(letter, 0) for letter in set(one.permissions)))
