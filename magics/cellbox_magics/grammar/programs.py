"""``run``, ``create``, ``exec``, ``start`` and ``attach``: the verbs that talk with a program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cellbox import handles
from cellbox.errors import InvalidArgument
from cellbox.handles import Completed, ContainerHandle
from cellbox.model.container import ExecSpec, RunSpec

from .. import humanize
from ..outcome import CommandFailed
from ..surface import Surface, Talking, caller
from . import flags as options
from . import spec as specs
from .answers import over
from .commands import (
    DASHED,
    ProgramVerb,
    Refusing,
    complete_containers,
    complete_images,
    container,
    containers,
    verb,
)
from .contents import ENTRIES
from .place import Place

SHELL = "if command -v bash >/dev/null 2>&1; then exec bash -s; else exec sh -s; fi"
"""Reads a cell where no interpreter is named: bash where there is one."""

_KEY = re.compile(r"ctrl-([a-z@\[\\\]^_])|([^,])", re.IGNORECASE)


def run(place: Place) -> click.Command:
    """The verb ``run`` as it is spoken in ``place``."""
    return _spoken(Refusing, "run", options.run_options(place), click.pass_context(do_run))


def create(place: Place) -> click.Command:
    """The verb ``create``."""
    return _spoken(Refusing, "create", options.create_options(), click.pass_context(do_create))


def exec_(place: Place) -> click.Command:
    """The verb ``exec`` as it is spoken in ``place``."""
    return _spoken(ProgramVerb, "exec", options.exec_options(place), click.pass_obj(do_exec))


def _spoken(
    kind: type[click.Command], name: str, flags: Sequence[click.Parameter], action: Any
) -> click.Command:
    if name == "exec":
        subject = click.Argument(
            ["container"], metavar="CONTAINER", shell_complete=complete_containers
        )
    else:
        subject = click.Argument(
            ["image"], required=False, metavar="[IMAGE]", shell_complete=complete_images
        )
    words = click.Argument(
        ["words"], nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [ARG...]"
    )
    summary = ENTRIES[name].summary
    return kind(name, params=[*flags, subject, words], callback=action, help=summary)


def program(ctx: click.Context, image: str | None, words: Sequence[str]) -> tuple[str, list[str]]:
    """The image and the command: ``--`` first, or nothing at all, means the image ``host``."""
    if ctx.meta.get(DASHED):
        return specs.HOST, [*([image] if image else []), *words]
    return image or specs.HOST, list(words)


def do_run(ctx: click.Context, image: str | None, words: tuple[str, ...], **given: Any) -> Any:
    """``docker run``: nothing, the container (``-d``), or a job (``--bg``)."""
    surface: Surface = ctx.obj
    image, command = program(ctx, image, words)
    inputs, outputs = _names(given.get("inputs")), _names(given.get("outputs"))
    if surface.cell is not None and not command and (inputs or outputs):
        command = ["python3"]
    spec = specs.run_spec(given, image, tuple(command), caller())
    spec = _with_term(spec, surface.term) if surface.cell is None else _cell_spec(spec)
    _remark(surface, spec)
    _fetch(surface, spec, given)
    if inputs or outputs:
        return _run_with_variables(surface, spec, given, inputs, outputs)
    return _run(surface, spec, given, surface.cell)


def _run(surface: Surface, spec: RunSpec, given: Mapping[str, Any], cell: str | None) -> Any:
    created = _cidfile(given["cidfile"])

    def launch(talk: handles.Talk, made: Callable[[ContainerHandle], None]) -> Completed:
        return handles.run(
            surface.engine, spec, name=given["name"] or "", pull="never", talk=talk, created=made
        )

    if given.get("bg"):
        if spec.detach:
            raise InvalidArgument("-d and --bg exclude each other: --bg gives a handle to wait on")
        from ..jobs import Job

        job = Job(spec.image, launch, (cell or "").encode())
        return surface.keep(job).start()
    how = Talking(
        given["name"] or spec.image,
        tty=spec.tty,
        stdin=spec.interactive,
        detach_keys=detach_keys(given["detach_keys"]),
        proxy=given["sig_proxy"],
        script=None if cell is None else cell.encode(),
    )
    ended = launch(lambda stream: surface.talk(stream, how), created)
    if spec.detach:
        return ended.container
    return _finished(ended.container, ended.exit_code, bool(given.get("no_raise")))


def _run_with_variables(
    surface: Surface,
    spec: RunSpec,
    given: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    from ..variables import Exchange

    if given.get("bg"):
        raise InvalidArgument("-i and -o need the cell to wait for its program: leave out --bg")
    if not re.match(r"(python|pypy)[0-9.]*$", Path(spec.command[0]).name):
        raise InvalidArgument(
            f"-i and -o pass variables to Python, and this cell runs {spec.command[0]}"
        )
    with Exchange(surface.names, inputs, outputs, surface.cell or "") as exchange:
        code = _run(surface, exchange.spec(spec), given, exchange.script)
        if code:
            return code
        values, lines = exchange.collect()
        surface.publish(values)
        for line in lines:
            surface.write("stdout", f"{line}\n".encode())
        return code


def do_create(ctx: click.Context, image: str | None, words: tuple[str, ...], **given: Any) -> Any:
    """``docker create``: the container."""
    surface: Surface = ctx.obj
    image, command = program(ctx, image, words)
    spec = specs.run_spec(given, image, tuple(command), caller())
    _remark(surface, spec)
    _fetch(surface, spec, given)
    handle = handles.create(surface.engine, spec, name=given["name"] or "", pull="never")
    _cidfile(given["cidfile"])(handle)
    return handle


def do_exec(surface: Surface, container: str, words: tuple[str, ...], **given: Any) -> Any:
    """``docker exec``: nothing, or with ``--no-raise`` the exit code."""
    spec = specs.exec_spec(given, words, caller())
    if surface.cell is not None:
        spec = _cell_exec(spec)
    if not spec.command:
        raise click.UsageError("exec needs a command: exec CONTAINER COMMAND [ARG...]")
    facts = surface.engine.containers.get(container)
    how = Talking(
        facts.name,
        tty=spec.tty,
        stdin=spec.interactive,
        detach_keys=detach_keys(given["detach_keys"]),
        script=None if surface.cell is None else surface.cell.encode(),
    )
    with surface.engine.containers.exec(facts.id, spec) as stream:
        if given["detach"]:
            return None
        code = surface.talk(stream, how)
    return _finished(ContainerHandle(surface.engine, facts), code, bool(given.get("no_raise")))


@verb("start")
@click.option("-a", "--attach", "attached", is_flag=True, help="Attach STDOUT/STDERR")
@click.option("-i", "--interactive", is_flag=True, help="Attach container's STDIN")
@click.option("--detach-keys", "keys", help="Override the key sequence for detaching")
@containers()
@click.pass_obj
def start(
    surface: Surface, containers: Sequence[str], attached: bool, interactive: bool, keys: str | None
) -> Any:
    if not attached and not interactive:
        return over(surface, containers, surface.engine.containers.start)
    if len(containers) != 1:
        raise click.UsageError("only one container can be started and attached to at once")
    handle = ContainerHandle(surface.engine, surface.engine.containers.get(containers[0]))
    how = Talking(
        handle.name, handle.facts.spec.tty, interactive and handle.facts.spec.interactive,
        detach_keys(keys),
    )  # fmt: skip
    code = handles.start_attached(handle, lambda stream: surface.talk(stream, how), stdin=how.stdin)
    return _finished(handle, code, False)


@verb("attach")
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Proxy all received signals")
@click.option("--detach-keys", "keys", help="Override the key sequence for detaching")
@container()
@click.pass_obj
def attach(
    surface: Surface, container: str, no_stdin: bool, sig_proxy: bool, keys: str | None
) -> Any:
    handle = ContainerHandle(surface.engine, surface.engine.containers.get(container))
    spec = handle.facts.spec
    how = Talking(
        handle.name,
        tty=spec.tty,
        stdin=spec.interactive and not no_stdin,
        detach_keys=detach_keys(keys),
        proxy=sig_proxy,
        owns=False,
    )
    with handle.attach(stdin=how.stdin) as stream:
        code = surface.talk(stream, how)
    return _finished(handle, code, False)


def detach_keys(text: str | None) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q``; empty words switch detaching off."""
    if text is None:
        return Talking("").detach_keys
    found = bytearray()
    for word in filter(None, text.split(",")):
        match = _KEY.fullmatch(word)
        if match is None:
            raise InvalidArgument(f"--detach-keys {text}: write it as ctrl-p,ctrl-q")
        found.append(ord(match[1].upper()) & 0x1F if match[1] else ord(match[2]) & 0x7F)
    return bytes(found)


