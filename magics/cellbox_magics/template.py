"""The part of Go's text/template that people write behind Docker's ``--format``; pure.

Text, ``{{.Field.Path}}``, ``{{json .}}``, pipes, quoted strings and numbers, ``{{range}}``,
``{{if}}``, ``{{else}}``, ``{{end}}``, variables of ``range`` (``$k, $v``), and the functions below.
Objects are dicts with Docker's field names. Two steps: :func:`parse` makes nodes,
:meth:`Template.render` walks them. A template that is wrong raises
:class:`~cellbox.errors.InvalidArgument`.

Source: https://pkg.go.dev/text/template and docker/cli ``templates/templates.go``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbox.errors import InvalidArgument

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+)|(?P<path>\.[\w.]*)"""
    r"""|(?P<var>\$\w*(?:\.[\w.]+)?)|(?P<word>\w+)|(?P<close>\)(?:\.\w[\w.]*)?)|(?P<mark>:=|[|(,]))"""
)


@dataclass(frozen=True)
class Text:
    """Characters that stand for themselves."""

    text: str


@dataclass(frozen=True)
class Action:
    """A pipeline whose value is printed."""

    pipeline: tuple[Any, ...]


@dataclass
class Block:
    """``range`` or ``if``, with what stands between it, its ``else`` and its ``end``."""

    word: str
    pipeline: tuple[Any, ...]
    names: tuple[str, ...] = ()
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Template:
    """A template that has been read."""

    nodes: Sequence[Any]

    def render(self, data: Any) -> str:
        """The text for ``data``."""
        return "".join(_walk(self.nodes, data, {"$": data}))


def parse(text: str) -> Template:
    """Read a template; ``\\t`` and ``\\n`` written out are a tab and a new line, as in Docker."""
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    top: list[Any] = []
    open_blocks: list[Block] = []
    nodes = top
    for node in _pieces(text):
        if isinstance(node, Text | Action):
            nodes.append(node)
        elif isinstance(node, Block):
            nodes.append(node)
            open_blocks.append(node)
            nodes = node.body
        elif not open_blocks:
            raise InvalidArgument(f"the template has {{{{{node}}}}} without a range or an if")
        elif node == "else":
            nodes = open_blocks[-1].otherwise
        else:
            open_blocks.pop()
            nodes = _inner(open_blocks[-1]) if open_blocks else top
    if open_blocks:
        raise InvalidArgument(f"the template's {{{{{open_blocks[-1].word}}}}} has no {{{{end}}}}")
    return Template(top)


def _inner(block: Block) -> list[Any]:
    return block.otherwise or block.body


def _pieces(text: str) -> Iterator[Text | Action | Block | str]:
    position = 0
    trim = False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        before = before.lstrip() if trim else before
        yield Text(before.rstrip() if match[1] else before)
        position, trim = match.end(), bool(match[3])
        if not match[2].startswith("/*"):
            yield _action(match[2])
    rest = text[position:]
    if "{{" in rest:
        raise InvalidArgument("the template has {{ without }}")
    yield Text(rest.lstrip() if trim else rest)


def _action(source: str) -> Action | Block | str:
    word, _, rest = source.partition(" ")
    if word in ("end", "else") and not rest.strip():
        return word
    if word == "range":
        names, equals, pipeline = rest.rpartition(":=")
        declared = tuple(name.strip() for name in names.split(",")) if equals else ()
        return Block(word, _pipeline(pipeline), declared)
    if word == "if":
        return Block(word, _pipeline(rest))
    return Action(_pipeline(source))


def _pipeline(source: str) -> tuple[Any, ...]:
    tokens = list(_tokens(source))
    tree, rest = _commands(tokens, source)
    if rest or not tree:
        raise InvalidArgument(f"the template has {{{{{source}}}}}, which cannot be read")
    return tree


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    position = 0
    source = source.strip()
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None or match.lastgroup is None:
            raise InvalidArgument(f"the template has {{{{{source}}}}}, which cannot be read")
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _commands(
    tokens: list[tuple[str, str]], source: str
) -> tuple[tuple[Any, ...], list[tuple[str, str]]]:
    """Commands parted by ``|``, each a tuple of operands; ends at ``)`` or the end."""
    commands: list[tuple[Any, ...]] = []
    operands: list[Any] = []
    while tokens and tokens[0][0] != "close":
        token, *tokens = tokens
        if token == ("mark", "|"):
            commands.append(tuple(operands))
            operands = []
        elif token == ("mark", "("):
            inner, tokens = _commands(tokens, source)
            if not tokens:
                raise InvalidArgument(f"the template has {{{{{source}}}}} with an open (")
            operands.append(("pipeline", (inner, tokens[0][1][1:])))
            tokens = tokens[1:]
        else:
            operands.append(token)
    commands.append(tuple(operands))
    return (tuple(commands) if all(commands) else ()), tokens


