"""Which words of a command line are options, and which belong to the command in the container;
pure.

click answers this while it parses, but two things must be known before: that ``--`` came first (no
image is named, so it is ``host``), and that a flag was written as Docker's ``--rm=true``, which
click's flags refuse. The walk below reads the same parameters as click does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

_TRUE = {"true", "1", "t"}
_FALSE = {"false", "0", "f"}


@dataclass(frozen=True)
class Split:
    """Words before the first argument, and from it on; ``dashed`` says that ``--`` parted them."""

    options: tuple[str, ...]
    rest: tuple[str, ...]
    dashed: bool = False


def split(command: click.Command, words: Sequence[str]) -> Split:
    """Part ``words`` at the first one that is neither an option nor the value of one."""
    known = _Known(command)
    options: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            return Split(tuple(options), tuple(words[index + 1 :]), dashed=True)
        if not word.startswith("-") or word == "-":
            break
        spelled, with_next = known.option(word)
        options.extend(spelled)
        index += 1
        if with_next and index < len(words):
            options.append(words[index])
            index += 1
    return Split(tuple(options), tuple(words[index:]))


def plain_flags(command: click.Command, words: Sequence[str]) -> list[str]:
    """``words`` with each ``--flag=true`` as ``--flag``, ``--no-flag`` or nothing for each
    ``--flag=false``, wherever options may stand; nothing behind ``--`` is touched."""
    known = _Known(command)
    ends = words.index("--") if "--" in words else len(words)
    plain = [part for word in words[:ends] for part in known.plain(word)]
    return [*plain, *words[ends:]]


class _Known:
    """What a command's options are: which take a value, and what says no to a flag."""

    def __init__(self, command: click.Command) -> None:
        options = [option for option in command.params if isinstance(option, click.Option)]
        self._takes_value = {
            name: not (option.is_flag or option.count)
            for option in options
            for name in (*option.opts, *option.secondary_opts)
        }
        self._no = {
            name: option.secondary_opts[0]
            for option in options
            if option.secondary_opts
            for name in option.opts
        }

    def option(self, word: str) -> tuple[list[str], bool]:
        """How ``word`` reads for click, and whether the next word is its value."""
        if word.startswith("--"):
            return self.plain(word), "=" not in word and self._takes_value.get(word, False)
        for place, letter in enumerate(word[1:], 2):
            if self._takes_value.get(f"-{letter}", False):
                return [word], place == len(word)
        return [word], False

    def plain(self, word: str) -> list[str]:
        """``word`` without the value of a flag."""
        name, equals, value = word.partition("=")
        if not equals or self._takes_value.get(name, True):
            return [word]
        if value.lower() in _FALSE:
            return [self._no[name]] if name in self._no else []
        return [name] if value.lower() in _TRUE else [word]
