"""The instructions of a Dockerfile as typed facts, each with the place where it stands; pure.

Words are as they are written: variables are put in their places by :meth:`Instruction.expanded`,
when it is known what they stand for. ``syntax`` makes these facts from nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from cellbox.build.heredocs import Heredoc
from cellbox.build.mounts import Mount
from cellbox.build.mounts import parse as parse_mount
from cellbox.build.parser import Node
from cellbox.model.container import HealthCheck

Pairs = tuple[tuple[str, str], ...]


class Expand(Protocol):
    """Puts variables in their places."""

    def one(self, text: str) -> str:
        """A text as one word, without its quotes."""
        ...

    def many(self, text: str) -> tuple[str, ...]:
        """A text as any number of words."""
        ...

    def body(self, text: str) -> str:
        """The text of a here-document, where quotes are letters."""
        ...


@dataclass(frozen=True)
class Instruction:
    """Any instruction; ``node`` is what was written."""

    node: Node

    def expanded(self, expand: Expand) -> Self:
        """The instruction with its variables in their places, as far as it takes any. Raises
        InvalidArgument."""
        return self

    @property
    def line(self) -> int:
        """Where it begins, counted from 1."""
        return self.node.start


@dataclass(frozen=True)
class Command:
    """What RUN, CMD and ENTRYPOINT run: ``words``, for the ``shell`` one line of it, and the
    here-documents that follow."""

    words: tuple[str, ...]
    shell: bool
    files: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class From(Instruction):
    """FROM: begins a stage; ``name`` is lower case, and empty where it has none."""

    base: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True)
class Arg(Instruction):
    """ARG: names with their default, or None."""

    names: tuple[tuple[str, str | None], ...]

    def expanded(self, expand: Expand) -> Self:
        found = [
            (expand.one(name), None if value is None else expand.one(value))
            for name, value in self.names
        ]
        return replace(self, names=tuple(found))


@dataclass(frozen=True)
class _Paired(Instruction):
    pairs: Pairs

    def expanded(self, expand: Expand) -> Self:
        return replace(self, pairs=tuple((expand.one(k), expand.one(v)) for k, v in self.pairs))


@dataclass(frozen=True)
class Env(_Paired):
    """ENV."""


@dataclass(frozen=True)
class Label(_Paired):
    """LABEL."""


@dataclass(frozen=True)
class Maintainer(Instruction):
    """MAINTAINER."""

    name: str


@dataclass(frozen=True)
class Run(Instruction):
    """RUN. ``wanted`` are its mounts as they are written, and ``mounts`` what they are when their
    variables are in place; ``origins`` the stages and images that they name. ``options`` are flags
    that this builder refuses."""

    command: Command
    network: str = "default"
    insecure: bool = False
    wanted: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    options: tuple[str, ...] = ()

    def expanded(self, expand: Expand) -> Self:
        return replace(self, mounts=tuple(parse_mount(one, expand.one) for one in self.wanted))


@dataclass(frozen=True)
class Cmd(Instruction):
    """CMD."""

    command: Command


@dataclass(frozen=True)
class Entrypoint(Instruction):
    """ENTRYPOINT."""

    command: Command


@dataclass(frozen=True)
class Copy(Instruction):
    """COPY, or ADD where ``unpacks``. ``inline`` are here-documents among the sources; ``origin``
    is a stage or an image, empty for the context; ``exclude`` are patterns as in .dockerignore;
    ``unpack`` is None where only archives of the context are unpacked; ``options`` as in
    :class:`Run`."""

    sources: tuple[str, ...]
    destination: str
    inline: tuple[Heredoc, ...] = ()
    unpacks: bool = False
    origin: str = ""
    owner: str = ""
    mode: str = ""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool | None = None
    checksum: str = ""
    options: tuple[str, ...] = ()

    def expanded(self, expand: Expand) -> Self:
        return replace(
            self,
            sources=tuple(map(expand.one, self.sources)),
            destination=expand.one(self.destination),
            inline=tuple(_expanded(one, expand.body) for one in self.inline),
            owner=expand.one(self.owner),
            mode=expand.one(self.mode),
            exclude=tuple(map(expand.one, self.exclude)),
            checksum=expand.one(self.checksum),
        )


def _expanded(document: Heredoc, expand: Callable[[str], str]) -> Heredoc:
    text = expand(document.text) if document.expand else document.text
    return replace(document, content=text, chomp=False)


@dataclass(frozen=True)
class _One(Instruction):
    value: str

    def expanded(self, expand: Expand) -> Self:
        return replace(self, value=expand.one(self.value))


@dataclass(frozen=True)
class Workdir(_One):
    """WORKDIR."""


@dataclass(frozen=True)
class User(_One):
    """USER."""


@dataclass(frozen=True)
class StopSignal(_One):
    """STOPSIGNAL."""


@dataclass(frozen=True)
class Expose(Instruction):
    """EXPOSE: ``80``, ``53/udp``, ``8000-8010/tcp``."""

    ports: tuple[str, ...]

    def expanded(self, expand: Expand) -> Self:
        return replace(self, ports=tuple(p for port in self.ports for p in expand.many(port)))


@dataclass(frozen=True)
class Volume(Instruction):
    """VOLUME."""

    paths: tuple[str, ...]

    def expanded(self, expand: Expand) -> Self:
        return replace(self, paths=tuple(map(expand.one, self.paths)))


@dataclass(frozen=True)
class Healthcheck(Instruction):
    """HEALTHCHECK."""

    health: HealthCheck


@dataclass(frozen=True)
class Shell(Instruction):
    """SHELL."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class OnBuild(Instruction):
    """ONBUILD: the text that is delayed, with its here-documents."""

    text: str
