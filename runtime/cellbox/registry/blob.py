"""A blob as it comes from a registry: a stream that knows where it starts and how long it is.

A server that is asked to go on at an offset may do so (206), or start again (200), or not know what
is meant (416). Only a 206 that starts where it was asked to is believed; after any other answer the
blob is read from its start (RFC 9110 sections 14 and 15.3.7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cellbox.errors import IntegrityError, Unavailable
from cellbox.model.image import Descriptor
from cellbox.registry.retry import Transient
from cellbox.registry.transport import Response

Ask = Callable[[dict[str, str]], Response]
"""A GET of the blob with further headers; the status is 200, 206 or 416."""

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class BlobStream:
    """The bytes of a blob from ``start`` on, in pieces; closed by the ``with`` block.

    Reading raises Transient when the stream ends or breaks too early, and IntegrityError when it
    goes on after the size of the blob.
    """

    def __init__(self, response: Response, descriptor: Descriptor, start: int) -> None:
        self._response = response
        self._descriptor = descriptor
        self._complete = False
        self.start = start

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._complete:
            self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        position, size = self.start, self._descriptor.size
        while piece := self._response.read():
            position += len(piece)
            if position > size:
                raise _wrong_size(self._descriptor, f"more than {size}")
            yield piece
        if position < size:
            host = self._response.origin.authority
            raise Transient(f"{host}: the blob ended after {position} of {size} bytes")
        self._response.discard()
        self._complete = True

    def cut(self) -> None:
        """End the reading from another thread."""
        self._response.cut()


def open_blob(ask: Ask, descriptor: Descriptor, host: str, offset: int) -> BlobStream:
    """The stream of a blob from ``offset``, or from 0 where the server does not resume there."""
    if offset:
        response = ask({"Range": f"bytes={offset}-"})
        if response.status == 200:
            return _whole(response, descriptor, host)
        if response.status == 206 and _continues(response, descriptor, offset):
            return BlobStream(response, descriptor, offset)
        response.close()
    return _whole(ask({}), descriptor, host)


def _continues(response: Response, descriptor: Descriptor, offset: int) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        return False
    total = descriptor.size if match[3] == "*" else int(match[3])
    return int(match[1]) == offset and total == descriptor.size and int(match[2]) < total


def _whole(response: Response, descriptor: Descriptor, host: str) -> BlobStream:
    if response.status != 200:
        response.close()
        raise Unavailable(f"{host} answers {response.status} to a request for a whole blob")
    length = response.headers.get("Content-Length")
    if length is not None and length != str(descriptor.size):
        response.close()
        raise _wrong_size(descriptor, _shown(length))
    return BlobStream(response, descriptor, 0)


def _shown(length: str) -> str:
    return length if re.fullmatch(r"[0-9]{1,20}", length) else "no number"


def _wrong_size(descriptor: Descriptor, got: str) -> IntegrityError:
    return IntegrityError(f"the size of blob {descriptor.digest}", str(descriptor.size), got)
