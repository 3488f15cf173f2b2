"""What a person has before them: a real Jupyter kernel, the ``cellbox`` command, a registry that
serves ``library/ubuntu``, and an ordinary user's shell.

All of them use the store of the test (``store`` in ``tests/conftest.py``). A tool that lacks skips
a test with a sentence; under ``CELLBOX_CI=1``, where all of them were installed, that is a failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pwd
import queue
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.registry import debian

import cellbox
from cellbox.api.listeners import unix_listener
from cellbox.api.server import Daemon, Server
from cellbox.engine import Engine
from cellbox.model.image import Image

REPOSITORY = Path(__file__).parents[2]
SOURCES = (REPOSITORY / "runtime", REPOSITORY / "magics")
SUITE = "bookworm"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Under CELLBOX_CI=1 nothing here may be skipped: the proof would be empty."""
    report = yield
    if report.skipped and os.environ.get("CELLBOX_CI") == "1":
        why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CELLBOX_CI=1 lets no system test be skipped, and this one was: {why}"
    return report


def need(*programs: str) -> None:
    """Skip where one of ``programs`` is not installed."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} to be installed")


# The registry ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ubuntu_tar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive of ``library/ubuntu``: a small Debian, made by mmdebstrap and cached."""
    need("mmdebstrap", "dpkg")
    if os.geteuid() != 0:
        pytest.skip("needs root, for mmdebstrap")
    cached = Path(request.config.cache.mkdir("cellbox")) / f"{SUITE}.tar"
    if not cached.exists():
        tree = tmp_path_factory.mktemp("debian") / "tree.tar"
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=essential", "--aptopt=Acquire::Retries 3",
             "--dpkgopt=path-exclude=/usr/share/doc/*",
             "--dpkgopt=path-exclude=/usr/share/locale/*",
             SUITE, str(tree)],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"needs a Debian mirror, for mmdebstrap: {made.stderr.strip()[-200:]}")
        tree.rename(tree.with_suffix(".done"))
        shutil.move(tree.with_suffix(".done"), cached)
    return _docker_archive(cached, tmp_path_factory.mktemp("ubuntu") / "ubuntu.tar")


