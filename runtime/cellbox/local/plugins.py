"""The plugins of a store: of packages (``cellbox.plugins``), programs that others run
(``cellbox.drivers``), and those that came as images (``managed``), in one list."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import BinaryIO

from cellbox.engine import Filters, Watch
from cellbox.errors import InvalidArgument, NotFound, NotSupported
from cellbox.local import plugin_settings
from cellbox.local.managed import Record, checked_name
from cellbox.local.store import Store
from cellbox.model.image import Image
from cellbox.model.plugin import Plugin, PluginConfig, Privilege
from cellbox.model.registry import Credential
from cellbox.plugins import BUILT_IN_ORIGIN, REGISTRY


class LocalPlugins:
    """See :class:`cellbox.engine.Plugins`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Looking -------------------------------------------------------------------------------------

    def list(self, *, filters: Filters | None = None) -> builtins.list[Plugin]:
        managed = [record.facts() for record in self._store.managed.all()]
        found = [*REGISTRY.all(), *self._store.drivers.plugins(), *managed]
        found = [one for one in found if _passes(one, filters or {})]
        return sorted(found, key=lambda one: (one.kind, one.name, bool(one.error), one.origin))

    def get(self, ref: str) -> Plugin:
        record = self._store.managed.find(ref)
        if record:
            return record.facts()
        for one in self.list():
            if one.name == ref.removesuffix(":latest"):
                return one
        raise NotFound("plugin", ref)

    def privileges(self, ref: str, *, auth: Credential | None = None) -> builtins.list[Privilege]:
        return plugin_settings.privileges(self._store.managed.images.wanted(ref, auth))

    # Bringing ------------------------------------------------------------------------------------

    def install(
        self,
        ref: str,
        *,
        name: str = "",
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        def bring() -> tuple[Image, PluginConfig]:
            return self._agreed(ref, privileges, auth, watch)

        made = self._store.managed.make(name or ref, checked_name(ref), bring)
        return self._told(made, "pull")

    def _agreed(
        self,
        ref: str,
        privileges: Sequence[Privilege],
        auth: Credential | None,
        watch: Watch | None,
    ) -> tuple[Image, PluginConfig]:
        """The plugin in a registry, if the user has agreed to all that it wants."""
        image, config = self._store.managed.images.fetched(ref, auth, watch)
        plugin_settings.check_agreed(config, privileges)
        return image, config

    def create(self, name: str, source: BinaryIO) -> Plugin:
        managed = self._store.managed
        made = managed.make(name, "", lambda: managed.images.unpacked(source))
        return self._told(made, "create")

    def upgrade(
        self,
        ref: str,
        remote: str,
        *,
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        def bring() -> tuple[Image, PluginConfig]:
            return self._agreed(remote, privileges, auth, watch)

        record = self._record(ref)
        made = self._store.managed.upgrade(record, checked_name(remote), bring)
        return self._told(made, "upgrade")

    # Changing ------------------------------------------------------------------------------------

    def enable(self, ref: str, *, timeout: float = 0) -> None:
        record = self._record(ref)
        self._store.managed.enable(record, timeout=timeout)
        self._told(record, "enable")

    def disable(self, ref: str, *, force: bool = False) -> None:
        record = self._record(ref)
        self._store.managed.disable(record, force=force)
        self._told(record, "disable")

    def remove(self, ref: str, *, force: bool = False) -> None:
        record = self._record(ref)
        self._store.managed.remove(record, force=force)
        self._told(record, "remove")

    def set(self, ref: str, settings: Sequence[str]) -> None:
        self._store.managed.set(self._record(ref), settings)

    def _record(self, ref: str) -> Record:
        """One from an image. Raises NotSupported for the others."""
        record = self._store.managed.find(ref)
        if record:
            return record
        origin = self.get(ref).origin
        if origin == BUILT_IN_ORIGIN:
            raise NotSupported(f"plugin {ref} is a part of the engine")
        if origin.startswith("socket "):
            raise NotSupported(f"plugin {ref} is a program that somebody else runs: stop it there")
        raise NotSupported(f"plugin {ref} came with a Python package: use pip to change it")

    def _told(self, record: Record, action: str) -> Plugin:
        self._store.emit("plugin", action, record.id, name=record.name)
        return record.facts()


def _passes(plugin: Plugin, filters: Filters) -> bool:
    for key, words in filters.items():
        if key == "enabled":
            alive = "true" if plugin.enabled and not plugin.error else "false"
            holds = any(_truth(word) == alive for word in words)
        elif key == "capability":
            holds = any(word in plugin.capabilities for word in words)
        else:
            raise InvalidArgument(f"invalid filter '{key}'")
        if not holds:
            return False
    return True


def _truth(word: str) -> str:
    if word.lower() in ("1", "true"):
        return "true"
    if word.lower() in ("0", "false"):
        return "false"
    raise InvalidArgument(f"invalid filter 'enabled={word}'")
