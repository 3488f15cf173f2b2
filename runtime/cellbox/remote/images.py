"""The images of a remote engine."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from cellbox.engine import Filters, Tell, Watch
from cellbox.errors import Cancelled, EngineError, InvalidArgument, NotSupported
from cellbox.model import reference
from cellbox.model.build import BuildSpec
from cellbox.model.image import Image, Pushed, Removed
from cellbox.model.registry import Credential, Distribution
from cellbox.registry.config import HUB
from cellbox.registry.credentials import HUB_KEY, Credentials
from cellbox.remote import paths
from cellbox.remote.gather import gathered
from cellbox.remote.own import own
from cellbox.remote.transport import Transport
from cellbox.wire.builds import CONFIG_HEADER, build_query, credentials_header
from cellbox.wire.images import image_from, pushed_from
from cellbox.wire.progress import progress_from
from cellbox.wire.registry import (
    AUTH_HEADER,
    credential_header,
    credential_json,
    distribution_from,
)

_BOTH_FORMATS = (1, 44)
"""The API version since which what Docker saves is an OCI layout too."""
_SECRETS = ("username", "password", "identity_token", "registry_token")
_BUILT = re.compile(r"Successfully built ([0-9a-f]{12,64})\s*")
_LOADED = ("Loaded image: ", "Loaded image ID: ")


class RemoteImages:
    """See :class:`cellbox.engine.Images`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def pull(
        self,
        ref: str,
        *,
        platform: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Image:
        named = reference.parse(ref)
        query = {
            "fromImage": named.familiar_name,
            "tag": named.identifier,
            "platform": platform or None,
        }
        headers = shown(named.domain, auth)
        watched(self._http.steps("POST", "/images/create", query, headers=headers), watch)
        return self.get(named.familiar)

    def push(
        self,
        ref: str,
        *,
        compression: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Pushed:
        named = reference.parse(ref)
        if named.digest:
            raise InvalidArgument("cannot push a digest reference: give a tag")
        path = paths.image(named.familiar_name, "/push")
        headers = shown(named.domain, auth) or {AUTH_HEADER: credential_header(Credential())}
        query = {"tag": named.tag}
        if not compression:
            return self._pushed(path, query, headers, named, watch)
        with own("choose the compression of what is pushed"):
            return self._pushed(f"{path}/{compression}", query, headers, named, watch)

    def _pushed(
        self,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        named: reference.Reference,
        watch: Watch | None,
    ) -> Pushed:
        pushed = None
        steps = self._http.steps("POST", path, query, headers=headers)
        for step in _told(steps, watch):
            if "Digest" in (aux := step.get("aux") or {}):
                pushed = pushed_from(named.familiar, aux)
        if pushed is None:
            raise EngineError("the engine did not tell the digest of what it pushed")
        return pushed

    def distribution(self, ref: str, *, auth: Credential | None = None) -> Distribution:
        named = reference.parse(ref)
        path = paths.distribution(named.familiar)
        headers = shown(named.domain, auth)
        return distribution_from(self._http.json("GET", path, headers=headers))

    def login(self, registry: str, auth: Credential) -> None:
        self._http.request("POST", "/auth", json=credential_json(auth, registry))

    def get(self, ref: str) -> Image:
        facts = self._http.json("GET", paths.image(ref, "/json"))
        history = self._http.json("GET", paths.image(ref, "/history"))
        return image_from(facts, history)

    def list(self, *, all: bool = False, filters: Filters | None = None) -> builtins.list[Image]:
        found = self._http.json("GET", "/images/json", {"all": all, "filters": filters or None})
        return gathered(self.get, [one["Id"] for one in found])

    def tag(self, ref: str, name: str) -> None:
        self._http.request("POST", paths.image(ref, "/tag"), _repository(name))

    def remove(self, ref: str, *, force: bool = False) -> builtins.list[Removed]:
        found = self._http.json("DELETE", paths.image(ref), {"force": force})
        return [Removed(one.get("Untagged", ""), one.get("Deleted", "")) for one in found]

    def save(self, refs: Sequence[str], out: BinaryIO, *, format: str = "docker") -> None:
        if format not in ("docker", "oci"):
            raise InvalidArgument(f"unknown format {format!r}: use docker or oci")
        if format == "oci" and self._http.api_version() < _BOTH_FORMATS:
            raise NotSupported("this engine saves in Docker's format alone: leave the format out")
        with self._http.download("/images/get", {"names": list(refs)}) as archive:
            archive.write_to(out)

    def load(self, source: BinaryIO, *, watch: Watch | None = None) -> builtins.list[Image]:
        steps = self._http.steps("POST", "/images/load", {"quiet": watch is None}, body=source)
        said = "".join(str(step.get("stream", "")) for step in _told(steps, watch))
        names = [
            line.removeprefix(start).strip()
            for line in said.splitlines()
            for start in _LOADED
            if line.startswith(start)
        ]
        if not names:
            raise InvalidArgument("there was no image in what was to be loaded")
        return [self.get(name) for name in names]

    def import_(
        self,
        source: BinaryIO,
        *,
        name: str = "",
        message: str = "",
        changes: Sequence[str] = (),
    ) -> Image:
        query = {
            "fromSrc": "-",
            **(_repository(name) if name else {}),
            "message": message or None,
            "changes": list(changes),
        }
        steps = self._http.steps("POST", "/images/create", query, body=source)
        said = [str(step.get("status", "")) for step in steps]
        if not said or not said[-1].startswith("sha256:"):
            raise EngineError("the engine did not tell the id of what it imported")
        return self.get(said[-1])

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
        query = {
            "container": container,
            **(_repository(name) if name else {}),
            "comment": message or None,
            "author": author or None,
            "changes": list(changes),
            "pause": pause,
        }
        if not volumes:
            return self.get(self._http.json("POST", "/commit", query, json={})["Id"])
        with own("include volumes in an image"):
            path, query = paths.container(container, "/commit"), {**query, "volumes": True}
            return self.get(self._http.json("POST", path, query, json={})["Id"])

    def build(
        self,
        context: BinaryIO | Path,
        spec: BuildSpec,
        *,
        tell: Tell | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Image:
        from cellbox.build.context import sent  # most verbs build nothing

        if spec.secrets or spec.ssh or spec.entitlements:
            raise NotSupported("secrets, agents and entitlements cannot be sent to another engine")
        body, dockerfile = sent(context, spec.dockerfile)
        query = build_query(replace(spec, dockerfile=dockerfile))
        headers = {CONFIG_HEADER: credentials_header(spec.credentials)} if spec.credentials else {}
        headers["Content-Type"] = "application/x-tar"
        steps = self._http.steps("POST", "/build", query, body=body, headers=headers)
        built = ""
        with closing(steps):
            for step in steps:
                if stop and stop():
                    raise Cancelled("the build was cancelled")
                built = _built(step) or built
                if tell and (step.get("status") or step.get("stream")):
                    tell(step.get("stream") or progress_from(step))
        if not built:
            raise EngineError("the engine did not tell the id of what it built")
        return self.get(built)


def _built(step: Any) -> str:
    """The id that a line of a build tells."""
    told = (step.get("aux") or {}).get("ID", "")
    found = _BUILT.match(str(step.get("stream", "")))
    return str(told) or (found[1] if found else "")


def shown(domain: str, auth: Credential | None) -> dict[str, str]:
    """What the daemon is to show the registry: ``auth``, else what this user is logged in with."""
    hub = domain == reference.DEFAULT_DOMAIN
    if auth is None:
        found = Credentials.of_user().get(HUB if hub else domain)
        auth = Credential(**{name: getattr(found, name) for name in _SECRETS}) if found else None
    if auth is None:
        return {}
    return {AUTH_HEADER: credential_header(auth, HUB_KEY if hub else domain)}


def _repository(name: str) -> dict[str, str]:
    """``repo`` and ``tag`` of a name. Raises InvalidReference."""
    named = reference.parse(name)
    if named.digest:
        raise InvalidArgument(f"{name}: an image cannot be given a digest as its name")
    return {"repo": named.familiar_name, "tag": named.tag}


def _told(steps: Iterable[Any], watch: Watch | None) -> Iterator[Any]:
    """The steps of a long task, each told to ``watch`` on its way."""
    for step in steps:
        if watch and step.get("status"):
            watch(progress_from(step))
        yield step


def watched(steps: Iterable[Any], watch: Watch | None) -> None:
    for _ in _told(steps, watch):
        pass
