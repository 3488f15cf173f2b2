"""Suggestions for misspelt words; pure."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the known word that is at most two letters away; else nothing."""
    near = min(sorted(known), key=lambda one: _distance(word.lower(), one), default="")
    if not near or not word or _distance(word.lower(), near) > 2:
        return ""
    return f" (did you mean {near.upper() if word.isupper() else near}?)"


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for count, char in enumerate(one, 1):
        before, row[0] = row[0], count
        for at, wanted in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (char != wanted))
    return row[-1]