def _docker_archive(layer: Path, path: Path) -> Path:
    with layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["ubuntu:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as out:
        for name, document in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
        out.add(layer, "layer.tar")
    return path


@pytest.fixture(scope="session")
def mirror(ubuntu_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a docker-registry on loopback that serves ``library/ubuntu``."""
    need("docker-registry", "skopeo")
    folder = tmp_path_factory.mktemp("registry")
    with debian.serving(folder, auth=False) as address:
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false",
             f"docker-archive:{ubuntu_tar}", f"docker://{address}/library/ubuntu:latest"],
            check=True, capture_output=True,
        )  # fmt: skip
        yield f"http://{address}"


@pytest.fixture
def ubuntu(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ubuntu`` can be pulled: the mirror is where users set it."""
    monkeypatch.setenv("CELLBOX_REGISTRY_MIRROR", mirror)


# A notebook --------------------------------------------------------------------------------------


@dataclass
class Cell:
    """What a front end saw of one cell."""

    status: str
    messages: list[tuple[str, Mapping[str, Any]]]
    boxes: list[str]

    def text(self, name: str = "stdout") -> str:
        """What the program wrote to a stream."""
        return "".join(
            content["text"]
            for kind, content in self.messages
            if kind == "stream" and content["name"] == name
        )

    @property
    def result(self) -> Mapping[str, str]:
        """The bundle that the cell's last line displays."""
        return next(content["data"] for kind, content in self.messages if kind == "execute_result")

    @property
    def error(self) -> str:
        """The traceback that is shown."""
        (content,) = [content for kind, content in self.messages if kind == "error"]
        return "\n".join(content["traceback"])

    def displays(self) -> list[Mapping[str, str]]:
        """The bundles of displays and their updates, in order."""
        return [content["data"] for kind, content in self.messages if kind.endswith("display_data")]


class Notebook:
    """A real kernel with ``%load_ext cellbox`` done, and a client that speaks as a browser."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(
            kernel_name="python3", connection_file=str(folder / "kernel.json")
        )
        self.manager.kernel_spec.argv = [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
            "IPYTHONDIR": str(folder / "ipython"),
        }
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        assert self.run("%load_ext cellbox").status == "ok"

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return int(self.manager.provisioner.pid)

    def send(self, code: str) -> str:
        """Begin a cell; its message id."""
        return str(self.client.execute(code, allow_stdin=True))

    def run(
        self, code: str, *, answers: Sequence[str] = (), interrupt_at: str = "", seconds: float = 90
    ) -> Cell:
        """Run a cell to its end. Input boxes get ``answers`` in turn; the kernel is interrupted
        when ``interrupt_at`` was printed."""
        return self.follow(self.send(code), answers, interrupt_at, seconds)

    def follow(
        self, request: str, answers: Sequence[str] = (), interrupt_at: str = "", seconds: float = 90
    ) -> Cell:
        """See a cell to its end."""
        messages: list[tuple[str, Mapping[str, Any]]] = []
        boxes: list[str] = []
        left = list(answers)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._answer(boxes, left)
            message = self._next(request)
            if message is None:
                continue
            kind, content = message
            messages.append((kind, content))
            if interrupt_at and interrupt_at in content.get("text", ""):
                self.manager.interrupt_kernel()
                interrupt_at = ""
            if content.get("execution_state") == "idle":
                return Cell(self._status(request), messages, boxes)
        raise AssertionError(f"the cell did not end: {messages}")

    def _next(self, request: str) -> tuple[str, Mapping[str, Any]] | None:
        try:
            message = self.client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            return None
        if message["parent_header"].get("msg_id") != request:
            return None
        return message["msg_type"], message["content"]

    def _answer(self, boxes: list[str], left: list[str]) -> None:
        with contextlib.suppress(queue.Empty):
            boxes.append(self.client.get_stdin_msg(timeout=0)["content"]["prompt"])
            if left:
                self.client.input(left.pop(0))

    def _status(self, request: str) -> str:
        while True:
            reply = self.client.get_shell_msg(timeout=20)
            if reply["parent_header"].get("msg_id") == request:
                return str(reply["content"]["status"])

    def close(self) -> None:
        """End the kernel, if it still runs."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def new_notebook(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``new_notebook()`` starts a kernel on the test's store."""
    pytest.importorskip("jupyter_client", reason="needs jupyter_client: pip install jupyter_client")
    with contextlib.ExitStack() as stack:

        def start() -> Notebook:
            made = Notebook(tmp_path_factory.mktemp("notebook"))
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def notebook(new_notebook: Callable[[], Notebook]) -> Notebook:
    """One kernel with the extension loaded."""
    return new_notebook()


# The command, and programs in a container ---------------------------------------------------------


@pytest.fixture
def command(store: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``command("run", "host", "true")`` is the ``cellbox`` command in a process of its own."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, SOURCES)), "NO_COLOR": "1"}

    def run(*words: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cellbox_magics.command", *words],
            env={**os.environ, **environment, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
        )

    return run


@pytest.fixture
def inside(engine: Engine) -> Callable[..., tuple[int | None, str]]:
    """``inside("id")`` is the exit code and the output of a program on the image ``host``; words
    after the command's are fields of its RunSpec."""

    def run(*words: str, image: str = "host", **fields: Any) -> tuple[int | None, str]:
        spec = cellbox.RunSpec(image=image, command=words, auto_remove=True, **fields)
        ended = cellbox.run(engine, spec)
        return ended.exit_code, (ended.stdout + ended.stderr).decode()

    return run


@pytest.fixture
def python_inside(inside: Callable[..., tuple[int | None, str]]) -> Callable[..., str]:
    """``python_inside(code)`` runs Python code on the image ``host``; its output."""

    def run(code: str, *words: str, **fields: Any) -> str:
        return inside("python3", "-c", code, *words, **fields)[1]

    return run


# An ordinary user ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """An ordinary user, with a Python that they can run and a store in their home."""

    account: pwd.struct_passwd
    python: str
    modules: Path
    ranges: bool = False

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The ``cellbox`` command as this user."""
        return self.run(self.python, "-m", "cellbox_magics.command", *words, stdin=stdin)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Any program as this user."""
        home = self.account.pw_dir
        return subprocess.run(
            words,
            user=self.account.pw_uid,
            group=self.account.pw_gid,
            extra_groups=[],
            cwd=home,
            env={
                "HOME": home,
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "CELLBOX_ROOT": f"{home}/store",
                "PYTHONPATH": str(self.modules),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
        )


@pytest.fixture(scope="session")
def readable_modules() -> Iterator[Path]:
    """A folder that anybody can read, with copies of the packages and of what they import."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cellbox-modules-") as folder:
        os.chmod(folder, 0o755)
        for source in SOURCES:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=_not_code)
        for name in ("click", "rich", "platformdirs", "zstandard", "urllib3", "pygments",
                     "markdown_it", "mdurl", "pyseccomp", "isal", "typing_extensions", "h11",
                     "wsproto", "dnslib", "docker", "requests", "idna", "certifi",
                     "charset_normalizer", "pyroute2",
                     "cryptography", "cffi", "_cffi_backend"):  # fmt: skip
            _copy_module(name, Path(folder))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        yield Path(folder)


def _not_code(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("__pycache__", "README.md")]


def _copy_module(name: str, folder: Path) -> None:
    import importlib.util

    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return
    origin = Path(spec.origin)
    if spec.submodule_search_locations:
        shutil.copytree(origin.parent, folder / name, ignore=_not_code)
    else:
        shutil.copy(origin, folder)


@pytest.fixture
def person(ordinary_user: pwd.struct_passwd, readable_modules: Path) -> Iterator[Person]:
    """An ordinary user who can run cellbox; their containers and launcher end with the test."""
    made = Person(ordinary_user, _python_for_anybody(ordinary_user), readable_modules)
    yield made
    ids = made("ps", "-aq").stdout.split()
    if ids:
        made("rm", "-f", *ids)


def _python_for_anybody(account: pwd.struct_passwd) -> str:
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    for path in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            asked = subprocess.run(
                [path, "-c", version],
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
            )
            if asked.returncode == 0:
                return path
    pytest.skip("needs a Python of this version that any user can run, such as /usr/bin/python3")


CLIENT_SECONDS = 60.0

# A daemon, and its clients ------------------------------------------------------------------------


@pytest.fixture
def address(engine: Engine, busybox: Image, tmp_path: Path) -> Iterator[Path]:
    """The socket of a daemon over ``engine``, in which there is busybox."""
    path = tmp_path / "d.sock"
    stack = threading.stack_size()
    server = Server(Daemon(engine), [unix_listener(path)])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield path
    server.stop()
    thread.join(CLIENT_SECONDS)
    threading.stack_size(stack)
    assert not thread.is_alive()


@pytest.fixture
def docker(address: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``docker("run", ..., input=b"")``: the real command line against the daemon."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("needs the docker command line")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{address}",
        "DOCKER_CLI_HINTS": "false",
    }

    def call(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, *words],
            input=input,
            capture_output=True,
            env=environment,
            timeout=CLIENT_SECONDS,
        )

    return call


@pytest.fixture
def client(address: Path) -> Iterator[Any]:
    """The docker SDK, connected to the daemon."""
    sdk = pytest.importorskip("docker")
    made = sdk.DockerClient(base_url=f"unix://{address}", timeout=CLIENT_SECONDS)
    yield made
    made.close()
