"""Friendly objects over any engine, and what is written once above the contract.

A handle is an engine and the facts of one object: ``c.stop()`` instead of
``engine.containers.stop(id)``. Facts are a snapshot; :meth:`ContainerHandle.reload` takes a new
one. Below them stands what no engine should repeat: :func:`run` (pull, create, attach, start, talk,
wait, remove), :func:`each` (one verb over several names) and pruning.

A *talk* is what happens to a process's streams while it runs: a function of the
:class:`~cellbox.engine.Stream` that returns the exit code, or None when it let go of a process that
goes on. :class:`Collect` is the simplest: it keeps the output.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from cellbox.engine import Engine, Filters, Stream, Watch
from cellbox.errors import CellboxError, Conflict, InvalidArgument, NotFound, StartError
from cellbox.model.container import (
    Container,
    ExecSpec,
    FileChange,
    ProcessTable,
    RunSpec,
    Stats,
    Status,
)
from cellbox.model.image import HistoryEntry, Image, Removed

Talk = Callable[[Stream], "int | None"]

_ALIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


@dataclass(frozen=True)
class Completed:
    """A process that ended: its code and what it wrote, as far as it was collected.

    ``exit_code`` is None while it goes on by itself; ``container`` is where it ran.
    """

    container: ContainerHandle
    exit_code: int | None
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def output(self) -> str:
        """Standard output as text; what is not UTF-8 shows as U+FFFD."""
        return self.stdout.decode("utf-8", "replace")


@dataclass
class Collect:
    """A talk that sends ``stdin`` and keeps the output."""

    stdin: bytes = b""
    pieces: dict[str, bytearray] = field(default_factory=dict)

    def __call__(self, stream: Stream) -> int:
        if self.stdin:
            with contextlib.suppress(BrokenPipeError):
                stream.write(self.stdin)
        stream.close_stdin()
        for name, data in stream:
            self.pieces.setdefault(name, bytearray()).extend(data)
        return stream.wait()

    def written(self, name: str) -> bytes:
        """All of ``stdout`` or ``stderr`` so far."""
        return bytes(self.pieces.get(name, b""))


class ContainerHandle:
    """One container of ``engine``."""

    def __init__(self, engine: Engine, facts: Container) -> None:
        self.engine = engine
        self.facts = facts

    @property
    def id(self) -> str:
        """64 hex digits."""
        return self.facts.id

    @property
    def short_id(self) -> str:
        """The first twelve digits of the id."""
        return self.facts.short_id

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def image(self) -> str:
        """The image as it was named in the request."""
        return self.facts.spec.image

    @property
    def status(self) -> Status:
        """As of the last :meth:`reload`."""
        return self.facts.status

    @property
    def exit_code(self) -> int:
        """Of the last run, as of the last :meth:`reload`."""
        return self.facts.exit_code

    def reload(self) -> ContainerHandle:
        """Ask the engine for the facts again; returns itself."""
        self.facts = self.engine.containers.get(self.id)
        return self

    def start(self) -> ContainerHandle:
        """Start it; raises StartError. Returns itself."""
        self.engine.containers.start(self.id)
        return self.reload()

    def stop(self, timeout: float | None = None, signal: str = "") -> ContainerHandle:
        """Ask it to end, and kill it after ``timeout`` seconds. Returns itself."""
        self.engine.containers.stop(self.id, timeout=timeout, signal=signal)
        return self._if_there()

    def restart(self, timeout: float | None = None) -> ContainerHandle:
        """Stop and start it. Returns itself."""
        self.engine.containers.stop(self.id, timeout=timeout)
        return self.start()

    def kill(self, signal: str = "KILL") -> ContainerHandle:
        """Send a signal. Returns itself."""
        self.engine.containers.kill(self.id, signal=signal)
        return self._if_there()

    def pause(self) -> ContainerHandle:
        """Freeze its processes. Returns itself."""
        self.engine.containers.pause(self.id)
        return self.reload()

    def unpause(self) -> ContainerHandle:
        """Let its processes go on. Returns itself."""
        self.engine.containers.unpause(self.id)
        return self.reload()

    def wait(self, timeout: float | None = None) -> int:
        """Block until it does not run; its exit code. Raises TimeoutError."""
        return self.engine.containers.wait(self.id, timeout=timeout)

    def remove(self, force: bool = False) -> None:
        """Take it away; ``force`` kills it first."""
        self.engine.containers.remove(self.id, force=force)

    def rename(self, name: str) -> ContainerHandle:
        """Give it another name. Returns itself."""
        self.engine.containers.rename(self.id, name)
        return self.reload()

    def logs(self, tail: int | None = None) -> str:
        """What it wrote so far, both streams in order."""
        pieces = self.engine.containers.logs(self.id, tail=tail)
        return b"".join(data for _, _, data in pieces).decode("utf-8", "replace")

    def attach(self, stdin: bool = False, logs: bool = False) -> Stream:
        """Its streams, live."""
        return self.engine.containers.attach(self.id, stdin=stdin, logs=logs)

    def exec(
        self, *command: str, stdin: bytes = b"", user: str = "", workdir: str = ""
    ) -> Completed:
        """Run a further command in it and wait: ``c.exec("ls", "-l")``. One word with spaces is
        split as a shell would."""
        words = _words(command)
        spec = ExecSpec(words, user=user, workdir=workdir, interactive=bool(stdin))
        talk = Collect(stdin)
        with self.engine.containers.exec(self.id, spec) as stream:
            code = talk(stream)
        return Completed(self, code, talk.written("stdout"), talk.written("stderr"))

    def stats(self) -> Stats:
        """Its resources now."""
        return self.engine.files.stats(self.id)

    def top(self, ps_args: str = "-ef") -> ProcessTable:
        """Its processes."""
        return self.engine.files.processes(self.id, ps_args=ps_args)

    def diff(self) -> list[FileChange]:
        """What differs from its image."""
        return self.engine.files.diff(self.id)

    def commit(self, name: str = "", message: str = "") -> ImageHandle:
        """Make an image of it."""
        image = self.engine.images.commit(self.id, name=name, message=message)
        return ImageHandle(self.engine, image)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContainerHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<container {self.name} ({self.short_id}) of {self.image}: {self.status}>"

    def _repr_html_(self) -> str:
        name, image = escape(self.name), escape(self.image)
        return f"<b>{name}</b> <code>{self.short_id}</code> of <code>{image}</code>: {self.status}"

    def _if_there(self) -> ContainerHandle:
        with contextlib.suppress(NotFound):  # it was started with --rm
            self.reload()
        return self


class ImageHandle:
    """One image of ``engine``."""

    def __init__(self, engine: Engine, facts: Image) -> None:
        self.engine = engine
        self.facts = facts

    @property
    def id(self) -> str:
        """``sha256:`` and 64 hex digits."""
        return self.facts.id

    @property
    def short_id(self) -> str:
        """The first twelve digits of the id."""
        return self.facts.short_id

    @property
    def tags(self) -> tuple[str, ...]:
        """Its familiar names."""
        return self.facts.tags

    @property
    def size(self) -> int:
        """Bytes of all its layers' files."""
        return self.facts.size

    def reload(self) -> ImageHandle:
        """Ask the engine for the facts again; returns itself."""
        self.facts = self.engine.images.get(self.id)
        return self

    def tag(self, name: str) -> ImageHandle:
        """Let ``name`` stand for it too. Returns itself."""
        self.engine.images.tag(self.id, name)
        return self.reload()

    def remove(self, force: bool = False) -> list[Removed]:
        """Take it away; raises InUse while a container has it."""
        return self.engine.images.remove(self.id, force=force)

    def history(self) -> tuple[HistoryEntry, ...]:
        """The steps that made it, oldest first."""
        return self.facts.history

    def run(self, *command: str) -> Completed:
        """Run a command in a container that is removed afterwards: ``image.run("ls", "-l")``."""
        return run(self.engine, RunSpec(self.id, _words(command), auto_remove=True), pull="never")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<image {', '.join(self.tags) or self.short_id}>"

    def _repr_html_(self) -> str:
        names = escape(", ".join(self.tags) or "<none>")
        return f"<b>{names}</b> <code>{self.short_id}</code>"


