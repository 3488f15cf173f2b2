"""A repository that is written to: uploads and manifests (distribution specification, *Push*).

An upload is a *place*, a URL that the registry gives and may change with every answer. Of these
requests each is one try; who uploads knows what to do next. A place that the registry does not know
any more, or that has other bytes than was thought, is :class:`Lost`: the blob begins anew.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from cellbox.errors import CellboxError, NotSupported, Unauthorized, Unavailable
from cellbox.images.content import digest_of
from cellbox.model.reference import Reference, valid_digest
from cellbox.registry.client import Asked, Client, Repository, check_transient, told_error
from cellbox.registry.origins import next_url, origin_of
from cellbox.registry.retry import Transient
from cellbox.registry.transport import Body, Response

_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_LOST = frozenset({400, 404, 416})


class Lost(Transient):
    """The registry has no use for this upload any more; another one may succeed."""


class Target(Repository):
    """The repository of ``reference`` at its registry."""

    def __init__(self, client: Client, reference: Reference) -> None:
        super().__init__(client, client.registry(reference), reference)

    def has(self, digest: str) -> bool:
        """Whether the repository has the blob already."""
        response = self._ask("HEAD", f"blobs/{digest}")
        response.discard()
        if response.status in (200, 404):
            return response.status == 200
        raise self._refused(response)

    def begin(self) -> str:
        """The place of a new upload."""
        return self._place(self._expect(self._ask("POST", "blobs/uploads/"), 202))

    def mount(self, digest: str, source: str) -> str:
        """Let the repository have the blob that the repository ``source`` of this registry has:
        empty where that is done, otherwise the place of an upload."""
        path = f"blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='')}"
        try:
            response = self._ask("POST", path, also=f" repository:{source}:pull")
        except Unauthorized:  # it may not be read by us
            return self.begin()
        if response.status == 201:
            response.discard()
            return ""
        if response.status == 202:
            return self._place(response)
        response.discard()
        return self.begin()

    def reached(self, place: str) -> int:
        """How many bytes have arrived there. Raises Lost."""
        response = self._expect(self._ask("GET", place=place), 204, 202, 200)
        response.discard()
        found = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        if found is None:
            raise Lost(f"{self.host} does not say how far an upload came")
        return int(found[1]) + 1 if int(found[1]) else 0  # an empty one is "0-0", too

    def append(self, place: str, offset: int, body: Body) -> str:
        """Send what follows the first ``offset`` bytes; the next place. Raises Lost."""
        headers = {"Content-Type": "application/octet-stream"}
        if offset:
            headers["Content-Range"] = f"{offset}-{offset + body.size - 1}"
        response = self._ask("PATCH", place=place, headers=headers, body=body)
        return self._place(self._expect(response, 202, 204, 201))

    def finish(self, place: str, digest: str) -> None:
        """All has arrived: let it be the blob ``digest``, which the registry verifies. Raises
        Lost."""
        url = f"{place}{'&' if '?' in place else '?'}digest={quote(digest, safe='')}"
        self._expect(self._ask("PUT", place=url, body=Body(0, tuple)), 201, 204).discard()

    def put_manifest(self, media_type: str, data: bytes) -> None:
        """Let the reference name this manifest. Raises Unavailable where the registry makes
        something else of it."""
        self._persist(lambda: self._put_manifest(media_type, data))

    def _put_manifest(self, media_type: str, data: bytes) -> None:
        path, body = f"manifests/{self.reference.identifier}", Body(len(data), lambda: (data,))
        response = self._ask("PUT", path, headers={"Content-Type": media_type}, body=body)
        if response.status not in (201, 200, 202, 204):
            raise self._refused(response)
        response.discard()
        stated = response.headers.get("Docker-Content-Digest", "")
        if valid_digest(stated) and stated.startswith("sha256:") and stated != digest_of(data):
            raise Unavailable(f"{self.host} has another manifest than was sent: {stated}")

    def _ask(
        self,
        method: str,
        path: str = "",
        *,
        place: str = "",
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        also: str = "",
    ) -> Response:
        name = self.reference.path
        scope = f"repository:{name}:pull,push{also}"
        asked = Asked(method, f"{name}/{path}", scope, headers or {}, body, place)
        try:
            response = self._client.send(self._endpoint, asked)
        except Unauthorized as error:
            raise self._denied(str(error)) from error
        check_transient(response)
        if response.status in (401, 403):
            raise self._refused(response)
        return response

    def _expect(self, response: Response, *wanted: int) -> Response:
        if response.status in wanted:
            return response
        if response.status in _LOST:
            raise Lost(str(self._refused(response)))
        raise self._refused(response)

    def _place(self, response: Response) -> str:
        response.discard()
        location = response.headers.get("Location", "")
        if not location:
            raise Unavailable(f"{self.host} does not say where to upload to")
        return next_url(f"{response.origin}/v2/{self.reference.path}/blobs/uploads/", location)

    def _refused(self, response: Response) -> CellboxError:
        """Why an answer is not one of success, in a sentence."""
        code, message = told_error(response)
        own = response.origin == origin_of(f"{response.origin.scheme}://{self.host}")
        if response.status in (401, 403) and own:
            return self._denied(message or f"{self.host} answers {response.status}")
        if response.status == 405 or code == "UNSUPPORTED":
            return NotSupported(
                f"{self.host} takes no images: {message or 'it cannot be pushed to'}"
            )
        where = response.origin.authority
        return Unavailable(f"{where} answers {response.status}{message and ': ' + message}")

    def _denied(self, reason: str) -> Unauthorized:
        name, host = self.reference.familiar_name, self.host
        return Unauthorized(
            f"push access denied for {name}, you may have to 'docker login {host}': {reason}"
        )
