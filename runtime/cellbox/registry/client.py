"""A registry's repositories: manifests, tags and blobs over HTTP.

:class:`Client` holds what all requests share (connections, tokens, configuration); it gives the
:class:`Repository` of a reference at each server that may have it, mirrors first. All addresses are
below ``/v2/`` (OCI distribution specification 1.1, section *Endpoints*). A manifest is read whole
and its digest verified; a blob is a stream that knows its size, and whoever reads it verifies it.

Requests that failed for a reason that may pass are repeated, except those for blobs: ``download``
repeats these, since it knows how far it came.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from cellbox.errors import (
    CellboxError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unauthorized,
    Unavailable,
)
from cellbox.model.image import INDEXES, MANIFESTS, Descriptor
from cellbox.model.reference import Reference, valid_digest
from cellbox.plugins import Login
from cellbox.registry.auth import Authenticator
from cellbox.registry.blob import BlobStream, open_blob
from cellbox.registry.config import Endpoint, Settings, load_settings
from cellbox.registry.credentials import Credentials
from cellbox.registry.origins import Origin, next_url, origin_of
from cellbox.registry.retry import DEFAULT_POLICY, Policy, Transient, parse_retry_after, persist
from cellbox.registry.transport import Body, Response, Transport

T = TypeVar("T")

MANIFEST_LIMIT = 4 << 20
TOKEN_LIMIT = 1 << 20
ERROR_LIMIT = 1 << 16
MAX_TAG_PAGES = 1000
MAX_LOGINS = 2
"""How often one request is answered 401 and repeated."""

_PASSED_OVER = (Unavailable, NotFound, Unauthorized, IntegrityError, InvalidArgument)
"""What a mirror may do wrong and the registry itself right."""

_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"


@dataclass(frozen=True)
class Fetched:
    """A manifest or index as it came: its ``descriptor`` was computed from ``data``."""

    descriptor: Descriptor
    data: bytes


@dataclass(frozen=True)
class Asked:
    """One request: ``path`` is below ``/v2/``; ``url`` takes its place where the registry named
    one. ``scope`` is what a token for it has to allow."""

    method: str
    path: str
    scope: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Body | None = None
    url: str = ""


class Client:
    """The registries that this user can reach; safe for any number of threads.

    ``credential`` gives the credential of a host; ``wait`` sleeps between tries.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        credential: Callable[[str], Login | None] | None = None,
        *,
        policy: Policy = DEFAULT_POLICY,
        transport: Transport | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = policy
        self.wait = wait
        self._settings = load_settings() if settings is None else settings
        self._transport = transport or Transport(policy)
        self._auth = Authenticator(self._fetch_token, credential or Credentials.of_user().get)
        self._schemes: dict[str, str] = {}
        self._unverified: set[Origin] = set()

    def close(self) -> None:
        """Let go of idle connections."""
        self._transport.close()

    def repositories(self, reference: Reference) -> tuple[Repository, ...]:
        """The repository of ``reference`` at each server that may have it, in the order to ask."""
        endpoints = self._settings.endpoints(reference.domain)
        return tuple(Repository(self, endpoint, reference) for endpoint in endpoints)

    def registry(self, reference: Reference) -> Endpoint:
        """The server that images of this name are pushed to: the registry, never a mirror of it."""
        return self._settings.endpoints(reference.domain)[-1]

    def resolve(self, reference: Reference) -> Descriptor:
        """What the reference names now: media type, digest and size of its manifest or index."""
        return self.first(reference, lambda repository: repository.resolve())

    def get_manifest(self, reference: Reference) -> Fetched:
        """The manifest or index that the reference names now, verified."""
        return self.first(reference, lambda repository: repository.manifest())

    def tags(self, reference: Reference) -> list[str]:
        """All tags of the reference's repository."""
        return self.first(reference, lambda repository: list(repository.tags()))

    def ping(self, domain: str) -> None:
        """Raises Unauthorized or Unavailable unless the registry answers and lets us in."""
        self.first(Reference(domain, "ping"), lambda repository: repository.ping())

    def first(self, reference: Reference, ask: Callable[[Repository], T]) -> T:
        """``ask`` of the first server that can answer; a mirror that fails is passed over.

        Raises what the last server did, with the mirrors' failures where it did not answer at all.
        """
        *mirrors, last = self.repositories(reference)
        failures = []
        for mirror in mirrors:
            try:
                return ask(mirror)
            except _PASSED_OVER as error:
                failures.append(f"mirror {mirror.host}: {error}")
        try:
            return ask(last)
        except Unavailable as error:
            if not failures:
                raise
            raise Unavailable("; ".join([str(error), *failures])) from error

    def send(self, endpoint: Endpoint, asked: Asked) -> Response:
        """The answer to one request, with whatever login it takes.

        The first scheme of ``endpoint`` that works is kept. Raises Unauthorized, Transient.
        """
        known = self._schemes.get(endpoint.host)
        *others, last = (known,) if known else endpoint.schemes
        for scheme in others:
            try:
                return self._login(endpoint, scheme, asked)
            except Unavailable:
                if (
                    self._schemes.get(endpoint.host) == scheme
                ):  # it answered, so the scheme is right
                    raise
        return self._login(endpoint, last, asked)

    def _login(self, endpoint: Endpoint, scheme: str, asked: Asked) -> Response:
        url, scope = f"{scheme}://{endpoint.host}/v2/{asked.path}", asked.scope
        origin = origin_of(url)
        if not endpoint.verify:
            self._unverified.add(origin)
        if asked.url and origin_of(asked.url) != origin:  # it gets no credentials of ours
            return self._elsewhere(endpoint, origin, asked)
        authorization = self._auth.known(origin, scope)
        for attempt in range(MAX_LOGINS + 1):
            response = self._transport.open(
                asked.method,
                asked.url or url,
                asked.headers,
                authorization=authorization,
                body=asked.body,
                verify=endpoint.verify,
            )
            self._schemes[endpoint.host] = scheme
            if response.status != 401 or response.origin != origin or attempt == MAX_LOGINS:
                break
            response.discard()
            challenge = response.headers.get("WWW-Authenticate", "")
            authorization = self._auth.answer(origin, scope, challenge, authorization)
        return response

    def _elsewhere(self, endpoint: Endpoint, origin: Origin, asked: Asked) -> Response:
        method, url, headers, body = asked.method, asked.url, asked.headers, asked.body
        return self._transport.open(
            method, url, headers, body=body, asked_by=origin, verify=endpoint.verify
        )

    def _fetch_token(
        self, method: str, url: str, origin: Origin, authorization: str, form: bytes | None
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        response = self._transport.open(
            method,
            url,
            headers,
            authorization=authorization,
            body=form,
            asked_by=origin,
            verify=origin not in self._unverified,
        )
        check_transient(response)
        return response.status, response.read_all(TOKEN_LIMIT)


class Repository:
    """One repository at one server."""

    def __init__(self, client: Client, endpoint: Endpoint, reference: Reference) -> None:
        self._client = client
        self._endpoint = endpoint
        self.reference = reference
        self.host = endpoint.host

    def resolve(self) -> Descriptor:
        """What the reference names now, by one HEAD request; not verified, but by digest.

        Raises NotFound, Unauthorized, NotSupported (schema 1), Unavailable.
        """
        return self._persist(self._head)

    def manifest(self, digest: str = "") -> Fetched:
        """The manifest or index of ``digest``, by default the one that the reference names.

        Raises as :meth:`resolve`, and IntegrityError.
        """
        return self._persist(lambda: self._get(digest or self.reference.identifier))

    def tags(self) -> Iterator[str]:
        """The tags in the registry's order (section *Listing Tags*)."""
        path = "tags/list"
        for _ in range(MAX_TAG_PAGES):
            response = self._persist(partial(self._send, "GET", path))
            names = _tags_of(response.read_all(MANIFEST_LIMIT), self.host)
            yield from names
            link = re.match(r'\s*<([^>]*)>\s*;\s*rel="?next"?', response.headers.get("Link", ""))
            if not link or not names:
                return
            path = self._page(response.origin, link[1])

    def ping(self) -> None:
        """Raises Unauthorized or Unavailable unless the server answers and lets us in."""
        self._persist(lambda: self._send("GET", "")).discard()

    def blob(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The bytes of a blob from ``offset``, or all of them where the server does not resume.

        One try only. Raises Transient where another may help; NotFound, Unauthorized, Unavailable,
        and IntegrityError for a wrong size.
        """
        path = f"blobs/{descriptor.digest}"
        return open_blob(
            lambda headers: self._send("GET", path, headers), descriptor, self.host, offset
        )

    def _persist(self, call: Callable[[], T]) -> T:
        if self._endpoint.mirror:  # there is another server to ask, so nobody should wait
            return call()
        return persist(self._client.policy, call, self._client.wait)

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None) -> Response:
        """The answer, which is one of success; 416 is handed on to who asked for a range."""
        name = self.reference.path
        scope = f"repository:{name}:pull" if path else ""
        place = f"{name}/{path}" if path else ""
        try:
            response = self._client.send(self._endpoint, Asked(method, place, scope, headers or {}))
        except Unauthorized as error:
            raise _denied(self.reference, str(error)) from error
        check_transient(response)
        if response.status not in (200, 206, 416):
            own = response.origin == origin_of(f"{response.origin.scheme}://{self.host}")
            raise _failure(response, own, self.reference, path)
        return response

    def _page(self, origin: Origin, link: str) -> str:
        base = f"{origin}/v2/{self.reference.path}/tags/list"
        target = next_url(base, link)
        if not target.startswith(f"{base}?"):
            raise Unavailable(f"{self.host} continues its list of tags at another address; refused")
        return target.removeprefix(f"{origin}/v2/{self.reference.path}/")

    def _head(self) -> Descriptor:
        identifier = self.reference.identifier
        try:
            response = self._send("HEAD", f"manifests/{identifier}", {"Accept": _ACCEPT})
        except Transient:
            raise
        except Unavailable:  # a server without HEAD
            return self._get(identifier).descriptor
        response.discard()
        media_type = _stated_type(response)
        digest = self.reference.digest or response.headers.get("Docker-Content-Digest", "")
        length = response.headers.get("Content-Length", "")
        known = media_type in MANIFESTS | INDEXES and valid_digest(digest)
        if not known or not re.fullmatch(r"[1-9][0-9]{0,17}", length):
            return self._get(identifier).descriptor
        return Descriptor(media_type, digest, int(length))

    def _get(self, identifier: str) -> Fetched:
        response = self._send("GET", f"manifests/{identifier}", {"Accept": _ACCEPT})
        media_type = _media_type(response)
        data = response.read_all(MANIFEST_LIMIT)
        stated = response.headers.get("Docker-Content-Digest", "")
        expected = identifier if valid_digest(identifier) else stated
        algorithm = expected.partition(":")[0] if valid_digest(expected) else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if valid_digest(expected) and digest != expected:
            raise IntegrityError(f"the manifest from {self.host}", expected, digest)
        return Fetched(Descriptor(media_type, digest, len(data)), data)


def check_transient(response: Response) -> None:
    """Raises Transient for an answer that may be another one next time: 408, 429, 5xx."""
    status, host = response.status, response.origin.authority
    if status not in (408, 429) and status < 500:
        return
    after = parse_retry_after(response.headers.get("Retry-After"))
    response.discard()
    what = f"toomanyrequests: {host} asks to wait" if status == 429 else f"{host} answers {status}"
    when = "" if after is None else f"; it says to try again in {after:.0f} seconds"
    raise Transient(what + when, after)


def _stated_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


def _media_type(response: Response) -> str:
    media_type = _stated_type(response)
    host = response.origin.authority
    if media_type.startswith(_SCHEMA1):
        response.close()
        raise NotSupported(
            f"{host} has this image in the old schema 1 format only: push it again with a new tool"
        )
    if media_type not in MANIFESTS | INDEXES:
        response.close()
        shown = _printable(media_type) or "nothing"
        raise NotSupported(f"{host} gives {shown} where an image manifest should be")
    return media_type


def _failure(response: Response, own: bool, reference: Reference, path: str) -> CellboxError:
    """The error that tells why an answer was not one of success, in Docker's sentences."""
    code, message = told_error(response)
    host, name = response.origin.authority, reference.familiar_name
    if response.status in (401, 403) and own:
        return _denied(reference, message or "unauthorized")
    if response.status != 404:
        return Unavailable(f"{host} answers {response.status}{message and ': ' + message}")
    if path.startswith("blobs/"):
        return _not_found(reference, f"blob {path[6:]} of {name} not found at {host}")
    if code == "NAME_UNKNOWN":
        return _not_found(reference, f"repository {name} not found: {message}")
    what = reference.familiar
    return _not_found(reference, f"manifest for {what} not found: {message or 'manifest unknown'}")


def _denied(reference: Reference, reason: str) -> Unauthorized:
    return Unauthorized(
        f"pull access denied for {reference.familiar_name}, repository does not exist or may"
        f" require 'docker login': {reason}"
    )


def _not_found(reference: Reference, sentence: str) -> NotFound:
    error = NotFound("image", reference.familiar)
    error.args = (sentence,)
    return error


def told_error(response: Response) -> tuple[str, str]:
    """Code and message of the first error in the body (section *Error Codes*), printable."""
    try:
        first: Any = json.loads(response.read_all(ERROR_LIMIT))["errors"][0]
        return str(first["code"]), _printable(f"{first['code']}: {first['message']}".lower())
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, Unavailable):
        return "", ""


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:200]


def _tags_of(body: bytes, host: str) -> list[str]:
    try:
        names = json.loads(body)["tags"] or []
        if all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,127}", name) for name in names):
            return list(names)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Unavailable(f"{host} gives a list of tags that cannot be read")