def _walk(nodes: Sequence[Any], data: Any, names: dict[str, Any]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Action):
            yield _shown(_value(node.pipeline, data, names))
        elif node.word == "if":
            chosen = node.body if _value(node.pipeline, data, names) else node.otherwise
            yield from _walk(chosen, data, names)
        else:
            yield from _range(node, data, names)


def _range(node: Block, data: Any, names: dict[str, Any]) -> Iterator[str]:
    value = _value(node.pipeline, data, names) or ()
    items = sorted(value.items()) if isinstance(value, Mapping) else list(enumerate(value))
    if not items:
        yield from _walk(node.otherwise, data, names)
    for key, item in items:
        pair = (item,) if len(node.names) == 1 else (key, item)
        yield from _walk(node.body, item, names | dict(zip(node.names, pair, strict=False)))


def _value(pipeline: tuple[Any, ...], data: Any, names: dict[str, Any]) -> Any:
    passed: list[Any] = []
    for head, *operands in pipeline:
        arguments = [_operand(operand, data, names) for operand in operands] + passed
        if head[0] == "word" and head[1] not in _CONSTANTS:
            passed = [_call(head[1], arguments)]
        elif head[0] == "path" and len(arguments) == 1:  # a method, as in {{.Label "x"}}
            passed = [_call("index", [_operand(head, data, names), *arguments])]
        elif arguments:
            raise InvalidArgument(f"the template gives arguments to {head[1]!r}, which takes none")
        else:
            passed = [_operand(head, data, names)]
    return passed[0]


_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "nil": None}


def _operand(token: tuple[str, Any], data: Any, names: dict[str, Any]) -> Any:
    kind, text = token
    if kind == "pipeline":
        inner, path = text
        return _field(_value(inner, data, names), path)
    if kind == "string":
        return text[1:-1] if text.startswith("`") else _unquoted(text)
    if kind == "number":
        return int(text)
    if kind == "path":
        return _field(data, text)
    if kind == "var":
        name, dot, path = text.partition(".")
        if name not in names:
            raise InvalidArgument(f"the template names {name}, which is not set")
        return _field(names[name], dot + path)
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _call(text, [])


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        raise InvalidArgument(f"the template has {text}, which is not a string") from None


def _field(data: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if not isinstance(data, Mapping):
            raise InvalidArgument(f"the template asks for .{name} of a value that has no fields")
        if name not in data:
            known = ", ".join(f".{key}" for key in list(data)[:12])
            raise InvalidArgument(f"the template asks for .{name}; there are {known or 'none'}")
        data = data[name]
    return data


def _shown(value: Any) -> str:
    """``value`` as Go's fmt prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "<no value>"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_shown(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(_shown(item) for item in value)}]"
    return str(value)


def _call(name: str, arguments: list[Any]) -> Any:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise InvalidArgument(f"the template calls {name!r}; there are {', '.join(_FUNCTIONS)}")
    try:
        return function(*arguments)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidArgument(f"the template's {name}: {error}") from None


def to_json(value: Any) -> str:
    """``value`` as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": to_json,
    "join": lambda items, by: by.join(_shown(item) for item in items),
    "split": lambda text, by: text.split(by),
    "upper": lambda text: _shown(text).upper(),
    "lower": lambda text: _shown(text).lower(),
    "title": lambda text: _shown(text).title(),
    "len": len,
    "index": _index,
    "truncate": lambda text, width: text[:width],
    "pad": lambda text, before, after: " " * before + text + " " * after,
    "println": lambda *items: " ".join(_shown(item) for item in items) + "\n",
    "print": lambda *items: "".join(_shown(item) for item in items),
    "eq": _equal,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "and": lambda *items: next((item for item in items if not item), items[-1]),
    "or": lambda *items: next((item for item in items if item), items[-1]),
}
