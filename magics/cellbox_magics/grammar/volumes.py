"""The verbs of volumes: create, ls, inspect, rm, prune, rename."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cellbox import handles
from cellbox.handles import VolumeHandle
from cellbox.model.volume import LOCAL, VolumeSpec
from cellbox.wire.objects import volume_json

from .. import rows
from ..surface import Surface
from ..tables import Document, Lines, Table
from . import values
from .answers import confirmed, over, pruned
from .commands import complete_volumes, format_option, verb
from .hosts import of_all_hosts
from .look import documents


def volumes(*, required: bool = True) -> Callable[[Any], Any]:
    """``VOLUME [VOLUME...]``."""
    return click.argument(
        "volumes",
        nargs=-1,
        required=required,
        metavar="VOLUME...",
        shell_complete=complete_volumes,
    )


@verb("volume create")
@click.option("-d", "--driver", default=LOCAL, help="Specify volume driver name")
@click.option("--label", "labels", multiple=True, help="Set metadata for a volume")
@click.option("--name", "named", default="", hidden=True)
@click.option("-o", "--opt", "options", multiple=True, help="Set driver specific options")
@click.argument("name", required=False, default="", metavar="[VOLUME]")
@click.pass_obj
def create(
    surface: Surface, name: str, named: str, driver: str, labels: Sequence[str],
    options: Sequence[str],
) -> Lines:  # fmt: skip
    spec = VolumeSpec(name or named, driver, values.pairs(options, "--opt"), values.labels(labels))
    return Lines([surface.engine.volumes.create(spec).name])


@verb("volume ls")
@click.option("-f", "--filter", "filters", multiple=True, help="Filter output (k=v)")
@click.option("--format", default="", help='Format output ("table", "json", template)')
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
@click.pass_obj
@of_all_hosts
def ls(surface: Surface, filters: Sequence[str], format: str, quiet: bool) -> Table | Lines:
    found = surface.engine.volumes.list(filters=values.filters(filters))
    if quiet and not format:
        return Lines(facts.name for facts in found)
    items = [VolumeHandle(surface.engine, facts) for facts in found]
    return rows.show(rows.VOLUMES, [rows.volume(one) for one in found], items, format=format)


@verb("volume inspect")
@format_option()
@volumes()
@click.pass_obj
def inspect(surface: Surface, volumes: Sequence[str], format: str) -> Document | Lines:
    def told(name: str) -> dict[str, Any]:
        return volume_json(surface.engine.volumes.get(name))

    return documents(surface, volumes, format, told)


@verb("volume rm")
@click.option("-f", "--force", is_flag=True, help="Do not mind one that is not there")
@volumes()
@click.pass_obj
def rm(surface: Surface, volumes: Sequence[str], force: bool) -> Lines:
    return over(surface, volumes, lambda name: surface.engine.volumes.remove(name, force=force))


@verb("volume rename")
@click.argument("volume", metavar="VOLUME", shell_complete=complete_volumes)
@click.argument("name", metavar="NEW_NAME")
@click.pass_obj
def rename(surface: Surface, volume: str, name: str) -> None:
    surface.engine.volumes.rename(volume, name)


@verb("volume prune")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused volumes, not just "
              "anonymous ones")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option("--filter", "filters", multiple=True, help='Provide filter values ("label=<label>")')
@click.pass_obj
def prune(surface: Surface, all_: bool, force: bool, filters: Sequence[str]) -> Lines:
    which = "all local volumes" if all_ else "anonymous local volumes"
    confirmed(surface, f"This will remove {which} not used by at least one container.", force)
    asked = values.filters(filters)
    found = handles.prune_volumes(surface.engine, all=all_, filters=asked)
    return pruned("Volumes", found)
