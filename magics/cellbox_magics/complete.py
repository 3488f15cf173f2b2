"""Completion behind ``%container``: verbs, flags and the names of objects, with their types.

A Matcher of IPython's version 2 API (IPython.core.completer). Verbs and flags come from the tree of
commands, names from the engine, kept for :data:`FRESH` seconds. The engine is not asked for a mere
flag, and whatever goes wrong here is an empty answer: a completion must never disturb typing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from .session import Session

if TYPE_CHECKING:
    import click

    from cellbox.engine import Engine

FRESH = 2.0
"""Seconds for which names from the engine are believed."""

_MAGIC = re.compile(r"^\s*(?:[\w.,\s\[\]]+=\s*)?%(%?)container\s+(.*)$", re.DOTALL)
_HOST = ("-H", "--host")
_NOTHING: dict[str, Any] = {"completions": [], "suppress": False}

Found = Iterable[tuple[str, str]]
"""Texts and their types."""


class ContainerMatcher:
    """Completes the lines of one shell's magics."""

    def __init__(self, session: Session) -> None:
        self._names = Names(session)
        self.matcher = self._made()

    def _made(self) -> Callable[[Any], dict[str, Any]]:
        @context_matcher(identifier="cellbox.container")  # type: ignore[untyped-decorator]
        def container_matcher(context: Any) -> dict[str, Any]:
            try:
                return self.answer(context.text_until_cursor, context.cursor_line)
            except Exception:  # see above: never disturb typing
                return _NOTHING

        return container_matcher  # type: ignore[no-any-return]

    def answer(self, before: str, line_number: int = 0) -> dict[str, Any]:
        """The completions for the text ``before`` the cursor; none outside our magics."""
        match = _MAGIC.match(before)
        if match is None or (match[1] and line_number != 0):
            return _NOTHING
        typed = match[2].split()
        fragment = "" if not typed or before[-1].isspace() else typed.pop()
        found = suggestions(typed, fragment, bool(match[1]), self._names)
        completions = [
            SimpleCompletion(text=text, type=kind)
            for text, kind in found
            if text.startswith(fragment)
        ]
        return {"completions": completions, "matched_fragment": fragment, "suppress": True}


class Names:
    """Names out of the engine, kept for a moment."""

    def __init__(
        self, session: Session, clock: Callable[[], float] = time.monotonic, host: str = ""
    ) -> None:
        self._session = session
        self._clock = clock
        self._hosts = [host] if host else []
        self._elsewhere: dict[str, Names] = {}
        self._kept: dict[str, tuple[float, list[str]]] = {}

    def at(self, host: str) -> Names:
        """Those of the engine at ``host``."""
        if host not in self._elsewhere:
            self._elsewhere[host] = Names(self._session, self._clock, host)
        return self._elsewhere[host]

    def contexts(self) -> list[str]:
        """All names."""
        import cellbox

        return self._fresh("context", lambda: (one.name for one in cellbox.contexts()))

    @property
    def _engine(self) -> Engine:
        return self._session.chosen(self._hosts)

    def images(self) -> list[str]:
        """All tags, and ``host``."""
        return self._fresh("image", self._list_images)

    def containers(self) -> list[str]:
        """All names."""
        return self._fresh("container", self._list_containers)

    def networks(self) -> list[str]:
        """All names."""
        return self._fresh("network", self._list_networks)

    def volumes(self) -> list[str]:
        """All names."""
        return self._fresh("volume", self._list_volumes)

    def _list_networks(self) -> Iterator[str]:
        return (facts.name for facts in self._engine.networks.list())

    def _list_volumes(self) -> Iterator[str]:
        return (facts.name for facts in self._engine.volumes.list())

    def _list_images(self) -> Iterator[str]:
        yield "host"
        for facts in self._engine.images.list():
            yield from (tag for tag in facts.tags if tag != "host:latest")
            yield from (tag[: -len(":latest")] for tag in facts.tags if tag.endswith(":latest"))

    def _list_containers(self) -> Iterator[str]:
        return (facts.name for facts in self._engine.containers.list(all=True))

    def _fresh(self, kind: str, ask: Callable[[], Iterable[str]]) -> list[str]:
        now = self._clock()
        when, names = self._kept.get(kind, (-FRESH, []))
        if now - when >= FRESH:
            names = list(dict.fromkeys(ask()))
            self._kept[kind] = (now, names)
        return names