def _remark(surface: Surface, spec: RunSpec) -> None:
    if spec.network == "host" and (spec.ports or spec.publish_all):
        surface.note("WARNING: Published ports are discarded when using host network mode")


def _fetch(surface: Surface, spec: RunSpec, given: Mapping[str, Any]) -> None:
    with surface.watch(f"Pulling {spec.image}") as watch:
        handles.ensure_image(
            surface.engine,
            spec.image,
            policy=given["pull"],
            platform=spec.platform,
            watch=None if given["quiet"] else watch,
        )


def _cell_spec(spec: RunSpec) -> RunSpec:
    """The request of a cell: its body is standard input, read by a shell where no program is
    named."""
    if spec.tty:
        raise InvalidArgument("-t has no place in a cell: its body is the program's input")
    if spec.detach:
        raise InvalidArgument("-d has no place in a cell, which sends its body: use --bg")
    spec = replace(spec, interactive=True)
    if spec.command:
        return spec
    if spec.entrypoint is not None:
        return spec
    return replace(spec, entrypoint=("/bin/sh",), command=("-c", SHELL))


def _cell_exec(spec: ExecSpec) -> ExecSpec:
    if spec.tty:
        raise InvalidArgument("-t has no place in a cell: its body is the program's input")
    command = spec.command or ("/bin/sh", "-c", SHELL)
    return replace(spec, interactive=True, command=command)


def _with_term(spec: RunSpec, term: str) -> RunSpec:
    talks = spec.tty and spec.interactive
    if not term or not talks or any(word.startswith("TERM=") for word in spec.env):
        return spec
    return replace(spec, env=(*spec.env, f"TERM={term}"))


def _names(words: Sequence[str] | None) -> list[str]:
    return [name for word in words or () for name in word.split(",") if name]


def _cidfile(path: str | None) -> Callable[[ContainerHandle], None]:
    def write(handle: ContainerHandle) -> None:
        if path is None:
            return
        try:
            with Path(path).open("x", encoding="ascii") as file:
                file.write(handle.id)
        except OSError as error:
            handle.remove(force=True)
            raise InvalidArgument(f"--cidfile {path}: {error.strerror}") from error

    return write


def _finished(handle: ContainerHandle, code: int | None, no_raise: bool) -> int | None:
    if no_raise:
        return code
    if code:
        raise CommandFailed(code, _why(handle, code), program=True)
    return None


def _why(handle: ContainerHandle, code: int) -> str:
    limit = handle.facts.spec.limits.memory
    if handle.facts.oom_killed and limit:
        return (
            f"{handle.name} was killed: it reached its memory limit of "
            f"{humanize.binary_size(limit)}; give it more with --memory"
        )
    return f"the program in {handle.name} ended with exit code {code}"
