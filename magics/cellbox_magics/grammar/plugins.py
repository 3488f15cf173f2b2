"""The verbs of plugins: ls, inspect, create, install, upgrade, enable, disable, set, rm."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import click

from cellbox.errors import InvalidArgument
from cellbox.model.plugin import Plugin, Privilege
from cellbox.wire.plugins import plugin_json

from .. import rows
from ..surface import Surface
from ..tables import Document, Lines, Table
from . import values
from .answers import over
from .commands import complete_plugins, format_option, listing, verb
from .hosts import of_all_hosts
from .look import documents

_DIGITS = 12


def plugin(name: str = "plugin") -> Callable[[Any], Any]:
    """``PLUGIN``."""
    return click.argument(name, metavar="PLUGIN", shell_complete=complete_plugins)


def plugins() -> Callable[[Any], Any]:
    """``PLUGIN [PLUGIN...]``."""
    return click.argument(
        "plugins", nargs=-1, required=True, metavar="PLUGIN...", shell_complete=complete_plugins
    )


@verb("plugin ls")
@listing("plugin")
@click.pass_obj
@of_all_hosts
def ls(
    surface: Surface, filters: Sequence[str], format: str, full: bool, quiet: bool
) -> Table | Lines:
    found = surface.engine.plugins.list(filters=values.filters(filters))
    if quiet and not format:
        return Lines(_id(facts, full=full) for facts in found)
    shown = [rows.plugin(facts, _id(facts, full=full)) for facts in found]
    return rows.show(rows.PLUGINS, shown, found, format=format)


def _id(facts: Plugin, *, full: bool) -> str:
    id = str(plugin_json(facts)["Id"])
    return id if full else id[:_DIGITS]


@verb("plugin inspect")
@format_option()
@plugins()
@click.pass_obj
def inspect(surface: Surface, plugins: Sequence[str], format: str) -> Document | Lines:
    def told(ref: str) -> dict[str, Any]:
        return plugin_json(surface.engine.plugins.get(ref))

    return documents(surface, plugins, format, told)


@verb("plugin create")
@click.option("--compress", is_flag=True, hidden=True)
@click.argument("name", metavar="PLUGIN")
@click.argument("folder", metavar="PLUGIN-DATA-DIR", type=click.Path(path_type=Path))
@click.pass_obj
def create(surface: Surface, name: str, folder: Path, compress: bool) -> Lines:
    """PLUGIN-DATA-DIR has config.json and rootfs/, or is a tar of such a folder."""
    with tempfile.TemporaryFile() as packed:
        source = folder.open("rb") if folder.is_file() else _packed(folder, packed)
        with source:
            surface.engine.plugins.create(name, source)
    return Lines([name])


def _packed(folder: Path, out: IO[bytes]) -> BinaryIO:
    for name in ("config.json", "rootfs"):
        if not (folder / name).exists():
            raise InvalidArgument(f"{folder} is no plugin: there is no {name} in it")
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("config.json", "rootfs"):
            tar.add(folder / name, name)
    out.seek(0, io.SEEK_SET)
    return cast(BinaryIO, out)


@verb("plugin install")
@click.option("--alias", default="", help="Local name for plugin")
@click.option("--disable", is_flag=True, help="Do not enable the plugin on install")
@click.option("--grant-all-permissions", "agreed", is_flag=True, help="Grant all permissions "
              "necessary to run the plugin")  # fmt: skip
@plugin()
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE...]")
@click.pass_obj
def install(
    surface: Surface, plugin: str, settings: Sequence[str], alias: str, disable: bool, agreed: bool
) -> Lines:
    collection = surface.engine.plugins
    privileges = _agreed(surface, plugin, agreed)
    with surface.watch(f"Installing {plugin}") as watch:
        made = collection.install(plugin, name=alias, privileges=privileges, watch=watch)
    try:
        if settings:
            collection.set(made.name, settings)
        if not disable:
            collection.enable(made.name)
    except BaseException:
        collection.remove(made.name, force=True)
        raise
    return Lines([f"Installed plugin {plugin}"])


@verb("plugin upgrade")
@click.option("--grant-all-permissions", "agreed", is_flag=True, help="Grant all permissions "
              "necessary to run the plugin")  # fmt: skip
@click.option("--skip-remote-check", is_flag=True, hidden=True)
@plugin()
@click.argument("remote", required=False, default="", metavar="[REMOTE]")
@click.pass_obj
def upgrade(
    surface: Surface, plugin: str, remote: str, agreed: bool, skip_remote_check: bool
) -> Lines:
    remote = remote or surface.engine.plugins.get(plugin).reference
    if not remote:
        raise InvalidArgument(f"plugin {plugin} was made here: name what takes its place")
    privileges = _agreed(surface, remote, agreed)
    with surface.watch(f"Upgrading {plugin}") as watch:
        surface.engine.plugins.upgrade(plugin, remote, privileges=privileges, watch=watch)
    return Lines([f"Upgraded plugin {plugin} to {remote}"])


def _agreed(surface: Surface, ref: str, agreed: bool) -> list[Privilege]:
    """What the plugin wants, if the user agrees to it."""
    wanted = surface.engine.plugins.privileges(ref)
    if not wanted or agreed:
        return wanted
    surface.note(f'Plugin "{ref}" is requesting the following privileges:')
    for one in wanted:
        surface.note(f" - {one.name}: [{' '.join(one.values)}]")
    answer = surface.ask("Do you grant the above permissions? [y/N] ").strip().lower()
    if answer not in ("y", "yes"):
        raise click.UsageError("nothing was installed: answer y, or use --grant-all-permissions")
    return wanted


@verb("plugin enable")
@click.option("--timeout", type=float, default=30, help="HTTP client timeout (in seconds)")
@plugin()
@click.pass_obj
def enable(surface: Surface, plugin: str, timeout: float) -> Lines:
    surface.engine.plugins.enable(plugin, timeout=timeout)
    return Lines([plugin])


@verb("plugin disable")
@click.option("-f", "--force", is_flag=True, help="Force the disable of an active plugin")
@plugin()
@click.pass_obj
def disable(surface: Surface, plugin: str, force: bool) -> Lines:
    surface.engine.plugins.disable(plugin, force=force)
    return Lines([plugin])


@verb("plugin set")
@plugin()
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.pass_obj
def set_(surface: Surface, plugin: str, settings: Sequence[str]) -> None:
    surface.engine.plugins.set(plugin, settings)


@verb("plugin rm")
@click.option("-f", "--force", is_flag=True, help="Force the removal of an active plugin")
@plugins()
@click.pass_obj
def rm(surface: Surface, plugins: Sequence[str], force: bool) -> Lines:
    return over(surface, plugins, lambda ref: surface.engine.plugins.remove(ref, force=force))
