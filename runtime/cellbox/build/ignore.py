"""Which files of a context are left out: ``.dockerignore`` as moby's ``patternmatcher`` reads it;
pure.

Patterns are Go's ``filepath.Match`` with ``**`` for any number of directories. They match from the
root of the context, what is below a directory that matches is left out too, and the last pattern
that matches decides, where ``!`` takes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from posixpath import normpath

from cellbox.errors import InvalidArgument


class Ignore:
    """The patterns of one file; none ignores nothing."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        cleaned = [_cleaned(pattern) for pattern in patterns if pattern.strip()]
        self._patterns = [(_compiled(body), takes_back) for takes_back, body in cleaned]
        self.takes_back = any(takes_back for takes_back, _ in cleaned)
        """Is there a pattern that lets something below an ignored directory in again?"""

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Is the file ``path`` (relative, without ``./``) left out?"""
        ignored = False
        names = path.split("/")
        parents = ["/".join(names[:count]) for count in range(len(names), 0, -1)]
        for pattern, takes_back in self._patterns:
            if takes_back == ignored and any(pattern.fullmatch(one) for one in parents):
                ignored = not takes_back
        return ignored


def parse(text: str) -> list[str]:
    """The patterns of a ``.dockerignore``: a line each, without comments and blanks."""
    found = []
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = line.removesuffix("\r")
        if pattern.startswith("#"):
            continue
        pattern = pattern.strip()
        takes_back = pattern.startswith("!")
        if takes_back:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern[0] == "/" else pattern
        if pattern or takes_back:
            found.append("!" * takes_back + pattern)
    return found


def _clean(path: str) -> str:
    """Go's ``filepath.Clean``."""
    cleaned = normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _cleaned(pattern: str) -> tuple[bool, str]:
    pattern = _clean(pattern.strip())
    takes_back = pattern.startswith("!")
    if pattern == "!":
        raise InvalidArgument('illegal exclusion pattern: "!"')
    return takes_back, pattern.removeprefix("!")


_MAGIC = frozenset("*?[]\\")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    _check(pattern)
    if pattern.startswith("**") and not _MAGIC & set(pattern[2:]) and pattern[2:3] != "/":
        return re.compile(".*" + re.escape(pattern[2:]), re.DOTALL)
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 2 if pattern.startswith("/", at + 1) else 1
            out += "(?:.*/)?" if at < len(pattern) else ".*"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\" and at < len(pattern):
            # As in moby, an escaped letter is what it is in a regular expression.
            out += "\\" + pattern[at] if pattern[at].isalnum() else re.escape(pattern[at])
            at += 1
        else:
            out += char if char in "[]^-" else re.escape(char)
    try:
        return re.compile(out, re.DOTALL | re.ASCII)
    except re.error:
        raise InvalidArgument(f"syntax error in pattern: {pattern}") from None


_CLASS = re.compile(r"\[\^?(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?"
                    r"(?:(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)*\]", re.DOTALL)  # fmt: skip


def _check(pattern: str) -> None:
    """Refuse what Go's ``filepath.Match`` refuses: a class that does not end, a lone escape."""
    at = 0
    while at < len(pattern):
        if pattern[at] == "[":
            found = _CLASS.match(pattern, at)
            if not found:
                raise InvalidArgument(f"syntax error in pattern: {pattern}")
            at = found.end()
        else:
            at += 2 if pattern[at] == "\\" else 1
    if at > len(pattern):
        raise InvalidArgument(f"syntax error in pattern: {pattern}")
