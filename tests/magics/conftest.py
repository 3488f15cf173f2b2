"""A scripted engine, and an IPython shell with the magics over it.

A *program* is a function of a :class:`Process`; the container whose command names it runs it in a
thread. So output comes while the test looks on, input is really read, and signals really arrive.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal as signals
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cellbox.errors import AlreadyExists, InvalidArgument, NotFound, StartError, StepFailed
from cellbox.model.container import (
    Container,
    FileChange,
    FileStat,
    ProcessTable,
    RunSpec,
    Stats,
    Status,
)
from cellbox.model.event import Event
from cellbox.model.image import (
    HistoryEntry,
    Image,
    ImageConfig,
    Layer,
    Platform,
    Progress,
    Pushed,
    Removed,
)
from cellbox.model.network import Network, NetworkSpec
from cellbox.model.plugin import Plugin, PluginConfig, PluginKind, Privilege
from cellbox.model.system import DiskUsage, Finding, Info
from cellbox.model.volume import ANONYMOUS_LABEL, Volume, VolumeSpec

NOW = 1_700_000_000.0
PATIENCE = 20.0


class Process:
    """The program's side: what it reads, writes and is told."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.output: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self.input: queue.Queue[bytes | None] = queue.Queue()
        self.signals: queue.Queue[str] = queue.Queue()
        self.ended = threading.Event()
        self.exit_code = 0
        self.typed = b""
        self.sizes: list[tuple[int, int]] = []

    def out(self, data: bytes | str) -> None:
        self.output.put(("stdout", data.encode() if isinstance(data, str) else data))

    def err(self, data: str) -> None:
        self.output.put(("stderr", data.encode()))

    def read(self) -> bytes | None:
        """The next piece of input, None at its end."""
        return self.input.get(timeout=PATIENCE)

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, None))  # type: ignore[arg-type]

    def signal(self) -> str:
        """Block until a signal comes."""
        return self.signals.get(timeout=PATIENCE)

    def run(self, program: Callable[[Process], int]) -> None:
        def body() -> None:
            try:
                self.exit_code = program(self)
            finally:
                self.ended.set()
                self.output.put(None)

        threading.Thread(target=body, daemon=True).start()


