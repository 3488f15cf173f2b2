"""Here-documents: ``<<EOF`` in the words of an instruction, and what follows it; pure.

``<<-`` takes leading tabs away, a name with quotes leaves variables alone, and digits before ``<<``
name a descriptor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cellbox.build.shell import Lexer
from cellbox.errors import InvalidArgument

_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)", re.DOTALL)
_TABS = re.compile(r"^\t+", re.MULTILINE)
_AS_WRITTEN = Lexer(keep_quotes=True, keep_escapes=True, keep_unset=True)
_NAME = Lexer(keep_unset=True)
_QUOTED_NAME = Lexer(keep_quotes=True, keep_unset=True)


@dataclass(frozen=True)
class Heredoc:
    """A here-document. ``expand`` says that variables in it are replaced, ``chomp`` that leading
    tabs do not count; ``content`` is as it is written."""

    name: str
    content: str = ""
    descriptor: int = 0
    expand: bool = True
    chomp: bool = False

    @property
    def text(self) -> str:
        """The content as it is meant."""
        return _TABS.sub("", self.content) if self.chomp else self.content


def find(line: str) -> list[Heredoc]:
    """The here-documents that an instruction announces, in order and without content."""
    try:
        words = _AS_WRITTEN.expand(line, {}).words
    except InvalidArgument:  # quotes that do not end are the shell's business
        return []
    # Between << and its name there may be a blank.
    pairs = zip(words, (*words[1:], ""), strict=True)
    found = (of_word(word + after if word == "<<" else word) for word, after in pairs)
    return [one for one in found if one is not None]


def of_word(word: str) -> Heredoc | None:
    """The here-document that one word announces."""
    match = _HEREDOC.fullmatch(word)
    if not match or not match[3]:
        return None
    try:
        names, quoted = (lexer.expand(match[3], {}).words for lexer in (_NAME, _QUOTED_NAME))
    except InvalidArgument:
        return None
    if len(names) != 1:
        return None
    return Heredoc(
        name=names[0],
        descriptor=int(match[1] or 0),
        expand=names == quoted,
        chomp=bool(match[2]),
    )
