"""The verbs that look at containers: ps, logs, inspect, top, stats, port, diff, events."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from cellbox.errors import InvalidArgument, NotFound
from cellbox.handles import ContainerHandle, each
from cellbox.model.container import Container, Stats
from cellbox.model.image import Image
from cellbox.model.times import timestamp
from cellbox.wire.events import event_json
from cellbox.wire.filters import moment
from cellbox.wire.objects import container_json, image_json, network_json, volume_json

from .. import rows, template
from ..published import joined, natural
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
from .hosts import of_all_hosts


@verb("ps")
@click.option("-a", "--all", "all_", is_flag=True, help="Show all containers")
@click.option("-n", "--last", type=int, default=-1, help="Show n last created containers")
@click.option("-l", "--latest", is_flag=True, help="Show the latest created container")
@listing("container")
@click.pass_obj
@of_all_hosts
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
    images = {id: _image(surface, id) for id in {facts.image_id for facts in found if facts.pid}}
    shown = [rows.container(facts, images.get(facts.image_id), full=full) for facts in found]
    return rows.show(rows.CONTAINERS, shown, items, format=format)


@verb("logs")
@click.option("--clear", is_flag=True, help="Forget what was logged so far, and show nothing")
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option("-n", "--tail", default="all", help="Number of lines to show from the end")
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.option("--since", help="Show logs since a time (2026-01-31T12:00:00Z) or a duration (42m)")
@click.option("--until", help="Show logs before a time or a duration ago")
@container()
@click.pass_obj
def logs(
    surface: Surface, container: str, clear: bool, follow: bool, tail: str, timestamps: bool,
    since: str | None, until: str | None,
) -> None:  # fmt: skip
    if clear:
        surface.engine.files.clear_logs(container)
        return
    now = time.time()
    pieces = surface.engine.containers.logs(
        container,
        follow=follow,
        tail=_tail(tail),
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
    )
    for written, name, data in pieces:
        stamp = f"{timestamp(written)} ".encode() if timestamps else b""
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
@click.option("--type", "kind", help="Only inspect objects of the given type")
@click.argument("names", nargs=-1, required=True, metavar="NAME|ID...")
@click.pass_obj
def inspect(
    surface: Surface, names: Sequence[str], format: str, size: bool, kind: str | None
) -> Document | Lines:
    return inspected(surface, names, format, kind or "")


def inspected(surface: Surface, names: Sequence[str], format: str, kind: str) -> Document | Lines:
    """Objects of the engine as Docker's JSON, or through a template; ``kind`` is empty for the
    first of that name that is found."""
    return documents(surface, names, format, lambda name: _object(surface, name, kind))


def documents(
    surface: Surface, names: Sequence[str], format: str, find: Callable[[str], dict[str, Any]]
) -> Document | Lines:
    """What ``find`` tells of each name, as it is or through a template."""
    outcome = each(names, find)
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
    if kind not in ("", *_KINDS):
        raise InvalidArgument(f"--type {kind}: use {', '.join(_KINDS)}")
    for one in [kind] if kind else _KINDS:
        with contextlib.suppress(NotFound):
            return _KINDS[one](surface, name)
    raise NotFound(kind or "object", name)


def _container(surface: Surface, name: str) -> dict[str, Any]:
    facts = surface.engine.containers.get(name)
    return container_json(facts, _image(surface, facts.image_id))


_KINDS: dict[str, Callable[[Surface, str], dict[str, Any]]] = {
    "container": _container,
    "image": lambda surface, name: image_json(surface.engine.images.get(name)),
    "network": lambda surface, name: network_json(surface.engine.networks.get(name)),
    "volume": lambda surface, name: volume_json(surface.engine.volumes.get(name)),
}


def _image(surface: Surface, id: str) -> Image | None:
    try:
        return surface.engine.images.get(id)
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
    published = container_json(facts)["NetworkSettings"]["Ports"]
    if private:
        bound = published.get(_private(private))
        if not bound:
            raise NotFound("public port", f"{private} published for {facts.name}")
        return Lines(map(_address, bound))
    found = (
        f"{name} -> {_address(one)}" for name, bound in published.items() for one in bound or ()
    )
    return Lines(sorted(found, key=natural))


def _private(word: str) -> str:
    number, _, protocol = word.partition("/")
    if not number.isdecimal() or int(number) > 65535:
        raise InvalidArgument(f"invalid port ({number})")
    return f"{int(number)}/{protocol.lower() or 'tcp'}"


def _address(bound: Mapping[str, str]) -> str:
    return joined(bound["HostIp"], bound["HostPort"])


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
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
        filters=values.filters(filters),
    )
    read = template.parse("{{json .}}" if format == "json" else format)
    for event in happened:
        line = read.render(event_json(event)) if format else rows.event_line(event)
        surface.write("stdout", f"{line}\n".encode())