class FakeStream:
    """The engine's Stream over a process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.closed = False

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self.read, None)

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        try:
            piece = self.process.output.get(timeout=PATIENCE if timeout is None else timeout)
        except queue.Empty:
            raise TimeoutError from None
        if piece is None:
            self.process.output.put(None)
        return piece

    def write(self, data: bytes) -> None:
        self.process.typed += data
        self.process.input.put(data)

    def close_stdin(self) -> None:
        self.process.input.put(None)

    def resize(self, rows: int, columns: int) -> None:
        self.process.sizes.append((rows, columns))

    def signal(self, name: str) -> None:
        self.process.signals.put(name.removeprefix("SIG"))

    def wait(self, timeout: float | None = None) -> int:
        if not self.process.ended.wait(timeout if timeout is not None else PATIENCE):
            raise TimeoutError
        return self.process.exit_code

    def close(self) -> None:
        self.closed = True
        self.process.output.put(None)

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.facts: dict[str, Container] = {}
        self.processes: dict[str, Process] = {}
        self.execs: list[Process] = []
        self._numbers = itertools.count(1)

    def create(self, spec: RunSpec, *, name: str = "") -> Container:
        self.engine.calls.append(("create", spec, name))
        image = self.engine.images.get(spec.image)
        if any(facts.name == name for facts in self.facts.values()):
            raise AlreadyExists(f"the name {name} is taken")
        number = next(self._numbers)
        facts = Container(
            id=f"{number:064x}"[::-1],
            name=name or f"happy_curie{number}",
            image_id=image.id,
            spec=spec,
            command=spec.command or ("default",),
            status=Status.CREATED,
            created=NOW + number,
        )
        self.facts[facts.id] = facts
        self.processes[facts.id] = Process(spec)
        return facts

    def get(self, ref: str) -> Container:
        for facts in self.facts.values():
            if ref == facts.name or facts.id.startswith(ref):
                return facts
        raise NotFound("container", ref)

    def list(self, *, all: bool = False, filters: Any = None) -> list[Container]:
        self.engine.calls.append(("list", all, dict(filters or {})))
        found = [f for f in self.facts.values() if all or f.status is Status.RUNNING]
        return sorted(found, key=lambda facts: -facts.created)

    def set(self, ref: str, **changes: Any) -> None:
        facts = self.get(ref)
        self.facts[facts.id] = replace(facts, **changes)

    def start(self, ref: str) -> None:
        facts = self.get(ref)
        self.engine.calls.append(("start", facts.name))
        program = self.engine.programs.get(facts.command[0])
        if program is None:
            raise StartError("exec", 2, facts.command[0], 127)
        self.set(ref, status=Status.RUNNING, pid=4321, started=NOW)

        def body(process: Process) -> int:
            code = program(process)
            with contextlib.suppress(NotFound):
                self.set(facts.id, status=Status.EXITED, exit_code=code, finished=NOW, pid=0)
            if facts.spec.auto_remove:
                self.facts.pop(facts.id, None)
            return code

        self.processes[facts.id].run(body)

    def stop(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        facts = self.get(ref)
        self.engine.calls.append(("stop", facts.name, timeout, signal))
        self.processes[facts.id].signals.put(signal or "TERM")

    def kill(self, ref: str, *, signal: str = "KILL") -> None:
        facts = self.get(ref)
        self.engine.calls.append(("kill", facts.name, signal))
        self.processes[facts.id].signals.put(signal)

    def pause(self, ref: str) -> None:
        self.set(ref, status=Status.PAUSED)

    def unpause(self, ref: str) -> None:
        self.set(ref, status=Status.RUNNING)

    def wait(
        self, ref: str, *, timeout: float | None = None, condition: str = "not-running"
    ) -> int:
        facts = self.get(ref)
        self.engine.calls.append(("wait", facts.name, condition))
        process = self.processes[facts.id]
        assert process.ended.wait(PATIENCE)
        return process.exit_code

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        facts = self.get(ref)
        self.engine.calls.append(("remove", facts.name, force, *([volumes] if volumes else [])))
        del self.facts[facts.id]

    def update(
        self, ref: str, *, name: str = "", limits: Any = None, restart: Any = None, **anew: Any
    ) -> None:
        if name:
            self.set(ref, name=name)
        elif anew:
            self.engine.calls.append(("anew", ref, limits, restart, anew))
        else:
            self.engine.calls.append(("update", ref, limits, restart))

    def restart(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        self.stop(ref, timeout=timeout, signal=signal)
        self.start(ref)

    def attach(self, ref: str, *, stdin: bool = False, logs: bool = False) -> FakeStream:
        facts = self.get(ref)
        self.engine.calls.append(("attach", facts.name, stdin))
        return FakeStream(self.processes[facts.id])

    def exec(self, ref: str, spec: Any) -> FakeStream:
        self.engine.calls.append(("exec", ref, spec))
        process = Process(spec)
        self.execs.append(process)
        process.run(self.engine.programs[spec.command[0]])
        return FakeStream(process)

    def logs(self, ref: str, **how: Any) -> Iterator[tuple[float, str, bytes]]:
        self.engine.calls.append(("logs", self.get(ref).name, how))
        yield NOW, "stdout", b"first\n"
        yield NOW + 1.5, "stderr", b"second\n"


class FakeImages:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.facts: dict[str, Image] = {}
        self.registry = {"ubuntu", "python:3.12"}
        self.archive = b"an archive"
        self.add("host")

    def add(self, name: str, number: int | None = None) -> Image:
        tag = name if ":" in name else f"{name}:latest"
        digest = f"sha256:{number or len(self.facts) + 1:064x}"
        facts = Image(
            id=digest,
            tags=(tag,),
            digests=(f"{name.partition(':')[0]}@{digest}",),
            layers=(Layer("sha256:" + "d" * 64, 1000),),
            config=ImageConfig(env=("PATH=/bin",), command=("bash",)),
            platform=Platform(),
            size=72_800_000,
            created=NOW,
            history=(HistoryEntry(NOW, "ADD rootfs", size=72_800_000), HistoryEntry(NOW, "CMD")),
        )
        self.facts[tag] = facts
        return facts

    def pull(self, ref: str, *, platform: str = "", watch: Any = None) -> Image:
        self.engine.calls.append(("pull", ref, platform))
        if ref not in self.registry:
            raise NotFound("image", ref)
        for step in (
            Progress("a1b2", "Downloading", 5, 10),
            Progress("a1b2", "Downloading", 10, 10),
            Progress("a1b2", "Pull complete"),
        ):
            if watch:
                watch(step)
        return self.add(ref)

    def push(self, ref: str, *, compression: str = "", watch: Any = None) -> Pushed:
        self.engine.calls.append(("push", ref, compression))
        facts = self.get(ref)
        if watch:
            watch(Progress("d1d2", "Pushing", 5, 10))
            watch(Progress("d1d2", "Pushed"))
        return Pushed(facts.tags[0], facts.id, 500)

    def get(self, ref: str) -> Image:
        for facts in self.facts.values():
            if ref in facts.tags or f"{ref}:latest" in facts.tags or facts.id == ref:
                return facts
        raise NotFound("image", ref)

    def list(self, *, all: bool = False, filters: Any = None) -> list[Image]:
        self.engine.calls.append(("images", dict(filters or {})))
        return list(self.facts.values())

    def tag(self, ref: str, name: str) -> None:
        facts = self.get(ref)
        self.facts[facts.tags[0]] = replace(facts, tags=(*facts.tags, f"{name}:latest"))

    def remove(self, ref: str, *, force: bool = False) -> list[Removed]:
        facts = self.get(ref)
        del self.facts[facts.tags[0] if facts.tags else facts.id]
        return [*(Removed(untagged=tag) for tag in facts.tags), Removed(deleted=facts.id)]

    def save(self, refs: Any, out: Any, *, format: str = "docker") -> None:
        self.engine.calls.append(("save", tuple(refs), format))
        out.write(self.archive)

    def load(self, source: Any, *, watch: Any = None) -> list[Image]:
        self.engine.calls.append(("load", source.read()))
        return [self.add("loaded")]

    def import_(self, source: Any, **how: Any) -> Image:
        self.engine.calls.append(("import", source.read(), how))
        return self.add(how["name"] or "imported")

    def build(self, context: Any, spec: Any, *, tell: Any = None, stop: Any = None) -> Image:
        read = context.read() if hasattr(context, "read") else context
        self.engine.calls.append(("build", read, spec))
        for piece in ("Step 1/1 : FROM ubuntu\n", Progress("a1", "Downloading")):
            tell(piece)
        if spec.target == "broken":
            raise StepFailed("false", 3)
        return self.add(spec.tags[0] if spec.tags else "built")

    def commit(self, container: str, **how: Any) -> Image:
        self.engine.calls.append(("commit", container, how))
        return self.add(how["name"] or "committed")


class FakeNetworks:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.facts: dict[str, Network] = {}
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            self.add(NetworkSpec(name, driver=driver), built_in=True)

    def add(self, spec: NetworkSpec, *, built_in: bool = False) -> Network:
        id = f"{len(self.facts) + 1:064x}"[::-1]
        self.facts[spec.name] = Network(id, spec, NOW, built_in=built_in)
        return self.facts[spec.name]

    def create(self, spec: NetworkSpec) -> Network:
        if spec.name in self.facts:
            raise AlreadyExists(f"network with name {spec.name} already exists")
        return self.add(spec)

    def get(self, ref: str) -> Network:
        for facts in self.facts.values():
            if ref == facts.name or facts.id.startswith(ref):
                return facts
        raise NotFound("network", ref)

    def list(self, *, filters: Any = None) -> list[Network]:
        self.engine.calls.append(("networks", dict(filters or {})))
        return sorted(self.facts.values(), key=lambda facts: facts.name)

    def remove(self, ref: str) -> None:
        del self.facts[self.get(ref).name]

    def connect(self, ref: str, container: str, spec: Any = None) -> None:
        self.engine.calls.append(("connect", self.get(ref).name, container, spec))

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        self.engine.calls.append(("disconnect", self.get(ref).name, container, force))


class FakePlugins:
    """Plugins from images, by name."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.facts: dict[str, Plugin] = {}
        self.wanted: list[Privilege] = []

    def _call(self, verb: str, *words: Any) -> None:
        self._engine.calls.append((f"plugin {verb}", *words))

    def list(self, *, filters: Any = None) -> list[Plugin]:
        self._call("ls", filters)
        return [*self.facts.values()]

    def get(self, ref: str) -> Plugin:
        if ref not in self.facts:
            raise NotFound("plugin", ref)
        return self.facts[ref]

    def _add(self, name: str, origin: str = "") -> Plugin:
        config = PluginConfig("Shelves", types=("docker.volumedriver/1.0",), socket="it.sock")
        self.facts[name] = Plugin(
            PluginKind.VOLUME, name, f"image {origin or name}", origin, id="ab" * 32, enabled=False,
            config=config,
        )  # fmt: skip
        return self.facts[name]

    def create(self, name: str, source: Any) -> Plugin:
        self._call("create", name, source.read())
        return self._add(name)

    def privileges(self, ref: str, *, auth: Any = None) -> list[Privilege]:
        return self.wanted

    def install(self, ref: str, *, name: str = "", privileges: Any = (), **_: Any) -> Plugin:
        self._call("install", ref, name, [*privileges])
        return self._add(name or ref, ref)

    def upgrade(self, ref: str, remote: str, *, privileges: Any = (), **_: Any) -> Plugin:
        self._call("upgrade", ref, remote, [*privileges])
        return self.get(ref)

    def enable(self, ref: str, *, timeout: float = 0) -> None:
        self._call("enable", ref, timeout)
        self.facts[ref] = replace(self.get(ref), enabled=True)

    def disable(self, ref: str, *, force: bool = False) -> None:
        self._call("disable", ref, force)

    def set(self, ref: str, settings: Any) -> None:
        self._call("set", ref, *settings)
        if "bad" in settings:
            raise InvalidArgument("not settable")

    def remove(self, ref: str, *, force: bool = False) -> None:
        self._call("rm", ref, force)
        del self.facts[self.get(ref).name]


