"""The lines of a Dockerfile: text to nodes, as BuildKit's ``parser`` splits it; pure.

A node is one instruction with its continuation lines joined and its heredocs read: its word, its
flags, and its arguments in the form that the instruction has (a JSON array, words, names and
values, or the rest of the line). What they mean is ``instructions``' business, so an unknown
instruction is a node too. Lines count from 1.

Source: Dockerfile reference, *Format*, *Parser directives*, *Here-documents*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cellbox.build import heredocs
from cellbox.build.forms import FORMS, flags_of, ignored
from cellbox.build.heredocs import Heredoc
from cellbox.errors import DockerfileError, InvalidArgument

MAX_LINE = 65535
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+)", re.DOTALL)
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_BLANKS = re.compile(r"[\t\v\f\r ]+")
_WITH_HEREDOCS = frozenset({"add", "copy", "run"})


@dataclass(frozen=True)
class Node:
    """One instruction as it is written. ``word`` is its first word in lower case, ``written`` as it
    stands there. ENV and LABEL have three ``args`` a pair: name, value, and ``=`` or nothing.
    ``json`` says that the arguments were a JSON array; ``inner`` is what ONBUILD delays;
    ``comments`` stand right before it."""

    word: str
    written: str
    original: str
    start: int
    end: int
    flags: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    inner: Node | None = None


@dataclass(frozen=True)
class Document:
    """A Dockerfile: its nodes, its parser directives, and the instructions that an empty line
    interrupts, which will be an error one day."""

    nodes: tuple[Node, ...]
    directives: Mapping[str, str] = field(default_factory=dict)
    interrupted: tuple[str, ...] = ()

    @property
    def escape(self) -> str:
        """The escape character, a backslash or a backtick."""
        return self.directives.get("escape", "\\")


def parse(text: str) -> Document:
    """Read a Dockerfile. Raises DockerfileError."""
    lines = _lines(text)
    directives = _directives(lines)
    parser = _Parser(lines, directives)
    nodes = tuple(parser.nodes())
    if not nodes:
        raise DockerfileError("file with no instructions", max(len(lines), 1))
    return Document(nodes, directives, tuple(parser.interrupted))


def parse_line(text: str) -> Node:
    """One instruction that is all of ``text``, whatever line ends there are in it. Raises
    DockerfileError."""
    try:
        return _Parser([], {}).split(text, 1)
    except InvalidArgument as error:
        raise DockerfileError(str(error), 1) from None


def _lines(text: str) -> list[str]:
    """The lines, each with its end."""
    lines = text.removeprefix("\ufeff").split("\n")
    whole = [f"{line}\n" for line in lines[:-1]]
    return [*whole, lines[-1]] if lines[-1] else whole


def _directives(lines: list[str]) -> dict[str, str]:
    """``# name=value`` before anything else; an unknown name is a comment, and ends them."""
    found: dict[str, str] = {}
    shebang = bool(lines) and lines[0].startswith("#!")
    for number, line in enumerate(lines[shebang:], 1 + shebang):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match[1].lower() if match else ""
        if not match or name not in _DIRECTIVES:
            break
        if name in found:
            raise DockerfileError(f"only one {name} parser directive can be used", number)
        if name == "escape" and match[2] not in ("\\", "`"):
            wrong = f"invalid escape token '{match[2]}' does not match ` or \\"
            raise DockerfileError(wrong, number)
        found[name] = match[2]
    return found


class _Parser:
    """Lines to nodes."""

    def __init__(self, lines: list[str], directives: Mapping[str, str]) -> None:
        escape = directives.get("escape", "\\")
        self._lines = lines
        self._directives = 0 if lines[:1] and lines[0].startswith("#!") else len(directives)
        self._number = 0
        self._escape = escape
        mark = re.escape(escape)
        self._mark = re.compile(rf"(^|[^{mark}]){mark}[ \t]*$")
        self.interrupted: list[str] = []

    def nodes(self) -> Iterator[Node]:
        comments: list[str] = []
        while (line := self._next()) is not None:
            start = self._number
            if _is_comment(line):
                if start > self._directives:
                    comments.append(line[1:].strip())
            elif text := self._joined(line):
                yield self._node(text, start, tuple(comments))
                comments = []

    def _next(self) -> str | None:
        """The next line; None at the end."""
        if self._number == len(self._lines):
            return None
        line = self._lines[self._number]
        self._number += 1
        if len(line.encode("utf-8", "surrogatepass")) > MAX_LINE:
            raise DockerfileError(
                f"dockerfile line greater than max allowed size of {MAX_LINE}", self._number
            )
        return line

    def _joined(self, line: str) -> str:
        """The instruction that begins with ``line``; comments and empty lines in it do not end
        it."""
        text, goes_on = self._continued(line.lstrip())
        empty = False
        while goes_on and (more := self._next()) is not None:
            if _is_comment(more):
                continue
            if not more.strip():
                empty = True
                continue
            more, goes_on = self._continued(more)
            text += more
        if empty:
            self.interrupted.append(text)
        return text

    def _continued(self, line: str) -> tuple[str, bool]:
        """A line without its end; does the instruction go on in the next one?"""
        line = line.rstrip("\r\n")
        found = self._mark.search(line)
        return (line[: found.start()] + found[1], True) if found else (line, False)

    def _node(self, text: str, start: int, comments: tuple[str, ...]) -> Node:
        try:
            node = replace(self.split(text, start), comments=comments)
            announced = heredocs.find(text) if _may_have_heredocs(node) else []
        except InvalidArgument as error:
            raise DockerfileError(str(error), start) from None
        found = tuple(self._read(one, start) for one in announced)
        return replace(node, heredocs=found, end=self._number)

    def split(self, text: str, start: int) -> Node:
        """The instruction ``text``, whose line is ``start``, without its here-documents."""
        written, rest = (*_BLANKS.split(text.strip(), maxsplit=1), "")[:2]
        flags, rest = flags_of(rest)
        node = Node(written.lower(), written, text, start, start, tuple(flags))
        rest = rest.strip()
        if node.word == "onbuild":
            return replace(node, inner=self.split(rest, start)) if rest else node
        args, is_json = FORMS.get(node.word, ignored)(rest, self._escape)
        return replace(node, args=tuple(args), json=is_json)

    def _read(self, announced: Heredoc, start: int) -> Heredoc:
        """The here-document with its content, which ends with a line that is its name."""
        content = ""
        while (line := self._next()) is not None:
            bare = line.rstrip("\r\n")
            if (bare.lstrip("\t") if announced.chomp else bare) == announced.name:
                return replace(announced, content=content)
            content += line
        raise DockerfileError("unterminated heredoc", start)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _may_have_heredocs(node: Node) -> bool:
    inner = node.inner or node
    return inner.word in _WITH_HEREDOCS and not inner.json and "<<" in node.original