def suggestions(typed: Sequence[str], fragment: str, cell: bool, names: Names) -> Found:
    """What may stand after the words ``typed``, for a word that begins with ``fragment``."""
    from .grammar import Place, tree
    from .grammar.words import split

    command: click.Command = tree(Place.CELL if cell else Place.LINE)
    rest = list(typed)
    while hasattr(command, "summaries"):
        parts = split(command, rest)
        if not parts.rest:
            return _of_group(command, parts.options, fragment, names)
        names = names.at(host) if (host := _host(parts.options)) else names
        rest = list(parts.rest)
        found = command.get_command(None, rest.pop(0))  # type: ignore[attr-defined]
        if found is None:
            return []
        command = found
    return _of_verb(command, rest, fragment, names)


def _host(options: Sequence[str]) -> str:
    """The first engine that is named."""
    apart = [value for option, value in pairwise(options) if option in _HOST]
    joined = [word.partition("=")[2] for word in options if word.startswith("--host=")]
    return [*apart, *joined, ""][0].partition(",")[0]


def _of_group(command: Any, options: Sequence[str], fragment: str, names: Names) -> Found:
    if options and options[-1] in _HOST:
        return [(name, "context") for name in names.contexts()]
    if fragment.startswith("-"):
        return [(name, "flag") for option in _shown(command) for name in option.opts]
    return [(name, "command") for name in command.summaries()]


def _of_verb(command: click.Command, rest: list[str], fragment: str, names: Names) -> Found:
    from .grammar.commands import ProgramVerb
    from .grammar.words import split

    options = {name: option for option in _options(command) for name in option.opts}
    parts = split(command, rest)
    ours = not isinstance(command, ProgramVerb) or not (parts.rest or parts.dashed)
    waiting = options.get(rest[-1]) if rest and ours else None
    if waiting is not None and not waiting.is_flag:
        return _values(waiting, names)
    if not ours and command.name not in ("exec",):
        return []
    if fragment.startswith("-"):
        return (
            [(name, "flag") for option in _shown(command) for name in option.opts] if ours else []
        )
    return _arguments(command, len(_positional(command, rest)), names)


def _options(command: click.Command) -> list[click.Option]:
    import click

    return [one for one in command.params if isinstance(one, click.Option)]


def _shown(command: click.Command) -> list[click.Option]:
    return [option for option in _options(command) if not option.hidden]


def _positional(command: click.Command, rest: list[str]) -> list[str]:
    from .grammar.words import split

    found: list[str] = []
    while rest:
        parts = split(command, rest)
        found.extend(parts.rest[:1])
        rest = list(parts.rest[1:])
    return found


def _values(option: click.Option, names: Names) -> Found:
    choices = getattr(option.type, "choices", ())
    if choices:
        return [(str(choice), "value") for choice in choices]
    if option.name == "host":
        return [(name, "context") for name in names.contexts()]
    if option.name == "volume":
        return [(f"{name}:", "volume") for name in names.volumes()]
    if option.name in ("volumes_from", "link"):
        return [(name, "container") for name in names.containers()]
    if option.name == "network":
        joined = [f"container:{name}" for name in names.containers()]
        own = [(name, "network") for name in names.networks()]
        return [*own, *((word, "value") for word in joined)]
    return []


def _arguments(command: click.Command, place: int, names: Names) -> Found:
    import click

    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    if not arguments:
        return []
    argument = arguments[min(place, len(arguments) - 1)]
    if place >= len(arguments) and argument.nargs != -1:
        return []
    found: list[tuple[str, str]] = []
    looks = command.name == "inspect" and argument.name == "names"
    if argument.name in ("container", "containers") or looks:
        found += [(name, "container") for name in names.containers()]
    if argument.name in ("network", "networks"):
        found += [(name, "network") for name in names.networks()]
    if command.name == "use":
        found += [(name, "context") for name in names.contexts()]
    if argument.name in ("volume", "volumes"):
        found += [(name, "volume") for name in names.volumes()]
    if argument.name in ("image", "repository", "names"):
        found += [(name, "image") for name in names.images()]
    return found