class FakeVolumes:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.facts: dict[str, Volume] = {}

    def create(self, spec: VolumeSpec) -> Volume:
        self.engine.calls.append(("volume create", spec))
        name = spec.name or "f" * 64
        labels = spec.labels if spec.name else {**spec.labels, ANONYMOUS_LABEL: ""}
        self.facts[name] = Volume(
            name, spec.driver, f"/store/{name}/_data", NOW, spec.options, labels
        )
        return self.facts[name]

    def get(self, name: str) -> Volume:
        if name not in self.facts:
            raise NotFound("volume", name)
        return self.facts[name]

    def list(self, *, filters: Any = None) -> list[Volume]:
        self.engine.calls.append(("volumes", filters))
        return sorted(self.facts.values(), key=lambda facts: facts.name)

    def remove(self, name: str, *, force: bool = False) -> None:
        if not (force and name not in self.facts):
            del self.facts[self.get(name).name]

    def rename(self, name: str, to: str) -> Volume:
        self.facts[to] = replace(self.get(name), name=to)
        del self.facts[name]
        return self.facts[to]

    def size(self, name: str) -> int:
        return len(self.get(name).name)


class FakeFiles:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.stats_now = itertools.count(1)
        self.tars: dict[str, bytes] = {}
        self.put_tars: list[tuple[str, bytes]] = []
        self.paths: dict[str, FileStat] = {}

    def processes(self, ref: str, *, ps_args: str = "-ef") -> ProcessTable:
        self.engine.calls.append(("top", ref, ps_args))
        return ProcessTable(("PID", "CMD"), (("1", "sleep 9"),))

    def stats(self, ref: str) -> Stats:
        number = next(self.stats_now)
        return Stats(NOW, cpu=number * 50, system_cpu=number * 100, cpus=2, memory=1 << 20, pids=3)

    def diff(self, ref: str) -> list[FileChange]:
        return [FileChange("C", "/etc"), FileChange("A", "/etc/new")]

    def stat(self, ref: str, path: str) -> FileStat:
        if path not in self.paths:
            raise NotFound("file", path)
        return self.paths[path]

    def get(self, ref: str, path: str, out: Any) -> FileStat:
        out.write(self.tars[path])
        return FileStat(path.rstrip("/.").rpartition("/")[2], 1, 0o100644, NOW)

    def put(self, ref: str, path: str, source: Any) -> None:
        self.put_tars.append((path, source.read()))

    def clear_logs(self, ref: str) -> None:
        self.engine.calls.append(("clear_logs", ref))

    def export(self, ref: str, out: Any) -> None:
        out.write(b"a root file system")