def ensure_image(
    engine: Engine,
    ref: str,
    *,
    policy: str = "missing",
    platform: str = "",
    watch: Watch | None = None,
) -> Image:
    """The image ``ref``, pulled as ``policy`` (``always``, ``missing``, ``never``) says."""
    if policy != "always" or ref == "host":
        try:
            return engine.images.get(ref)
        except NotFound:
            if policy == "never":
                raise NotFound("image", ref, "pull it first, or leave --pull never out") from None
    return engine.images.pull(ref, platform=platform, watch=watch)


def create(
    engine: Engine,
    spec: RunSpec,
    *,
    name: str = "",
    pull: str = "missing",
    watch: Watch | None = None,
) -> ContainerHandle:
    """Make a container, after its image was pulled where the policy says so."""
    if pull == "missing":  # which mostly is not so, and making it tells
        with contextlib.suppress(NotFound):
            return ContainerHandle(engine, engine.containers.create(spec, name=name))
    ensure_image(engine, spec.image, policy=pull, platform=spec.platform, watch=watch)
    return ContainerHandle(engine, engine.containers.create(spec, name=name))


def run(
    engine: Engine,
    spec: RunSpec,
    *,
    name: str = "",
    pull: str = "missing",
    watch: Watch | None = None,
    talk: Talk | None = None,
    created: Callable[[ContainerHandle], None] = lambda handle: None,
) -> Completed:
    """``docker run``: what became of it; the output is in it where no ``talk`` is given.

    A ``spec`` that says ``detach`` starts it and returns. Whatever else ends the talk early ends
    the container too. ``created`` is called before the start. Raises StartError and what pull
    raises.
    """
    handle = create(engine, spec, name=name, pull=pull, watch=watch)
    created(handle)
    if spec.detach:
        with _removed_if_not_started(handle):
            handle.start()
        return Completed(handle, None)
    collect = Collect()
    code = _attached(handle, talk or collect)
    return Completed(handle, code, collect.written("stdout"), collect.written("stderr"))


