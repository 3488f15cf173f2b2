"""The verbs of images: images, pull, push, rmi, tag, history, save, load, import, commit, prune."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from cellbox import handles, several
from cellbox.errors import InvalidArgument
from cellbox.handles import ImageHandle, each
from cellbox.model.image import Image, Removed

from .. import rows
from ..surface import Surface
from ..tables import Document, Lines, Table
from . import values
from .answers import confirmed, pruned, settle
from .commands import complete_containers, complete_images, format_option, listing, verb
from .hosts import of_all_hosts
from .lifecycle import instants
from .look import inspected

_image = click.argument("image", metavar="IMAGE", shell_complete=complete_images)
_many = click.argument(
    "names", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_images
)


@verb("images")
@click.option(
    "-a", "--all", "all_", is_flag=True, help="Show all images (default hides intermediate images)"
)
@click.option("--digests", is_flag=True, help="Show digests")
@listing("image")
@click.argument("repository", required=False, metavar="[REPOSITORY[:TAG]]")
@click.pass_obj
@of_all_hosts
def images(
    surface: Surface, repository: str | None, all_: bool, digests: bool, filters: Sequence[str],
    format: str, full: bool, quiet: bool,
) -> Table | Lines:  # fmt: skip
    asked = values.filters(filters)
    if repository:
        asked.setdefault("reference", []).append(repository)
    found = surface.engine.images.list(all=all_, filters=asked)
    if quiet and not format:
        return Lines(facts.id if full else facts.short_id for facts in found)
    shown = [(facts, row) for facts in found for row in rows.images(facts, full=full)]
    return rows.show(
        rows.IMAGES,
        [row for _, row in shown],
        [ImageHandle(surface.engine, facts) for facts, _ in shown],
        format=format,
        columns=("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size") if digests else (),
    )


@verb("pull")
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.option("--platform", default="", help="Set platform if server is multi-platform capable")
@_image
@click.pass_obj
def pull(surface: Surface, image: str, quiet: bool, platform: str) -> ImageHandle:
    with surface.watch(f"Pulling {image}") as watch:
        facts = surface.engine.images.pull(image, platform=platform, watch=None if quiet else watch)
    return ImageHandle(surface.engine, facts)


@verb("push")
@click.option("-a", "--all-tags", "all_", is_flag=True, help="Push all tags of an image")
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd"]),
    default=None,
    help="Compress all layers so (default as they came, else gzip)",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@_image
@click.pass_obj
def push(surface: Surface, image: str, all_: bool, compression: str | None, quiet: bool) -> Lines:
    engine, how = surface.engine, compression or ""
    names = several.tags_of(engine, image) if all_ else [image]
    with surface.watch(f"Pushing {image}") as watch:
        told = None if quiet else watch
        pushed = [engine.images.push(one, compression=how, watch=told) for one in names]
    return Lines(one.name if quiet else f"{one.name}@{one.digest}" for one in pushed)


@verb("rmi")
@click.option("-f", "--force", is_flag=True, help="Force removal of the image")
@click.option("--no-prune", is_flag=True, help="Do not delete untagged parents")
@_many
@click.pass_obj
def rmi(surface: Surface, names: Sequence[str], force: bool, no_prune: bool) -> Lines:
    outcome = each(names, lambda ref: surface.engine.images.remove(ref, force=force))
    lines = Lines(_removed(entry) for _, entries in outcome.done for entry in entries)
    settle(surface, outcome, lines)
    return lines


def _removed(entry: Removed) -> str:
    return f"Untagged: {entry.untagged}" if entry.untagged else f"Deleted: {entry.deleted}"


@verb("tag")
@_image
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
@click.pass_obj
def tag(surface: Surface, image: str, target: str) -> None:
    surface.engine.images.tag(image, target)


@verb("history")
@click.option("--format", default="", help="Format output using a Go template")
@click.option("-H", "--human/--no-human", default=True, help="Print sizes and dates readably")
@click.option("--no-trunc", "full", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@_image
@click.pass_obj
def history(
    surface: Surface, image: str, format: str, human: bool, full: bool, quiet: bool
) -> Table | Lines:
    facts = surface.engine.images.get(image)
    entries = list(reversed(facts.history))
    ids = [facts.id, *[""] * len(entries)]
    shown = [rows.history(entry, own, full=full) for entry, own in zip(entries, ids, strict=False)]
    if quiet:
        return Lines(row["ID"] for row in shown)
    columns = rows.HISTORY.columns
    if not human:
        columns = ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")
    return rows.show(rows.HISTORY, shown, entries, format=format, columns=columns)


@verb("save")
@click.option("-o", "--output", help="Write to a file, instead of STDOUT")
@click.option(
    "--format", type=click.Choice(["docker", "oci"]), default="docker", help="Kind of archive"
)
@_many
@click.pass_obj
def save(surface: Surface, names: Sequence[str], output: str | None, format: str) -> None:
    with written(surface, output) as out:
        surface.engine.images.save(names, out, format=format)


@verb("load")
@click.option("-i", "--input", "path", help="Read from tar archive file, instead of STDIN")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the load output")
@click.option("--platform", default="", hidden=True)
@click.pass_obj
def load(surface: Surface, path: str | None, quiet: bool, platform: str) -> Lines:
    with read(surface, path) as source, surface.watch("Loading") as watch:
        found = surface.engine.images.load(source, watch=None if quiet else watch)
    return Lines(line for facts in found for line in _loaded(facts))


def _loaded(facts: Image) -> list[str]:
    return [f"Loaded image: {name}" for name in facts.tags] or [f"Loaded image ID: {facts.id}"]


@verb("import")
@click.option("-c", "--change", "changes", multiple=True, help="Apply Dockerfile instruction")
@click.option("-m", "--message", default="", help="Set commit message for imported image")
@click.argument("source", metavar="FILE|-")
@click.argument("name", required=False, default="", metavar="[REPOSITORY[:TAG]]")
@click.pass_obj
def import_(
    surface: Surface, source: str, name: str, changes: Sequence[str], message: str
) -> Lines:
    with read(surface, None if source == "-" else source) as tar:
        facts = surface.engine.images.import_(tar, name=name, message=message, changes=changes)
    return Lines([facts.id])


@verb("commit")
@click.option("-a", "--author", default="", help='Author (e.g., "Ada <ada@example.org>")')
@click.option("-c", "--change", "changes", multiple=True, help="Apply Dockerfile instruction")
@click.option("-m", "--message", default="", help="Commit message")
@click.option("-p", "--pause/--no-pause", default=True, help="Pause container during commit")
@click.option("--with-volumes", is_flag=True, help="Include what is in the container's volumes")
@click.argument("container", metavar="CONTAINER", shell_complete=complete_containers)
@click.argument("name", required=False, default="", metavar="[REPOSITORY[:TAG]]")
@click.pass_obj
def commit(
    surface: Surface, container: str, name: str, author: str, changes: Sequence[str],
    message: str, pause: bool, with_volumes: bool,
) -> Lines:  # fmt: skip
    facts = surface.engine.images.commit(
        container,
        name=name,
        message=message,
        author=author,
        changes=changes,
        pause=pause,
        volumes=with_volumes,
    )
    return Lines([facts.id])


@verb("image inspect")
@format_option()
@_many
@click.pass_obj
def inspect(surface: Surface, names: Sequence[str], format: str) -> Document | Lines:
    return inspected(surface, names, format, "image")


@verb("image prune")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused images")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option("--filter", "filters", multiple=True, help='Provide filter values ("until=<time>")')
@click.pass_obj
def prune(surface: Surface, all_: bool, force: bool, filters: Sequence[str]) -> Lines:
    which = "images without at least one container" if all_ else "dangling images"
    confirmed(surface, f"This will remove all {which}.", force)
    found = handles.prune_images(surface.engine, all=all_, filters=instants(filters))
    return pruned("Images", found)


def read(surface: Surface, path: str | None) -> AbstractContextManager[BinaryIO]:
    """The file ``path`` open for reading, or standard input."""
    if path is None:
        return nullcontext(surface.source())
    try:
        return Path(path).expanduser().open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error


def written(surface: Surface, path: str | None) -> AbstractContextManager[BinaryIO]:
    """The file ``path`` open for writing, or standard output."""
    if path is None:
        return nullcontext(surface.sink())
    try:
        return Path(path).expanduser().open("wb")
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