class FakeEngine:
    """An Engine that records its calls; ``programs`` are by the first word of the command."""

    def __init__(self) -> None:
        self.url = "fake:"
        self.calls: list[Any] = []
        self.programs: dict[str, Callable[[Process], int]] = {}
        self.images = FakeImages(self)
        self.containers = FakeContainers(self)
        self.networks = FakeNetworks(self)
        self.volumes = FakeVolumes(self)
        self.plugins = FakePlugins(self)
        self.files = FakeFiles(self)
        self.damage: list[Any] = []
        self.closed = False

    def named(self, name: str) -> list[Any]:
        """The recorded calls of one name."""
        return [call for call in self.calls if call[0] == name]

    def info(self) -> Info:
        return Info(
            id="I", version="0.1.0", root="/r", mode="root", kernel="6.1", architecture="amd64",
            operating_system="Debian", cpus=2, memory=4 << 30, snapshotter="overlay",
            cgroup_version="2", cgroup_controllers=("cpu", "memory"), containers=1,
            containers_running=1, containers_paused=0, containers_stopped=0, images=1,
        )  # fmt: skip

    def prune_build_cache(self) -> dict[str, int]:
        return {"c" * 64: 2048}

    def disk_usage(self) -> list[DiskUsage]:
        total = len(self.containers.facts)
        return [DiskUsage("Containers", total, 0, total * 1000, 500)]

    def events(self, **how: Any) -> Iterator[Event]:
        self.calls.append(("events", how))
        yield Event(NOW, "container", "start", "abc", {"name": "web", "image": "ubuntu"})

    def doctor(self) -> list[Finding]:
        return [Finding("overlayfs", True, "there"), Finding("cgroups", False, "no", "mount it")]

    def check(self, *, repair: bool = False) -> list[Any]:
        return self.damage

    def close(self) -> None:
        self.closed = True


