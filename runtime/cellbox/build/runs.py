"""RUN: a command in a container of its own, whose changes become a layer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cellbox.build import config as configs
from cellbox.build import heredocs
from cellbox.build.bench import Bench
from cellbox.build.heredocs import Heredoc
from cellbox.build.instructions import Command, Run
from cellbox.build.mounting import Files, Mounts
from cellbox.build.stage import StageState
from cellbox.errors import NotSupported, PermissionDenied, StepFailed
from cellbox.model.build import BuildSpec
from cellbox.model.container import MountKind, MountSpec, Security

_SCRIPTS = "/dev/pipes"
"""Where a here-document with a program of its own (``#!``) is while it runs."""


def run(bench: Bench, spec: BuildSpec, state: StageState, step: Run, files: Files) -> StageState:
    """Where RUN brings the stage; ``files`` finds what its mounts bring. Raises StepFailed,
    InvalidArgument, PermissionDenied, NotSupported."""
    if step.options:
        raise NotSupported(f"RUN {step.options[0]} is not supported by this builder yet")
    network = _network(spec, step)
    words = configs.command_line(state.config, _with_documents(step.command))
    env = _arguments(state)
    count = f"|{len(env)} {' '.join(env)} " if env else ""
    mounts = Mounts(bench, spec, state.config, step.mounts, files)
    told = " ".join(["RUN", *_flags(step), *mounts.told, f"{count}{' '.join(words)}"])
    if found := bench.cached(state, told, state.config):
        return found
    proxies = [f"{name}={value}" for name, value in state.scope.arguments.proxies.items()]
    with ExitStack() as held:
        scripts = held.enter_context(_scripts(step.command))
        mounts.bring(held)
        container = held.enter_context(
            bench.container(
                state,
                announced=True,
                command=words,
                env=(*proxies, *env, *mounts.env),
                mounts=(*scripts, *mounts.specs),
                network=network,
                extra_hosts=spec.extra_hosts,
                shm_size=spec.shm_size,
                limits=spec.limits,
                ulimits=spec.ulimits,
                security=Security(privileged=step.insecure),
            )
        )
        if mounts.secret_env:
            bench.shop.expose(container, tuple(mounts.secret_env))
        code = bench.attend(container)
        if code:
            raise StepFailed(" ".join(words), code)
        return bench.make(state, told, state.config, container)


def _network(spec: BuildSpec, step: Run) -> str:
    """Where the command is. Raises PermissionDenied for what the build does not allow."""
    if step.insecure:
        _allow(spec, "security.insecure")
    if step.network == "host" and spec.network != "host":
        _allow(spec, "network.host")
    return spec.network if step.network == "default" else step.network


def _allow(spec: BuildSpec, entitlement: str) -> None:
    if entitlement not in spec.entitlements:
        raise PermissionDenied(
            f"{entitlement} is not allowed: it takes a build with --allow {entitlement}"
        )


def _flags(step: Run) -> list[str]:
    """What is not as usual, as the history tells it."""
    network = [f"--network={step.network}"] if step.network != "default" else []
    return [*network, "--security=insecure"] if step.insecure else network


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
