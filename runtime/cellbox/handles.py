"""Friendly objects over any engine, and what is written once above the contract.

A handle is an engine and the facts of one object: ``c.stop()`` instead of
``engine.containers.stop(id)``. Facts are a snapshot; :meth:`ContainerHandle.reload` takes a new
one. Below them stands what no engine should repeat: :func:`run` (pull, create, attach, start, talk,
wait, remove). :func:`each` (one verb over several names) and pruning are in ``several``.

A *talk* is what happens to a process's streams while it runs: a function of the
:class:`~cellbox.engine.Stream` that returns the exit code, or None when it let go of a process that
goes on. :class:`Collect` is the simplest: it keeps the output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from cellbox import copying, moving
from cellbox.engine import Engine, Stream, Watch
from cellbox.errors import CellboxError, Conflict, NotFound, StartError
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
from cellbox.model.network import EndpointSpec, Network
from cellbox.model.volume import Volume
from cellbox.several import Outcome as Outcome
from cellbox.several import Pruned as Pruned
from cellbox.several import each as each
from cellbox.several import prune_containers as prune_containers
from cellbox.several import prune_images as prune_images
from cellbox.several import prune_networks as prune_networks
from cellbox.several import prune_volumes as prune_volumes

Talk = Callable[[Stream], "int | None"]


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
        self.engine.containers.restart(self.id, timeout=timeout)
        return self.reload()

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

    def remove(self, force: bool = False, volumes: bool = False) -> None:
        """Take it away; ``force`` kills it first, ``volumes`` removes those without a name too."""
        self.engine.containers.remove(self.id, force=force, volumes=volumes)

    def rename(self, name: str) -> ContainerHandle:
        """Give it another name. Returns itself."""
        self.engine.containers.update(self.id, name=name)
        return self.reload()

    def logs(self, tail: int | None = None) -> str:
        """What it wrote so far, both streams in order."""
        pieces = self.engine.containers.logs(self.id, tail=tail)
        return b"".join(data for _, _, data in pieces).decode("utf-8", "replace")

    def attach(self, stdin: bool = False, logs: bool = False) -> Stream:
        """Its streams, live."""
        return self.engine.containers.attach(self.id, stdin=stdin, logs=logs)

    def exec(
        self,
        *command: str,
        stdin: bytes = b"",
        user: str = "",
        workdir: str = "",
        env: Sequence[str] = (),
    ) -> Completed:
        """Run a further command in it and wait: ``c.exec("ls", "-l")``. One word with spaces is
        split as a shell would."""
        talk = Collect(stdin)
        with self.exec_stream(
            *command, stdin=bool(stdin), user=user, workdir=workdir, env=env
        ) as stream:
            code = talk(stream)
        return Completed(self, code, talk.written("stdout"), talk.written("stderr"))

    def exec_stream(
        self,
        *command: str,
        stdin: bool = False,
        tty: bool = False,
        user: str = "",
        workdir: str = "",
        env: Sequence[str] = (),
    ) -> Stream:
        """Run a further command in it and see its output as it comes; ``wait()`` gives the exit
        code::

            with c.exec_stream("make", "test") as made:
                for name, data in made: ...
            made.wait()
        """
        spec = ExecSpec(
            _words(command),
            env=tuple(env),
            workdir=workdir,
            user=user,
            tty=tty,
            interactive=stdin,
        )
        return self.engine.containers.exec(self.id, spec)

    def read_file(self, path: str) -> bytes:
        """What is in a file of it, running or not. Raises NotFound, InvalidArgument for what is no
        file."""
        return copying.read_file(self.engine, self.id, path)

    def write_file(
        self, path: str, data: bytes, *, mode: int = 0o644, owner: tuple[int, int] = (0, 0)
    ) -> None:
        """Make a file of it, in place of what is there; ``owner`` are a user's and a group's
        numbers. Raises NotFound for the directory."""
        copying.write_file(self.engine, self.id, path, data, mode=mode, owner=owner)

    def copy_from(self, path: str, to: str) -> None:
        """Copy a file or directory out of it, as ``docker cp`` does."""
        copying.copy_out(self.engine, self.id, path, to)

    def copy_to(self, path: str, to: str) -> None:
        """Copy a file or directory of this machine into it, as ``docker cp`` does."""
        copying.copy_in(self.engine, path, self.id, to)

    def move(
        self, to: Engine, *, keep_volumes: bool = False, timeout: float | None = None
    ) -> ContainerHandle:
        """Move it, with what it has written, its volumes and logs, to another engine, where it runs
        on if it runs here; what it is there. See :func:`cellbox.moving.move`."""
        moved = moving.move(self.engine, self.id, to, keep_volumes=keep_volumes, timeout=timeout)
        return ContainerHandle(to, moved)

    def stats(self) -> Stats:
        """Its resources now."""
        return self.engine.files.stats(self.id)

    def top(self, ps_args: str = "-ef") -> ProcessTable:
        """Its processes."""
        return self.engine.files.processes(self.id, ps_args=ps_args)

    def diff(self) -> list[FileChange]:
        """What differs from its image."""
        return self.engine.files.diff(self.id)

    def commit(self, name: str = "", message: str = "", volumes: bool = False) -> ImageHandle:
        """Make an image of it, with ``volumes`` of what is in those too."""
        image = self.engine.images.commit(self.id, name=name, message=message, volumes=volumes)
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


class NetworkHandle:
    """One network of ``engine``."""

    def __init__(self, engine: Engine, facts: Network) -> None:
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
    def containers(self) -> tuple[str, ...]:
        """The names of those that run in it, as of the last :meth:`reload`."""
        return tuple(one.container_name for one in self.facts.endpoints)

    def reload(self) -> NetworkHandle:
        """Ask the engine for the facts again; returns itself."""
        self.facts = self.engine.networks.get(self.id)
        return self

    def connect(self, container: str, *aliases: str) -> NetworkHandle:
        """Let a container be in it too, where its neighbours may call it ``aliases``. Returns
        itself."""
        self.engine.networks.connect(self.id, container, EndpointSpec(self.name, aliases))
        return self.reload()

    def disconnect(self, container: str) -> NetworkHandle:
        """Take a container out of it. Returns itself."""
        self.engine.networks.disconnect(self.id, container)
        return self.reload()

    def remove(self) -> None:
        """Take it away; raises PermissionDenied while containers are in it."""
        self.engine.networks.remove(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<network {self.name} ({self.short_id}) of the driver {self.facts.spec.driver}>"

    def _repr_html_(self) -> str:
        name, driver = escape(self.name), escape(self.facts.spec.driver)
        return f"<b>{name}</b> <code>{self.short_id}</code> of the driver <code>{driver}</code>"


class VolumeHandle:
    """One volume of ``engine``."""

    def __init__(self, engine: Engine, facts: Volume) -> None:
        self.engine = engine
        self.facts = facts

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def mountpoint(self) -> str:
        """Where its files are on the engine's host; empty where only its driver knows."""
        return self.facts.mountpoint

    @property
    def size(self) -> int:
        """Bytes of its files, now."""
        return self.engine.volumes.size(self.name)

    def reload(self) -> VolumeHandle:
        """Ask the engine for the facts again; returns itself."""
        self.facts = self.engine.volumes.get(self.name)
        return self

    def rename(self, name: str) -> VolumeHandle:
        """Give it another name. Returns itself."""
        self.facts = self.engine.volumes.rename(self.name, name)
        return self

    def remove(self) -> None:
        """Delete it with all that is in it; raises InUse while a container has it."""
        self.engine.volumes.remove(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VolumeHandle) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<volume {self.name}>"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.name)}</b> of the driver <code>{escape(self.facts.driver)}</code>"


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
