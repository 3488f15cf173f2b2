"""COPY and ADD: files of the context, of a stage or of an image, as a layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from posixpath import basename, dirname

from cellbox.build import config as configs
from cellbox.build import copying, downloads, modes, tree
from cellbox.build.bench import Bench
from cellbox.build.copying import Source, Wish
from cellbox.build.ignore import Ignore
from cellbox.build.instructions import Copy, Workdir
from cellbox.build.sources import followed
from cellbox.build.stage import StageState
from cellbox.errors import InvalidArgument, NotFound, NotSupported
from cellbox.model.image import ImageConfig

Select = Callable[[str], list[Source]]
"""Finds what a source names. Raises InvalidArgument."""

_GIT = ("git://", "git@", "ssh://")


def copy(bench: Bench, state: StageState, step: Copy, select: Select) -> StageState:
    """Where COPY or ADD brings the stage. Raises InvalidArgument, NotSupported."""
    _refuse(step)
    with ExitStack() as held:
        sources = _sources(step, select, held)
        to_directory = _is_directory(step, sources)
        target = configs.absolute(state.config, step.destination)
        told = _told(step, sources, target, to_directory)
        if found := bench.cached(state, told, state.config):
            return found
        with bench.container(state, network="none") as container:
            wish = Wish(
                bench.shop.owner(container, step.owner) if step.owner else None,
                modes.parse(step.mode),
                keeps_owners=bool(step.origin),
            )
            into, name = target, ""
            if not to_directory and not bench.is_directory(container, target):
                with suppress(NotFound):  # a link to a file is written through
                    target = followed(bench.shop.files, container, target)
                into, name = dirname(target), basename(target)
            _put(bench, container, into, name, sources, wish)
            return bench.make(state, told, state.config, container)


def workdir(bench: Bench, state: StageState, step: Workdir, config: ImageConfig) -> StageState:
    """Where WORKDIR brings the stage: the directory is made, and belongs to the stage's user."""
    told = configs.told(step)
    if found := bench.cached(state, told, config):
        return found
    with bench.container(state, network="none") as container:
        if bench.is_directory(container, config.workdir):
            return bench.make(state, told, config)
        owner = bench.shop.owner(container, config.user) if config.user else None
        _put(bench, container, config.workdir, "", (), Wish(owner))
        return bench.make(state, told, config, container)


def _refuse(step: Copy) -> None:
    """What only BuildKit does, and a checksum of what has none."""
    keyword = step.node.word.upper()
    if step.options:
        raise NotSupported(f"{keyword} {step.options[0]} is not supported by this builder yet")
    remote = [one for one in step.sources if downloads.is_url(one) or one.startswith(_GIT)]
    if remote and not step.unpacks:
        raise InvalidArgument(f"source can't be a URL for {keyword}")
    if repository := next((one for one in remote if _is_repository(one)), ""):
        raise NotSupported(f"{keyword} {repository}: this builder fetches no git repositories yet")
    if step.checksum and len(step.sources) != 1:
        raise InvalidArgument("checksum can't be specified for multiple sources")
    if step.checksum and not remote:
        raise InvalidArgument("checksum requires HTTP(S) sources")


def _is_repository(source: str) -> bool:
    return source.startswith(_GIT) or source.partition("#")[0].endswith(".git")


def _found(step: Copy, source: str, select: Select, held: ExitStack) -> list[Source]:
    if downloads.is_url(source):
        found = [downloads.fetched(source, held, step.checksum)]
        unpacks = bool(step.unpack)
    else:
        found, unpacks = select(source), step.unpacks and step.unpack is not False
    if step.exclude:
        ignore = Ignore(step.exclude)
        found = [left for one in found if (left := copying.excluding(one, ignore))]
    return [copying.unpacked(one, held) for one in found] if unpacks else found


def _sources(step: Copy, select: Select, held: ExitStack) -> list[Source]:
    found = [one for source in step.sources for one in _found(step, source, select, held)]
    found += [Source(one.name, tree.file(one.text.encode(), time.time())) for one in step.inline]
    if not found:
        raise InvalidArgument(f"{step.node.word.upper()} failed: no source files were specified")
    return found


def _is_directory(step: Copy, sources: list[Source]) -> bool:
    """Does the destination have to be a directory, by what is written and what is copied?"""
    last = step.destination.rpartition("/")[2]
    written = last in ("", ".", "..")
    if len(step.sources) + len(step.inline) > 1 and not written:
        raise InvalidArgument(
            f"When using {step.node.word.upper()} with more than one source file, the destination "
            "must be a directory and end with a /"
        )
    return written or len(sources) > 1 or any(source.spread for source in sources)


def _told(step: Copy, sources: list[Source], target: str, to_directory: bool) -> str:
    """The step as the history tells it, with a digest of all that it copies."""
    options = {"--chown": step.owner, "--chmod": step.mode}
    words = [f"{name}={value}" for name, value in options.items() if value]
    kind = sources[0].node.kind.value if len(sources) == 1 else "multi"
    digest = copying.digest(sources, keeps_owners=bool(step.origin))
    place = target.rstrip("/") + "/" if to_directory else target
    return " ".join([step.node.word.upper(), *words, f"{kind}:{digest} in {place}"])


def _put(
    bench: Bench, container: str, into: str, name: str, sources: Iterable[Source], wish: Wish
) -> None:
    """Unpack the sources in ``into``, which is made as far as it is not there."""
    base = into
    while base != "/" and not bench.is_directory(container, base):
        base = dirname(base)
    rest = into[len(base) :].strip("/")
    made = copying.directories(rest, *(wish.owner or (0, 0)), mtime=time.time())
    files = copying.place(list(sources), name, rest, wish)
    pieces = copying.packed(one for some in (made, files) for one in some)
    bench.shop.files.put(container, base, copying.reader(pieces), keep_kinds=True)
