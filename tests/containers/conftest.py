"""A store of its own with a launcher, and containers made by hand from busybox."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cellbox.containers import records
from cellbox.containers.client import Launcher, ProcessStream, Shim
from cellbox.containers.messages import Bundle, Process, RunState, group_shim
from cellbox.errors import CellboxError, NotSupported
from cellbox.linux import cgroups, sockets
from cellbox.linux import process as processes
from cellbox.linux.mounts import Mount
from cellbox.model.codec import to_json

APPLETS = (
    *("sh", "ls", "cat", "sleep", "true", "false", "id", "kill", "echo", "stty", "tty", "readlink"),
    *("grep", "yes", "head", "env", "pwd", "ps", "mkdir", "touch", "ln", "dd", "wc", "stat", "rm"),
)


def _until(done: Callable[[], Any], what: str = "it did not come about") -> Any:
    deadline = time.monotonic() + 20
    while not (result := done()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return result


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait until something is so, and give what was waited for."""
    return _until


@dataclass
class Container:
    """A container that was started: its run directory, its stream, and the socket that owns it (or
    None)."""

    bundle: Bundle
    run: Path
    stream: ProcessStream
    owner: socket.socket | None

    @property
    def directory(self) -> Path:
        return Path(self.bundle.directory)

    @property
    def shim(self) -> Shim:
        return Shim(self.run)

    @property
    def state(self) -> RunState | None:
        return records.read_state(str(self.run))

    def output(self) -> tuple[bytes, bytes]:
        """All that is still to come: (stdout, stderr)."""
        pieces = list(self.stream)
        out, err = (
            b"".join(data for name, data in pieces if name == stream)
            for stream in ("stdout", "stderr")
        )
        return out, err

    def read_until(self, wanted: bytes) -> bytes:
        """Output up to and with ``wanted``."""
        seen = b""
        while wanted not in seen:
            piece = self.stream.read(timeout=20)
            assert piece is not None, f"ended after {seen!r}"
            seen += piece[1]
        return seen

    def exec(self, *argv: str, tty: bool = False, stdin: bool = False, **how: Any) -> ProcessStream:
        """Start a further process."""
        ours, theirs = sockets.pair()
        process = replace(self.bundle.process, argv=argv, tty=tty, stdin=stdin, **how)
        with theirs:
            self.shim.ask({"op": "exec", "process": to_json(process)}, [theirs.fileno()])
        return ProcessStream(ours)

    def attach(self, *, stdin: bool = False, logs: bool = False) -> ProcessStream:
        """One more who sees the streams."""
        ours, theirs = sockets.pair()
        with theirs:
            self.shim.ask({"op": "attach", "stdin": stdin, "logs": logs}, [theirs.fileno()])
        return ProcessStream(ours)


