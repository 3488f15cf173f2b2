"""The tree of commands: groups that import a verb's module when that verb is named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import click

from . import contents
from .hosts import host_option
from .place import Place

_HELP: dict[str, Any] = {"help_option_names": ["--help"], "max_content_width": 100}
_ABOUT = "A container engine that lives in a notebook, in Docker's words."


class Tree(click.Group):
    """A group: ``members`` from the contents by visible name, sub-``groups``, and ``aliases``."""

    def __init__(
        self,
        name: str,
        about: str,
        place: Place,
        members: Mapping[str, str],
        aliases: Mapping[str, str],
        groups: tuple[Tree, ...] = (),
        **settings: Any,
    ) -> None:
        super().__init__(name, help=about, context_settings=_HELP, **settings)
        self._place = place
        self._members = members
        self._aliases = aliases
        self._groups = {str(group.name): group for group in groups}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._members, *self._groups]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self._aliases.get(cmd_name, cmd_name)
        if name in self._groups:
            return self._groups[name]
        return load(self._members[name], self._place) if name in self._members else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if self._place is Place.CELL:
            raise click.UsageError(
                f"a cell's body goes to run or exec; {name} has no use for it: "
                f"write %container {name}",
                ctx,
            )
        near = difflib.get_close_matches(name, self.list_commands(ctx), 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)

    def summaries(self) -> dict[str, str]:
        """Every visible name and its line of help; imports nothing."""
        lines = {name: contents.ENTRIES[key].summary for name, key in self._members.items()}
        return lines | {name: str(group.help) for name, group in self._groups.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))


@cache
def load(key: str, place: Place) -> click.Command:
    """The command ``key`` of the contents, as it is spoken in ``place``."""
    entry = contents.ENTRIES[key]
    found = getattr(import_module(f".{entry.module}", __package__), entry.attribute)
    command = found if isinstance(found, click.Command) else found(place)
    assert isinstance(command, click.Command)
    return command


@cache
def tree(place: Place) -> Tree:
    """All commands as they are spoken in ``place``."""
    in_shell = place is Place.COMMAND
    shell_system = contents.SHELL_SYSTEM if in_shell else {}
    groups = (
        Tree(
            "container", "Manage containers", place, contents.CONTAINER,
            {"ls": "ps", "list": "ps", "remove": "rm"},
        ),
        Tree(
            "image", "Manage images", place, contents.IMAGE,
            {"list": "ls", "remove": "rm"},
        ),
        Tree(
            "network", "Manage networks", place, contents.NETWORK,
            {"list": "ls", "remove": "rm"},
        ),
        Tree(
            "volume", "Manage volumes", place, contents.VOLUME,
            {"list": "ls", "remove": "rm"},
        ),
        Tree(
            "plugin", "Manage plugins", place, contents.PLUGIN,
            {"list": "ls", "remove": "rm"},
        ),
        Tree("builder", "Manage what builds have cached", place, contents.BUILDER, {}),
        Tree("context", "Manage contexts", place, contents.CONTEXT, {"list": "ls"}),
        Tree("system", "Manage the engine", place, {**contents.SYSTEM, **shell_system}, {}),
        *((Tree("tls", "Manage certificates", place, contents.TLS, {}),) if in_shell else ()),
    )  # fmt: skip
    name = "cellbox" if place is Place.COMMAND else f"%{'%' * (place is Place.CELL)}container"
    params = [host_option(), *((_version_option(),) if in_shell else ())]
    if place is Place.CELL:
        return Tree(name, _ABOUT, place, contents.CELL, {}, params=params)
    members = {**contents.ROOT, **(contents.SHELL if in_shell else {})}
    return Tree(name, _ABOUT, place, members, {}, groups, params=params)


def _version_option() -> click.Option:
    def say(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            from cellbox import __version__

            click.echo(f"cellbox version {__version__}")
            ctx.exit()

    return click.Option(
        ["-v", "--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=say,
        help="Print version information and quit",
    )
