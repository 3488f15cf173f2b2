"""The plugins of a remote engine."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import BinaryIO

from cellbox.engine import Filters, Watch
from cellbox.model import reference
from cellbox.model.plugin import Plugin, Privilege
from cellbox.model.registry import Credential
from cellbox.remote import paths
from cellbox.remote.images import shown, watched
from cellbox.remote.transport import Transport
from cellbox.wire.plugins import plugin_from, privileges_from, privileges_json
from cellbox.wire.system import plugins_from


class RemotePlugins:
    """See :class:`cellbox.engine.Plugins`. What is a part of the engine itself, Docker's API tells
    by kind and name only, and not of all kinds."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def list(self, *, filters: Filters | None = None) -> builtins.list[Plugin]:
        told = self._http.json("GET", "/plugins", {"filters": filters or None})
        found = [plugin_from(one) for one in told]
        if not filters:
            known = {(one.kind, one.name) for one in found}
            own = plugins_from(self._http.json("GET", "/info"))
            found += [one for one in own if (one.kind, one.name) not in known]
        return sorted(found, key=lambda one: (one.kind, one.name))

    def get(self, ref: str) -> Plugin:
        return plugin_from(self._http.json("GET", paths.plugin(ref, "/json")))

    def privileges(self, ref: str, *, auth: Credential | None = None) -> builtins.list[Privilege]:
        named = reference.parse(ref)
        query = {"remote": named.familiar}
        headers = shown(named.domain, auth)
        return privileges_from(
            self._http.json("GET", "/plugins/privileges", query, headers=headers)
        )

    def install(
        self,
        ref: str,
        *,
        name: str = "",
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        query = {"name": name or None}
        self._bring("/plugins/pull", ref, query, privileges, auth, watch)
        return self.get(name or reference.parse(ref).familiar)

    def upgrade(
        self,
        ref: str,
        remote: str,
        *,
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        self._bring(paths.plugin(ref, "/upgrade"), remote, {}, privileges, auth, watch)
        return self.get(ref)

    def _bring(
        self,
        path: str,
        ref: str,
        query: dict[str, str | None],
        privileges: Sequence[Privilege],
        auth: Credential | None,
        watch: Watch | None,
    ) -> None:
        named = reference.parse(ref)
        steps = self._http.steps(
            "POST",
            path,
            {"remote": named.familiar, **query},
            json=privileges_json(privileges),
            headers=shown(named.domain, auth),
        )
        watched(steps, watch)

    def create(self, name: str, source: BinaryIO) -> Plugin:
        self._http.request("POST", "/plugins/create", {"name": name}, body=source)
        return self.get(name)

    def enable(self, ref: str, *, timeout: float = 0) -> None:
        self._http.request("POST", paths.plugin(ref, "/enable"), {"timeout": round(timeout)})

    def disable(self, ref: str, *, force: bool = False) -> None:
        self._http.request("POST", paths.plugin(ref, "/disable"), {"force": force})

    def remove(self, ref: str, *, force: bool = False) -> None:
        self._http.request("DELETE", paths.plugin(ref), {"force": force})

    def set(self, ref: str, settings: Sequence[str]) -> None:
        self._http.request("POST", paths.plugin(ref, "/set"), json=builtins.list(settings))