class Store:
    """A store, its run directory, and what was started in it."""

    def __init__(self, root: Path, rootfs: Path) -> None:
        self.root, self.rootfs = root, rootfs
        self.run = Path(tempfile.mkdtemp(prefix="cellbox-test-", dir="/dev/shm"))
        self.launcher = Launcher(root, self.run)
        self.events = root / "events.jsonl"
        self._count = 0
        self._containers: list[Container] = []
        root.mkdir(mode=0o700, exist_ok=True)

    def make(
        self,
        *argv: str,
        process: Any = None,
        root: Any = None,
        mounts: Any = (),
        without: tuple[str, ...] = (),
        **how: Any,
    ) -> Bundle:
        """A container's directory with its bundle; ``process``, ``root`` (the first mount) and
        ``how`` are fields of these, ``mounts`` come on top of the usual ones but those on
        ``without``."""
        self._count += 1
        identity = f"{self._count:012x}"
        directory = self.root / "containers" / identity
        for name in ("upper", "work"):
            (directory / "layer" / name).mkdir(parents=True)
        usual = _usual(self.rootfs, directory / "layer", root or {})
        bundle = Bundle(
            id=identity,
            name=f"box{self._count}",
            directory=str(directory),
            process=Process(
                **{"argv": argv, "env": ("PATH=/bin",), "capabilities": ("CHOWN", "KILL")}
                | (process or {})
            ),
            mounts=(*(mount for mount in usual if mount.target not in without), *mounts),
            hostname="box",
            masked=("/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/nothing"),
            read_only=("/proc/sys", "/proc/irq"),
            events=str(self.events),
        )
        bundle = replace(bundle, **how)
        records.write(str(directory / records.BUNDLE), bundle)
        return bundle

    def run_directory(self, bundle: Bundle) -> Path:
        """Where the shim of a container listens."""
        return Path(records.run_directory(str(self.run), bundle.id))

    def start(self, bundle: Bundle, *, owned: bool = True, stdin: bool = True) -> Container:
        """Start what was made."""
        ours, theirs = sockets.pair()
        stream = ProcessStream(ours)
        try:
            with theirs:
                owner = self.launcher.start(
                    Path(bundle.directory), owned=owned, streams=[(theirs, stdin)]
                )
        except BaseException:
            stream.close()
            raise
        container = Container(bundle, self.run_directory(bundle), stream, owner)
        self._containers.append(container)
        return container

    def begin(self, *argv: str, owned: bool = True, **how: Any) -> Container:
        """Make and start."""
        return self.start(self.make(*argv, **how), owned=owned)

    def result(self, *argv: str, stdin: bytes | None = None, **how: Any) -> tuple[bytes, int]:
        """Run to the end: (stdout and stderr in one, exit code)."""
        process = {**how.pop("process", {}), "stdin": stdin is not None}
        container = self.begin(*argv, process=process, **how)
        if stdin is not None:
            container.stream.write(stdin)
            container.stream.close_stdin()
        out = b"".join(data for _, data in container.stream)
        code = container.stream.wait()
        container.stream.close()
        container.owner.close()  # type: ignore[union-attr]
        return out, code

    def told(self) -> list[dict[str, Any]]:
        """The events so far."""
        text = self.events.read_text() if self.events.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def launcher_pid(self) -> int:
        """The pid of the launcher that listens, 0 for none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            try:
                connection.connect(str(self.run / "launcher.sock"))
                connection.send(b'{"op": "ping"}')
                return int(json.loads(connection.recv(1000))["pid"])
            except OSError:
                return 0

    def children(self, pid: int) -> list[int]:
        """The processes whose parent is ``pid``."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(name))
        return found

    def shims(self) -> list[int]:
        """Every shim of this store, those in reserve too."""
        return self._mine("cellbox-shim")

    def _mine(self, name: str) -> list[int]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if os.fsencode(self.run) in command:
                    if Path(f"/proc/{pid}/comm").read_text().strip() == name or not name:
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def close(self) -> None:
        """End all that was started here, and leave nothing."""
        for path in (self.run / "c").glob(f"*/{records.STATE}"):
            state = records.read(RunState, str(path))
            if state:
                processes.kill(state.pid, state.pid_start, signal.SIGKILL)
        for container in self._containers:
            container.stream.close()
            if container.owner:
                container.owner.close()
        pid = self.launcher_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        _until(lambda: not any((self.run / "c").glob("*/shim.sock")) or self._stop_shims())
        _until(lambda: not self._mine(""), f"left behind: {self._mine('')}")
        for name in cgroups.leftovers():  # of shims that were killed
            group = cgroups.existing(name)
            if group and group_shim(str(self.run), name):
                group.kill()
                group.remove()
        print((self.run / "launcher.log").read_text())  # shown where a test fails
        shutil.rmtree(self.run)

    def _stop_shims(self) -> bool:
        """For shims that restart what was killed, or whose container hangs."""
        for container in self._containers:
            with contextlib.suppress(OSError, CellboxError):
                container.shim.ask({"op": "kill", "signal": 9})
        return not any(
            records.read_state(str(path.parent)) for path in (self.run / "c").glob("*/state.json")
        )


def _usual(rootfs: Path, layer: Path, root: dict[str, Any]) -> tuple[Mount, ...]:
    safe = ("nosuid", "nodev", "noexec")
    layers = {"lowers": (str(rootfs),), "upper": f"{layer}/upper", "work": f"{layer}/work"}
    return (
        Mount(**{"kind": "overlay", "target": "/", "idmap": True, **layers, **root}),
        Mount("proc", "/proc", flags=safe),
        Mount("tmpfs", "/dev", data="mode=755,size=65536k", flags=("nosuid",)),
        Mount(
            "devpts",
            "/dev/pts",
            data="newinstance,ptmxmode=0666,mode=0620,gid=5",
            flags=("nosuid", "noexec"),
        ),
        Mount("tmpfs", "/dev/shm", data="mode=1777,size=1m", flags=safe),
        Mount("sysfs", "/sys", flags=("ro", *safe)),
    )


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system: busybox and a few directories."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("busybox is not installed (Debian: busybox-static)")
    root = tmp_path_factory.mktemp("busybox") / "rootfs"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "home"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nann:x:1000:\nstaff:x:50:ann\n")
    (root / "etc/text").write_text("not a program\n")
    (root / "bin/script").write_text("no shebang\n")
    (root / "bin/script").chmod(0o755)
    (root / "away").symlink_to("/proc/1/root")
    return root


def _store(tmp_path: Path, rootfs: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", rootfs)
    try:
        store.launcher.ensure()
    except NotSupported as error:
        shutil.rmtree(store.run)
        pytest.skip(f"containers cannot be started here: {error}")
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Iterator[Store]:
    """One store for the tests of a module; none of them may end its launcher."""
    yield from _store(tmp_path_factory.mktemp("module"), rootfs)


@pytest.fixture
def lone(tmp_path: Path, rootfs: Path) -> Iterator[Store]:
    """A store for one test, which may end the launcher."""
    yield from _store(tmp_path, rootfs)
