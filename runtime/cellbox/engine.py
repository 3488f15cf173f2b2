"""The contract: an engine and its collections.

Everything above (handles, API, magics, kernel) speaks to an :class:`Engine` and never asks which
one: ``local`` is the embedded engine, ``remote`` the same collections over HTTP.
``tests/contracts`` holds the contract as tests that every engine runs.

Rules that hold for every method:

- ``ref`` names an object as a user does: name, full id, or a prefix of an id that only one object
  has. Unknown: :class:`~cellbox.errors.NotFound`. Ambiguous:
  :class:`~cellbox.errors.InvalidArgument`.
- Facts that come back are a snapshot: they do not change, and may be out of date when read.
- A verb that the object's status does not allow raises :class:`~cellbox.errors.WrongState`.
- Nothing here loops over "all" or over several names; that is written once, above.
- Every method may be called from any thread, and blocks the calling thread only.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from cellbox.model.build import BuildSpec
from cellbox.model.container import (
    Container,
    ExecSpec,
    FileChange,
    FileStat,
    Limits,
    MountSpec,
    PortSpec,
    ProcessTable,
    RestartPolicy,
    RunSpec,
    Stats,
)
from cellbox.model.event import Event
from cellbox.model.image import Image, Progress, Pushed, Removed
from cellbox.model.network import EndpointSpec, Network, NetworkSpec
from cellbox.model.plugin import Plugin, Privilege
from cellbox.model.registry import Credential, Distribution
from cellbox.model.system import Damage, DiskUsage, Finding, Info
from cellbox.model.volume import Volume, VolumeSpec

Watch = Callable[[Progress], None]
"""Called from any thread with each step of a long task; it must return at once and never raise."""

Tell = Callable[[str | Progress], None]
"""Called with a piece of the text that a build writes, or a step of a pull in it; as a
:data:`Watch`."""

Filters = Mapping[str, Sequence[str]]
"""Docker's filters: ``{"status": ["exited"], "label": ["a=b"]}``. Values of one key are
alternatives (labels: all must hold), keys must all hold; an unknown key raises InvalidArgument."""


class Stream(Protocol):
    """The standard streams of one process, live: what ``attach`` and ``exec`` return.

    Reading ends when the process is gone and its last byte has been read; only then is
    :meth:`wait` certain to return at once. With a terminal all output arrives as ``stdout``.
    """

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Pieces of output as they come: ``("stdout" | "stderr", data)``."""
        ...

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        """The next piece, or None at the end. Raises TimeoutError after ``timeout`` seconds."""
        ...

    def write(self, data: bytes) -> None:
        """Send to standard input. Raises BrokenPipeError when nobody reads it any more."""
        ...

    def close_stdin(self) -> None:
        """End of standard input; output goes on. Repeating it does nothing."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; without a terminal this does nothing."""
        ...

    def signal(self, name: str) -> None:
        """Send a signal (``"INT"``, ``"SIGTERM"``, ``"9"``) to the process; a dead one is no
        error."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Block until the process is gone; its exit code (128 + n for signal n).

        Where that was the first one of a container that removes itself, its name is free by then.
        Raises TimeoutError, and StartError where the process could not be started.
        """
        ...

    def close(self) -> None:
        """Detach: the process goes on. Repeating it does nothing."""
        ...

    def __enter__(self) -> Stream: ...

    def __exit__(self, *exc: object) -> None: ...


