"""Words of a line, with values of the notebook."""

from __future__ import annotations

import pytest

from cellbox_magics.expand import words

NAMES = {"x": 5, "name": "a b", "items": ["p", "q r"], "path": "/tmp/it's", "d": {"k": "v"}}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run {x}", ["run", "5"]),
        ("run {name}", ["run", "a b"]),
        ("run {name}:ro", ["run", "a b:ro"]),
        ("run {path}", ["run", "/tmp/it's"]),
        ("run {items}", ["run", "p", "q r"]),
        ("run all={items}", ["run", "all=['p', 'q r']"]),
        ("run {d['k']} {x + 1}", ["run", "v", "6"]),
        ("run {len(items)}", ["run", "2"]),
        ("run '{x}'", ["run", "5"]),
        ('run {", ".join(items)}', ["run", "p, q r"]),
        ("run {[i for i in items]}", ["run", "p", "q r"]),
        ("ps --format '{{.Names}}'", ["ps", "--format", "{{.Names}}"]),
        ("ps --format '{{range .A}}{{x}}{{end}}'", ["ps", "--format", "{{range .A}}{{x}}{{end}}"]),
        ("run ${x} $x", ["run", "${x}", "$x"]),
        ("awk '{print $1}'", ["awk", "{print $1}"]),
        ("awk '{print}'", ["awk", "{print}"]),
        ("echo {a,b} {1,2} {}", ["echo", "{a,b}", "{1,2}", "{}"]),
        ("""-e X='{"a": 1}'""", ["-e", 'X={"a": 1}']),
        ("sh -c 'f() { ls; }'", ["sh", "-c", "f() { ls; }"]),
        ("open { brace", ["open", "{", "brace"]),
        ("private \ue000 letter", ["private", "\ue000", "letter"]),
    ],
)
def test_only_what_is_meant_for_us_is_replaced(line, expected):
    assert words(line, NAMES) == expected


def test_an_open_quote_is_an_error():
    with pytest.raises(ValueError, match="quotation"):
        words("run 'ls", {})


def test_an_error_of_the_expression_is_the_users():
    with pytest.raises(ZeroDivisionError):
        words("run {x / 0}", NAMES)
