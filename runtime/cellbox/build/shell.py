"""Words of a Dockerfile: quotes, escapes and variables, as BuildKit's ``shell`` reads them; pure.

``$name`` and ``${name}`` stand for a variable, and ``${name...}`` knows the modifiers ``-`` ``+``
``?`` (with a colon before them an empty value counts as unset), ``#`` ``##`` ``%`` ``%%`` (cut a
pattern from the front or the end) and ``/`` ``//`` (replace). What stands between quotes is not
split; between single quotes nothing is special.

Source: Dockerfile reference, *Environment replacement*; the cases of ``tests/build`` hold the
results of the reference implementation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cellbox.errors import InvalidArgument

_END = ""
_SPECIAL = frozenset("@*#?-$!0")
_CUTS = frozenset("#%")
_REGEX_CHARACTERS = frozenset("[]{}.+()|^$")
_IN_PATTERN = frozenset("*?\\")


@dataclass(frozen=True)
class Expanded:
    """A text with its variables in place: as one ``text``, as ``words``, and the names of variables
    that were ``unset``."""

    text: str
    words: tuple[str, ...]
    unset: frozenset[str]


@dataclass(frozen=True)
class Lexer:
    """How words are read. ``escape`` is the Dockerfile's escape character; ``keep_quotes`` and
    ``keep_escapes`` leave these characters in the result, ``ignore_quotes`` takes quotes for
    letters, ``keep_unset`` leaves variables that are not set as they are written."""

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    ignore_quotes: bool = False
    keep_unset: bool = False

    def expand(self, text: str, env: Mapping[str, str]) -> Expanded:
        """``text`` with the variables of ``env``. Raises InvalidArgument in BuildKit's words."""
        reader = _Reader(text, env, self)
        try:
            result, words = reader.until(_END, self.keep_escapes)
        except _Wrong as error:
            raise InvalidArgument(f"failed to process {_quoted(text)}: {error}") from None
        return Expanded(result, tuple(words), frozenset(reader.unset))


class _Wrong(Exception):
    """A text that cannot be read."""


@dataclass
class _Words:
    """Words as they grow: bare blanks end one, quoted ones do not."""

    done: list[str] = field(default_factory=list)
    now: str = ""

    def add(self, text: str) -> None:
        for char in text:
            if not char.isspace():
                self.now += char
            elif self.now:
                self.end()

    def add_raw(self, text: str) -> None:
        self.now += text

    def end(self) -> list[str]:
        if self.now:
            self.done.append(self.now)
            self.now = ""
        return self.done