def hello(process: Process) -> int:
    process.out("hello\n")
    return 0


def cat(process: Process) -> int:
    for data in iter(process.read, None):
        process.out(data)
    return 0


def fail(process: Process) -> int:
    process.err("it went wrong\n")
    return 3


def sleep(process: Process) -> int:
    """Ends with the first signal that comes."""
    name = process.signal()
    return 128 + int(getattr(signals, f"SIG{name}"))


@pytest.fixture
def engine() -> FakeEngine:
    """An engine with a few programs, and the images ``host`` and ``ubuntu``."""
    fake = FakeEngine()
    fake.images.add("ubuntu")
    fake.programs = {
        "hello": hello, "default": hello, "cat": cat, "python": cat, "-c": cat, "/bin/sh": cat,
        "fail": fail, "sleep": sleep,
    }  # fmt: skip
    return fake


@pytest.fixture
def interrupt() -> Callable[[], None]:
    """Press the notebook's stop button: SIGINT to the main thread."""

    def press() -> None:
        ident = threading.main_thread().ident
        assert ident is not None
        signals.pthread_kill(ident, signals.SIGINT)

    return press


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds, or fail."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the condition never came true"
            threading.Event().wait(0.002)

    return wait


@pytest.fixture
def shell(engine: FakeEngine) -> Iterator[Any]:
    """An IPython shell with the magics loaded over the scripted engine."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from cellbox_magics.magics import load, unload
    from cellbox_magics.session import Session

    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell(config=config)
    load(made, Session(connect=lambda url: engine))
    yield made
    unload(made)
    made.restore_sys_module_state()


@pytest.fixture
def say(shell: Any) -> Callable[[str], Any]:
    """Run a cell; its result. An error in it is raised."""

    def run(code: str) -> Any:
        outcome = shell.run_cell(code)
        outcome.raise_error()
        return outcome.result

    return run
