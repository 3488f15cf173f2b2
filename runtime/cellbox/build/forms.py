"""The forms that the arguments of an instruction have, and its flags; pure.

A form takes the rest of the line and the escape character, and gives the arguments and whether they
were a JSON array. Raises InvalidArgument in BuildKit's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from cellbox.errors import InvalidArgument

Form = Callable[[str, str], tuple[list[str], bool]]

_BLANKS = re.compile(r"[\t\v\f\r ]+")


def flags_of(text: str) -> tuple[list[str], str]:
    """The words at the start of ``text`` that begin with ``--``, unquoted, and the rest. A lone
    ``--`` ends them."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _flag(text, at)
        if word == "--":
            return flags, text[at:]
        flags.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """One word with its quotes and backslashes taken away, and where it ends."""
    word = quote = ""
    while at < len(text) and (quote or not text[at].isspace()):
        char = text[at]
        at += 1
        if char == "\\":
            word += text[at : at + 1]
            at += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            word += char
    return word, at


def words_of(text: str, escape: str) -> list[str]:
    """The words of ``text``, with quotes and escapes as they are; a blank in quotes splits none."""
    words: list[str] = []
    word = quote = ""
    started = False
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if started:
                words.append(word)
            word, started = "", False
            continue
        started = True
        if char == escape and quote != "'":
            if at == len(text):
                started = bool(word)  # an escape at the end is passed over
                break
            word += char
            char = text[at]
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word += char
    return [*words, word] if started else words


def ignored(text: str, escape: str) -> tuple[list[str], bool]:
    """The form of an instruction that nobody knows."""
    return [""], False


def _rest(text: str, escape: str) -> tuple[list[str], bool]:
    return [text] if text else [], False


def _blank_separated(text: str, escape: str) -> tuple[list[str], bool]:
    return _BLANKS.split(text) if text else [], False


def _names(text: str, escape: str) -> tuple[list[str], bool]:
    return words_of(text, escape), False


def _pairs(keyword: str) -> Form:
    """``name=value ...``, or the old form ``name the rest``."""

    def read(text: str, escape: str) -> tuple[list[str], bool]:
        words = words_of(text, escape)
        if not words:
            return [], False
        if "=" not in words[0]:
            name, *rest = _BLANKS.split(text, maxsplit=1)
            if not rest:
                raise InvalidArgument(f"{keyword} must have two arguments")
            return [name, rest[0], ""], False
        found: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise InvalidArgument(
                    f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
                )
            found += [name, value, equals]
        return found, False

    return read


def json_words(text: str) -> list[str] | None:
    """The strings of a JSON array; None if ``text`` is none. Raises InvalidArgument for an array of
    other things."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in value):
        raise InvalidArgument(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return [word.encode("utf-8", "replace").decode() for word in value]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json_or(other: Form) -> Form:
    def read(text: str, escape: str) -> tuple[list[str], bool]:
        words = json_words(text.lstrip())
        return other(text, escape) if words is None else (words, True)

    return read


def _health(text: str, escape: str) -> tuple[list[str], bool]:
    """A word, and a command."""
    kind, *rest = text.split(maxsplit=1)[:2] if text else [""]
    if not kind:
        return [], False
    words, is_json = _json_or(_rest)(rest[0] if rest else "", escape)
    return [kind, *words], is_json


FORMS: dict[str, Form] = {
    "add": _json_or(_blank_separated),
    "arg": _names,
    "cmd": _json_or(_rest),
    "copy": _json_or(_blank_separated),
    "entrypoint": _json_or(_rest),
    "env": _pairs("ENV"),
    "expose": _blank_separated,
    "from": _blank_separated,
    "healthcheck": _health,
    "label": _pairs("LABEL"),
    "maintainer": _rest,
    "run": _json_or(_rest),
    "shell": _json_or(_rest),
    "stopsignal": _rest,
    "user": _rest,
    "volume": _json_or(_blank_separated),
    "workdir": _rest,
}
"""By instruction, in lower case; ONBUILD has another instruction."""
