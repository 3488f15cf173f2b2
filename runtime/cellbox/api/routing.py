"""From a method and a path to a handler.

A pattern is a path with names: ``{id}`` is one segment (a slash before it, as in ``/web``, is
skipped), ``{name:path}`` takes slashes too, for image names. A path may begin with a version,
``/v1.44``; without one it is the newest. As moby has it, a path that is there for another method
only is not found, and a version is judged after that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cellbox.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cellbox.api.http import Hijack, Request, Response
    from cellbox.api.server import Daemon

    Handler = Callable[[Daemon, Request], Response | Hijack]

NEWEST = (1, 45)
OLDEST = (1, 12)
_VERSION = re.compile(r"/v(\d{1,4})\.(\d{1,4})(?=/)")
_NAME = re.compile(r"\{(\w+)(:path)?\}")


class PageNotFound(NotFound):
    """There is nothing at this path, in moby's words."""

    def __init__(self) -> None:
        super().__init__("page", "")
        self.args = ("page not found",)


class Match(NamedTuple):
    """A handler, what the pattern's names stand for, and the version that was asked for."""

    handler: Handler
    params: dict[str, str]
    version: tuple[int, int]


class _Route(NamedTuple):
    pattern: re.Pattern[str]
    handler: Handler


_literal: dict[tuple[str, str], Handler] = {}
_patterns: dict[tuple[str, str], list[_Route]] = {}
"""By method and the path's first segment."""


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Register a handler. Patterns without names are tried first, others in their order."""

    def register(handler: Handler) -> Handler:
        if "{" not in pattern:
            _literal[method, pattern] = handler
        else:
            known = _patterns.setdefault((method, _first(pattern)), [])
            known.append(_Route(_compile(pattern), handler))
        return handler

    return register


def find(method: str, path: str) -> Match:
    """The handler for a decoded path. Raises PageNotFound, and InvalidArgument for a version that
    is not served."""
    version = NEWEST
    asked = _VERSION.match(path)
    if asked is not None:
        version = (int(asked[1]), int(asked[2]))
        path = path[asked.end() :]
    handler, params = _look_up(method, path)
    _check(version)
    return Match(handler, params, version)


def _look_up(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    literal = _literal.get((method, path))
    if literal is not None:
        return literal, {}
    for pattern, handler in _patterns.get((method, _first(path)), ()):
        match = pattern.fullmatch(path)
        if match is not None:
            return handler, match.groupdict()
    raise PageNotFound


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _compile(pattern: str) -> re.Pattern[str]:
    text, end = "", 0
    for name in _NAME.finditer(pattern):
        text += re.escape(pattern[end : name.start()])
        text += f"(?P<{name[1]}>.+)" if name[2] else f"/*(?P<{name[1]}>[^/]+)"
        end = name.end()
    return re.compile(text + re.escape(pattern[end:]), re.DOTALL)


def _check(version: tuple[int, int]) -> None:
    said = "{}.{}".format(*version)
    if version > NEWEST:
        raise InvalidArgument(
            f"client version {said} is too new. Maximum supported API version is {{}}.{{}}".format(
                *NEWEST
            )
        )
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {said} is too old. Minimum supported API version is "
            "{}.{}, please upgrade your client to a newer version".format(*OLDEST)
        )