class _Reader:
    """One pass over a text."""

    def __init__(self, text: str, env: Mapping[str, str], lexer: Lexer) -> None:
        self._text = text
        self._at = 0
        self._env = env
        self._lexer = lexer
        self._keep_escapes = lexer.keep_escapes
        self._words = _Words()
        self.unset: set[str] = set()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def until(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """All up to the character ``stop``, which is read too; the end if that is empty."""
        before, self._keep_escapes = self._keep_escapes, keep_escapes
        try:
            return self._until(stop)
        finally:
            self._keep_escapes = before

    def _until(self, stop: str) -> tuple[str, list[str]]:
        result, words = "", _Words()
        outer, self._words = self._words, words
        while char := self._peek():
            if char == stop:
                self._next()
                self._words = outer
                return result, words.end()
            if char == "$":
                piece = self._dollar()
                words.add(piece)
            elif char in "'\"" and not self._lexer.ignore_quotes:
                piece = self._single() if char == "'" else self._double()
                words.add_raw(piece)
            elif char == self._lexer.escape:
                piece = self._escaped()
                words.add_raw(piece)
            else:
                piece = self._next()
                words.add(piece)
            result += piece
        if stop:
            raise _Wrong(f"unexpected end of statement while looking for matching {stop}")
        return result, words.end()

    def _escaped(self) -> str:
        escape = self._next()
        return (escape if self._keep_escapes else "") + self._next()

    def _single(self) -> str:
        start = self._at + 1
        end = self._text.find("'", start)
        if end < 0:
            raise _Wrong("unexpected end of statement while looking for matching single-quote")
        self._at = end + 1
        inner = self._text[start:end]
        return f"'{inner}'" if self._lexer.keep_quotes else inner

    def _double(self) -> str:
        quote = '"' if self._lexer.keep_quotes else ""
        result = quote
        self._next()
        while char := self._peek():
            if char == '"':
                self._next()
                return result + quote
            if char == "$":
                result += self._dollar()
            elif char == self._lexer.escape:
                result += self._escaped_in_quotes()
            else:
                result += self._next()
        raise _Wrong("unexpected end of statement while looking for matching double-quote")

    def _escaped_in_quotes(self) -> str:
        """Only a quote, ``$`` and the escape itself are escaped; before others it is a letter."""
        escape = self._next()
        if self._peek() not in ('"', "$", escape):
            return escape if self._peek() else ""
        return (escape if self._keep_escapes else "") + self._next()

    # Variables -----------------------------------------------------------------------------------

    def _dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._name()
            return self._plain(name, f"${name}") if name else "$"
        self._next()
        if not self._peek():
            raise _Wrong("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise _Wrong("syntax error: bad substitution")
        name = self._name()
        modifier = self._next()
        if modifier == "}":
            return self._plain(name, f"${{{name}}}")
        if modifier == "/":
            return self._replaced(name)
        colon = modifier == ":"
        if not colon and (not modifier or modifier not in "+-?#%"):
            raise _Wrong(f"unsupported modifier ({modifier or chr(0xFFFD)}) in substitution")
        return self._modified(name, self._next() if colon else modifier, colon)

    def _name(self) -> str:
        """Letters, digits and ``_``; or digits alone; or one special character."""
        start = self._at
        if self._peek().isdigit():
            while self._peek().isdigit():
                self._next()
        elif self._peek() in _SPECIAL:
            self._next()
        else:
            while self._peek().isalpha() or self._peek().isdigit() or self._peek() == "_":
                self._next()
        return self._text[start : self._at]

    def _get(self, name: str) -> str | None:
        value = self._env.get(name)
        if value is None:
            self.unset.add(name)
        return value

    def _plain(self, name: str, written: str) -> str:
        value = self._get(name)
        if value is None:
            return written if self._lexer.keep_unset else ""
        return value

    def _operand(self, stop: str, missing: str, keep_escapes: bool) -> str:
        try:
            return self.until(stop, keep_escapes)[0]
        except _Wrong:
            if not self._peek():
                raise _Wrong(f"syntax error: missing {missing}") from None
            raise
        finally:
            # As in BuildKit: what stood before a modifier is not a part of the word after it.
            self._words.now = ""

    def _modified(self, name: str, modifier: str, colon: bool) -> str:
        word = self._operand("}", "'}'", keep_escapes=modifier in _CUTS)
        apply = _MODIFIERS.get(modifier)
        if apply is None:
            raise _Wrong(f"unsupported modifier ({':' * colon}{modifier}) in substitution")
        value = self._get(name)
        there = value is not None and not (colon and not value)
        if modifier == "?" and not there:
            state = "unset" if value is None else "empty"
            raise _Wrong(f"{name}: {word or f'is not allowed to be {state}'}")
        return apply(value or "", word, there)

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern = self._operand("/", "'/' in ${}", keep_escapes=True)
        replacement = self._operand("}", "'}'", keep_escapes=True)
        found = _regex(pattern, greedy=True)
        return found.sub(lambda _: replacement, self._get(name) or "", count=0 if everywhere else 1)


def _cut_front(value: str, word: str, there: bool) -> str:
    greedy = word.startswith("#")
    return _without_prefix(value, word[1:] if greedy else word, greedy)


def _cut_end(value: str, word: str, there: bool) -> str:
    """The shortest match at the end is no regular expression's; of what is reversed, it is."""
    greedy = word.startswith("%")
    pattern = _reversed_pattern(word[1:] if greedy else word)
    return _without_prefix(value[::-1], pattern, greedy)[::-1]


_MODIFIERS: dict[str, Callable[[str, str, bool], str]] = {
    "-": lambda value, word, there: value if there else word,
    "+": lambda value, word, there: word if there else "",
    "?": lambda value, word, there: value,
    "#": _cut_front,
    "%": _cut_end,
}


def _without_prefix(value: str, pattern: str, greedy: bool) -> str:
    found = _regex(pattern, greedy).match(value)
    return value[found.end() :] if found else value


def _reversed_pattern(pattern: str) -> str:
    tokens = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(reversed(tokens))


def _regex(pattern: str, greedy: bool) -> re.Pattern[str]:
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out += ".*" if greedy else ".*?"
        elif char == "?":
            out += "."
        elif char == "\\":
            following = pattern[at : at + 1]
            if following and following in "}/":  # escaped for the sake of the braces only
                continue
            if not following or following not in _IN_PATTERN:
                raise _Wrong(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '\\{following}'"
                )
            out += re.escape(following)
            at += 1
        else:
            out += f"\\{char}" if char in _REGEX_CHARACTERS else char
    return re.compile(out)


def _quoted(text: str) -> str:
    """As Go's ``%q`` shows it, as far as Dockerfiles need."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
