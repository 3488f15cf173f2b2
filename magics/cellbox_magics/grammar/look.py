"""The verbs that look at containers: ps, logs, inspect, top, stats, port, diff, events."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from cellbox.errors import InvalidArgument, NotFound
from cellbox.handles import ContainerHandle, each
from cellbox.model.container import Container, Stats
from cellbox.wire.objects import container_json, image_json, timestamp

from .. import rows, template
from ..surface import Surface
from ..tables import Document, Lines, Table
from . import values
from .answers import settle
from .commands import (
    ProgramVerb,
    container,
    containers,
    format_option,
    listing,
    verb,
)


@verb("ps")
@click.option("-a", "--all", "all_", is_flag=True, help="Show all containers")
@click.option("-n", "--last", type=int, default=-1, help="Show n last created containers")
@click.option("-l", "--latest", is_flag=True, help="Show the latest created container")
@listing("container")
@click.pass_obj
def ps(
    surface: Surface, all_: bool, last: int, latest: bool, filters: Sequence[str],
    format: str, full: bool, quiet: bool,
) -> Table | Lines:  # fmt: skip
    last = 1 if latest else last
    asked = values.filters(filters)
    everything = all_ or last > 0 or "status" in asked or "exited" in asked
    found = surface.engine.containers.list(all=everything, filters=asked)
    found = found[:last] if last > 0 else found
    if quiet and not format:
        return Lines(facts.id if full else facts.short_id for facts in found)
    items = [ContainerHandle(surface.engine, facts) for facts in found]
    shown = [rows.container(facts, full=full) for facts in found]
    return rows.show(rows.CONTAINERS, shown, items, format=format)


@verb("logs")
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option("-n", "--tail", default="all", help="Number of lines to show from the end")
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.option("--since", help="Show logs since a time (2026-01-31T12:00:00Z) or a duration (42m)")
@click.option("--until", help="Show logs before a time or a duration ago")
@container()
@click.pass_obj
def logs(
    surface: Surface, container: str, follow: bool, tail: str, timestamps: bool,
    since: str | None, until: str | None,
) -> None:  # fmt: skip
    now = time.time()
    pieces = surface.engine.containers.logs(
        container,
        follow=follow,
        tail=_tail(tail),
        since=values.instant(since, now) if since else None,
        until=values.instant(until, now) if until else None,
    )
    for moment, name, data in pieces:
        stamp = f"{timestamp(moment)} ".encode() if timestamps else b""
        surface.write(name, stamp + data)


def _tail(word: str) -> int | None:
    if word == "all":
        return None
    try:
        count = int(word)
    except ValueError:
        raise InvalidArgument(f"--tail {word}: write a number of lines, or all") from None
    return count if count >= 0 else None


@verb("inspect")
@format_option()
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
@click.option("--type", "kind", help="Only inspect objects of the given type (container, image)")
@click.argument("names", nargs=-1, required=True, metavar="NAME|ID...")
@click.pass_obj
def inspect(
    surface: Surface, names: Sequence[str], format: str, size: bool, kind: str | None
) -> Document | Lines:
    return inspected(surface, names, format, kind or "")


def inspected(surface: Surface, names: Sequence[str], format: str, kind: str) -> Document | Lines:
    """The objects as Docker's JSON, or through a template."""
    outcome = each(names, lambda name: _object(surface, name, kind))
    found = [facts for _, facts in outcome.done]
    if format and format != "json":
        read = template.parse(format)
        lines = Lines(read.render(facts) for facts in found)
    elif format:
        lines = Lines([template.to_json(found)])
    else:
        settle(surface, outcome, [repr(Document(found))])
        return Document(found)
    settle(surface, outcome, lines)
    return lines


def _object(surface: Surface, name: str, kind: str) -> dict[str, Any]:
    engine = surface.engine
    if kind not in ("", "container", "image"):
        raise InvalidArgument(f"--type {kind}: use container or image")
    if kind != "image":
        try:
            facts = engine.containers.get(name)
        except NotFound:
            if kind == "container":
                raise
        else:
            return container_json(facts, _image_of(surface, facts))
    try:
        return image_json(engine.images.get(name))
    except NotFound:
        raise NotFound(kind or "object", name) from None


def _image_of(surface: Surface, facts: Container) -> Any:
    try:
        return surface.engine.images.get(facts.image_id)
    except NotFound:
        return None


@verb("top", cls=ProgramVerb)
@container()
@click.argument("ps_args", nargs=-1, type=click.UNPROCESSED, metavar="[ps OPTIONS]")
@click.pass_obj
def top(surface: Surface, container: str, ps_args: Sequence[str]) -> Table:
    arguments = shlex.join(ps_args) or "-ef"
    table = surface.engine.files.processes(container, ps_args=arguments)
    return Table(table.titles, table.rows)


@verb("stats")
@click.option("-a", "--all", "all_", is_flag=True, help="Show all containers")
@click.option("--no-stream", is_flag=True, help="Only pull the first result")
@click.option("--no-trunc", is_flag=True, help="Do not truncate output")
@click.option("--format", default="", help="Format output using a Go template")
@containers(required=False)
@click.pass_obj
def stats(
    surface: Surface, containers: Sequence[str], all_: bool, no_stream: bool, no_trunc: bool,
    format: str,
) -> Table | Lines | None:  # fmt: skip
    engine = surface.engine
    chosen = (
        [engine.containers.get(ref) for ref in containers]
        if containers
        else engine.containers.list(all=all_)
    )
    readings = _readings(surface, chosen)
    before = next(readings)
    for now in readings:
        shown = [
            rows.stats(facts, before.get(facts.id, now[facts.id]), now[facts.id])
            for facts in chosen
            if facts.id in now
        ]
        result = rows.show(rows.STATS, shown, format=format)
        if no_stream or not shown:
            return result
        surface.write("stdout", f"{result!r}\n".encode())
        before = now
    return None


def _readings(surface: Surface, chosen: Sequence[Container]) -> Iterator[dict[str, Stats]]:
    """Resources of all containers, once a second; those that are gone are left out."""
    while True:
        outcome = each([facts.id for facts in chosen], surface.engine.files.stats)
        yield dict(outcome.done)
        time.sleep(1.0)


@verb("port")
@container()
@click.argument("private", required=False, metavar="[PRIVATE_PORT[/PROTO]]")
@click.pass_obj
def port(surface: Surface, container: str, private: str | None) -> Lines:
    facts = surface.engine.containers.get(container)
    if private:
        raise NotFound("public port", f"{private} published for {facts.name}")
    return Lines()


@verb("diff")
@container()
@click.pass_obj
def diff(surface: Surface, container: str) -> Lines:
    changes = surface.engine.files.diff(container)
    return Lines(f"{change.kind} {change.path}" for change in changes)


@verb("events")
@click.option("--since", help="Show all events created since a time or a duration ago")
@click.option("--until", help="Stream events until this time or duration ago")
@click.option("-f", "--filter", "filters", multiple=True, help="Filter output (k=v)")
@click.option("--format", default="", help='Format output ("json", or a Go template)')
@click.pass_obj
def events(
    surface: Surface, since: str | None, until: str | None, filters: Sequence[str], format: str
) -> None:
    now = time.time()
    happened = surface.engine.events(
        since=values.instant(since, now) if since else None,
        until=values.instant(until, now) if until else None,
        filters=values.filters(filters),
    )
    read = template.parse("{{json .}}" if format == "json" else format)
    for event in happened:
        line = read.render(rows.event(event)) if format else rows.event_line(event)
        surface.write("stdout", f"{line}\n".encode())