def start_attached(handle: ContainerHandle, talk: Talk, *, stdin: bool) -> int | None:
    """Attach to a container that does not run yet, start it, talk; its exit code."""
    with handle.attach(stdin=stdin) as stream:
        handle.engine.containers.start(handle.id)
        return talk(stream)


def _attached(handle: ContainerHandle, talk: Talk) -> int | None:
    spec = handle.facts.spec
    try:
        with _removed_if_not_started(handle):
            code = start_attached(handle, talk, stdin=spec.interactive)
    except StartError:
        raise
    except BaseException:
        _end(handle)
        raise
    if code is not None and not spec.auto_remove:
        handle._if_there()
    return code


@contextlib.contextmanager
def _removed_if_not_started(handle: ContainerHandle) -> Iterator[None]:
    try:
        yield
    except StartError:
        if handle.facts.spec.auto_remove:
            _discard(handle)
        raise


def _end(handle: ContainerHandle) -> None:
    """Let nothing run that its caller no longer watches."""
    if handle.facts.spec.auto_remove:
        _discard(handle)
    else:
        with contextlib.suppress(CellboxError):
            handle.engine.containers.kill(handle.id)


def _discard(handle: ContainerHandle) -> None:
    """Remove it; the engine may have been faster, or be at it."""
    with contextlib.suppress(NotFound, Conflict):
        handle.remove(force=True)


def _words(command: Sequence[str]) -> tuple[str, ...]:
    if len(command) == 1 and " " in command[0]:
        import shlex

        return tuple(shlex.split(command[0]))
    return tuple(command)


@dataclass(frozen=True)
class Outcome:
    """One verb over several names: results by name, and errors by name."""

    done: tuple[tuple[str, Any], ...]
    failed: tuple[tuple[str, CellboxError], ...]


def each(refs: Sequence[str], action: Callable[[str], Any]) -> Outcome:
    """Do ``action`` to every name; one that fails does not hold up the others."""
    done: list[tuple[str, Any]] = []
    failed: list[tuple[str, CellboxError]] = []
    for ref in refs:
        try:
            done.append((ref, action(ref)))
        except CellboxError as error:
            failed.append((ref, error))
    return Outcome(tuple(done), tuple(failed))


@dataclass(frozen=True)
class Pruned:
    """What a prune took away: ids (or names), and the bytes that came free."""

    removed: tuple[str, ...]
    bytes: int


def prune_containers(engine: Engine, filters: Filters | None = None) -> Pruned:
    """Remove every container that does not run. Filters: ``until`` (instants), ``label``,
    ``label!``."""
    filters = _known(filters, {"until", "label", "label!"})
    found = [
        facts
        for facts in engine.containers.list(all=True)
        if facts.status not in _ALIVE
        and facts.status is not Status.REMOVING
        and _chosen(facts.spec.labels, facts.created, filters)
    ]
    return _measured(engine, [facts.id for facts in found], engine.containers.remove)


def prune_images(engine: Engine, *, all: bool = False, filters: Filters | None = None) -> Pruned:
    """Remove images without a name, or with ``all`` every one that no container uses."""
    filters = _known(filters, {"until", "label", "label!", "dangling"})
    all = all or "false" in [word.lower() for word in filters.get("dangling", ())]
    used = {facts.image_id for facts in engine.containers.list(all=True)}
    found = [
        facts
        for facts in engine.images.list()
        if facts.id not in used
        and (all or not facts.tags)
        and _chosen(facts.config.labels, facts.created or 0.0, filters)
    ]

    def remove(ref: str) -> None:
        engine.images.remove(ref, force=True)

    return _measured(engine, [facts.id for facts in found], remove)


def _measured(engine: Engine, ids: Sequence[str], remove: Callable[[str], Any]) -> Pruned:
    before = _used(engine) if ids else 0
    outcome = each(ids, remove)
    freed = before - _used(engine) if outcome.done else 0
    return Pruned(tuple(ref for ref, _ in outcome.done), max(0, freed))


def _used(engine: Engine) -> int:
    return sum(row.size for row in engine.disk_usage())


def _known(filters: Filters | None, known: set[str]) -> Filters:
    unknown = set(filters or ()) - known
    if unknown:
        raise InvalidArgument(f"Invalid filter '{min(unknown)}': use {', '.join(sorted(known))}")
    return filters or {}


def _chosen(labels: Any, created: float, filters: Filters) -> bool:
    until = [_moment(word) for word in filters.get("until", ())]
    return (
        all(created <= moment for moment in until)
        and all(_has(labels, word) for word in filters.get("label", ()))
        and not any(_has(labels, word) for word in filters.get("label!", ()))
    )


def _moment(word: str) -> float:
    try:
        return min(float(word), time.time())
    except ValueError:
        raise InvalidArgument(f"until={word} is not a Unix time") from None


def _has(labels: Any, word: str) -> bool:
    key, equals, value = word.partition("=")
    return key in labels and (not equals or labels[key] == value)
