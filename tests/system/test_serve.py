"""``cellbox serve`` as a process of its own: its socket, its certificates, its end, and the way to
it over ssh, as root and as an ordinary user. The real docker command line and a real sshd judge."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import SOURCES, Person, need

from cellbox.engine import Engine
from cellbox.local.places import socket_path
from cellbox.model.image import Image

PATIENCE = 60.0
Until = Callable[..., None]
Done = subprocess.CompletedProcess[str]
OURS = {"PYTHONPATH": os.pathsep.join(map(str, SOURCES)), "NO_COLOR": "1"}
SERVE = (sys.executable, "-m", "cellbox_magics.command", "serve")


@dataclass
class Served:
    """A daemon that runs, and what it has said."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def serve(engine: Engine) -> Iterator[Callable[..., Served]]:
    """``serve("-H", url, ...)``: a daemon on the test's store, which listens."""
    running: list[Served] = []

    def start(*words: str, **how: Any) -> Served:
        environment = {**os.environ, **OURS}
        made = Served(
            subprocess.Popen(
                [*SERVE, *words], env=environment, stdout=subprocess.PIPE, text=True, **how
            )
        )
        running.append(made)
        assert made.process.stdout is not None
        for _ in range(max(1, words.count("-H"))):
            made.lines.append(made.process.stdout.readline())
        return made

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.fixture
def docker(tmp_path: Path) -> Callable[..., Done]:
    """``docker("ps", DOCKER_HOST=...)``: the real command line."""
    need("docker")
    home = tmp_path / "home"
    home.mkdir()

    def call(*words: str, **variables: str) -> Done:
        basis = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_CLI_HINTS": "false"}
        return subprocess.run(
            ["docker", *words],
            env=basis | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return call


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"unix://{tmp_path}/d.sock"


def out(done: Done) -> str:
    """What it said; it must have gone well."""
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# A unix socket -----------------------------------------------------------------------------------


def test_the_line_that_it_prints_leads_there(serve: Any, docker: Any, busybox: Image) -> None:
    daemon = serve()
    _, _, variable = daemon.lines[0].strip().partition(": export ")
    name, _, value = variable.partition("=")
    run = ("run", "--rm", "--network", "none", "busybox", "echo", "hi")
    assert out(docker(*run, **{name: value})) == "hi"
    assert daemon.end() == 0
    assert not Path(value.removeprefix("unix://")).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose socket has a group")
def test_its_socket_is_for_owner_and_group(serve: Any, url: str) -> None:
    path = Path(url.removeprefix("unix://"))
    daemon = serve("-H", url, "--group", "users")
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert path.group() == "users"
    daemon.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_containers_go_on_when_it_ends(
    serve: Any, docker: Any, busybox: Image, url: str, number: signal.Signals
) -> None:
    daemon = serve("-H", url)
    run = ("run", "-d", "--network", "none", "--name", "web", "busybox", "sleep", "999")
    id = out(docker(*run, DOCKER_HOST=url))
    assert daemon.end(number) == 0
    assert docker("ps", DOCKER_HOST=url).returncode == 1
    serve("-H", url)
    assert out(docker("ps", "-q", "--no-trunc", DOCKER_HOST=url)) == id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_a_client_is_attached_to_goes_on_too(
    serve: Any, docker: Any, busybox: Image, url: str, number: signal.Signals
) -> None:
    need("docker")
    daemon = serve("-H", url)
    script = "echo ready; exec sleep 999"
    client = subprocess.Popen(
        ["docker", "run", "--network", "none", "--name", "web", "busybox", "sh", "-c", script],
        env={**os.environ, "DOCKER_HOST": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with client:
        assert client.stdout is not None and client.stdout.readline() == b"ready\n"
        daemon.end(number)
        assert client.wait(PATIENCE) != 0
    serve("-H", url)
    assert out(docker("exec", "web", "echo", "alive", DOCKER_HOST=url)) == "alive"


def test_a_new_one_finds_all_that_a_killed_one_had(
    serve: Any, docker: Any, busybox: Image, url: str
) -> None:
    daemon = serve("-H", url)
    run = ("run", "-d", "--network", "none", "--name", "web", "busybox", "sh", "-c")
    out(docker(*run, "echo logged; exec sleep 999", DOCKER_HOST=url))
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    assert Path(url.removeprefix("unix://")).exists()
    serve("-H", url)
    assert out(docker("exec", "web", "echo", "alive", DOCKER_HOST=url)) == "alive"
    assert out(docker("logs", "web", DOCKER_HOST=url)) == "logged"
    out(docker("rm", "-f", "web", DOCKER_HOST=url))
    assert out(docker("ps", "-aq", DOCKER_HOST=url)) == ""


def test_a_second_one_is_refused(serve: Any, command: Any, url: str) -> None:
    daemon = serve("-H", url)
    second = command("serve", "-H", url)
    assert second.returncode == 1
    assert f"(process {daemon.process.pid}) listens on" in second.stderr
    assert "Traceback" not in second.stderr
    assert command("-H", url, "ps", "-q").returncode == 0


def test_the_command_asks_several(serve: Any, command: Any, busybox: Image, url: str) -> None:
    serve("-H", url)
    listed = command("--host", f"{url},embedded", "images", "--format", "table {{.Repository}}")
    assert listed.stdout.split() == ["HOST", "REPOSITORY", url, "busybox", "embedded", "busybox"]


# TCP ---------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def test_mutual_tls(serve: Any, docker: Any, command: Any, tmp_path: Path, port: int) -> None:
    for name in ("tls", "other"):
        out(command("tls", "init", "--dir", str(tmp_path / name)))
    files = [tmp_path / "tls" / "server" / f"{name}.pem" for name in ("ca", "cert", "key")]
    flags = zip(("--tlscacert", "--tlscert", "--tlskey"), map(str, files), strict=True)
    host = f"tcp://127.0.0.1:{port}"
    serve("-H", host, "--tlsverify", *(word for pair in flags for word in pair))

    known = {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1"}
    client = tmp_path / "tls" / "client"
    shown = docker("version", "-f", "{{.Server.Os}}", **known, DOCKER_CERT_PATH=str(client))
    assert out(shown) == "linux"
    assert command("-H", f"{host}?certs={client}", "ps", "-q").returncode == 0
    for folder in (tmp_path / "other" / "client", tmp_path / "home"):
        assert docker("ps", **known, DOCKER_CERT_PATH=str(folder)).returncode == 1
    plain = docker("ps", DOCKER_HOST=host)
    assert plain.returncode == 1
    assert "Client sent an HTTP request to an HTTPS server" in plain.stderr
    assert curl(client, port, "--cert", "cert.pem", "--key", "key.pem") == (0, "OK")
    assert curl(client, port)[1] == ""
    other = tmp_path / "other" / "client"
    pair = ("--cert", str(other / "cert.pem"), "--key", str(other / "key.pem"))
    code, body = curl(client, port, *pair)
    assert code and body == ""


def curl(folder: Path, port: int, *words: str) -> tuple[int, str]:
    need("curl")
    done = subprocess.run(
        ["curl", "-q", "-s", "--noproxy", "*", "--cacert", "ca.pem", *words,
         f"https://localhost:{port}/_ping"],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_tcp_in_the_clear_is_refused(command: Any, tmp_path: Path, port: int) -> None:
    refused = command("serve", "-H", f"tcp://127.0.0.1:{port}", CELLBOX_TLS=str(tmp_path))
    assert refused.returncode == 1
    assert "mutual TLS" in refused.stderr and "cellbox tls init" in refused.stderr


# Over ssh ----------------------------------------------------------------------------------------

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/hostkey
PidFile none
AuthorizedKeysFile {folder}/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={folder}/bin:/usr/bin:/bin {variables}
"""


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that any user can read."""
    with tempfile.TemporaryDirectory(prefix="cellbox-ssh-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def ssh(everybodys: Path, port: int, until: Until) -> Iterator[Callable[..., dict[str, str]]]:
    """``ssh(user, **variables)``: an sshd for that user, with the command under both names over
    there; the environment in which ``ssh`` and those who call it get in."""
    folder = everybodys
    need("ssh", "ssh-keygen")
    sshd = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if sshd is None or os.geteuid() != 0:
        pytest.skip("needs root and an sshd (openssh-server)")
    for name in ("hostkey", "id"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    with contextlib.ExitStack() as stack:
        separate = Path("/run/sshd")  # it wants that to be there
        if not separate.exists():
            separate.mkdir(mode=0o755)
            stack.callback(separate.rmdir)

        def start(user: str, python: str, **variables: str) -> dict[str, str]:
            _script(folder / "bin" / "cellbox", f'exec {python} -m cellbox_magics.command "$@"')
            (folder / "bin" / "docker").symlink_to("cellbox")
            told = " ".join(f"{name}={value}" for name, value in variables.items())
            config = folder / "sshd_config"
            config.write_text(CONFIG.format(port=port, folder=folder, variables=told))
            server = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(config)], stderr=(folder / "sshd.log").open("w")
            )
            stack.callback(server.wait)
            stack.callback(server.terminate)
            until(lambda: "Server listening" in (folder / "sshd.log").read_text())
            options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            quiet = f"-F none {options} -o LogLevel=ERROR -i {folder}/id"
            _script(folder / "near" / "ssh", f'exec {shutil.which("ssh")} {quiet} "$@"')
            path = f"{folder / 'near'}:{os.environ['PATH']}"
            return {"PATH": path, "DOCKER_HOST": f"ssh://{user}@127.0.0.1:{port}"}

        yield start


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def started_daemons_end(store: Path, until: Until) -> Iterator[None]:
    """What ``dial-stdio`` starts on the usual socket ends with the test."""
    yield
    path = socket_path(store)
    if path.exists():
        os.kill(pid_behind(path), signal.SIGTERM)
        until(lambda: not path.exists(), PATIENCE)


def pid_behind(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])


@pytest.mark.usefixtures("started_daemons_end")
def test_over_ssh_no_daemon_must_run(
    ssh: Any, docker: Any, command: Any, busybox: Image, store: Path
) -> None:
    there = ssh("root", sys.executable, CELLBOX_ROOT=str(store), **OURS)
    run = ("run", "--rm", "--network", "none", "busybox", "sh", "-c")
    done = docker(*run, "echo out; echo err >&2; exit 7", **there)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    out(
        docker("run", "-d", "--network", "none", "--name", "web", "busybox", "sleep", "99", **there)
    )
    assert out(docker("exec", "web", "echo", "in", **there)) == "in"
    url = there.pop("DOCKER_HOST")
    assert command("-H", url, "ps", "--format", "{{.Names}}", **there).stdout == "web\n"
    assert command("-H", url, "exec", "web", "echo", "in", **there).stdout == "in\n"
    assert command("-H", url, "rm", "-f", "web", **there).stdout == "web\n"


def test_over_ssh_to_a_socket_that_is_named(
    ssh: Any, serve: Any, command: Any, store: Path, url: str
) -> None:
    serve("-H", url)
    there = ssh("root", sys.executable, CELLBOX_ROOT=str(store), **OURS)
    path = url.removeprefix("unix://")
    far = there.pop("DOCKER_HOST")
    assert command("-H", f"{far}{path}", "ps", "-q", **there).returncode == 0
    absent = command("-H", f"{far}{path}.absent", "ps", **there)
    assert absent.returncode == 1
    assert "Cannot connect to the engine" in absent.stderr
    assert not socket_path(store).exists()


# An ordinary user --------------------------------------------------------------------------------


def test_an_ordinary_user_serves_their_own(person: Person, docker: Any, tmp_path: Path) -> None:
    home = Path(person.account.pw_dir)
    environment = {
        "HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "CELLBOX_ROOT": f"{home}/store",
        "PYTHONPATH": str(person.modules), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    daemon = subprocess.Popen(
        [person.python, "-m", "cellbox_magics.command", "serve"],
        user=person.account.pw_uid, group=person.account.pw_gid, extra_groups=[],
        env=environment, cwd=home, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert daemon.stdout is not None
        line = daemon.stdout.readline().strip()
        url = line.rpartition("DOCKER_HOST=")[2]
        path = Path(url.removeprefix("unix://"))
        assert path.stat().st_uid == person.account.pw_uid
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        words = ("docker", "-H", url, "run", "--rm", "--network", "none", "host", "id", "-u")
        assert out(person.run(*words)) == "0"
        assert out(person("-H", url, "ps", "-aq")) == ""
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        daemon.kill()
        daemon.wait()
        assert daemon.stdout is not None
        daemon.stdout.close()


def test_an_ordinary_user_is_reached_over_ssh(
    person: Person, ssh: Any, docker: Any, command: Any
) -> None:
    name = person.account.pw_name
    subprocess.run(["usermod", "-p", "*", name], check=True)  # else sshd takes them to be locked
    home = person.account.pw_dir
    modules = {"PYTHONPATH": str(person.modules), "CELLBOX_ROOT": f"{home}/store"}
    there = ssh(name, person.python, **modules)
    run = ("run", "--rm", "--network", "none", "host", "id", "-u")
    assert out(docker(*run, **there)) == "0"
    url = there.pop("DOCKER_HOST")
    assert command("-H", url, "run", "--rm", "--network", "none", "host", "pwd", **there).stdout


# Contexts ----------------------------------------------------------------------------------------


def test_dockers_contexts_are_the_commands_too(
    serve: Any, docker: Any, command: Any, busybox: Image, url: str, tmp_path: Path
) -> None:
    serve("-H", url)
    out(docker("context", "create", "here", "--description", "mine", "--docker", f"host={url}"))
    said = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "settings")}
    before = sorted((tmp_path / "home").rglob("*"))
    assert f"here         mine                         {url}" in out(
        command("context", "ls", **said)
    )
    assert command("-H", "here", "images", "-q", **said).stdout.strip() == busybox.short_id
    out(command("context", "use", "here", **said))
    assert command("version", "--format", "json", **said).returncode == 0
    assert url in command("version", **said).stdout
    assert "local:" in command("version", **said, CELLBOX_CONTEXT="embedded").stdout
    assert sorted((tmp_path / "home").rglob("*")) == before
    assert command("context", "use", "nosuch", **said).returncode == 1
