"""Plugins by Docker's command line: made, installed from a registry, used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.drivers.programs import program
from tests.local.plugin_made import CONFIG, folder, taken_down

pytestmark = pytest.mark.root


def text(done: subprocess.CompletedProcess[bytes]) -> str:
    """What it wrote; it must have gone well."""
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(autouse=True)
def clean(engine: Any, docker: Any) -> Iterator[None]:
    with taken_down(engine, engine._store.run):
        yield


def test_a_plugin_from_a_folder(docker: Any, tmp_path: Path) -> None:
    source = folder(tmp_path / "plugin")
    assert text(docker("plugin", "create", "lab/shelves", str(source))) == "lab/shelves"
    assert "Shelves" in text(docker("plugin", "ls")) and "false" in text(docker("plugin", "ls"))
    refused = docker("plugin", "enable", "lab/shelves")
    assert b"has no source: set it first" in refused.stderr
    text(docker("plugin", "set", "lab/shelves", "usr.source=/usr", "WORD=hello"))
    assert text(docker("plugin", "enable", "lab/shelves")) == "lab/shelves"
    shown = docker("plugin", "inspect", "-f", "{{.Enabled}} {{.Settings.Env}}", "lab/shelves")
    assert text(shown).startswith("true [") and "WORD=hello" in text(shown)
    assert text(docker("volume", "create", "-d", "lab/shelves", "data")) == "data"
    run = ("run", "--rm", "--network", "none", "-v", "data:/v", "busybox", "cat", "/v/made")
    assert text(docker(*run)) == "hello"
    more = ("run", "--rm", "--network", "none", "--volume-driver", "lab/shelves:latest")
    assert text(docker(*more, "-v", "more:/v", "busybox", "cat", "/v/made")) == "hello"
    assert b"in use by volume data" in docker("plugin", "disable", "lab/shelves").stderr
    assert text(docker("ps", "-aq")) == ""
    text(docker("volume", "rm", "data", "more"))
    text(docker("plugin", "disable", "lab/shelves"))
    assert text(docker("plugin", "rm", "lab/shelves")) == "lab/shelves"
    assert text(docker("plugin", "ls", "-q")) == ""
    assert docker("plugin", "inspect", "lab/shelves").returncode == 1


@pytest.fixture
def published(mirror: str, tmp_path: Path) -> Callable[..., str]:
    """``published("lab/x:1", **config)``: a plugin in the registry; its whole name."""

    def publish(name: str, **changes: Any) -> str:
        source = folder(tmp_path / name.replace("/", "-"), **changes)
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            tar.add(source / "rootfs", ".")
        diff_id = f"sha256:{hashlib.sha256(plain.getvalue()).hexdigest()}"
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        config = json.dumps({**CONFIG, **changes, "rootfs": rootfs}).encode()
        repository, _, tag = name.partition(":")
        base = f"{mirror}/v2/{repository}"
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": _blob(base, config, "application/vnd.docker.plugin.v1+json"),
            "layers": [
                _blob(
                    base,
                    gzip.compress(plain.getvalue()),
                    "application/vnd.docker.image.rootfs.diff.tar.gzip",
                )
            ],
        }
        _put(f"{base}/manifests/{tag}", json.dumps(manifest).encode(), manifest["mediaType"])
        return f"{mirror.removeprefix('http://')}/{name}"

    return publish


def _blob(base: str, data: bytes, kind: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    begin = urllib.request.Request(f"{base}/blobs/uploads/", b"", method="POST")
    with urllib.request.urlopen(begin) as answer:
        place = answer.headers["Location"]
    _put(f"{place}{'&' if '?' in place else '?'}digest={digest}", data, "application/octet-stream")
    return {"mediaType": kind, "size": len(data), "digest": digest}


def _put(url: str, data: bytes, kind: str) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method="PUT")
    urllib.request.urlopen(request).close()


def test_a_plugin_from_a_registry(docker: Any, published: Callable[..., str]) -> None:
    usr = {"name": "usr", "source": "/usr", "destination": "/usr", "type": "bind",
           "options": ["rbind", "ro"]}  # fmt: skip
    first = published("lab/shelf:1", mounts=[usr])
    asked = docker("plugin", "install", first, input=b"n\n")
    assert b"host path to mount" in asked.stdout or b"mount: [/usr]" in asked.stdout
    assert text(docker("plugin", "ls", "-q")) == ""
    words = ("plugin", "install", "--grant-all-permissions", "--alias", "mine", first, "WORD=far")
    assert f"Installed plugin {first}" in text(docker(*words))
    assert text(docker("volume", "create", "-d", "mine", "data")) == "data"
    run = ("run", "--rm", "--network", "none", "-v", "data:/v", "busybox", "cat", "/v/made")
    assert text(docker(*run)) == "far"
    text(docker("volume", "rm", "data"))
    second = published("lab/shelf:2", mounts=[usr], description="The second")
    text(docker("plugin", "disable", "mine"))
    up = ("plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", "mine", second)
    text(docker(*up))
    assert "The second" in text(docker("plugin", "ls"))
    text(docker("plugin", "enable", "mine"))
    text(docker("plugin", "rm", "-f", "mine"))


def test_an_image_is_no_plugin(docker: Any, mirror: str, engine: Any) -> None:
    ref = f"{mirror.removeprefix('http://')}/library/ubuntu:latest"
    refused = docker("plugin", "install", "--grant-all-permissions", ref)
    assert refused.returncode == 1 and b"is not a plugin" in refused.stderr
    assert [one for one in engine.plugins.list() if one.managed] == []


SOURCES = [Path(__file__).parents[2] / name for name in ("runtime", "magics")]
SERVE = [sys.executable, "-m", "cellbox_magics.command", "serve"]


def environment() -> dict[str, str]:
    """For processes of their own."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}


