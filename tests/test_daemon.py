"""Where the daemon listens, what it refuses, and the way to it through standard streams."""

from __future__ import annotations

import grp
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cellbox import daemon
from cellbox.api.tls import make_certificates
from cellbox.daemon import dial_stdio, docker_variables, serve
from cellbox.errors import (
    InUse,
    InvalidArgument,
    NotFound,
    NotSupported,
    PermissionDenied,
    Unavailable,
)
from cellbox.local.places import run_directory, socket_path

PATIENCE = 20.0
Until = Callable[..., None]
PING = b"HEAD /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"


# Serving -----------------------------------------------------------------------------------------


def served(*hosts: str, **how: Any) -> list[str]:
    """What a daemon says when it serves; it is ended as soon as it does."""
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == max(1, len(hosts)):
            os.kill(os.getpid(), signal.SIGTERM)

    stack = threading.stack_size()
    serve(hosts, tell=tell, **how)
    threading.stack_size(stack)
    return lines


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``cellbox tls init`` has put some."""
    monkeypatch.setenv("CELLBOX_TLS", str(tmp_path / "tls"))
    make_certificates()
    return tmp_path / "tls"


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def test_a_line_for_each_place_says_what_to_type(
    store: Path, tmp_path: Path, certificates: Path, free_port: int
) -> None:
    unix, tcp = f"unix://{tmp_path}/a b.sock", f"tcp://127.0.0.1:{free_port}"
    assert served(unix, tcp) == [
        f"listening on {unix}: export DOCKER_HOST='{unix}'",
        f"listening on {tcp}: export DOCKER_HOST={tcp} DOCKER_TLS_VERIFY=1 "
        f"DOCKER_CERT_PATH={certificates}/client",
    ]
    assert not (tmp_path / "a b.sock").exists()


def test_the_usual_socket_is_that_of_the_store(store: Path) -> None:
    assert served() == [f"listening on unix://{p}: export DOCKER_HOST=unix://{p}"
                        for p in [socket_path(store)]]  # fmt: skip


def test_many_clients_may_come(store: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        served(f"unix://{tmp_path}/d.sock")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(1 << 16, before[1]), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_who_may_use_the_socket(store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[os.stat_result] = []
    path = tmp_path / "d.sock"

    def look(line: str) -> None:
        seen.append(path.stat())
        os.kill(os.getpid(), signal.SIGTERM)

    own = grp.getgrgid(os.getegid()).gr_name
    monkeypatch.setattr(daemon, "GROUP", own)
    stack = threading.stack_size()
    for group in (None, own, ""):
        serve([f"unix://{path}"], group=group, tell=look)
    threading.stack_size(stack)
    assert {(one.st_mode & 0o777, one.st_gid) for one in seen} == {(0o660, os.getegid())}
    with pytest.raises(NotFound, match="No such group: nosuchgroup"):
        serve([f"unix://{path}"], group="nosuchgroup")
    monkeypatch.setattr(daemon, "GROUP", "nosuchgroup")
    assert served(f"unix://{path}")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "[::1]"])
def test_tcp_without_certificates_is_refused(store: Path, tmp_path: Path, host: str,
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("CELLBOX_TLS", str(tmp_path / "tls"))
    with pytest.raises(PermissionDenied, match="mutual TLS only.*cellbox tls init"):
        serve([f"tcp://{host}"])


def test_places_that_are_none(store: Path, tmp_path: Path, certificates: Path) -> None:
    for host in ("ssh://me@box", "fd://", "x", "tcp://", "tcp://box/path", "unix://"):
        with pytest.raises(InvalidArgument):
            serve([host])
    with pytest.raises(InvalidArgument, match="cannot listen"):
        serve([f"unix://{tmp_path}/nosuch/d.sock"])


def test_one_that_cannot_be_had_leaves_none(store: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "taken.sock"))
        other.listen()
        with pytest.raises(InUse, match=rf"process {os.getpid()}\)"):
            serve([f"unix://{tmp_path}/first.sock", f"unix://{tmp_path}/taken.sock"])
    assert not (tmp_path / "first.sock").exists()


def test_an_address_for_dockers_clients() -> None:
    assert docker_variables("::1", Path("/a b")) == (
        "DOCKER_HOST=tcp://[::1]:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH='/a b'"
    )


# Standard streams --------------------------------------------------------------------------------


class Streams:
    """Two pipes in place of standard input and output, with ``dial_stdio`` between them."""

    def __init__(self, url: str) -> None:
        self.source, self.input = os.pipe()
        self.output, self.sink = os.pipe()
        self.failed: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(url,), daemon=True)
        self.thread.start()

    def _run(self, url: str) -> None:
        try:
            dial_stdio(url, source=self.source, sink=self.sink)
        except BaseException as error:
            self.failed.append(error)
        finally:
            os.close(self.sink)

    def end_input(self) -> None:
        os.close(self.input)

    def rest(self) -> bytes:
        """All that comes until the end."""
        return b"".join(iter(lambda: os.read(self.output, 1 << 16), b""))


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A URL, and what listens there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "far.sock"))
        listener.listen()
        listener.settimeout(PATIENCE)
        yield f"unix://{tmp_path}/far.sock", listener


def test_an_end_of_input_is_passed_on_and_answers_still_come(far: Any) -> None:
    url, listener = far
    streams = Streams(url)
    with listener.accept()[0] as daemon:
        os.write(streams.input, b"question")
        assert daemon.recv(100) == b"question"
        daemon.sendall(b"first ")
        assert os.read(streams.output, 100) == b"first "
        streams.end_input()
        assert daemon.recv(100) == b""
        daemon.sendall(b"second")
    assert streams.rest() == b"second"
    streams.thread.join(PATIENCE)
    assert not streams.failed


def test_it_ends_with_the_daemon_though_input_goes_on(far: Any) -> None:
    url, listener = far
    streams = Streams(url)
    listener.accept()[0].close()
    assert streams.rest() == b""
    streams.thread.join(PATIENCE)
    assert not streams.thread.is_alive() and not streams.failed


def test_much_goes_through_both_ways(far: Any) -> None:
    url, listener = far
    streams = Streams(url)
    data = os.urandom(1 << 22)

    def echo() -> None:
        with listener.accept()[0] as daemon:
            while piece := daemon.recv(1 << 16):
                daemon.sendall(piece)

    def feed() -> None:
        with open(streams.input, "wb") as out:
            out.write(data)

    threads = [threading.Thread(target=work, daemon=True) for work in (echo, feed)]
    for thread in threads:
        thread.start()
    assert streams.rest() == data
    for thread in threads:
        thread.join(PATIENCE)


def test_nobody_there_is_an_error_where_a_socket_was_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Cannot connect"):
        dial_stdio(f"unix://{tmp_path}/absent")
    with pytest.raises(NotSupported, match="unix:// socket only"):
        dial_stdio("ssh://box")


def test_where_none_runs_one_daemon_is_started_for_all(
    store: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(daemon, "_PRIVATE", daemon._PRIVATE.replace("60.0", "0.5"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def record(*words: Any, **how: Any) -> Any:
        started.append(original(*words, **how))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", record)
    several = [Streams("") for _ in range(3)]
    for streams in several:
        os.write(streams.input, PING)
    assert all(streams.rest().startswith(b"HTTP/1.1 200 ") for streams in several)
    assert len(started) == 1
    assert os.getsid(started[0].pid) == started[0].pid
    assert started[0].wait(PATIENCE) == 0
    assert not socket_path(store).exists()


def test_a_daemon_that_cannot_start_says_why(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_PRIVATE", "raise SystemExit('the machine is on fire')")
    with pytest.raises(Unavailable, match="none could be started: the machine is on fire"):
        dial_stdio()
    assert (run_directory(store) / daemon.LOG).exists()
