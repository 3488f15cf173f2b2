"""``cp`` and ``export``: files between a container and the caller."""

from __future__ import annotations

import click

from cellbox import copying
from cellbox.errors import InvalidArgument

from ..surface import Surface
from .commands import container, verb
from .images import written


@verb("export")
@click.option("-o", "--output", help="Write to a file, instead of STDOUT")
@container()
@click.pass_obj
def export(surface: Surface, container: str, output: str | None) -> None:
    with written(surface, output) as out:
        surface.engine.files.export(container, out)


@verb("cp")
@click.option("-a", "--archive", is_flag=True, help="Copy all uid/gid information")
@click.option("-L", "--follow-link", is_flag=True, help="Follow symbol link in SRC_PATH")
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output during copy")
@click.argument("source", metavar="[CONTAINER:]SRC_PATH|-")
@click.argument("target", metavar="[CONTAINER:]DEST_PATH|-")
@click.pass_obj
def cp(
    surface: Surface, source: str, target: str, archive: bool, follow_link: bool, quiet: bool
) -> None:
    from_ref, from_path = _place(source)
    to_ref, to_path = _place(target)
    if bool(from_ref) == bool(to_ref):
        raise InvalidArgument(
            "cp copies between a container and this machine: name one CONTAINER:PATH"
        )
    if from_ref and to_path == "-":
        surface.engine.files.get(from_ref, from_path, surface.sink())
    elif from_ref:
        copying.copy_out(surface.engine, from_ref, from_path, to_path, follow=follow_link)
    elif from_path == "-":
        surface.engine.files.put(to_ref, to_path, surface.source())
    else:
        how = {"archive": archive, "follow": follow_link}
        copying.copy_in(surface.engine, from_path, to_ref, to_path, **how)


def _place(word: str) -> tuple[str, str]:
    """Container and path; ``./x:y`` and ``/x:y`` are paths of this machine."""
    name, colon, path = word.partition(":")
    return (name, path) if colon and not word.startswith((".", "/")) else ("", word)
