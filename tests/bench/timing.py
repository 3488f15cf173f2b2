"""What the benchmarks share: a store that goes away, medians, and a row of a table.

Every script times its peers in the same run, in turn with ours, so that a busy machine is as slow
for all of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

SOURCES = [str(Path(__file__).parents[2] / room) for room in ("runtime", "magics")]
sys.path[:0] = SOURCES

import cellbox  # noqa: E402
from cellbox.local.places import run_directory  # noqa: E402


@contextlib.contextmanager
def disk(gigabytes: int = 4) -> Iterator[Path]:
    """A directory on an ext4 of its own, where root may make one; else in the temporary directory.

    For minutes ext4 gives no freed inode out again, and looks at each of them whenever it searches
    for a free one (``recently_deleted``): on the disk where tests and earlier rounds have removed
    their files, making one takes up to twenty times as long as on a user's.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cellbox-bench-") as folder,
        contextlib.ExitStack() as undo,
    ):
        place = Path(folder) / "disk"
        place.mkdir()
        if os.geteuid() == 0:
            image = Path(folder) / "image"
            with image.open("wb") as file:
                file.truncate(gigabytes << 30)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(image)], check=True)
            subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
            undo.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        yield place


@contextlib.contextmanager
def store(place: Path | None = None) -> Iterator[cellbox.Engine]:
    """An engine on a store of its own, in ``place`` or on a disk of its own; its containers,
    launcher and files are gone afterwards."""
    with contextlib.ExitStack() as undo:
        place = place or undo.enter_context(disk())
        root = undo.enter_context(tempfile.TemporaryDirectory(prefix="store-", dir=place))
        os.environ["CELLBOX_ROOT"] = root
        engine = cellbox.connect()
        try:
            yield engine
        finally:
            for container in engine.containers.list(all=True):
                engine.containers.remove(container.id, force=True)
            engine.close()
            rest()  # or shims are killed while they tidy up
            _end_launcher(run_directory(Path(root)))


def _end_launcher(run: Path) -> None:
    """Kill it, and wait until its shims have seen to their control groups: those that are left
    behind slow down whatever is measured next."""
    launcher = _processes(run)[:1]
    for pid in launcher:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _processes(run) and time.monotonic() < deadline:
        time.sleep(0.01)
    shutil.rmtree(run, ignore_errors=True)


def _processes(run: Path) -> list[int]:
    """The launcher of the store with this run directory, then all that it has forked."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(run) in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def busybox(engine: cellbox.Engine) -> Path:
    """The image ``busybox`` in the store; the tree it was made of, for the peers."""
    tree = Path(tempfile.mkdtemp(prefix="cellbox-bench-tree-"))
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (tree / folder).mkdir()
    program = shutil.which("busybox")
    if program is None:
        sys.exit("needs busybox that is linked statically (Debian's busybox-static)")
    shutil.copy(program, tree / "bin/busybox")
    for name in ("sh", "true", "sleep", "cat"):
        (tree / "bin" / name).symlink_to("busybox")
    archive = subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE)
    assert archive.stdout is not None
    engine.images.import_(archive.stdout, name="busybox:latest")  # type: ignore[arg-type]
    archive.wait()
    return tree


def measure(
    rounds: int,
    subjects: Mapping[str, Callable[[], object]],
    warm: int = 3,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each subject, ``rounds`` times, in turn; the first ``warm`` rounds don't count,
    nor does what is done ``before`` each."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + warm):
        for name, subject in subjects.items():
            before()
            began = time.perf_counter()
            subject()
            if number >= warm:
                times[name].append(time.perf_counter() - began)
    return times


def rest() -> None:
    """Wait until a run has been cleaned up after, which every engine does in the background; else
    the next one, of another engine, pays for it."""
    time.sleep(0.05)


def report(times: Mapping[str, list[float]], ours: str) -> None:
    """Print medians in milliseconds, and how many times as long as ``ours`` each one takes."""
    base = statistics.median(times[ours])
    for name, values in times.items():
        middle = statistics.median(values)
        slow = sorted(values)[int(len(values) * 0.95)] if len(values) > 1 else middle
        print(
            f"{name:<34} median {middle * 1e3:9.2f} ms   p95 {slow * 1e3:9.2f} ms"
            f"   {middle / base:7.2f} x   ({len(values)} runs)"
        )


@contextlib.contextmanager
def dockerd(*words: str, place: Path | None = None) -> Iterator[list[str] | None]:
    """``docker`` with the options that lead to a daemon of its own, whose files are in ``place`` or
    on a disk of its own; None where there is none."""
    if not (shutil.which("dockerd") and shutil.which("docker")) or os.geteuid() != 0:
        yield None
        return
    with contextlib.ExitStack() as undo:
        place = place or undo.enter_context(disk())
        folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="docker-", dir=place))
        socket = f"unix://{folder}/docker.sock"
        with open(f"{folder}/log", "wb") as log:
            daemon = subprocess.Popen(
                ["dockerd", "-H", socket, "--data-root", f"{folder}/data", "--exec-root",
                 f"{folder}/exec", "--pidfile", f"{folder}/pid", "--iptables=false",
                 "--bridge=none", *words], stdout=log, stderr=log,
            )  # fmt: skip
        docker = ["docker", "-H", socket]
        try:
            yield docker if _answers(docker) else None
        finally:
            daemon.terminate()
            daemon.wait(30)


def _answers(docker: list[str]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if subprocess.run([*docker, "version"], capture_output=True).returncode == 0:
            return True
        time.sleep(0.2)
    print("dockerd did not start; it is left out")
    return False


def run_true(engine: cellbox.Engine, network: str = "none") -> None:
    """``run --rm --network NETWORK busybox true``, as a notebook process does it."""
    spec = cellbox.RunSpec(image="busybox", command=("true",), auto_remove=True, network=network)
    ended = cellbox.run(engine, spec)
    assert ended.exit_code == 0, ended
