"""Completion behind ``%container``: verbs, flags, images, containers, with their types.

A Matcher of IPython's version 2 API (IPython.core.completer). Verbs and flags come from the tree of
commands, names from the engine, kept for :data:`FRESH` seconds. The engine is not asked for a mere
flag, and whatever goes wrong here is an empty answer: a completion must never disturb typing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from .session import Session

if TYPE_CHECKING:
    import click

FRESH = 2.0
"""Seconds for which names from the engine are believed."""

_MAGIC = re.compile(r"^\s*(?:[\w.,\s\[\]]+=\s*)?%(%?)container\s+(.*)$", re.DOTALL)
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

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._clock = clock
        self._kept: dict[str, tuple[float, list[str]]] = {}

    def images(self) -> list[str]:
        """All tags, and ``host``."""
        return self._fresh("image", self._list_images)

    def containers(self) -> list[str]:
        """All names."""
        return self._fresh("container", self._list_containers)

    def _list_images(self) -> Iterator[str]:
        yield "host"
        for facts in self._session.engine.images.list():
            yield from (tag for tag in facts.tags if tag != "host:latest")
            yield from (tag[: -len(":latest")] for tag in facts.tags if tag.endswith(":latest"))

    def _list_containers(self) -> Iterator[str]:
        return (facts.name for facts in self._session.engine.containers.list(all=True))

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

    command: click.Command = tree(Place.CELL if cell else Place.LINE)
    rest = list(typed)
    while hasattr(command, "summaries"):
        if not rest:
            return [(name, "command") for name in command.summaries()]
        found = command.get_command(None, rest.pop(0))  # type: ignore[attr-defined]
        if found is None:
            return []
        command = found
    return _of_verb(command, rest, fragment, names)


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
    if option.name == "network":
        joined = [f"container:{name}" for name in names.containers()]
        return [(word, "value") for word in ("none", "host", *joined)]
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
    if argument.name in ("container", "containers") or command.name == "inspect":
        found += [(name, "container") for name in names.containers()]
    if argument.name in ("image", "repository", "names"):
        found += [(name, "image") for name in names.images()]
    return found
