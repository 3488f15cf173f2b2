"""Lines to nodes, as the reference implementation splits them."""

from __future__ import annotations

import pytest

from cellbox.build.parser import MAX_LINE, Document, Node, parse, parse_line
from cellbox.errors import DockerfileError

_ESCAPES = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}


def quoted(text: str) -> str:
    """Go's strconv.Quote."""
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char in _ESCAPES:
        return f"\\{_ESCAPES[char]}"
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 128 else f"\\u{ord(char):04x}"


def dumped(node: Node) -> str:
    """The s-expression of BuildKit's tests."""
    flags = [f"[{' '.join(map(quoted, node.flags))}]"] if node.flags else []
    inner = [f"({dumped(node.inner)})"] if node.inner else []
    return " ".join([node.word, *flags, *inner, *map(quoted, node.args)])


def ast(document: Document) -> str:
    return "\n".join(f"({dumped(node)})" for node in document.nodes)


def facts(node: Node) -> dict[str, object]:
    heredocs = [
        [one.name, one.content, one.descriptor, one.expand, one.chomp] for one in node.heredocs
    ]
    told = {
        "lines": [node.start, node.end],
        "original": node.original,
        "json": node.json,
        "heredocs": heredocs,
        "comments": [*node.comments],
    }
    return {name: value for name, value in told.items() if value}


def test_every_case_of_the_reference_implementation_agrees(cases):
    told = cases("parse")["cases"]
    assert len(told) > 460
    for case in told:
        if "error" in case:
            with pytest.raises(DockerfileError) as caught:
                parse(case["text"])
            assert case["error"] in (None, str(caught.value).partition(": ")[2])
            continue
        document = parse(case["text"])
        assert ast(document) == case.get("ast", ast(document)), case["text"]
        if "nodes" in case:
            assert [facts(node) for node in document.nodes] == case["nodes"], case["text"]
            assert document.escape == case.get("escape", "\\")
            assert document.directives.get("syntax") == case.get("syntax")
        if "lines" in case:
            assert [[node.start, node.end] for node in document.nodes] == case["lines"]


def test_an_error_names_its_line():
    with pytest.raises(DockerfileError, match="line 3: ENV must have two arguments") as caught:
        parse("FROM x\n\nENV a\n")
    assert caught.value.line == 3


def test_empty_lines_that_interrupt_an_instruction_are_remembered():
    assert parse("FROM x\nRUN a \\\n\n b\n").interrupted == ("RUN a  b",)
    assert parse("FROM x\nRUN a \\\n# c\n b\n").interrupted == ()


def test_lines_have_a_bound():
    assert parse(f"FROM x\nRUN {'a' * (MAX_LINE - 5)}\n")
    with pytest.raises(DockerfileError, match="line 2: dockerfile line greater than max allowed"):
        parse(f"FROM x\nRUN {'a' * MAX_LINE}\n")


def test_windows_line_ends_and_a_byte_order_mark():
    assert ast(parse("\ufeffFROM x\r\nRUN a \\\r\n  b\r\n")) == '(from "x")\n(run "a   b")'


def test_one_line_may_hold_line_ends():
    assert parse_line('ENV A="1\n2"').args == ("A", '"1\n2"', "=")
    with pytest.raises(DockerfileError, match="line 1: "):
        parse_line("ENV A")
