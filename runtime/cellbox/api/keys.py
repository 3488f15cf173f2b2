"""Detach keys: the bytes that end an attach and leave the container running; pure.

As ``--detach-keys`` has them: single characters and ``ctrl-<value>`` with a letter or one of
``@[\\]^_``, separated by commas.
"""

from __future__ import annotations

from cellbox.errors import InvalidArgument

DEFAULT = b"\x10\x11"
"""ctrl-p, ctrl-q"""


def parse(text: str) -> bytes:
    """The bytes that ``text`` stands for; the default for none. Raises InvalidArgument."""
    return bytes(_code(word, text) for word in text.split(",")) if text else DEFAULT


def _code(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    name, dash, value = word.lower().partition("-")
    if name == "ctrl" and dash and len(value) == 1 and "@" <= value.upper() <= "_":
        return ord(value.upper()) - 64
    raise InvalidArgument(f"Invalid detach keys ({text}) provided")


class Escape:
    """Looks for the keys in what is typed. What may be their beginning is held back until it is
    clear that it is not."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is for the program, and whether the keys have come."""
        data = self._held + data
        place = data.find(self._keys)
        if place >= 0:
            self._held = b""
            return data[:place], True
        keep = next(n for n in range(len(self._keys), -1, -1) if data.endswith(self._keys[:n]))
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], False
