"""What this engine's API has and Docker's has not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from cellbox.errors import NotSupported


@contextlib.contextmanager
def own(what: str) -> Iterator[None]:
    """Requests that only an engine of our kind answers; others cannot do ``what``: NotSupported."""
    try:
        yield
    except NotSupported as error:
        if "page not found" not in str(error):
            raise
        raise NotSupported(
            f"Docker's API cannot {what}, and that is all this engine has"
        ) from error


def readable(pieces: Iterable[bytes]) -> BinaryIO:
    """A file that holds ``pieces``, which are made as it is read."""
    return cast(BinaryIO, io.BufferedReader(_Pieces(iter(pieces))))


class _Pieces(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
