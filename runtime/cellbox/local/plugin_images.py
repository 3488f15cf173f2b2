"""What plugins are made of: root file systems, kept as images of the store that plugins have."""

from __future__ import annotations

import contextlib
import copy
import tarfile
import tempfile
from typing import IO, BinaryIO, cast

from cellbox.engine import Watch
from cellbox.errors import InvalidArgument
from cellbox.images import config as documents
from cellbox.local.images import LocalImages
from cellbox.model import reference
from cellbox.model.image import PLUGIN_CONFIG, HistoryEntry, Image, ImageConfig, Layer
from cellbox.model.plugin import PluginConfig
from cellbox.model.registry import Credential
from cellbox.wire.plugins import config_from

_CONFIG, _ROOTFS = "config.json", "rootfs"


class PluginImages(LocalImages):
    """The images of the store of plugins. They have no names: plugins know them by id."""

    def fetched(
        self, ref: str, auth: Credential | None, watch: Watch | None
    ) -> tuple[Image, PluginConfig]:
        """Bring a plugin from its registry."""
        from cellbox.registry import transfer

        name = reference.parse(ref)
        with (
            self._registries(name.domain, auth) as client,
            self._store.leased(f"plugin {name.familiar}") as (content, layers),
        ):
            pulled = transfer.pull(
                name,
                client=client,
                store=content,
                unpack=layers.apply,
                have_layer=layers.has,
                discard=lambda staged: layers.discard([staged]),
                watch=watch,
                config_types=(PLUGIN_CONFIG,),
            )
            config = config_from(_parsed(pulled.config))
            layers.commit([staged for _, _, staged in pulled.layers if staged is not None])
            kept = tuple(
                Layer(diff_id, self._store.layers.size(diff_id), self._kept(blob, diff_id, content))
                for blob, diff_id, _ in pulled.layers
            )
            made = self._add_made(content, _document(kept, name.familiar), kept, ())
        return made, config

    def wanted(self, ref: str, auth: Credential | None) -> PluginConfig:
        """What the config of the plugin in a registry says; nothing is brought here."""
        from cellbox.registry.describe import plugin_config

        name = reference.parse(ref)
        with self._registries(name.domain, auth) as client:
            return config_from(_parsed(plugin_config(name, client)))

    def unpacked(self, source: BinaryIO) -> tuple[Image, PluginConfig]:
        """The image and the config in a tar of ``config.json`` and ``rootfs/``. Raises
        InvalidArgument."""
        with tempfile.TemporaryFile(dir=self._store.root) as rootfs:
            try:
                data = _split(source, rootfs)
            except (tarfile.TarError, EOFError, UnicodeError) as error:
                raise InvalidArgument(f"this is no tar of a plugin: {error}") from error
            config = config_from(_parsed(data))
            rootfs.seek(0)
            return self.import_(cast(BinaryIO, rootfs), message="plugin create"), config


def _parsed(data: bytes) -> object:
    return documents.strict_json(data, documents.CONFIG_LIMIT, "the config of the plugin")


def _split(source: BinaryIO, rootfs: IO[bytes]) -> bytes:
    """``config.json``; what is below ``rootfs`` is written to another tar, which whoever unpacks it
    has to distrust as much."""
    config: bytes | None = None
    with (
        contextlib.closing(tarfile.open(fileobj=source, mode="r|*")) as given,
        tarfile.open(fileobj=rootfs, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        for member in given:
            name = member.name.removeprefix("./").rstrip("/")
            if name == _CONFIG:
                file = given.extractfile(member) if member.isreg() else None
                config = file.read(documents.CONFIG_LIMIT + 1) if file else None
            elif name.startswith(f"{_ROOTFS}/"):
                out.addfile(_below(member), given.extractfile(member) if member.isreg() else None)
    if config is None:
        raise InvalidArgument("this is no plugin: config.json is missing in its tar")
    return config


def _below(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same, named from ``rootfs`` on; what a hard link names is in there too."""
    link = _inner(member.linkname) if member.islnk() else member.linkname
    made = copy.copy(member)  # TarInfo.replace is not in every 3.11
    made.name, made.linkname = _inner(member.name), link
    made.pax_headers = {
        key: value for key, value in member.pax_headers.items() if key not in ("path", "linkpath")
    }
    return made


def _inner(name: str) -> str:
    return name.removeprefix("./").removeprefix(f"{_ROOTFS}/")


def _document(layers: tuple[Layer, ...], name: str) -> documents.ParsedConfig:
    return documents.ParsedConfig(
        config=ImageConfig(),
        platform=documents.host_platform(),
        diff_ids=tuple(layer.diff_id for layer in layers),
        history=(HistoryEntry(None, comment=f"plugin {name}"),),
        created=None,
    )
