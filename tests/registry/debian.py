"""Debian's docker-registry on loopback, for tests of all rooms."""

import contextlib
import json
import socket
import subprocess
import time

USER = "ada:engine"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def serving(folder, auth):
    """A docker-registry with its files in ``folder``; its ``host:port``."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": address},
    }
    if auth:
        entry = subprocess.run(
            ["htpasswd", "-Bbn", *USER.split(":")], capture_output=True, check=True
        )
        (folder / "htpasswd").write_bytes(entry.stdout)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        _wait_until_it_answers(address)
        yield address
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(address):
    host, port = address.split(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "docker-registry does not listen"
            time.sleep(0.02)
