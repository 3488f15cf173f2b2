"""What ADD fetches from a URL: a file of no name with the content, and the facts that it gets.

Source: Dockerfile reference, ADD; RFC 9110 (Last-Modified).
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from pathlib import Path
from posixpath import basename
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from cellbox.build.copying import Source
from cellbox.build.tree import Kind, Node
from cellbox.errors import InvalidArgument

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

MAX_SIZE = 16 << 30
"""Bytes of one download."""
_REDIRECTS = 10
_CONNECT, _READ = 15.0, 60.0
_CHUNK = 1 << 18
_UNNAMED = "__unnamed__"


def is_url(source: str) -> bool:
    """Is it fetched by HTTP?"""
    return source.startswith(("http://", "https://"))


def fetched(url: str, held: ExitStack, checksum: str = "") -> Source:
    """The file at ``url``, kept until ``held`` ends; of root, with mode 0600 and the time of its
    Last-Modified. Raises InvalidArgument where it cannot be had, or is not what ``checksum``
    (``sha256:`` and 64 hex digits) says."""
    import urllib3  # 40 ms, which only those pay who fetch something
    from urllib3.exceptions import HTTPError

    place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="cellbox-build-"))) / "file"
    limits = urllib3.Timeout(connect=_CONNECT, read=_READ)
    tries = urllib3.Retry(2, redirect=_REDIRECTS, status=0)
    try:
        with urllib3.PoolManager() as pool:
            answer = pool.request("GET", url, preload_content=False, timeout=limits, retries=tries)
            with answer:
                if answer.status != 200:
                    raise InvalidArgument(f"invalid response status {answer.status}")
                digest = _kept(answer, place)
            mtime = _time(answer.headers.get("Last-Modified", ""))
    except (HTTPError, InvalidArgument) as error:
        raise InvalidArgument(f"failed to load {url}: {error}") from None
    if checksum and digest != checksum:
        raise InvalidArgument(f"digest mismatch {digest}: {checksum}")

    def content() -> BinaryIO:
        return cast(BinaryIO, place.open("rb"))

    size = place.stat().st_size
    return Source(_name(url), Node(Kind.FILE, 0o600, mtime=mtime, size=size, open=content))


def _kept(answer: BaseHTTPResponse, place: Path) -> str:
    """Write what comes to ``place``; its digest."""
    found, size = hashlib.sha256(), 0
    with place.open("xb") as file:
        for block in answer.stream(_CHUNK, decode_content=False):
            size += len(block)
            if size > MAX_SIZE:
                raise InvalidArgument(f"it is larger than {MAX_SIZE} bytes")
            found.update(block)
            file.write(block)
    return f"sha256:{found.hexdigest()}"


def _time(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _name(url: str) -> str:
    name = unquote(basename(urlsplit(url).path))
    return _UNNAMED if name in ("", ".", "..") or "/" in name or "\0" in name else name
