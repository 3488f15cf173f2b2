"""What people drive Docker with, against our daemon: networks by the command line, compose,
testcontainers."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellbox.connecting import connect
from cellbox.handles import run
from cellbox.model.container import RunSpec

pytestmark = pytest.mark.root

Until = Callable[..., None]
SERVE = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"

COMPOSE = """
version: "3.7"
services:
  db:
    image: busybox
    command: sh -c "echo ready > /data/state; exec sleep 600"
    volumes: [data:/data]
    networks: {back: {aliases: [database]}}
    healthcheck: {test: "test -f /data/state", interval: 200ms, retries: 5}
  web:
    image: busybox
    command: sh -c "%s"
    depends_on: [db]
    environment: {WHO: compose}
    ports: ["127.0.0.1::80"]
    networks: [back]
volumes: {data: {}}
networks: {back: {}}
"""


def text(done: subprocess.CompletedProcess[bytes]) -> str:
    """What it wrote; it must have gone well."""
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def fetched(address: str, until: Until) -> bytes:
    """What a server answers, once it does."""
    found: list[bytes] = []

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
                found.append(answer.read())
        except OSError:
            return False
        return True

    until(answers, 20)
    return found[0]


# Networks and ports by the command line -----------------------------------------------------------


def test_neighbours_find_each_other_by_name(docker: Any) -> None:
    text(docker("network", "create", "--subnet", "10.231.7.0/24", "back"))
    web = ("run", "-d", "--name", "web", "--network", "back", "--network-alias", "front")
    id = text(docker(*web, "--ip", "10.231.7.77", "busybox", "sleep", "600"))
    for name in ("web", "front", id[:12], "web.back"):
        done = docker("run", "--rm", "--network", "back", "busybox", "nslookup", name)
        assert "10.231.7.77" in text(done), name
    alone = docker("run", "--rm", "busybox", "ping", "-c1", "-W1", "10.231.7.77")
    assert b"1 packets received" not in alone.stdout, "networks are apart"
    assert b"active endpoints" in docker("network", "rm", "back").stderr
    text(docker("rm", "-f", "web"))
    assert text(docker("network", "rm", "back")) == "back"


def test_a_container_that_runs_joins_and_leaves(docker: Any) -> None:
    text(docker("network", "create", "back"))
    text(docker("run", "-d", "--name", "web", "busybox", "sleep", "600"))
    text(docker("network", "connect", "--alias", "late", "back", "web"))
    assert "eth1" in text(docker("exec", "web", "ip", "addr"))
    text(docker("run", "--rm", "--network", "back", "busybox", "ping", "-c1", "-W2", "late"))
    text(docker("network", "disconnect", "back", "web"))
    assert "eth1" not in text(docker("exec", "web", "ip", "addr"))


def test_a_published_port_serves_until_the_end(docker: Any, until: Until) -> None:
    run = ("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", SERVE)
    text(docker(*run))
    address = text(docker("port", "web", "80"))
    assert fetched(address, until) == b"served\n"
    taken = docker("run", "--rm", "-p", f"{address}:80", "busybox", "true")
    assert taken.returncode == 125
    assert b"port is already allocated" in taken.stderr
    text(docker("stop", "-t", "0", "web"))
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{address}/", timeout=2)


def test_a_list_of_what_may_be_reached(engine: Any, docker: Any, address: Path) -> None:
    text(docker("run", "-d", "--name", "web", "busybox", "sleep", "600"))
    gateway = engine.containers.get("web").endpoints[0].gateway
    remote = connect(f"unix://{address}")
    ping = RunSpec("busybox", ("ping", "-c1", "-W1", gateway), auto_remove=True)
    assert run(remote, ping).exit_code == 0
    for egress, code in ((("none",), 1), (("dns:example.org",), 1), ((f"{gateway}/32",), 0)):
        assert run(remote, replace(ping, egress=egress)).exit_code == code, egress
    remote.close()


# Compose ------------------------------------------------------------------------------------------


@pytest.fixture
def compose(address: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``compose("up", "-d")`` on a project of two services, a volume and a network."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs docker-compose")
    (tmp_path / "docker-compose.yml").write_text(COMPOSE % SERVE)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{address}",
        "COMPOSE_PROJECT_NAME": "shop",
    }

    def call(*words: str) -> str:
        done = subprocess.run(
            [program, *words], cwd=tmp_path, env=environment, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    yield call
    call("down", "-v", "-t", "0")


def test_a_project_of_compose(compose: Callable[..., str], engine: Any, until: Until) -> None:
    compose("up", "-d")
    assert fetched(compose("port", "web", "80"), until) == b"served\n"
    assert compose("exec", "-T", "web", "sh", "-c", "echo $WHO") == "compose"
    compose("exec", "-T", "web", "ping", "-c1", "-W2", "database")
    db = engine.containers.list(filters={"label": ["com.docker.compose.service=db"]})[0]
    until(lambda: engine.containers.get(db.id).health.status == "healthy", 20)
    assert [one.name for one in db.mounts] == ["shop_data"]
    again = compose("up", "-d")
    assert [one.id for one in engine.containers.list()].count(db.id) == 1, again
    compose("down", "-v", "-t", "0")
    assert engine.containers.list(all=True) == []
    assert engine.volumes.list() == []
    assert [one.name for one in engine.networks.list() if not one.built_in] == []


# testcontainers -----------------------------------------------------------------------------------


def test_testcontainers(
    address: Path, monkeypatch: pytest.MonkeyPatch, engine: Any, until: Until
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image is on Docker Hub
    core = pytest.importorskip("testcontainers.core.container", reason="needs testcontainers")
    with (
        core.DockerContainer("busybox")
        .with_command(["sh", "-c", SERVE])
        .with_exposed_ports(80) as web
    ):
        host, port = web.get_container_host_ip(), web.get_exposed_port(80)
        assert fetched(f"{host}:{port}", until) == b"served\n"
        code, output = web.exec(["cat", "/www/index.html"])
        assert (code, output) == (0, b"served\n")
    assert engine.containers.list(all=True) == []
