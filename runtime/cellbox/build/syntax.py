"""Nodes to instructions: how many arguments, which flags, which values; pure.

Every error is a DockerfileError with BuildKit's sentence, and a suggestion for a word that is
nearly right.

Source: Dockerfile reference; the cases of ``tests/build`` hold the results of the reference
implementation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cellbox.build import heredocs, mounts
from cellbox.build.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from cellbox.build.parser import Document, Node
from cellbox.build.suggestions import suggestion
from cellbox.errors import DockerfileError, InvalidArgument
from cellbox.model.container import HealthCheck
from cellbox.wire.filters import duration

_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)
_NETWORKS = frozenset({"default", "none", "host"})
_SECURITY = frozenset({"sandbox", "insecure"})
_COPY = ("from", "chown", "chmod", "link", "parents", "exclude")
_ADD = ("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack")
_RUN = ("mount", "network", "security", "device")
_HEALTH = ("interval", "timeout", "start-period", "start-interval", "retries")
_SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_SWITCHED = {"": None, "true": True, "false": False}
_REPEATED = frozenset({"exclude", "mount", "device"})
_SHORTEST = 0.001
"""Seconds; an interval of a health check is 0, for the default, or not below it."""


@dataclass(frozen=True)
class Stage:
    """FROM and what follows up to the next one."""

    start: From
    instructions: tuple[Instruction, ...] = ()


@dataclass(frozen=True)
class Dockerfile:
    """All of it: what ARGs stand before the first FROM, and the stages."""

    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"


def read(document: Document) -> Dockerfile:
    """The instructions of a document. Raises DockerfileError."""
    arguments: list[Arg] = []
    stages: list[Stage] = []
    for node in document.nodes:
        found = instruction(node)
        if isinstance(found, From):
            stages.append(Stage(found))
        elif stages:
            stages[-1] = Stage(stages[-1].start, (*stages[-1].instructions, found))
        elif isinstance(found, Arg):
            arguments.append(found)
        else:
            raise DockerfileError("no build stage in current context", node.start)
    return Dockerfile(tuple(arguments), tuple(stages), document.escape)


def instruction(node: Node) -> Instruction:
    """One instruction. Raises DockerfileError."""
    reader = _READERS.get(node.word)
    try:
        if reader is None:
            near = suggestion(node.written, _READERS)
            raise InvalidArgument(f"unknown instruction: {node.written}{near}")
        return reader(node)
    except InvalidArgument as error:
        raise DockerfileError(str(error), node.start) from None


# Flags -------------------------------------------------------------------------------------------


class _Flags:
    """The flags of a node, checked against those that there are."""

    def __init__(self, node: Node, known: Sequence[str] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for flag in node.flags:
            name, equals, value = flag[2:].partition("=")
            if name not in known:
                raise InvalidArgument(f"unknown flag: --{name}{suggestion(name, known)}")
            if name in self._values and name not in _REPEATED:
                raise InvalidArgument(f"duplicate flag specified: --{name}")
            self._values.setdefault(name, []).append(_checked(name, equals, value))

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[-1]

    def all(self, name: str) -> tuple[str, ...]:
        """What a flag says each time that it is given."""
        return tuple(self._values.get(name, ()))

    def given(self, *names: str) -> tuple[str, ...]:
        """Which of ``names`` say something."""
        return tuple(f"--{one}" for one in names if self.text(one) not in ("", "false"))


def _checked(name: str, equals: str, value: str) -> str:
    if name not in _SWITCHES:
        if not equals:
            raise InvalidArgument(f"missing a value on flag: --{name}")
        return value
    if equals and not value:
        raise InvalidArgument(f"missing a value on flag: --{name}")
    if value.lower() not in ("", "true", "false"):
        raise InvalidArgument(f"expecting boolean value for flag --{name}, not: {value}")
    return value.lower() or "true"


# Arguments ---------------------------------------------------------------------------------------


def _some(node: Node) -> tuple[str, ...]:
    if not node.args:
        raise InvalidArgument(f"{node.word.upper()} requires at least one argument")
    return node.args


def _single(node: Node) -> str:
    if len(node.args) != 1:
        raise InvalidArgument(f"{node.word.upper()} requires exactly one argument")
    return node.args[0]


def _pairs(node: Node) -> tuple[tuple[str, str], ...]:
    words = _some(node)
    _Flags(node)
    pairs = tuple(zip(words[::3], words[1::3], strict=True))
    if any(not name for name, _ in pairs):
        raise InvalidArgument(f"{node.word.upper()} names can not be blank")
    return pairs


def _command(node: Node) -> Command:
    words = node.args if node.json or not node.args else (" ".join(node.args),)
    return Command(words, shell=not node.json, files=node.heredocs)


# Instructions ------------------------------------------------------------------------------------


def _from(node: Node) -> From:
    name, words = "", node.args
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE.fullmatch(name):
            raise InvalidArgument(
                f'invalid name for build stage: "{words[2]}", '
                "name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise InvalidArgument("FROM requires either one or three arguments")
    flags = _Flags(node, ("platform",))
    return From(node, words[0], name, flags.text("platform"))


def _arg(node: Node) -> Arg:
    found: list[tuple[str, str | None]] = []
    for word in _some(node):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        found.append((name, value if equals else None))
    return Arg(node, tuple(found))


def _run(node: Node) -> Run:
    flags = _Flags(node, _RUN)
    network, security = flags.text("network", "default"), flags.text("security", "sandbox")
    if network not in _NETWORKS:
        raise InvalidArgument(f'invalid network mode "{network}"')
    if security not in _SECURITY:
        raise InvalidArgument(f'security "{security}" is not valid')
    wanted = flags.all("mount")
    return Run(
        node,
        _command(node),
        network,
        insecure=security == "insecure",
        wanted=wanted,
        origins=tuple(filter(None, map(mounts.origin_of, wanted))),
        options=flags.given("device"),
    )


def _copy(node: Node) -> Copy:
    keyword = node.word.upper()
    if len(node.args) < 2:
        raise InvalidArgument(
            f"{keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    adds = node.word == "add"
    flags = _Flags(node, _ADD if adds else _COPY)
    *words, destination = node.args
    if not node.json and heredocs.of_word(destination):
        raise InvalidArgument(f"{keyword} cannot accept a heredoc as a destination")
    contents = {one.name: one for one in node.heredocs}
    sources, inline = [], []
    for word in words:
        document = None if node.json else heredocs.of_word(word)
        if document is None:
            sources.append(word)
        elif document.name in contents:
            inline.append(contents[document.name])
    origin = flags.text("from")
    if "$" in origin:
        raise InvalidArgument(f"'--from={origin}' has a variable, which is not supported there")
    return Copy(
        node,
        sources=tuple(sources),
        destination=destination,
        inline=tuple(inline),
        unpacks=adds,
        origin=origin,
        owner=flags.text("chown"),
        mode=flags.text("chmod"),
        parents=flags.text("parents") == "true",
        exclude=flags.all("exclude"),
        checksum=flags.text("checksum"),
        unpack=_SWITCHED[flags.text("unpack")],
        options=flags.given("keep-git-dir"),
    )


def _plain(make: Callable[[Node, Command], Instruction]) -> Callable[[Node], Instruction]:
    def read(node: Node) -> Instruction:
        _Flags(node)
        return make(node, _command(node))

    return read


def _one(make: Callable[[Node, str], Instruction]) -> Callable[[Node], Instruction]:
    def read(node: Node) -> Instruction:
        value = _single(node)
        _Flags(node)
        return make(node, value)

    return read


def _expose(node: Node) -> Expose:
    ports = _some(node)
    _Flags(node)
    return Expose(node, ports)


def _volume(node: Node) -> Volume:
    paths = tuple(path.strip() for path in _some(node))
    _Flags(node)
    if not all(paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    return Volume(node, paths)


def _stop_signal(node: Node) -> StopSignal:
    return StopSignal(node, _single(node))


def _shell(node: Node) -> Shell:
    _Flags(node)
    words = _some(node)
    if not node.json:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    return Shell(node, words)


def _on_build(node: Node) -> OnBuild:
    _Flags(node)
    if node.inner is None:
        raise InvalidArgument("ONBUILD requires at least one argument")
    keyword = node.inner.word.upper()
    if keyword == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise InvalidArgument(f"{keyword} isn't allowed as an ONBUILD trigger")
    documents = "".join(f"\n{one.content}{one.name}" for one in node.heredocs)
    return OnBuild(node, _ONBUILD.sub("", node.original) + documents)


def _healthcheck(node: Node) -> Healthcheck:
    kind, *words = _some(node)
    kind = kind.upper()
    if kind == "NONE":
        if words:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(node, HealthCheck(("NONE",)))
    flags = _Flags(node, _HEALTH)
    if kind != "CMD":
        told = kind.replace("\\", "\\\\").replace('"', '\\"')
        raise InvalidArgument(f'Unknown type "{told}" in HEALTHCHECK (try CMD)')
    if not words:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    test = ("CMD", *words) if node.json else ("CMD-SHELL", " ".join(words))
    return Healthcheck(
        node,
        HealthCheck(
            test,
            interval=_interval(flags, "interval"),
            timeout=_interval(flags, "timeout"),
            start_period=_interval(flags, "start-period"),
            start_interval=_interval(flags, "start-interval"),
            retries=_retries(flags.text("retries", "0") or "0"),
        ),
    )


def _interval(flags: _Flags, name: str) -> float:
    text = flags.text(name)
    if not text:
        return 0.0
    if text != "0" and text.isdecimal():
        raise InvalidArgument(f'time: missing unit in duration "{text}"')
    seconds = duration(text)
    if 0 < seconds < _SHORTEST:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    return seconds


def _retries(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise InvalidArgument(f"--retries must be a whole number, not {text}") from None
    if count < 0:
        raise InvalidArgument(f"--retries cannot be negative ({count})")
    return count


_READERS: Mapping[str, Callable[[Node], Instruction]] = {
    "add": _copy,
    "arg": _arg,
    "cmd": _plain(Cmd),
    "copy": _copy,
    "entrypoint": _plain(Entrypoint),
    "env": lambda node: Env(node, _pairs(node)),
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": lambda node: Label(node, _pairs(node)),
    "maintainer": _one(Maintainer),
    "onbuild": _on_build,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stop_signal,
    "user": _one(User),
    "volume": _volume,
    "workdir": _one(Workdir),
}
