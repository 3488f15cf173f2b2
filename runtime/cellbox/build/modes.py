"""``--chmod``: octal digits, or chmod(1)'s words (``u=rwX,go=rX``); pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cellbox.errors import InvalidArgument

_OCTAL = re.compile(r"[0-7]{1,4}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_CHANGE = re.compile(r"([-+=])([rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0}
_STICKY = 0o1000


@dataclass(frozen=True)
class Modes:
    """A change of permission bits."""

    text: str

    def apply(self, mode: int, is_directory: bool) -> int:
        """``mode`` after the change; ``X`` is ``x`` for directories and for what has one."""
        if _OCTAL.fullmatch(self.text):
            return int(self.text, 8)
        for clause in self.text.split(","):
            mode = _clause(clause, mode, is_directory)
        return mode


def parse(text: str) -> Modes | None:
    """The change that ``text`` tells, None where it is empty. Raises InvalidArgument."""
    if not text:
        return None
    if not _OCTAL.fullmatch(text) and not all(map(_CLAUSE.fullmatch, text.split(","))):
        raise InvalidArgument(f"invalid chmod parameter: '{text}'")
    return Modes(text)


def _clause(text: str, mode: int, is_directory: bool) -> int:
    match = _CLAUSE.fullmatch(text)
    assert match is not None  # `parse` has seen to it
    who = set(match[1] or "a")
    if "a" in who:
        who = set("ugo")
    for sign, letters in _CHANGE.findall(match[2]):
        executable = is_directory or bool(mode & 0o111)
        bits = _bits(who, letters, executable)
        if sign == "=":
            mode &= ~_bits(who, "rwx" + "st", True)
        mode = mode & ~bits if sign == "-" else mode | bits
    return mode


def _bits(who: set[str], letters: str, executable: bool) -> int:
    plain = letters.replace("X", "x" if executable else "")
    bits = _STICKY if "t" in letters else 0
    for one in who:
        bits |= sum(_BITS[letter] for letter in set(plain) if letter in _BITS) << _SHIFTS[one]
        bits |= _SPECIAL[one] if "s" in letters else 0
    return bits