class Images(Protocol):
    """The images of one engine."""

    def pull(
        self,
        ref: str,
        *,
        platform: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Image:
        """Bring the image here from its registry, or find that it is already the newest.

        Nothing is visible under the name before all of it is verified. Layers that are here are not
        fetched again; a pull that was cut goes on where it stopped. ``auth`` takes the place of
        what the engine's user is logged in with. Raises NotFound, Unauthorized, Unavailable,
        IntegrityError, NotSupported (another platform).
        """
        ...

    def push(
        self,
        ref: str,
        *,
        compression: str = "",
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Pushed:
        """Send the image to the registry in its name, and let that name stand for it there.

        What the registry has is not sent again. The image has the digest there among its names
        afterwards. ``compression`` is ``gzip`` or ``zstd`` for all layers; without it those that
        came compressed stay as they are, and others become gzip. ``auth`` as in :meth:`pull`.
        Raises NotFound, InvalidArgument (a name with a digest), Unauthorized, Unavailable,
        NotSupported (a registry that takes no images).
        """
        ...

    def get(self, ref: str) -> Image: ...

    def list(self, *, all: bool = False, filters: Filters | None = None) -> list[Image]:
        """Newest first; without ``all`` none that is only a step on the way to others: that has no
        name, and from which another one was made. Filters: dangling, label, before, since, until
        (Unix times), reference."""
        ...

    def tag(self, ref: str, name: str) -> None:
        """Let ``name`` stand for the image too; a name that stood for another one moves."""
        ...

    def remove(self, ref: str, *, force: bool = False) -> builtins.list[Removed]:
        """Take the name away, and the image with its last name; with that go the steps on the way
        to it, as far as nothing else was made from them. InUse while a container has it."""
        ...

    def save(self, refs: Sequence[str], out: BinaryIO, *, format: str = "docker") -> None:
        """Write a tar: ``docker`` (docker-archive) or ``oci`` (OCI layout)."""
        ...

    def load(self, source: BinaryIO, *, watch: Watch | None = None) -> builtins.list[Image]:
        """Read what :meth:`save`, docker, podman or skopeo wrote; the images that were in it."""
        ...

    def import_(
        self,
        source: BinaryIO,
        *,
        name: str = "",
        message: str = "",
        changes: Sequence[str] = (),
    ) -> Image:
        """Make an image of one layer from a tar of a root file system."""
        ...

    def commit(
        self,
        container: str,
        *,
        name: str = "",
        message: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        volumes: bool = False,
    ) -> Image:
        """Make an image from a container's file system: the image's layers and one more.

        ``changes`` are Dockerfile lines (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER,
        VOLUME, WORKDIR). With ``volumes`` there is another layer, of what is in its volumes.
        """
        ...

    def build(
        self,
        context: BinaryIO | Path,
        spec: BuildSpec,
        *,
        tell: Tell | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Image:
        """Make an image as a Dockerfile says; ``context`` is a tar (compressed or not) with it, or
        a directory of this machine.

        ``tell`` hears the text of Docker's classic builder. Soon after ``stop`` says true, the step
        that runs is ended and Cancelled raised. No container is left by a step that fails. Raises
        DockerfileError, StepFailed, InvalidArgument, and what :meth:`pull` raises.
        """
        ...

    def distribution(self, ref: str, *, auth: Credential | None = None) -> Distribution:
        """What the registry has under this name now. Raises as :meth:`pull`."""
        ...

    def login(self, registry: str, auth: Credential) -> None:
        """Ask the registry (a host, or a URL of it) whether it takes these credentials; nothing is
        kept. Raises Unauthorized, Unavailable."""
        ...


class Containers(Protocol):
    """The containers of one engine."""

    def create(self, spec: RunSpec, *, name: str = "") -> Container:
        """Make a container; nothing runs yet. The image must be here (NotFound).

        An empty name becomes an adjective and a scientist's name. Raises AlreadyExists,
        InvalidArgument.
        """
        ...

    def get(self, ref: str) -> Container: ...

    def list(self, *, all: bool = False, filters: Filters | None = None) -> list[Container]:
        """Newest first; without ``all`` those that run. Filters: id, name, label, status, ancestor,
        before, since, exited, health, network, volume."""
        ...

    def start(self, ref: str) -> None:
        """Start it; returns when its program runs. A running one is left alone. StartError."""
        ...

    def stop(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        """Ask it to end with its stop signal, and kill it after ``timeout`` seconds (default 10, -1
        waits for ever). One that does not run is left alone."""
        ...

    def restart(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        """Stop it as :meth:`stop` does, if it runs, and start it."""
        ...

    def kill(self, ref: str, *, signal: str = "KILL") -> None: ...

    def pause(self, ref: str) -> None: ...

    def unpause(self, ref: str) -> None: ...

    def wait(
        self, ref: str, *, timeout: float | None = None, condition: str = "not-running"
    ) -> int:
        """Block until it does not run; its exit code.

        ``condition`` ``next-exit`` waits for an end that is yet to come, also of one that has not
        started, ``removed`` until it is gone. Raises TimeoutError.
        """
        ...

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Take it away, with its writable layer and logs. ``force`` kills it first; ``volumes``
        removes its anonymous volumes too."""
        ...

    def update(
        self,
        ref: str,
        *,
        name: str = "",
        limits: Limits | None = None,
        restart: RestartPolicy | None = None,
        ports: Sequence[PortSpec] | None = None,
        mounts: Sequence[MountSpec] | None = None,
        env: Sequence[str] | None = None,
    ) -> None:
        """Change what is given, and nothing else; of ``limits`` those that are not None.

        Name, limits and restart policy change at once. Where ports, mounts or environment change,
        the container is made anew: it keeps id, name and writable layer, and runs again if it ran.
        """
        ...

    def attach(self, ref: str, *, stdin: bool = False, logs: bool = False) -> Stream:
        """Its streams; ``logs`` replays what it wrote so far. A created one may be attached to
        before it starts, so that nothing is missed."""
        ...

    def exec(self, ref: str, spec: ExecSpec) -> Stream:
        """Run a further process in it. StartError (126, 127) comes from the Stream."""
        ...

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[float, str, bytes]]:
        """``(time, "stdout" | "stderr", data)``, oldest first; ``follow`` ends when it does, or
        soon after ``stop`` says true. Raises NotSupported where the driver keeps nothing."""
        ...


class Networks(Protocol):
    """The networks of one engine; ``bridge``, ``host`` and ``none`` are always there."""

    def create(self, spec: NetworkSpec) -> Network:
        """Make a network. Raises AlreadyExists, InvalidArgument, PermissionDenied (subnets that
        overlap with others), NotFound (the driver), NotSupported."""
        ...

    def get(self, ref: str) -> Network: ...

    def list(self, *, filters: Filters | None = None) -> list[Network]:
        """By name. Filters: name, id, driver, scope, type (``custom``, ``builtin``), label,
        dangling."""
        ...

    def remove(self, ref: str) -> None:
        """Take it away. PermissionDenied for a built-in one, and while containers are in it."""
        ...

    def connect(self, ref: str, container: str, spec: EndpointSpec | None = None) -> None:
        """Let the container be in the network too, at once if it runs. AlreadyExists if it is."""
        ...

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        """Take it out again. Raises InvalidArgument where it is not in; ``force`` makes that no
        error."""
        ...


class Volumes(Protocol):
    """The volumes of one engine."""

    def create(self, spec: VolumeSpec) -> Volume:
        """Make the volume, or find it as it is. Raises AlreadyExists for one of that name with
        another driver or other options, InvalidArgument, NotFound (the driver)."""
        ...

    def get(self, name: str) -> Volume: ...

    def list(self, *, filters: Filters | None = None) -> list[Volume]:
        """By name. Filters: name, driver, label, dangling."""
        ...

    def remove(self, name: str, *, force: bool = False) -> None:
        """Delete it with all that is in it. InUse while a container has it; ``force`` makes one
        that is not there no error."""
        ...

    def rename(self, name: str, to: str) -> Volume:
        """Give it another name. InUse while a container has it, AlreadyExists."""
        ...

    def size(self, name: str) -> int:
        """Bytes of its files on disk."""
        ...

    def export(self, name: str, out: BinaryIO) -> None:
        """Write a tar of all that is in it; its own owner and mode are those of ``./``."""
        ...

    def import_(self, name: str, source: BinaryIO) -> None:
        """Make what such a tar holds (compressed or not) all that is in it. NotSupported for what
        is a directory of the host."""
        ...


class Files(Protocol):
    """What a container looks like inside: its processes, resources and files, running or not."""

    def processes(self, ref: str, *, ps_args: str = "-ef") -> ProcessTable: ...

    def stats(self, ref: str) -> Stats: ...

    def diff(self, ref: str) -> list[FileChange]:
        """What differs from the image, by path."""
        ...

    def stat(self, ref: str, path: str) -> FileStat: ...

    def get(self, ref: str, path: str, out: BinaryIO) -> FileStat:
        """Write a tar of ``path`` (a file, or a directory with all below it) to ``out``."""
        ...

    def put(self, ref: str, path: str, source: BinaryIO, *, keep_kinds: bool = False) -> None:
        """Unpack a tar (compressed or not) into the directory ``path``, owners as in the tar;
        ``keep_kinds`` refuses to replace a directory by something else, or the other way."""
        ...

    def export(self, ref: str, out: BinaryIO) -> None:
        """Write the whole root file system as a tar."""
        ...

    def size(self, ref: str) -> tuple[int, int]:
        """Bytes of its writable layer, and of that and the image together."""
        ...

    def clear_logs(self, ref: str) -> None:
        """Forget what it has written so far; what comes is kept. NotSupported by some drivers."""
        ...

    def append_logs(self, ref: str, entries: Iterable[tuple[float, str, bytes]]) -> None:
        """Put entries, as :meth:`Containers.logs` gives them, at the end of what it has written.
        Raises WrongState while it runs, NotSupported where the driver keeps nothing."""
        ...

    def get_layer(self, ref: str, out: BinaryIO) -> None:
        """Write its writable layer as a layer of an image: a tar of what differs from its image,
        with whiteouts for what is deleted."""
        ...

    def put_layer(self, ref: str, source: BinaryIO) -> None:
        """Make such a tar the writable layer of a container that has never run (WrongState)."""
        ...


class Plugins(Protocol):
    """The plugins of one engine: its own, those of Python packages, programs that others run
    (Docker's plugin protocol), and those that come as images, which it runs itself. Only the last
    can be changed here; NotSupported for the others."""

    def list(self, *, filters: Filters | None = None) -> list[Plugin]:
        """By kind and name. Filters: enabled, capability (``volumedriver``, ...)."""
        ...

    def get(self, ref: str) -> Plugin:
        """By name, with or without its tag, or by (the start of) its id."""
        ...

    def privileges(self, ref: str, *, auth: Credential | None = None) -> builtins.list[Privilege]:
        """What the plugin that a registry has under this name wants of the host. Raises as
        :meth:`Images.pull`, InvalidArgument for an image that is no plugin."""
        ...

    def install(
        self,
        ref: str,
        *,
        name: str = "",
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        """Bring a plugin from its registry; it is not enabled. ``privileges`` are those that its
        user has agreed to, which must be all. Raises AlreadyExists, and as :meth:`privileges`."""
        ...

    def create(self, name: str, source: BinaryIO) -> Plugin:
        """Make a plugin of a tar with ``config.json`` and ``rootfs/``; it is not enabled. Raises
        AlreadyExists, InvalidArgument."""
        ...

    def enable(self, ref: str, *, timeout: float = 0) -> None:
        """Start it; returns when it has answered, within ``timeout`` seconds (0: 30). WrongState if
        it is enabled, Unavailable."""
        ...

    def disable(self, ref: str, *, force: bool = False) -> None:
        """Stop it. InUse while a volume or a network has it, unless ``force``; WrongState."""
        ...

    def remove(self, ref: str, *, force: bool = False) -> None:
        """Take it away. WrongState while it is enabled, unless ``force``."""
        ...

    def set(self, ref: str, settings: Sequence[str]) -> None:
        """Change ``NAME=value`` of its environment, ``args=...``, ``MOUNT.source=...`` or
        ``DEVICE.path=...``. WrongState while it is enabled, InvalidArgument."""
        ...

    def upgrade(
        self,
        ref: str,
        remote: str,
        *,
        privileges: Sequence[Privilege] = (),
        auth: Credential | None = None,
        watch: Watch | None = None,
    ) -> Plugin:
        """Put what a registry has under ``remote`` in its place. WrongState while it is
        enabled."""
        ...


class Engine(Protocol):
    """A container engine."""

    @property
    def url(self) -> str:
        """Where it is: ``local:PATH`` for the embedded engine."""
        ...

    @property
    def images(self) -> Images: ...

    @property
    def containers(self) -> Containers: ...

    @property
    def files(self) -> Files: ...

    @property
    def networks(self) -> Networks: ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def plugins(self) -> Plugins: ...

    def info(self) -> Info: ...

    def disk_usage(self) -> list[DiskUsage]: ...

    def prune_build_cache(self) -> dict[str, int]:
        """Take away the caches of RUN that no build has: their ids, with their bytes on disk."""
        ...

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Filters | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """What happened since, and then what happens, as it happens; ends at ``until``, or soon
        after ``stop`` says true.
        Filters: type, event, scope, label, container, daemon, image, network, plugin, volume."""
        ...

    def doctor(self) -> list[Finding]:
        """What this machine can and cannot do."""
        ...

    def check(self, *, repair: bool = False) -> list[Damage]:
        """Look through the whole store for damage, and mend it if asked."""
        ...

    def close(self) -> None:
        """Let go of what this object holds; containers that were detached run on."""
        ...
