"""A store of its own for every test that runs containers, and a small image to run.

``store`` is a folder below the test's temporary directory, named by CELLBOX_ROOT while the test
runs. When the test ends, its containers are killed, its launcher too, and then nothing may be left
of it: no process, no mount, no control group.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import pickle
import pwd
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cellbox.connecting import connect
from cellbox.containers.client import Launcher
from cellbox.containers.messages import group_name
from cellbox.engine import Engine
from cellbox.errors import CellboxError
from cellbox.images import config as config_documents
from cellbox.linux import cgroups
from cellbox.local.places import run_directory
from cellbox.model.image import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Image

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
def tar_of() -> Callable[..., BytesIO]:
    """``tar_of(name=b"data")``: a tar of files, to be read."""

    def make(**files: bytes) -> BytesIO:
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
        out.seek(0)
        return out

    return make


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and Python leaves it so;
    the tests that interrupt need what a kernel has."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def until() -> Until:
    """``until(condition, seconds)`` polls until ``condition()`` is true."""
    return wait_until


# Children -----------------------------------------------------------------------------------------


def run_in_child(action: Callable[[], Any]) -> Any:
    """What ``action`` returns in a forked child; what it raises there fails here."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = (True, action())
        except BaseException as error:
            answer = (False, f"{error!r}\n{traceback.format_exc()}")
        with open(write, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    assert data, "the child died"
    good, value = pickle.loads(data)
    assert good, value
    return value


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a forked child."""
    return run_in_child


# Stores -----------------------------------------------------------------------------------------


@pytest.fixture
def store_root(tmp_path: Path) -> Path:
    """Where ``store`` is made; to be overridden where the disk matters."""
    return tmp_path / "store"


@pytest.fixture
def store(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of an empty store, which ``connect()`` finds; nothing of it is left afterwards."""
    root = store_root
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


@pytest.fixture
def launcher_pid(store: Path) -> Callable[[], int]:
    """``launcher_pid()`` is the pid of the store's launcher, started if none runs."""

    def find() -> int:
        Launcher(store, run_directory(store)).ensure()
        return launcher_of(run_directory(store))

    return find


def _take_down(root: Path, run: Path) -> None:
    try:
        if root.exists():
            _remove_containers()
    finally:
        shims = processes_of(run)
        _end_launcher(root, run)
    wait_until(lambda: not processes_of(run), 15.0)
    assert not [line for line in Path("/proc/self/mounts").open() if str(root) in line]
    assert not {group_name(str(run), pid) for pid in shims} & set(cgroups.leftovers())
    shutil.rmtree(run, ignore_errors=True)


def _remove_containers() -> None:
    engine = connect()
    for container in engine.containers.list(all=True):
        with contextlib.suppress(CellboxError):
            engine.containers.remove(container.id, force=True)
    engine.close()


def _end_launcher(root: Path, run: Path) -> None:
    """Kill the launcher, if one runs; before that it takes away what only it may."""
    pid = launcher_of(run)
    if not pid:
        return
    for path in [*root.iterdir()] if os.geteuid() else []:
        Launcher(root, run).work("remove", {"path": str(path)})
    if (run / "networks").exists():  # the keeper takes them along, if there is one
        Launcher(root, run).network({"op": "ping"})
    os.kill(pid, signal.SIGKILL)


def launcher_of(run: Path) -> int:
    """The pid of the launcher that listens in ``run``, 0 where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(run / "launcher.sock"))
        except (FileNotFoundError, ConnectionError):
            return 0
        connection.send(b'{"op": "ping"}')
        return int(json.loads(connection.recv(4096))["pid"])


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
        uid = pwd.getpwnam(name).pw_uid
        wait_until(lambda: not _end_processes_of(uid))
        # By force: who is dead but not yet buried by process 1 keeps nobody.
        command = ["userdel", "--remove", "--force", name]
        subprocess.run(command, check=True, capture_output=True)


def _end_processes_of(uid: int) -> list[int]:
    """Kill what this user runs; which processes those were. /proc/PID belongs to root where a
    process is undumpable, so it is asked for its user."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            status = (entry / "status").read_text() if entry.name.isdecimal() else ""
            if f"\nUid:\t{uid}\t" in status and "\nState:\tZ" not in status:
                os.kill(int(entry.name), signal.SIGKILL)
                found.append(int(entry.name))
    return found


# A registry -------------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    """A registry of one image: its manifest under one tag, its blobs by digest."""

    server: Registry

    def do_GET(self) -> None:
        kind, _, ref = self.path.rpartition("/")
        data = self.server.documents.get(ref)
        if data is None or not kind.startswith("/v2"):
            self.send_error(404)
            return
        manifest = kind.endswith("/manifests")
        self.server.blobs_sent += not manifest and self.command == "GET"
        self.send_response(200)
        self.send_header(
            "Content-Type", DOCKER_MANIFEST if manifest else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", _digest(data))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output is pytest's."""


class Registry(ThreadingHTTPServer):
    """``name`` is the image's name there; ``blobs_sent`` counts downloads."""

    daemon_threads = True

    def __init__(self, layer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.name = f"127.0.0.1:{self.server_address[1]}/box:1"
        self.blobs_sent = 0
        blob = gzip.compress(layer, 1)
        config = json.dumps(
            {
                "architecture": str(config_documents.host_platform().architecture),
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST,
                "config": _described(DOCKER_CONFIG, config),
                "layers": [_described(DOCKER_LAYER + ".gzip", blob)],
            }
        ).encode()
        self.documents = {_digest(data): data for data in (blob, config, manifest)}
        self.documents |= {"": b"{}", "1": manifest}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


@pytest.fixture
def registry(busybox_tar: Path) -> Iterator[Registry]:
    """A registry on loopback that has busybox under ``registry.name``."""
    with Registry(busybox_tar.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
