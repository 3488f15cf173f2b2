"""Builds by Docker's own clients: the command line, the SDK for Python, compose; and by ours."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellbox.connecting import connect
from cellbox.engine import Engine
from cellbox.errors import DockerfileError, StepFailed
from cellbox.model.build import BuildSpec
from cellbox.model.image import Image

DOCKERFILE = """FROM busybox
ARG V=def
ENV E=$V
WORKDIR /w
COPY . .
RUN echo $V >>f
CMD cat f
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context with a Dockerfile and an ignore file."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "Dockerfile").write_text(DOCKERFILE)
    (path / "f").write_text("data\n")
    (path / "secret.log").write_text("no")
    (path / ".dockerignore").write_text("*.log\n")
    return path


@pytest.fixture
def build(docker: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``build(*words, input=b"")``: ``docker build`` by the classic builder, without a network."""

    def call(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = docker("build", "--network", "none", *words, input=input)
        assert isinstance(done, subprocess.CompletedProcess)
        return done

    return call


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What it wrote; it must have gone well."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


# The command line --------------------------------------------------------------------------------


def test_docker_builds_runs_and_finds_again(build: Any, docker: Any, folder: Path) -> None:
    said = lines(build("-t", "box:1", "--build-arg", "V=mine", str(folder)))
    assert said[-1] == "Successfully tagged box:1"
    assert said[-2].startswith("Successfully built ")
    run = ("run", "--rm", "--network", "none", "box:1")
    assert docker(*run).stdout == b"data\nmine\n"
    names = docker(*run, "ls", "-A").stdout.decode().split()
    assert names == [".dockerignore", "Dockerfile", "f"]
    again = lines(build("-t", "box:1", "--build-arg", "V=mine", str(folder)))
    assert [line for line in again if "Running in" in line] == []
    assert again.count(" ---> Using cache") == 5
    assert docker("ps", "-aq").stdout == b""
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().split()
    assert listed == ["box:1", "busybox:latest"]
    assert len(lines(docker("images", "-aq"))) > 2


def test_docker_is_told_what_failed(build: Any, docker: Any, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN echo seen; exit 3\n")
    failed = build(str(folder))
    assert failed.returncode == 3
    assert b"seen\n" in failed.stdout
    assert (
        b"The command '/bin/sh -c echo seen; exit 3' returned a non-zero code: 3" in failed.stderr
    )
    assert docker("ps", "-aq").stdout == b""
    wrong = build("-", input=b"FROM busybox\nBOGUS x\n")
    assert wrong.returncode == 1
    assert b"dockerfile parse error line 2: unknown instruction: BOGUS" in wrong.stderr


def test_dockerfiles_from_standard_input(build: Any, docker: Any, folder: Path) -> None:
    label = ("inspect", "-f", "{{.Config.Labels.from}}", "box")
    lines(build("-q", "-t", "box", "-", input=b"FROM busybox\nLABEL from=stdin\n"))
    assert docker(*label).stdout == b"stdin\n"
    text = b"FROM busybox\nLABEL from=f\nCOPY . /c\n"
    lines(build("-q", "-t", "box", "-f", "-", str(folder), input=text))
    assert docker(*label).stdout == b"f\n"
    shown = docker("run", "--rm", "--network", "none", "box", "ls", "-A", "/c").stdout
    assert shown.split() == [b".dockerignore", b"Dockerfile", b"f"]


@pytest.mark.parametrize("how", ["", "gz", "bz2", "xz"])
def test_contexts_that_are_tars(build: Any, folder: Path, how: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{how}", format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder, ".")
    said = lines(build("-", input=out.getvalue()))
    assert said[-1].startswith("Successfully built ")
    broken = build("-", input=out.getvalue()[: len(out.getvalue()) // 3 if how else 700])
    assert broken.returncode == 1


def test_a_client_that_goes_ends_the_step(
    docker: Any, engine: Engine, address: Path, folder: Path, until: Any
) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 1000\n")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{address}", "DOCKER_BUILDKIT": "0"}
    running = subprocess.Popen(
        ["docker", "build", "--network", "none", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    try:
        while running.stdout.readline() != b"begun\n":
            pass
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
    until(lambda: engine.containers.list(all=True) == [], 20.0)


# The SDK and compose -----------------------------------------------------------------------------


def test_the_sdk_builds(client: Any, folder: Path) -> None:
    image, told = client.images.build(
        path=str(folder), tag="box", buildargs={"V": "sdk"}, rm=True, network_mode="none"
    )
    assert image.tags == ["box:latest"]
    assert any("Step 7/7" in line.get("stream", "") for line in told)
    ran = client.containers.run("box", detach=True, network_mode="none")
    ran.wait()
    assert ran.logs() == b"data\nsdk\n"
    ran.remove()
    with pytest.raises(Exception, match="returned a non-zero code: 7"):
        client.images.build(
            fileobj=io.BytesIO(b"FROM busybox\nRUN exit 7\n"), rm=True, network_mode="none"
        )
    assert client.containers.list(all=True) == []


def test_without_rm_the_containers_of_steps_stay(client: Any) -> None:
    text = io.BytesIO(b"FROM busybox\nRUN true\n")
    client.images.build(fileobj=text, rm=False, network_mode="none")
    (kept,) = client.containers.list(all=True)
    assert kept.status == "exited"


def test_compose_builds_a_project(address: Path, tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs docker-compose 1.29")
    web = tmp_path / "project" / "web"
    web.mkdir(parents=True)
    (web / "Dockerfile").write_text("FROM busybox\nARG WHO\nRUN echo hello $WHO >/f\nCMD cat /f\n")
    (web.parent / "docker-compose.yml").write_text(
        'version: "3.4"\nservices:\n  web:\n    network_mode: none\n'
        "    build: {context: web, network: none, args: {WHO: compose}}\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"unix://{address}",
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }

    def compose(*words: str) -> str:
        return subprocess.run(
            [program, *words], cwd=web.parent, env=environment, timeout=60,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert "Successfully tagged project_web:latest" in compose("build")
    assert "hello compose" in compose("up", "--no-color")
    compose("down", "--rmi", "local", "-t", "0")
    images = subprocess.run(
        ["docker", "images", "-aq"], env=environment, capture_output=True, check=True
    )
    assert len(images.stdout.split()) == 1


# Ours, over the daemon ---------------------------------------------------------------------------


def test_a_remote_engine_builds_as_the_embedded_one(
    address: Path, engine: Engine, folder: Path, busybox: Image
) -> None:
    remote = connect(f"unix://{address}")
    try:
        told: list[Any] = []
        spec = BuildSpec(tags=("box",), arguments={"V": "far"}, network="none")
        image = remote.images.build(folder, spec, tell=told.append)
        assert image.tags == ("box:latest",)
        assert image.config == engine.images.get("box").config
        assert "".join(map(str, told)).startswith("Step 1/7 : FROM busybox\n")
        near = engine.images.build(folder, spec)
        assert near.layers[-1].diff_id  # the ignore file that is sent says more
        (folder / "D").write_text("FROM busybox\nRUN exit 5\n")
        with pytest.raises(StepFailed) as caught:
            remote.images.build(folder, BuildSpec(dockerfile=str(folder / "D"), network="none"))
        assert caught.value.exit_code == 5
        (folder / "D").write_text("FROM busybox\nBOGUS\n")
        with pytest.raises(DockerfileError, match="line 2: unknown instruction: BOGUS"):
            remote.images.build(folder, BuildSpec(dockerfile="D"))
        assert len(remote.images.list()) < len(remote.images.list(all=True))
    finally:
        remote.close()
