"""From a URL to an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellbox.errors import InvalidArgument, NotSupported

if TYPE_CHECKING:
    from cellbox.engine import Engine


def connect(url: str = "") -> Engine:
    """The engine at ``url``: none for the embedded one, ``local:PATH`` for one with its store
    there.

    Raises InvalidArgument for what is no such URL, NotSupported for a machine that cannot.
    """
    scheme, colon, rest = url.partition(":")
    if url and (scheme != "local" or not rest):
        if colon and scheme in ("unix", "tcp", "ssh", "http", "https"):
            raise NotSupported(
                f"{url}: this version has the embedded engine only; leave the URL out"
            )
        raise InvalidArgument(f"{url!r} is no engine: leave it out, or write local:PATH")
    from cellbox.local.engine import LocalEngine

    return LocalEngine(Path(rest).absolute() if rest else None)
