"""What an instruction changes in the config of an image: config and instruction to config; pure.

The instruction's variables are in their places already. Also the line of an image's history that
tells what was done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from posixpath import join, normpath
from typing import Any

from cellbox.build.instructions import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from cellbox.errors import InvalidArgument
from cellbox.linux.process import signal_number
from cellbox.model.image import ImageConfig

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_PORTS = range(1, 1 << 16)


def changed(
    config: ImageConfig, instruction: Instruction, *, command_given: bool = False
) -> ImageConfig:
    """``config`` after an instruction; the same for one that changes files only.

    ENTRYPOINT takes the command away that was for another entry point, unless that was
    ``command_given`` beside it. Raises InvalidArgument.
    """
    change = _CHANGES.get(type(instruction))
    made = change(config, instruction) if change else config
    if isinstance(instruction, Entrypoint) and not command_given:
        return replace(made, command=())
    return made


def changes_config(instruction: Instruction) -> bool:
    """Is there anything of the config that it changes?"""
    return type(instruction) in _CHANGES


def with_path(config: ImageConfig) -> ImageConfig:
    """``config`` with a search path, where it has none."""
    if any(item.startswith("PATH=") for item in config.env):
        return config
    return replace(config, env=(*config.env, f"PATH={PATH}"))


def environment(config: ImageConfig) -> dict[str, str]:
    """The variables of an image."""
    return {name: value for name, _, value in (item.partition("=") for item in config.env)}


def command_line(config: ImageConfig, command: Command) -> tuple[str, ...]:
    """The argument vector of a command: the shell form is one argument of the shell."""
    if not command.shell or not command.words:
        return command.words
    return (*(config.shell or _SHELL), *command.words)


def absolute(config: ImageConfig, path: str) -> str:
    """``path`` seen from the working directory, normalised, without a slash at the end."""
    found = normpath(join("/", config.workdir, path))
    return found[1:] if found.startswith("//") else found


def _env(config: ImageConfig, step: Env) -> ImageConfig:
    env = environment(config) | dict(step.pairs)
    return replace(config, env=tuple(f"{name}={value}" for name, value in env.items()))


def _label(config: ImageConfig, step: Label) -> ImageConfig:
    return replace(config, labels={**config.labels, **dict(step.pairs)})


def _cmd(config: ImageConfig, step: Cmd) -> ImageConfig:
    return replace(config, command=command_line(config, step.command))


def _entrypoint(config: ImageConfig, step: Entrypoint) -> ImageConfig:
    return replace(config, entrypoint=command_line(config, step.command))


def _workdir(config: ImageConfig, step: Workdir) -> ImageConfig:
    if not step.value:
        raise InvalidArgument("cannot normalize nothing: WORKDIR has become empty")
    return replace(config, workdir=absolute(config, step.value))


def _user(config: ImageConfig, step: User) -> ImageConfig:
    return replace(config, user=step.value)


def _expose(config: ImageConfig, step: Expose) -> ImageConfig:
    ports = {port for text in step.ports for port in _ports(text)}
    return replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *ports})))


def _ports(text: str) -> Iterable[str]:
    match = _PORT.fullmatch(text.lower())
    if not match:
        raise InvalidArgument(f"invalid containerPort: {text}")
    first, last = int(match[1]), int(match[2] or match[1])
    if first not in _PORTS or last not in _PORTS or last < first:
        raise InvalidArgument(f"invalid containerPort: {text}")
    return (f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1))


def _volume(config: ImageConfig, step: Volume) -> ImageConfig:
    return replace(config, volumes=tuple(sorted({*config.volumes, *step.paths})))


def _stop_signal(config: ImageConfig, step: StopSignal) -> ImageConfig:
    try:
        signal_number(step.value)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    return replace(config, stop_signal=step.value)


_CHANGES: Mapping[type, Callable[[ImageConfig, Any], ImageConfig]] = {
    Env: _env,
    Label: _label,
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Workdir: _workdir,
    User: _user,
    Expose: _expose,
    Volume: _volume,
    StopSignal: _stop_signal,
    Healthcheck: lambda config, step: replace(config, health=step.health),
    Shell: lambda config, step: replace(config, shell=step.words),
    OnBuild: lambda config, step: replace(config, on_build=(*config.on_build, step.text)),
}


# History -----------------------------------------------------------------------------------------


def told(instruction: Instruction) -> str:
    """The instruction as the history tells it: with its variables in place, on one line."""
    tell = _TOLD.get(type(instruction))
    rest = tell(instruction) if tell else " ".join(instruction.node.original.split()[1:])
    return f"{instruction.node.word.upper()} {rest}".rstrip()


def _command_told(step: Cmd | Entrypoint) -> str:
    words = step.command.words
    return " ".join(words) if step.command.shell else json.dumps(words, ensure_ascii=False)


def _pairs_told(pairs: Iterable[tuple[str, str | None]]) -> str:
    return " ".join(name if value is None else f"{name}={value}" for name, value in pairs)


_TOLD: Mapping[type, Callable[[Any], str]] = {
    Arg: lambda step: _pairs_told(step.names),
    Env: lambda step: _pairs_told(step.pairs),
    Label: lambda step: _pairs_told(step.pairs),
    Cmd: _command_told,
    Entrypoint: _command_told,
    Expose: lambda step: " ".join(step.ports),
    Volume: lambda step: json.dumps(step.paths),
    Maintainer: lambda step: step.name,
    OnBuild: lambda step: step.text,
    **dict.fromkeys((Workdir, User, StopSignal), lambda step: step.value),
}
