"""Our kinds of click command and group, and the small things that all verbs share.

A :class:`Verb` takes its options anywhere among its arguments, a :class:`ProgramVerb` only before
the image or container: what follows belongs to the program. Both read Docker's ``--flag=true``. A
:class:`Tree` knows aliases (``container ls`` is ``ps``) without listing them twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from cellbox.errors import CellboxError

from ..outcome import USAGE
from . import words
from .contents import ENTRIES

DASHED = "cellbox.dashed"
"""The key of ``ctx.meta`` that says: ``--`` came before any argument, so no image is named."""

HELP: dict[str, Any] = {"help_option_names": ["--help"], "max_content_width": 100}


class Verb(click.Command):
    """A command with Docker's reading of flags."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **{"context_settings": HELP, **settings})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, words.plain_flags(self, args))


class ProgramVerb(click.Command):
    """A command whose last arguments are a program and its own options."""

    def __init__(self, name: str, **settings: Any) -> None:
        quiet = {**HELP, "allow_interspersed_args": False}
        super().__init__(name, **{"context_settings": quiet, **settings})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        parts = words.split(self, args)
        ctx.meta[DASHED] = parts.dashed
        return super().parse_args(ctx, [*parts.options, "--", *parts.rest])


class Refusing(ProgramVerb):
    """``run`` and ``create``: what the engine refuses ends with Docker's code 125."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CellboxError as error:
            if not hasattr(error, "exit_code"):
                error.exit_code = USAGE  # type: ignore[attr-defined]
            raise


def verb(key: str, *, cls: type[click.Command] = Verb) -> Callable[[Any], Any]:
    """A decorator: the function below, with its options, is the command ``key`` of the contents."""
    return click.command(key.rpartition(" ")[2], cls=cls, help=ENTRIES[key].summary)


def completer(list_names: Callable[[Any], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """A click completion of names out of the engine; silent when there is none to ask."""

    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            names = list(list_names(ctx.find_object(object)))
        except Exception:  # a completion that fails must not disturb the line being typed
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def _container_names(surface: Any) -> Iterable[str]:
    return (facts.name for facts in surface.engine.containers.list(all=True))


def _image_names(surface: Any) -> Iterable[str]:
    return (tag for facts in surface.engine.images.list() for tag in facts.tags)


def _volume_names(surface: Any) -> Iterable[str]:
    return (facts.name for facts in surface.engine.volumes.list())


def _network_names(surface: Any) -> Iterable[str]:
    return (facts.name for facts in surface.engine.networks.list())


def _plugin_names(surface: Any) -> Iterable[str]:
    return (facts.name for facts in surface.engine.plugins.list() if facts.managed)


complete_containers = completer(_container_names)
complete_images = completer(_image_names)
complete_volumes = completer(_volume_names)
complete_networks = completer(_network_names)
complete_plugins = completer(_plugin_names)


def containers(*, required: bool = True) -> Callable[[Any], Any]:
    """``CONTAINER [CONTAINER...]``."""
    return click.argument(
        "containers",
        nargs=-1,
        required=required,
        metavar="CONTAINER...",
        shell_complete=complete_containers,
    )


def container() -> Callable[[Any], Any]:
    """``CONTAINER``."""
    return click.argument("container", metavar="CONTAINER", shell_complete=complete_containers)


def listing(view: str) -> Callable[[Any], Any]:
    """The options of every listing: ``-q``, ``--no-trunc``, ``--filter``, ``--format``."""

    def add(function: Any) -> Any:
        for option in (
            click.option("--format", default="", help='Format output ("table", "json", template)'),
            click.option("-f", "--filter", "filters", multiple=True, help="Filter output (k=v)"),
            click.option("--no-trunc", "full", is_flag=True, help="Don't truncate output"),
            click.option("-q", "--quiet", is_flag=True, help=f"Only display {view} IDs"),
        ):
            function = option(function)
        return function

    return add


def format_option(text: str = "Format output using a Go template") -> Callable[[Any], Any]:
    """``-f``/``--format``."""
    return click.option("-f", "--format", default="", help=text)
