"""The verbs that change a container: stop, restart, kill, pause, wait, rm, rename, update,
prune."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from cellbox import handles
from cellbox.errors import InvalidArgument

from ..surface import Surface
from ..tables import Codes, Lines
from . import spec as specs
from . import values
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
        surface.engine.containers.stop(ref, timeout=timeout, signal=signal)
        surface.engine.containers.start(ref)

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
@containers()
@click.pass_obj
def wait(surface: Surface, containers: Sequence[str]) -> Codes:
    outcome = handles.each(containers, surface.engine.containers.wait)
    codes = Codes(code for _, code in outcome.done)
    settle(surface, outcome, [str(code) for code in codes])
    return codes


@verb("rm")
@click.option("-f", "--force", is_flag=True, help="Force the removal of a running container")
@click.option("-v", "--volumes", is_flag=True, help="Remove anonymous volumes with the container")
@containers()
@click.pass_obj
def rm(surface: Surface, containers: Sequence[str], force: bool, volumes: bool) -> Lines:
    return over(surface, containers, lambda ref: surface.engine.containers.remove(ref, force=force))


@verb("rename")
@container()
@click.argument("name", metavar="NEW_NAME")
@click.pass_obj
def rename(surface: Surface, container: str, name: str) -> None:
    surface.engine.containers.rename(container, name)


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


@verb("update")
@_limits
@containers()
@click.pass_obj
def update(surface: Surface, /, containers: Sequence[str], **given: Any) -> Lines:
    if not any(given.values()):
        raise InvalidArgument("update needs at least one flag, such as --memory 512m")
    limits = specs.limits(given)
    policy = values.restart(given["restart"]) if given["restart"] else None

    def change(ref: str) -> None:
        surface.engine.containers.update(ref, limits=limits, restart=policy)

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
        found["until"] = [str(values.instant(word, now)) for word in found["until"]]
    return found
