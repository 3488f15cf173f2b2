"""``system check``: looking through a whole store for damage, and mending it.

What is looked at, against what it should be: every blob against its digest, every layer's tree
against the record of it, every image against its layers and config, every container against its
directory and its shim; and what is there that nobody needs. Mending never takes away what somebody
may miss: a layer is made again from its blob where that is whole, an image that cannot be used any
more loses its names, to be pulled again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cellbox import moving
from cellbox.containers import records
from cellbox.containers.messages import group_shim
from cellbox.errors import CellboxError, NotFound
from cellbox.linux import cgroups
from cellbox.local import updates
from cellbox.local.bundles import is_host
from cellbox.local.containers import LocalContainers
from cellbox.local.store import Store
from cellbox.model.container import Container, Status
from cellbox.model.image import Image, Layer
from cellbox.model.system import Damage
from cellbox.model.volume import LOCAL
from cellbox.volumes import unfinished


def check(store: Store, containers: LocalContainers, *, repair: bool = False) -> list[Damage]:
    """Everything that is wrong, and with ``repair`` what was done about it. Repeatable."""
    checker = _Checker(store, containers, repair)
    found = [
        *checker.blobs(),
        *checker.layers(),
        *checker.images(),
        *checker.containers(),
        *checker.volumes(),
        *checker.groups(),
    ]
    if repair:
        sweep = store.collect()
        found += [Damage(kind, key, "nobody needs it", "removed") for kind, key in sweep]
    return found


class _Checker:
    def __init__(self, store: Store, containers: LocalContainers, repair: bool) -> None:
        self._store = store
        self._containers = containers
        self._repair = repair

    def blobs(self) -> Iterator[Damage]:
        content = self._store.content
        for digest in sorted(content.walk()):
            if content.verify(digest):
                continue
            if self._repair:
                content.delete(digest)
            yield Damage("blob", digest, "its bytes have another digest", self._did("removed"))

    def layers(self) -> Iterator[Damage]:
        layers = self._store.layers
        known = {
            layer.diff_id: layer
            for image in self._store.state.images.all()
            for layer in image.layers
        }
        for diff_id in sorted(layers.walk()):
            with contextlib.suppress(NotFound):
                if layers.verify(diff_id):
                    continue
            done = self._mend_layer(diff_id, known.get(diff_id))
            yield Damage("layer", diff_id, "its files are not what they were", done)

    def _mend_layer(self, diff_id: str, layer: Layer | None) -> str:
        """Make a damaged layer again from its blob; without one it goes."""
        store = self._store
        if not self._repair or self._in_use(diff_id):
            return ""
        store.layers.remove(diff_id)
        if layer is None or layer.blob is None or not store.content.has(layer.blob.digest):
            return "removed"
        try:
            with store.content.open(layer.blob.digest) as file:
                staged = store.layers.apply(diff_id, layer.blob.media_type, file.fileno())
            store.layers.commit([staged])
        except (CellboxError, OSError):
            return "removed"
        return "unpacked again"

    def _in_use(self, diff_id: str) -> bool:
        for container in self._containers.list():
            with contextlib.suppress(NotFound):
                image = self._store.state.images.get(container.image_id)
                if any(layer.diff_id == diff_id for layer in image.layers):
                    return True
        return False

    def images(self) -> Iterator[Damage]:
        for image in self._store.state.images.all():
            if is_host(image):
                continue  # made up from the machine whenever it is asked for
            wrong, done = self._wrong_with(image), ""
            if not wrong:
                continue
            if self._repair:
                try:
                    self._store.state.images.remove(image.id)
                    done = "removed: pull it again"
                except CellboxError as error:  # a container needs it
                    wrong = f"{wrong}; kept: {error}"
            yield Damage("image", self._name(image), wrong, done)

    def _wrong_with(self, image: Image) -> str:
        store = self._store
        if not store.content.has(image.id):
            return "its config is lost"
        missing = [layer for layer in image.layers if not store.layers.has(layer.diff_id)]
        return f"{len(missing)} of its {len(image.layers)} layers are lost" if missing else ""

    @staticmethod
    def _name(image: Image) -> str:
        return image.tags[0] if image.tags else image.id

    def containers(self) -> Iterator[Damage]:
        for container in self._containers.list(all=True):
            found = self._begun(container) or self._damaged(container)
            if found:
                yield Damage("container", container.name, *found)

    def _begun(self, container: Container) -> tuple[str, str] | None:
        """What somebody had begun with it who is no more, and what was done about that."""
        if container.status is Status.REMOVING:
            if self._repair:
                self._containers.finish_removals()
            return "its removal was not finished", self._did("removed")
        if moving.arriving_from(container):
            if self._repair:
                self._take_arrival_away(container)
            return "it was not moved here whole", self._did("removed")
        if moving.is_leaving(container):
            return "its move was cut off: say `container move` again", ""
        return None

    def _damaged(self, container: Container) -> tuple[str, str] | None:
        """What is wrong with its image or its files, and what was done about that."""
        if self._image_lost(container):
            return "its image is lost", ""
        record = self._containers.record(container.id)
        half_done = updates.is_half_done(self._containers, record)
        if not half_done and self._readable(container):
            return None
        if self._repair:
            self._containers.restore(record)
        if half_done:
            return "its change was cut off", self._did("finished")
        return "its files are lost or damaged", self._did("made again")

    def _take_arrival_away(self, arrival: Container) -> None:
        containers = self._containers
        moving.take_arrival_away(containers, containers.mounting.volumes, arrival)

    def _image_lost(self, container: Container) -> bool:
        try:
            self._store.state.images.get(container.image_id)
            return False
        except NotFound:
            return True

    def _readable(self, container: Container) -> bool:
        """Is what the container needs to be started there, and whole?"""
        bundle = records.read_bundle(str(self._containers.directory(container.id)))
        return bundle is not None and self._containers.layer(container.id).is_dir()

    def volumes(self) -> Iterator[Damage]:
        """Volumes whose directory or record is not as their row says."""
        table = self._store.state.volumes
        if self._repair:
            table.settle(self._store.root / "volumes")
        recorded = table.recorded()
        for record in table.all():
            name = record.spec.name
            if record.spec.driver != LOCAL:
                continue
            if name not in recorded:
                if self._repair:
                    self._containers.mounting.volumes.restore(record)
                yield Damage("volume", name, "its files are lost", self._did("made empty"))
            elif recorded[name] != record:
                if self._repair:
                    table.rewrite(record)
                yield Damage("volume", name, "its record is damaged", self._did("written again"))
            if unfinished(str(self._store.root / "volumes" / name)):
                if self._repair:
                    self._containers.mounting.volumes.finish(record)
                yield Damage("volume", name, "it was not filled to the end", self._did("filled"))

    def groups(self) -> Iterator[Damage]:
        """Control groups whose shim has died."""
        for name in cgroups.leftovers():
            shim = group_shim(str(self._store.run), name)
            if not shim or os.path.exists(f"/proc/{shim}"):
                continue
            if cgroups.existing(name) is None:
                continue  # it was just being removed
            if self._repair:
                cgroups.discard(name)
            yield Damage("cgroup", name, "its container does not run", self._did("removed"))

    def _did(self, what: str) -> str:
        return what if self._repair else ""
