"""``--host``: which engine a command speaks to, and listings that ask several at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..surface import Surface
from ..tables import Lines, Table

_HELP = "Engine to connect to: a URL, or a context's name (ps, images and ls take several)"


def host_option() -> click.Option:
    """``-H/--host HOST[,HOST...]``, which may be repeated."""
    return click.Option(
        ["-H", "--host"], multiple=True, expose_value=False, callback=_choose, help=_HELP
    )


def _choose(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> None:
    named = [host for word in value for host in word.split(",") if host]
    if named and ctx.obj is not None:
        ctx.obj.hosts = tuple(dict.fromkeys(named))


def of_all_hosts(listing: Callable[..., Table | Lines]) -> Callable[..., Table | Lines]:
    """``listing(surface, ...)`` as a verb that takes ``--host`` too: from several engines the rows
    are put together, with a column that says whose they are."""

    @functools.wraps(listing)
    def ask(surface: Surface, /, **asked: Any) -> Table | Lines:
        if len(surface.hosts) < 2:
            return listing(surface, **asked)
        return _merged(surface, lambda host: listing(_at(surface, host), **asked))

    ask.__click_params__ = [  # type: ignore[attr-defined]
        *getattr(listing, "__click_params__", ()), host_option()
    ]  # fmt: skip
    return ask


def _at(surface: Surface, host: str) -> Surface:
    one = copy.copy(surface)
    one.hosts = (host,)
    return one


def _merged(surface: Surface, ask: Callable[[str], Table | Lines]) -> Table | Lines:
    from concurrent.futures import ThreadPoolExecutor

    from cellbox.handles import each

    from .answers import settle

    pool = ThreadPoolExecutor(len(surface.hosts))
    try:
        asked = {host: pool.submit(ask, host) for host in surface.hosts}
        outcome = each(surface.hosts, lambda host: asked[host].result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupt waits for nobody
    merged = _together(outcome.done)
    settle(surface, outcome, [repr(merged)] if outcome.done else [])
    return merged


def _together(found: Sequence[tuple[str, Any]]) -> Table | Lines:
    tables = [(host, one) for host, one in found if isinstance(one, Table)]
    if not tables:
        return Lines(line for _, one in found for line in one)
    rows = [(host, *row) for host, one in tables for row in one.rows]
    items = [item for _, one in tables for item in one]
    return Table(("HOST", *tables[0][1].titles), rows, items)
