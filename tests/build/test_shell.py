"""Words and variables, as the reference implementation reads them."""

from __future__ import annotations

import pytest

from cellbox.build.shell import Lexer
from cellbox.errors import InvalidArgument


def outcome(lexer: Lexer, word: str, env: dict[str, str]) -> object:
    try:
        found = lexer.expand(word, env)
    except InvalidArgument as error:
        return str(error)
    return [found.text, [*found.words], sorted(found.unset)]


def test_every_case_of_the_reference_implementation_agrees(cases):
    told = cases("words")
    envs = [dict(pair.split("=", 1) for pair in env) for env in told["envs"]]
    wrong = [
        (word, got, wanted)
        for env, escape, word, wanted in told["cases"]
        if (got := outcome(Lexer(escape), word, envs[env])) != wanted
    ]
    assert len(told["cases"]) > 1000
    assert wrong == []


@pytest.mark.parametrize(
    ("lexer", "text", "result"),
    [
        (Lexer(keep_quotes=True), "a 'b c' \"d\"", "a 'b c' \"d\""),
        (Lexer(), "a 'b c' \"d\"", "a b c d"),
        (Lexer(ignore_quotes=True), 'it\'s "$A"', 'it\'s "1"'),
        (Lexer(keep_escapes=True), r"\$A \x", r"\$A \x"),
        (Lexer(), r"\$A \x", "$A x"),
        (Lexer(keep_unset=True), "$A $B ${C}", "1 $B ${C}"),
        (Lexer("`"), "`$A \\$A", "$A \\1"),
    ],
)
def test_how_words_are_read_can_be_chosen(lexer, text, result):
    assert lexer.expand(text, {"A": "1"}).text == result


@pytest.mark.parametrize(
    ("pattern", "result"),
    [
        ("${V#*/}", "b/c.tar"),
        ("${V##*/}", "c.tar"),
        ("${V%.*}", "a/b/c"),
        ("${V//a/x}", "x/b/c.txr"),
    ],
)
def test_patterns_cut_and_replace(pattern, result):
    assert Lexer().expand(pattern, {"V": "a/b/c.tar"}).text == result


def test_an_escape_that_no_pattern_has_is_refused():
    with pytest.raises(InvalidArgument, match="invalid escape"):
        Lexer().expand(r"${V#\x}", {"V": "x"})