@contextmanager
def served(*words: str, folder: Path) -> Iterator[Callable[..., Any]]:
    """``docker(...)`` against a daemon that was started with these words."""
    address = f"unix://{folder}/serve.sock"
    daemon = subprocess.Popen(
        [*SERVE, "-H", address, *words], stdout=subprocess.PIPE, env=environment()
    )
    assert daemon.stdout is not None
    with daemon.stdout as told:
        assert told.readline().startswith(b"listening on ")
        try:
            yield lambda *words: subprocess.run(
                ["docker", "-H", address, *words], capture_output=True, timeout=60
            )
        finally:
            daemon.terminate()
            daemon.wait(30)


def test_an_authorization_plugin_decides(
    engine: Any, busybox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``cellbox serve --authorization-plugin gate``, in a process of its own."""
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))

    def decide(body: dict[str, Any]) -> dict[str, Any]:
        return {"Allow": body["RequestMethod"] == "GET", "Msg": "look, and touch nothing"}

    answers = {
        "Plugin.Activate": {"Implements": ["authz"]},
        "AuthZPlugin.AuthZReq": decide,
        "AuthZPlugin.AuthZRes": {"Allow": True},
    }
    with program(tmp_path / "sockets" / "gate.sock", answers):
        with served("--authorization-plugin", "gate", folder=tmp_path) as docker:
            assert "busybox" in text(docker("images"))
            assert "Authorization: gate" in text(docker("info"))
            denied = docker("volume", "create", "data")
            assert denied.returncode == 1
            told = b"authorization denied by plugin gate: look, and touch nothing"
            assert told in denied.stderr
            assert engine.volumes.list() == []
            answers["AuthZPlugin.AuthZReq"] = {"Err": "out of order"}
            assert b"plugin gate failed with error" in docker("volume", "ls").stderr
    refused = subprocess.run(
        [*SERVE, "-H", f"unix://{tmp_path}/no.sock", "--authorization-plugin", "nobody"],
        capture_output=True,
        env=environment(),
        timeout=30,
    )
    assert refused.returncode != 0 and b"No such plugin: nobody" in refused.stderr
