"""RUN: a command in a container of its own, whose changes become a layer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellbox.build import config as configs
from cellbox.build import heredocs
from cellbox.build.bench import Bench
from cellbox.build.heredocs import Heredoc
from cellbox.build.instructions import Command, Run
from cellbox.build.stage import StageState
from cellbox.errors import NotSupported, StepFailed
from cellbox.model.build import BuildSpec
from cellbox.model.container import MountKind, MountSpec

_SCRIPTS = "/dev/pipes"
"""Where a here-document with a program of its own (``#!``) is while it runs."""


def run(bench: Bench, spec: BuildSpec, state: StageState, step: Run) -> StageState:
    """Where RUN brings the stage. Raises StepFailed, NotSupported."""
    if step.options:
        raise NotSupported(f"RUN {step.options[0]} is not supported by this builder yet")
    network = _network(spec, step)
    words = configs.command_line(state.config, _with_documents(step.command))
    env = _arguments(state)
    count = f"|{len(env)} {' '.join(env)} " if env else ""
    told = f"RUN {count}{' '.join(words)}"
    if found := bench.cached(state, told, state.config):
        return found
    proxies = [f"{name}={value}" for name, value in state.scope.arguments.proxies.items()]
    with (
        _scripts(step.command) as mounts,
        bench.container(
            state,
            announced=True,
            command=words,
            env=(*proxies, *env),
            mounts=mounts,
            network=network,
            extra_hosts=spec.extra_hosts,
            shm_size=spec.shm_size,
            limits=spec.limits,
            ulimits=spec.ulimits,
        ) as container,
    ):
        code = bench.attend(container)
        if code:
            raise StepFailed(" ".join(words), code)
        return bench.make(state, told, state.config, container)


def _network(spec: BuildSpec, step: Run) -> str:
    if step.network == "host" and spec.network != "host":
        raise NotSupported("RUN --network=host needs a build that is on the host's network itself")
    return spec.network if step.network == "default" else step.network


def _arguments(state: StageState) -> list[str]:
    """The ARGs that the command sees; what ENV says goes before them."""
    known = configs.environment(state.config)
    return [
        f"{name}={value}" for name, value in sorted(state.scope.values.items()) if name not in known
    ]


# Here-documents ----------------------------------------------------------------------------------


def _with_documents(command: Command) -> Command:
    """The command with its here-documents: the only word is the script itself, or, with ``#!``, a
    program; anything else is for the shell to read."""
    if not command.files:
        return command
    (line,) = command.words
    first = command.files[0]
    if heredocs.of_word(line) is None:
        line += "".join(f"\n{one.content}{one.name}" for one in command.files)
    elif _is_program(first):
        line = f"{_SCRIPTS}/{first.name}"
    else:
        line = first.text
    return Command((line,), shell=True)


def _is_program(document: Heredoc) -> bool:
    return document.text.startswith("#!")


@contextmanager
def _scripts(command: Command) -> Iterator[tuple[MountSpec, ...]]:
    """The mount that a here-document with a program of its own needs."""
    first = command.files[0] if command.files else None
    if first is None or not _is_program(first) or heredocs.of_word(command.words[0]) is None:
        yield ()
        return
    with tempfile.TemporaryDirectory(prefix="cellbox-build-") as directory:
        os.chmod(directory, 0o755)
        script = Path(directory, first.name)
        script.write_text(first.text, encoding="utf-8")
        script.chmod(0o755)
        yield (MountSpec(MountKind.BIND, _SCRIPTS, directory, read_only=True),)
