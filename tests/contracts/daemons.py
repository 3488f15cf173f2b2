"""Daemons that the contract is tried on through their API: ours, and a real dockerd."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbox.api.listeners import unix_listener
from cellbox.api.server import Daemon, Server
from cellbox.connecting import connect
from cellbox.engine import Engine
from cellbox.errors import Unavailable
from cellbox.handles import each

_START, _END = 30.0, 30.0


@contextlib.contextmanager
def serving(engine: Engine, path: Path) -> Iterator[str]:
    """``engine`` behind our API at the socket ``path``; its URL."""
    server = Server(Daemon(engine), [unix_listener(path)])
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"unix://{path}"
    finally:
        server.stop()
        thread.join(_END)
        assert not thread.is_alive(), "the server goes on"


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[str]:
    """A dockerd of its own below ``folder``, without networks; its URL. Skips where there is none
    or where it does not start."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and a dockerd to be installed (Debian's docker.io)")
    socket = folder / "docker.sock"
    places = [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    quiet = ["--bridge=none", "--iptables=false", f"--host=unix://{socket}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["dockerd", *places, *quiet], stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await(f"unix://{socket}", process, folder / "log")
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(_END)
        shutil.rmtree(folder, ignore_errors=True)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START
    engine = connect(url)
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            engine.info()
            engine.close()
            return
        time.sleep(0.05)
    pytest.skip(f"dockerd does not start here: {log.read_text()[-300:]}")


def empty(engine: Engine) -> None:
    """Take away all that a test has made."""
    containers, images, networks = engine.containers, engine.images, engine.networks
    for container in containers.list(all=True):
        containers.remove(container.id, force=True)
    while found := images.list():
        each([one.id for one in found], lambda id: images.remove(id, force=True))  # children first
    for volume in engine.volumes.list():
        engine.volumes.remove(volume.name)
    for network in networks.list():
        if not network.built_in:
            networks.remove(network.id)
