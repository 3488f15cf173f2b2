"""What several verbs do with their results: names that worked, names that did not,
confirmations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cellbox.handles import Outcome, Pruned, each

from .. import humanize
from ..outcome import CommandFailed, sentence
from ..surface import Surface
from ..tables import Lines


def over(surface: Surface, refs: Sequence[str], action: Callable[[str], Any]) -> Lines:
    """Do ``action`` to each name and answer with the names, as Docker does."""
    outcome = each(refs, action)
    settle(surface, outcome, [ref for ref, _ in outcome.done])
    return Lines(ref for ref, _ in outcome.done)


def settle(surface: Surface, outcome: Outcome, shown: Sequence[str]) -> None:
    """Raise if some names failed, after what was ``shown`` for those that did not."""
    if not outcome.failed:
        return
    if len(outcome.failed) == 1 and not outcome.done:
        raise outcome.failed[0][1]
    for line in shown:
        surface.write("stdout", f"{line}\n".encode())
    for _, error in outcome.failed:
        surface.note(sentence(error))
    total = len(outcome.failed) + len(outcome.done)
    raise CommandFailed(1, f"{len(outcome.failed)} of {total} failed")


def confirmed(surface: Surface, warning: str, force: bool) -> None:
    """Go on only if the user says yes; ``--force`` asks nobody."""
    if force:
        return
    surface.note(f"WARNING! {warning}")
    if surface.ask("Are you sure you want to continue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise click.UsageError("nothing was removed: answer y, or use --force")


def pruned(what: str, result: Pruned) -> Lines:
    """The answer of a prune."""
    space = f"Total reclaimed space: {humanize.size(result.bytes)}"
    if not result.removed:
        return Lines([space])
    return Lines([f"Deleted {what}:", *result.removed, "", space])
