"""The verbs that change a container: stop, restart, kill, pause, wait, rm, rename, update,
prune."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from cellbox import connect, handles, moving
from cellbox.errors import InvalidArgument
from cellbox.model.container import Limits
from cellbox.wire.filters import moment

from ..surface import Surface, caller
from ..tables import Codes, Lines
from . import changes, values
from . import spec as specs
from .answers import confirmed, over, pruned, settle
from .commands import container, containers, verb


def _ending(function: Any) -> Any:
    for option in (
        click.option("-t", "--timeout", "--time", type=float, help="Seconds before killing it"),
        click.option("-s", "--signal", default="", help="Signal to send to the container"),
    ):
        function = option(function)
    return function


@verb("stop")
@_ending
@containers()
@click.pass_obj
def stop(surface: Surface, containers: Sequence[str], timeout: float | None, signal: str) -> Lines:
    def end(ref: str) -> None:
        surface.engine.containers.stop(ref, timeout=timeout, signal=signal)

    return over(surface, containers, end)


@verb("restart")
@_ending
@containers()
@click.pass_obj
def restart(
    surface: Surface, containers: Sequence[str], timeout: float | None, signal: str
) -> Lines:
    def again(ref: str) -> None:
        surface.engine.containers.restart(ref, timeout=timeout, signal=signal)

    return over(surface, containers, again)


@verb("kill")
@click.option("-s", "--signal", default="KILL", help="Signal to send to the container")
@containers()
@click.pass_obj
def kill(surface: Surface, containers: Sequence[str], signal: str) -> Lines:
    return over(surface, containers, lambda ref: surface.engine.containers.kill(ref, signal=signal))


@verb("pause")
@containers()
@click.pass_obj
def pause(surface: Surface, containers: Sequence[str]) -> Lines:
    return over(surface, containers, surface.engine.containers.pause)


@verb("unpause")
@containers()
@click.pass_obj
def unpause(surface: Surface, containers: Sequence[str]) -> Lines:
    return over(surface, containers, surface.engine.containers.unpause)


@verb("wait")
@click.option(
    "--condition",
    type=click.Choice(["not-running", "next-exit", "removed"]),
    default="not-running",
    help="What to wait for",
)
@containers()
@click.pass_obj
def wait(surface: Surface, containers: Sequence[str], condition: str) -> Codes:
    def code(ref: str) -> int:
        return surface.engine.containers.wait(ref, condition=condition)

    outcome = handles.each(containers, code)
    codes = Codes(code for _, code in outcome.done)
    settle(surface, outcome, [str(code) for code in codes])
    return codes


@verb("rm")
@click.option("-f", "--force", is_flag=True, help="Force the removal of a running container")
@click.option("-v", "--volumes", is_flag=True, help="Remove anonymous volumes with the container")
@containers()
@click.pass_obj
def rm(surface: Surface, containers: Sequence[str], force: bool, volumes: bool) -> Lines:
    def remove(ref: str) -> None:
        surface.engine.containers.remove(ref, force=force, volumes=volumes)

    return over(surface, containers, remove)


@verb("rename")
@container()
@click.argument("name", metavar="NEW_NAME")
@click.pass_obj
def rename(surface: Surface, container: str, name: str) -> None:
    surface.engine.containers.update(container, name=name)


@verb("move")
@click.option("--to", "url", required=True, metavar="URL", help="Engine to move to")
@click.option("--keep-volumes", is_flag=True, help="Leave a copy of the volumes here")
@click.option("-t", "--timeout", "--time", type=float, help="Seconds before killing it")
@containers()
@click.pass_obj
def move(
    surface: Surface, containers: Sequence[str], url: str, keep_volumes: bool, timeout: float | None
) -> Lines:
    with closing(connect(url)) as target, surface.watch("move") as watch:

        def go(ref: str) -> None:
            moving.move(
                surface.engine,
                ref,
                target,
                keep_volumes=keep_volumes,
                timeout=timeout,
                watch=watch,
            )

        return over(surface, containers, go)


_LIMITS = (
    ("-m/--memory", "Memory limit"),
    ("--memory-reservation", "Memory soft limit"),
    ("--memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    ("--cpus", "Number of CPUs"),
    ("--cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("--cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("-c/--cpu-shares", "CPU shares (relative weight)"),
    ("--cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    ("--pids-limit", "Tune container pids limit"),
    ("--restart", "Restart policy to apply when a container exits"),
)


def _limits(function: Any) -> Any:
    for names, text in reversed(_LIMITS):
        function = click.option(*names.split("/"), metavar="VALUE", help=text)(function)
    return function


def _anew(function: Any) -> Any:
    for names, text in reversed(changes.ANEW):
        option = click.option(*names.split("/"), metavar="VALUE", multiple=True, help=text)
        function = option(function)
    return function


@verb("update")
@_limits
@_anew
@containers()
@click.pass_obj
def update(surface: Surface, /, containers: Sequence[str], **given: Any) -> Lines:
    if not any(given.values()):
        raise InvalidArgument("update needs at least one flag, such as --memory 512m")
    limits, who = specs.limits(given), caller()
    policy = values.restart(given["restart"]) if given["restart"] else None

    def change(ref: str) -> None:
        spec = surface.engine.containers.get(ref).spec
        surface.engine.containers.update(
            ref,
            limits=limits if limits != Limits() else None,
            restart=policy,
            **changes.anew(spec, given, who),
        )

    return over(surface, containers, change)


@verb("container prune")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option("--filter", "filters", multiple=True, help='Provide filter values ("until=<time>")')
@click.pass_obj
def prune(surface: Surface, force: bool, filters: Sequence[str]) -> Lines:
    confirmed(surface, "This will remove all stopped containers.", force)
    return pruned("Containers", handles.prune_containers(surface.engine, instants(filters)))


def instants(words: Sequence[str]) -> dict[str, list[str]]:
    """Filters in which ``until=24h`` is an instant."""
    found = values.filters(words)
    if "until" in found:
        now = time.time()
        found["until"] = [str(moment(word, now)) for word in found["until"]]
    return found
