"""The images of a store: what they are is in the state database, their bytes in content and layers.

Each verb that brings something holds a lease on it from before it looks whether it is there until
the database knows it, so that no collector takes it away in between.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cellbox.build.changes import apply_changes
from cellbox.engine import Filters, Tell, Watch
from cellbox.errors import InUse, InvalidArgument, NotFound, NotSupported, WrongState
from cellbox.images import archive, config, encode
from cellbox.images.compression import Input, decompress
from cellbox.images.content import ContentStore
from cellbox.images.snapshots import LayerStore, Staged
from cellbox.local import writable
from cellbox.local.bundles import is_host
from cellbox.local.containers import LocalContainers
from cellbox.local.records import ContainerRecord
from cellbox.local.store import HOST_NAMES, Store, labels_match
from cellbox.model import reference
from cellbox.model.build import BuildSpec
from cellbox.model.container import MountKind, RunSpec, Status
from cellbox.model.image import (
    OCI_LAYER,
    Descriptor,
    HistoryEntry,
    Image,
    ImageConfig,
    Layer,
    Pushed,
    Removed,
)
from cellbox.model.registry import Credential, Distribution

if TYPE_CHECKING:
    from cellbox.registry.client import Client
    from cellbox.registry.transfer import Pulled


class LocalImages:
    """See :class:`cellbox.engine.Images`."""

    def __init__(self, store: Store, containers: LocalContainers) -> None:
        self._store = store
        self._containers = containers

    # Looking -----------------------------------------------------------------------------------

    def get(self, ref: str) -> Image:
        return self._store.image(ref)

    def list(self, *, all: bool = False, filters: Filters | None = None) -> builtins.list[Image]:
        found = self._store.state.images.all()
        if not all:
            parents = {image.parent for image in found}
            found = [one for one in found if one.tags or one.digests or one.id not in parents]
        for key, values in (filters or {}).items():
            found = self._filtered(found, key, values)
        return found

    def _filtered(
        self, images: builtins.list[Image], key: str, values: Sequence[str]
    ) -> builtins.list[Image]:
        if key == "dangling":
            wanted = any(value.lower() in ("true", "1") for value in values)
            return [image for image in images if bool(image.tags) != wanted]
        if key == "label":
            return [
                image
                for image in images
                if all(labels_match(image.config.labels, value) for value in values)
            ]
        if key == "reference":
            return [
                image
                for image in images
                if any(reference.matches(tag, value) for tag in image.tags for value in values)
            ]
        if key == "until":
            return [image for image in images if _is_older(image, values)]
        if key in ("before", "since"):
            moments = [self.get(value).created or 0.0 for value in values]
            before = key == "before"
            return [
                image
                for image in images
                if all(_is_on_side(image, moment, before) for moment in moments)
            ]
        raise InvalidArgument(f"Invalid filter '{key}'")

    # Names -------------------------------------------------------------------------------------

    def tag(self, ref: str, name: str) -> None:
        image = self.get(ref)
        self._store.state.images.tag(image.id, name)
        self._store.emit("image", "tag", image.id, name=reference.parse(name).familiar)

    def remove(self, ref: str, *, force: bool = False) -> builtins.list[Removed]:
        image = self.get(ref)
        names = [*image.tags, *image.digests]
        by_name = _familiar(ref) if not _is_id(ref, image) else ""
        if by_name in names and any(tag != by_name for tag in image.tags):
            removed = [self._store.state.images.untag(by_name)]
        elif not by_name and len(image.tags) > 1 and not force:
            raise InUse(
                f"conflict: unable to delete {image.short_id} (must be forced) - image is "
                "referenced in multiple repositories"
            )
        else:
            return self._remove_all(image, ref, force)
        self._note_removed(image, removed)
        return removed

    def _note_removed(self, image: Image, removed: Sequence[Removed]) -> None:
        for one in removed:
            if one.untagged:
                self._store.emit("image", "untag", image.id, name=one.untagged)
            else:
                self._store.emit("image", "delete", one.deleted, name=one.deleted)

    def _remove_all(self, image: Image, ref: str, force: bool) -> builtins.list[Removed]:
        users = self._store.state.images.users(image.id)
        if users:
            self._refuse_used(image, ref, users, force)
        removed = self._store.state.images.remove(image.id)
        removed += self._store.state.images.remove_steps(image.parent)
        self._note_removed(image, removed)
        with self._store.told(f"{ref} has no name any more, but is not all deleted"):
            sweep = self._store.collect()
        return [*removed, *(Removed(deleted=diff_id) for diff_id in sweep.layers)]

    def _refuse_used(self, image: Image, ref: str, users: Sequence[str], force: bool) -> None:
        """A container needs it: refuse, in Docker's words."""
        for id in users:
            container = self._containers.get(id)
            runs = container.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)
            if runs or not force:
                how = "cannot be forced" if runs else "must force"
                kind = "running container" if runs else "container"
                raise InUse(
                    f'conflict: unable to remove repository reference "{ref}" ({how}) - {kind} '
                    f"{container.short_id} is using its referenced image {image.short_id}"
                )
        raise InUse(
            f"conflict: unable to delete {image.short_id} - stopped container {users[0][:12]} "
            "still needs it: remove the container first"
        )

    # Bringing ----------------------------------------------------------------------------------

    def pull(
        self,
        ref: str,
        *,
        platform: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Image:
        if ref in HOST_NAMES:
            return self.get(ref)
        from cellbox.registry import transfer  # see Store.registries

        store, name = self._store, reference.parse(ref)
        purpose = f"pull {name.familiar}"
        with (
            self._registries(name.domain, auth) as client,
            store.leased(purpose) as (content, layers),
        ):
            pulled = transfer.pull(
                name,
                client=client,
                store=content,
                unpack=layers.apply,
                have_layer=layers.has,
                discard=lambda staged: layers.discard([staged]),
                platform=config.parse_platform(platform) if platform else None,
                watch=watch,
                current=self._current(name.familiar),
            )
            layers.commit([staged for _, _, staged in pulled.layers if staged is not None])
            image = self._add_pulled(pulled, content)
        store.emit("image", "pull", name.familiar, name=name.familiar)
        return image

    def push(
        self,
        ref: str,
        *,
        compression: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Pushed:
        from cellbox.local import pushing  # see Store.registries
        from cellbox.registry import sending

        store, name = self._store, reference.parse(ref)
        image = self._pushable(ref, name, compression, pushing.COMPRESSIONS)
        table = store.state.images
        with (
            self._registries(name.domain, auth) as client,
            store.leased(f"push {name.familiar}") as (content, layers),
        ):
            manifest, data = sending.push(
                name,
                pushing.outgoing(image, table, content, layers, compression),
                client=client,
                store=content,
                mounts=pushing.mounts(name, table, content),
                watch=watch,
            )
            content.put(data)
            digest = dataclasses.replace(name, tag="", digest=manifest.digest).familiar
            known = dataclasses.replace(image, tags=(), digests=(digest,))  # a tag may have moved
            table.add(known, manifest=manifest)
        store.emit("image", "push", name.familiar, name=name.familiar)
        return Pushed(name.familiar, manifest.digest, manifest.size)

    def _pushable(
        self, ref: str, name: reference.Reference, compression: str, known: Sequence[str]
    ) -> Image:
        if name.digest:
            raise InvalidArgument("cannot push a digest reference: give a tag")
        if compression not in known:
            raise InvalidArgument(f"{compression!r} is no compression of layers: use gzip or zstd")
        image = self.get(ref if ref in HOST_NAMES else name.familiar)
        if is_host(image):
            raise NotSupported("the image host is this machine itself and cannot be pushed")
        return image

    def distribution(self, ref: str, *, auth: Credential | None = None) -> Distribution:
        from cellbox.registry.describe import describe

        name = reference.parse(ref)
        with self._registries(name.domain, auth) as client:
            return describe(name, client)

    def login(self, registry: str, auth: Credential) -> None:
        from cellbox.registry import describe

        domain = describe.domain_of(registry)
        with self._registries(domain, auth) as client:
            describe.check_login(domain, client)

    @contextlib.contextmanager
    def _registries(self, domain: str, auth: Credential | None) -> Iterator[Client]:
        """The store's own way to registries, or one that shows ``auth`` to that of ``domain``
        only, so that neither a mirror nor the next caller gets it."""
        if auth is None:
            yield self._store.registries
            return
        from cellbox.registry.client import Client
        from cellbox.registry.config import HUB

        host = HUB if domain == reference.DEFAULT_DOMAIN else domain.lower().removesuffix(":443")
        client = Client(credential=lambda asked: auth if asked == host else None)
        try:
            yield client
        finally:
            client.close()

    def _current(self, familiar: str) -> str:
        try:
            return self._store.state.images.get(familiar).id
        except NotFound:
            return ""

    def _add_pulled(self, pulled: Pulled, content: ContentStore) -> Image:
        parsed = config.parse_config(pulled.config)
        layers = tuple(
            Layer(diff_id, self._store.layers.size(diff_id), self._kept(blob, diff_id, content))
            for blob, diff_id, _ in pulled.layers
        )
        name = pulled.reference
        tagged = (name.familiar,) if not name.digest else ()
        digest = dataclasses.replace(name, tag="", digest=pulled.resolved.digest).familiar
        image = _image(pulled.config_digest, parsed, layers, tags=tagged, digests=(digest,))
        return self._store.state.images.add(image, manifest=pulled.manifest)

    def _kept(self, blob: Descriptor, diff_id: str, content: ContentStore) -> Descriptor:
        """The blob that was pulled; for a layer that was here before, the one that it came in,
        without which a stranger's layer could not be saved any more."""
        if content.has(blob.digest):
            return blob
        known = self._store.state.images.blobs(diff_id)
        return next((one for one in known if content.has(one.digest)), blob)

    def save(self, refs: Sequence[str], out: BinaryIO, *, format: str = "docker") -> None:
        if format not in ("docker", "oci"):
            raise InvalidArgument(f"{format!r} is no format of an archive: use docker or oci")
        with self._store.leased("save") as (content, layers):
            saved = [self._saved(ref, content, layers) for ref in refs]
            archive.save(_merged(saved), content, out)
        for ref in refs:
            self._store.emit("image", "save", ref, name=ref)

    def _saved(self, ref: str, content: ContentStore, layers: LayerStore) -> archive.Saved:
        image = self.get(ref)
        if is_host(image):
            raise NotSupported("the image host is this machine itself and cannot be saved")
        blobs = tuple(_blob(layer, content, layers) for layer in image.layers)
        named = [tag for tag in image.tags if _is_id(ref, image) or tag == _familiar(ref)]
        names = tuple((str(reference.parse(tag)), tag) for tag in named)
        return archive.Saved(content.read(image.id, config.CONFIG_LIMIT), blobs, names)

    def load(self, source: BinaryIO, *, watch: Watch | None = None) -> builtins.list[Image]:
        store = self._store
        with store.leased("load") as (content, layers):
            found = [
                _image(
                    one.id, one.config, one.layers, tags=tuple(dict.fromkeys(map(_tag, one.names)))
                )
                for one in archive.load(source, content, layers, watch=watch)
            ]  # all of their names are good before the first one is seen
            images = [store.state.images.add(image) for image in found]
        for image in images:
            store.emit("image", "load", image.id, name=(*image.tags, image.id)[0])
        return images

    # Making ------------------------------------------------------------------------------------

    def import_(
        self,
        source: BinaryIO,
        *,
        name: str = "",
        message: str = "",
        changes: Sequence[str] = (),
    ) -> Image:
        made = apply_changes(ImageConfig(), changes)
        tags = (_tag(name),) if name else ()
        store = self._store
        with store.leased("import") as (content, layers):
            blob = _store_tar(source, content)
            with content.open(blob.digest) as file:
                staged = layers.apply(blob.digest, OCI_LAYER, file.fileno())
            layer = dataclasses.replace(_keep(staged, layers), blob=blob)
            entry = HistoryEntry(time.time(), comment=message or "Imported from -", size=layer.size)
            parsed = config.ParsedConfig(
                config=made,
                platform=config.host_platform(),
                diff_ids=(layer.diff_id,),
                history=(entry,),
                created=entry.created,
                comment=entry.comment,
            )
            image = self._add_made(content, parsed, (layer,), tags)
        store.emit("image", "import", image.id, name=name or image.id)
        return image

    def commit(
        self,
        container: str,
        *,
        name: str = "",
        message: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        volumes: bool = False,
    ) -> Image:
        store, containers = self._store, self._containers
        record = containers.record(container)
        base = store.state.images.get(record.image_id)
        if is_host(base):
            raise NotSupported(
                "a container of the image host cannot be committed: "
                "run one of an image that has layers"
            )
        tags = (_tag(name),) if name else ()
        asked = _as_run(base.config, containers.get(record.id).spec)
        made = apply_changes(asked, changes)
        with store.leased("commit") as (content, layers):
            paused = pause and self._freeze(record.id)
            try:
                added = [_keep(self._packed(base, record, layers), layers)]
                if volumes and any(one.kind is MountKind.VOLUME for one in record.mounts):
                    added.append(_keep(self._packed_volumes(record, layers), layers))
            finally:
                if paused:
                    containers.unpause(record.id)
            parsed = config.parse_config(content.read(base.id, config.CONFIG_LIMIT))
            for layer in added:
                parsed = _with_step(parsed, layer, made, " ".join(record.command), message, author)
            image = self._add_made(content, parsed, (*base.layers, *added), tags, parent=base.id)
        store.emit("container", "commit", record.id, imageID=image.id, name=record.name)
        return image

    def build(
        self,
        context: BinaryIO | Path,
        spec: BuildSpec,
        *,
        tell: Tell | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Image:
        from cellbox.local.building import LocalWorkshop, build  # most verbs build nothing

        return build(LocalWorkshop(self._store, self, self._containers), context, spec, tell, stop)

    def derive(
        self, parent: str, made: ImageConfig, *, created_by: str, container: str, author: str
    ) -> Image:
        """Make an image without a name: the layers of ``parent`` (none where it is empty), the
        changes of ``container`` on top where one is named, and this config."""
        with self._store.leased("build") as (content, layers):
            before = config.ParsedConfig(ImageConfig(), config.host_platform(), ())
            below: tuple[Layer, ...] = ()
            if parent:
                if is_host(self.get(parent)):
                    raise NotSupported(
                        "nothing can be built on the image host: begin with one that has layers"
                    )
                below = self.get(parent).layers
                before = config.parse_config(content.read(parent, config.CONFIG_LIMIT))
            layer = None
            if container:
                record = self._containers.record(container)
                base = self.get(record.image_id)
                layer = _keep(self._packed(base, record, layers), layers)
            parsed = _with_step(before, layer, made, created_by, "", author)
            return self._add_made(
                content, parsed, (*below, layer) if layer else below, (), parent=parent
            )

    def _freeze(self, id: str) -> bool:
        """Hold a running container still, where this machine can."""
        if self._containers.get(id).status is not Status.RUNNING:
            return False
        try:
            self._containers.pause(id)
            return True
        except (NotSupported, WrongState):  # no freezer for this user; or it has just ended
            return False

    def _packed(self, base: Image, record: ContainerRecord, layers: LayerStore) -> Staged:
        lowers = layers.paths([layer.diff_id for layer in base.layers])[::-1]
        (part,) = writable.parts(self._store, self._containers, record)
        return layers.from_upper(
            Path(part.upper),
            lowers=lowers if part.copied else (),
            exclude=writable.made_points(self._store, part),
        )

    def _packed_volumes(self, record: ContainerRecord, layers: LayerStore) -> Staged:
        """What is in the container's volumes, where it has them."""
        found = []
        with contextlib.ExitStack() as held:
            for mount in sorted(record.mounts, key=lambda one: one.target):
                if mount.kind is MountKind.VOLUME:
                    volumes = self._containers.mounting.volumes
                    path = held.enter_context(volumes.at_hand(mount.source))
                    found.append((path, mount.subpath or "/", mount.target))
            return layers.from_job("volumes-layer", {"volumes": found})

    def _add_made(
        self,
        content: ContentStore,
        parsed: config.ParsedConfig,
        layers: tuple[Layer, ...],
        tags: tuple[str, ...],
        parent: str = "",
    ) -> Image:
        id = content.put(config.write_config(parsed))
        image = _image(id, parsed, layers, tags=tags)
        return self._store.state.images.add(dataclasses.replace(image, parent=parent))


def _merged(saved: Sequence[archive.Saved]) -> builtins.list[archive.Saved]:
    """Each image once, with all the names that it was asked by."""
    found: dict[bytes, archive.Saved] = {}
    for one in saved:
        known = found.get(one.config, one)
        names = dict.fromkeys((*known.names, *one.names))
        found[one.config] = dataclasses.replace(known, names=tuple(names))
    return [*found.values()]


def _blob(layer: Layer, content: ContentStore, layers: LayerStore) -> Descriptor:
    """The layer as a blob, made now where none is kept."""
    if layer.blob is not None and content.has(layer.blob.digest):
        return layer.blob
    return encode.encode(layers, content, layer.diff_id, "none")


def _store_tar(source: BinaryIO, content: ContentStore) -> Descriptor:
    """The uncompressed tar of ``source`` as a blob: our own would not be the same bytes, and so
    another layer."""
    with content.writer() as writer:
        for block in decompress(Input(source.read)):
            writer.write(block)
        digest, size = writer.commit()
    return Descriptor(OCI_LAYER, digest, size)


def _keep(staged: Staged, layers: LayerStore) -> Layer:
    layers.has(staged.facts.diff_id)  # held before it can be seen
    layers.commit([staged])
    return Layer(staged.facts.diff_id, staged.facts.size)


def _with_step(
    parsed: config.ParsedConfig,
    layer: Layer | None,
    made: ImageConfig,
    command: str,
    message: str,
    author: str,
) -> config.ParsedConfig:
    """The config of an image with one more step, and its layer if it has one."""
    size = layer.size if layer else 0
    entry = HistoryEntry(time.time(), command, message, empty_layer=layer is None, size=size)
    return dataclasses.replace(
        parsed,
        config=made,
        diff_ids=(*parsed.diff_ids, layer.diff_id) if layer else parsed.diff_ids,
        history=(*parsed.history, entry),
        created=entry.created,
        author=author,
        comment=message,
    )


def _image(
    id: str,
    parsed: config.ParsedConfig,
    layers: tuple[Layer, ...],
    *,
    tags: tuple[str, ...] = (),
    digests: tuple[str, ...] = (),
) -> Image:
    return Image(
        id=id,
        tags=tags,
        digests=digests,
        layers=layers,
        config=parsed.config,
        platform=parsed.platform,
        size=sum(layer.size for layer in layers),
        created=parsed.created,
        author=parsed.author,
        comment=parsed.comment,
        history=tuple(_sized(parsed.history, layers)),
    )


def _sized(history: Sequence[HistoryEntry], layers: Sequence[Layer]) -> builtins.list[HistoryEntry]:
    """History with the size of each step's layer; more steps than layers is an image's own lie."""
    sizes = iter([layer.size for layer in layers])
    return [
        entry if entry.empty_layer else dataclasses.replace(entry, size=next(sizes, 0))
        for entry in history
    ]


def _as_run(image: ImageConfig, spec: RunSpec) -> ImageConfig:
    """The image's config with what the container was run with, as Docker commits it."""
    named = {entry.partition("=")[0]: entry for entry in (*image.env, *spec.env)}
    return dataclasses.replace(
        image,
        env=tuple(named.values()),
        command=spec.command or image.command,
        entrypoint=image.entrypoint if spec.entrypoint is None else spec.entrypoint,
        workdir=spec.workdir or image.workdir,
        user=spec.user or image.user,
        labels={**image.labels, **spec.labels},
    )


def _tag(name: str) -> str:
    parsed = reference.parse(name)
    if parsed.digest:
        raise InvalidArgument(f"{name}: a name for a new image cannot have a digest")
    return parsed.familiar


def _familiar(name: str) -> str:
    parsed = reference.parse(name)
    if parsed.digest:
        parsed = dataclasses.replace(parsed, tag="")  # beside a digest it is a remark
    return parsed.familiar


def _is_id(ref: str, image: Image) -> bool:
    """Was the image asked for by (a part of) its id?"""
    if ref in image.tags or f"{ref}:latest" in image.tags:
        return False
    return image.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))


def _is_on_side(image: Image, moment: float, before: bool) -> bool:
    created = image.created or 0.0
    return created < moment if before else created > moment


def _is_older(image: Image, moments: Sequence[str]) -> bool:
    try:
        return all((image.created or 0.0) < float(moment) for moment in moments)
    except ValueError:
        raise InvalidArgument(f"until={moments[0]} is not a Unix time") from None
