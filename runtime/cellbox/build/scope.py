"""Which variables an instruction sees: ARG and ENV, and what is given from outside; pure.

An ARG before the first FROM is seen by FROM, and by a stage that names it again. In a stage an ARG
is seen from its line on, with the value given from outside, else its own default, else what the
global one has; ENV goes before ARG. Platform arguments are given by the builder; those of a proxy
need no ARG and are not kept.

Source: Dockerfile reference, *ARG*, *Scope*, *Predefined ARGs*, *Automatic platform ARGs in the
global scope*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cellbox.build.instructions import Arg, Instruction
from cellbox.build.shell import Lexer
from cellbox.errors import DockerfileError, InvalidArgument
from cellbox.model.image import Platform

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = frozenset({*_PROXIES, *(name.lower() for name in _PROXIES)})


@dataclass(frozen=True)
class Variables:
    """Puts the variables ``env`` in their places; see :class:`~cellbox.build.instructions.Expand`.
    Raises InvalidArgument."""

    env: Mapping[str, str]
    escape: str = "\\"

    def one(self, text: str) -> str:
        return Lexer(self.escape).expand(text, self.env).text

    def many(self, text: str) -> tuple[str, ...]:
        return Lexer(self.escape).expand(text, self.env).words

    def body(self, text: str) -> str:
        return Lexer(self.escape, ignore_quotes=True).expand(text, self.env).text


def expanded(instruction: Instruction, variables: Variables) -> Instruction:
    """The instruction with its variables in their places. Raises DockerfileError."""
    try:
        return instruction.expanded(variables)
    except InvalidArgument as error:
        raise DockerfileError(str(error), instruction.line) from None


@dataclass(frozen=True)
class Arguments:
    """What is known before any stage: values ``given`` from outside, those of the ``platform``, and
    the global ARGs."""

    given: Mapping[str, str]
    platform: Mapping[str, str]
    outer: Mapping[str, str]

    @property
    def proxies(self) -> dict[str, str]:
        """The given variables of a proxy."""
        return {name: value for name, value in self.given.items() if name in PROXIES}

    @property
    def for_from(self) -> dict[str, str]:
        """What FROM sees."""
        return {**self.platform, **self.outer}

    def value(self, name: str, default: str | None) -> str | None:
        """What an ARG in a stage stands for; None where it is not set."""
        if name in self.given:
            return self.given[name]
        if default is not None:
            return default
        return self.for_from.get(name)


def arguments(
    lines: Sequence[Arg], given: Mapping[str, str], platforms: Mapping[str, str], escape: str
) -> Arguments:
    """The arguments of a build whose global ARGs are ``lines``. Raises DockerfileError."""
    known = {**platforms, **{name: given[name] for name in given if name in platforms}}
    outer: dict[str, str] = {}
    for line in lines:
        step = expanded(line, Variables({**known, **outer}, escape))
        for name, default in step.names if isinstance(step, Arg) else ():
            value = given.get(name, default)
            if value is not None:
                outer[name] = value
    return Arguments(given, known, outer)


def platform_arguments(build: Platform, target: Platform, stage: str) -> dict[str, str]:
    """BUILDPLATFORM, TARGETARCH and their like."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return found


@dataclass
class StageScope:
    """The ARGs that a stage has declared so far, in their order."""

    arguments: Arguments
    escape: str
    declared: dict[str, str | None] = field(default_factory=dict)

    def declare(self, step: Arg) -> None:
        """Let what follows see the names of ``step``, whose variables are in place."""
        for name, default in step.names:
            self.declared[name] = self.arguments.value(name, default)

    @property
    def values(self) -> dict[str, str]:
        """The ARGs that have a value."""
        return {name: value for name, value in self.declared.items() if value is not None}

    def variables(self, env: Mapping[str, str]) -> Variables:
        """What an instruction sees, in a stage whose ENV is ``env``."""
        return Variables({**self.values, **env}, self.escape)
