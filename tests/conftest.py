"""A store of its own for every test that runs containers, and a small image to run.

``store`` is a folder below the test's temporary directory, named by CELLBOX_ROOT while the test
runs. When the test ends, its containers are killed, its launcher too, and then nothing may be left
of it: no process, no mount, no control group.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from cellbox.connect import connect
from cellbox.containers.client import Launcher
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.linux import cgroups
from cellbox.local.places import run_directory
from cellbox.model.image import Image

Until = Callable[..., None]

FOLDERS = """bin dev etc home lib mnt opt proc root run sbin srv sys tmp usr usr/bin usr/sbin var
var/log var/tmp""".split()
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/home:/bin/sh\n",
    "etc/group": "root:x:0:root\nusers:x:100:guest\n",
}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Ask ``condition`` again and again until it holds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def until() -> Until:
    """``until(condition, seconds)`` polls until ``condition()`` is true."""
    return wait_until


# Stores -----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of an empty store, which ``connect()`` finds; nothing of it is left afterwards."""
    root = tmp_path / "store"
    monkeypatch.setenv("CELLBOX_ROOT", str(root))
    run = run_directory(root)
    try:
        yield root
    finally:
        _take_down(root, run)


@pytest.fixture
def engine(store: Path) -> Iterator[Engine]:
    """An engine of ``store``. Skips where this machine cannot run containers."""
    made = connect()
    try:
        Launcher(store, run_directory(store)).ensure()
    except CellboxError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def _take_down(root: Path, run: Path) -> None:
    ids = _containers_of(root)
    try:
        if root.exists():
            _remove_containers()
    finally:
        _end_launcher(root, run)
    wait_until(lambda: not processes_of(run), 15.0)
    assert not [line for line in Path("/proc/self/mounts").open() if str(root) in line]
    assert not ids & set(cgroups.leftovers())
    shutil.rmtree(run, ignore_errors=True)


def _containers_of(root: Path) -> set[str]:
    """The ids of all containers that this store ever had."""
    ids: set[str] = set()
    for name in ("events.jsonl", "events.jsonl.1"):
        with contextlib.suppress(FileNotFoundError):
            for line in (root / name).read_text().splitlines():
                event = json.loads(line)
                if event.get("kind") == "container":
                    ids.add(event["id"])
    return ids


def _remove_containers() -> None:
    engine = connect()
    for container in engine.containers.list(all=True):
        with contextlib.suppress(CellboxError):
            engine.containers.remove(container.id, force=True)
    engine.close()


def _end_launcher(root: Path, run: Path) -> None:
    """Kill the launcher, if one runs; before that it takes away what only it may."""
    if not (run / "launcher.sock").exists():
        return
    launcher = Launcher(root, run)
    for path in [*root.iterdir()] if os.geteuid() else []:
        launcher.work("remove", {"path": str(path)})
    for pid in processes_of(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes_of(run: Path) -> list[int]:
    """The pids of a store's launcher, workers and shims: all have its run directory among the
    words they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.fsencode(run) in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


# Images and users -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of a root file system of BusyBox alone, with a user ``guest``."""
    program = shutil.which("busybox")
    if program is None or b"ld-linux" in Path(program).read_bytes()[:4096]:
        pytest.skip("needs a busybox that is linked statically (Debian's busybox-static)")
    path = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    with tarfile.open(path, "w") as out:
        for folder in FOLDERS:
            _add(out, folder, type=tarfile.DIRTYPE, mode=0o1777 if "tmp" in folder else 0o755)
        _add(out, "bin/busybox", Path(program).read_bytes(), mode=0o755)
        for name in applets.stdout.split():
            if name != "busybox":
                _add(out, f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox")
        for name, text in ACCOUNTS.items():
            _add(out, name, text.encode())
    return path


def _add(out: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), 1_700_000_000, 0o644
    for key, value in fields.items():
        setattr(member, key, value)
    out.addfile(member, BytesIO(data))


@pytest.fixture
def busybox(engine: Engine, busybox_tar: Path) -> Image:
    """The image ``busybox:latest`` in the store."""
    with busybox_tar.open("rb") as source:
        return engine.images.import_(source, name="busybox:latest", changes=['CMD ["sh"]'])


@pytest.fixture
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    """A user with no rights and a home of its own; gone afterwards."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        pytest.skip("needs root and useradd, to make a user")
    name = f"cbtest{os.getpid()}"
    subprocess.run(["useradd", "--create-home", name], check=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        _end_processes_of(pwd.getpwnam(name).pw_uid)
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def _end_processes_of(uid: int) -> None:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == uid:
                os.kill(int(entry.name), signal.SIGKILL)
