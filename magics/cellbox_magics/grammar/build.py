"""``build``: an image from a Dockerfile, told as Docker's classic builder does."""

from __future__ import annotations

import csv
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from cellbox.errors import InvalidArgument
from cellbox.handles import ImageHandle, Pruned
from cellbox.model.build import BuildSecret, BuildSpec
from cellbox.model.image import Progress

from ..progress import Board, head
from ..surface import Surface
from ..tables import Lines
from . import values
from .answers import confirmed, pruned
from .commands import verb

_STDIN = "-"
_NAME = "Dockerfile"
_ENTITLEMENTS = frozenset({"network.host", "security.insecure"})
_SECRET = {
    "id": "id",
    "type": "type",
    "env": "variable",
    **dict.fromkeys(("src", "source"), "file"),
}


@verb("build")
@click.option("-t", "--tag", "tags", multiple=True, help="Name and optionally a tag (name:tag)")
@click.option("-f", "--file", "dockerfile", default="", help="Name of the Dockerfile, - for STDIN")
@click.option("--build-arg", "arguments", multiple=True, help="Set build-time variables")
@click.option("--target", default="", help="Set the target build stage to build")
@click.option("--label", "labels", multiple=True, help="Set metadata for an image")
@click.option("--network", default="default", help="Set the networking mode for RUN")
@click.option("--add-host", "hosts", multiple=True, help="Add a custom host-to-IP mapping")
@click.option("--platform", default="", help="Set platform if server is multi-platform capable")
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image")
@click.option("--pull", is_flag=True, help="Always attempt to pull a newer version of the image")
@click.option("-m", "--memory", default="", help="Memory limit of RUN")
@click.option("--shm-size", default="", help="Size of /dev/shm of RUN")
@click.option("--secret", "secrets", multiple=True, help="Secret for RUN (id=ID,src=FILE|env=NAME)")
@click.option("--ssh", "agents", multiple=True, help="SSH agent for RUN (default|ID[=SOCKET])")
@click.option("--allow", "entitlements", multiple=True, help="Allow RUN more than its sandbox")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the build output and print the id")
@click.argument("path", metavar="PATH|-")
@click.pass_obj
def build(surface: Surface, /, path: str, dockerfile: str, quiet: bool, **flags: Any) -> Any:
    with _context(surface, path, dockerfile) as (context, name):
        narrator = _Narrator(surface)
        try:
            image = surface.engine.images.build(
                context, _spec(flags, name), tell=narrator.keep if quiet else narrator.tell
            )
        except BaseException:
            narrator.tell_kept()
            raise
    return Lines([image.id]) if quiet else ImageHandle(surface.engine, image)


@verb("builder prune")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all of it (which is the default)")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.pass_obj
def prune(surface: Surface, all_: bool, force: bool) -> Lines:
    confirmed(surface, "This will remove the build caches that no build is using.", force)
    gone = surface.engine.prune_build_cache()
    return pruned("build caches", Pruned(tuple(gone), sum(gone.values())))


def _spec(flags: Mapping[str, Any], dockerfile: str) -> BuildSpec:
    from cellbox.model.container import Limits

    memory, shm_size = flags["memory"], flags["shm_size"]
    return BuildSpec(
        dockerfile=dockerfile,
        tags=tuple(flags["tags"]),
        arguments=_arguments(flags["arguments"], os.environ),
        labels=values.labels(flags["labels"]),
        target=flags["target"],
        no_cache=flags["no_cache"],
        pull=flags["pull"],
        network=flags["network"],
        platform=flags["platform"],
        extra_hosts=tuple(flags["hosts"]),
        shm_size=values.size(shm_size) if shm_size else None,
        limits=Limits(memory=values.size(memory) if memory else None),
        secrets=dict(_secret(word, os.environ) for word in flags["secrets"]),
        ssh=dict(_agent(word, os.environ) for word in flags["agents"]),
        entitlements=frozenset(map(_entitlement, flags["entitlements"])),
    )


def _entitlement(word: str) -> str:
    if word not in _ENTITLEMENTS:
        raise InvalidArgument(f"unknown entitlement: {word}")
    return word


def _secret(text: str, environ: Mapping[str, str]) -> tuple[str, BuildSecret]:
    """``id=ID[,src=FILE|env=NAME]``: as in Docker, without a file it is the variable ID, where
    there is one, else the file ID."""
    found = {}
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        if key.lower() not in _SECRET:
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
        found[_SECRET[key.lower()]] = value
    if found.get("type", "file") not in ("file", "env"):
        raise InvalidArgument(f'unsupported secret type "{found["type"]}"')
    id = found.get("id", "")
    if not id:
        raise InvalidArgument(f"a secret needs an id: {text}")
    file, variable = found.get("file", ""), found.get("variable", "")
    if found.get("type") == "env" and file:
        file, variable = "", file
    if not file and not variable:
        file, variable = ("", id) if id in environ else (id, "")
    return id, BuildSecret(str(Path(file).expanduser().absolute()) if file else "", variable)


def _agent(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """``ID[=SOCKET]``; without a socket that of the caller's agent."""
    id, _, path = text.partition("=")
    path = path or environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise InvalidArgument(f"invalid empty ssh agent socket: SSH_AUTH_SOCK is not set ({text})")
    if not Path(path).is_socket():
        raise InvalidArgument(f"{path} is no socket of an SSH agent: ssh-add the key to one")
    return id, path


def _arguments(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``NAME=value``; a bare name takes the caller's value, and is left out where there is none."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals or name in environ:
            found[name] = value if equals else environ[name]
    return found


# Contexts ----------------------------------------------------------------------------------------


@contextmanager
def _context(surface: Surface, path: str, dockerfile: str) -> Iterator[tuple[BinaryIO | Path, str]]:
    """The context, and the Dockerfile as it is named for the engine."""
    if path == _STDIN:
        if dockerfile == _STDIN:
            raise InvalidArgument("STDIN cannot be both the context and the Dockerfile")
        yield _from_stdin(surface.source()), dockerfile
    elif dockerfile == _STDIN:
        with tempfile.NamedTemporaryFile(prefix="Dockerfile-") as file:
            file.write(surface.source().read())
            file.flush()
            yield Path(path).expanduser(), file.name
    else:
        named = str(Path(dockerfile).expanduser().absolute()) if dockerfile else ""
        yield Path(path).expanduser(), named


def _from_stdin(source: BinaryIO) -> BinaryIO:
    """A tar as it is, or a Dockerfile on its own, as the only file of one."""
    buffered = source if hasattr(source, "peek") else io.BufferedReader(cast(Any, source))
    start = cast(io.BufferedReader, buffered).peek(tarfile.BLOCKSIZE)
    if b"\0" in start[: tarfile.BLOCKSIZE]:
        return buffered
    text = buffered.read()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(_NAME)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    out.seek(0)
    return out


class _Narrator:
    """Shows what a build tells, at once or, of one that fails, afterwards."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._board = Board("")
        self._kept: list[str | Progress] = []
        self.keep: Callable[[str | Progress], None] = self._kept.append

    def tell(self, piece: str | Progress) -> None:
        if isinstance(piece, str):
            self._surface.write("stdout", piece.encode())
        elif self._board.record(piece):
            self._surface.note(head(piece))

    def tell_kept(self) -> None:
        for piece in self._kept:
            self.tell(piece)
