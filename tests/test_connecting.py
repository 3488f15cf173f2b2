"""From a URL to an engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cellbox.connecting import CONTEXT, HOST, connect
from cellbox.errors import InvalidArgument, NotFound, Unavailable
from cellbox.local.places import run_directory


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """Nothing but a test says where the engine is."""
    dockers = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT")
    for name in (HOST, CONTEXT, *dockers):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def test_without_a_url_it_is_the_store_of_the_environment(store, monkeypatch):
    assert connect().url == f"local:{store}"
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/docker.sock")
    assert connect().url == f"local:{store}"


def test_a_path_names_another_store(store, tmp_path):
    place = tmp_path / "other"
    engine = connect(f"local:{place}")
    assert engine.url == f"local:{place}"
    assert run_directory(place) != run_directory(store)
    os.rmdir(run_directory(place))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("unix:///run/docker.sock", "unix:///run/docker.sock"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("https://box", "tcp://box:2376"),
        ("ssh://me@box", "ssh://me@box"),
        ("context:", "unix:///var/run/docker.sock"),
        ("context:default", "unix:///var/run/docker.sock"),
    ],
)
def test_engines_elsewhere(url, found, monkeypatch):
    assert connect(url).url == found
    monkeypatch.setenv(HOST, url)
    assert connect().url == found


def test_a_context_of_the_environment_comes_after_a_host(store, monkeypatch):
    monkeypatch.setenv(CONTEXT, "default")
    assert connect().url == "unix:///var/run/docker.sock"
    assert connect("context:embedded").url == f"local:{store}"
    monkeypatch.setenv(HOST, "ssh://box")
    assert connect().url == "ssh://box"
    monkeypatch.setenv(HOST, "context:embedded")
    assert connect().url == f"local:{store}"


def test_a_url_comes_before_the_environment(store, monkeypatch):
    monkeypatch.setenv(HOST, "ssh://box")
    assert connect("unix:///x").url == "unix:///x"


@pytest.mark.parametrize("url", ["local", "local:", "nosuch:x", "/var/lib/cellbox", ":", "unix"])
def test_what_is_no_url(url):
    with pytest.raises(InvalidArgument, match="is no engine"):
        connect(url)


def test_a_url_that_is_wrong_in_itself():
    with pytest.raises(InvalidArgument, match="names no socket"):
        connect("unix://")
    with pytest.raises(NotFound, match="docker context ls"):
        connect("context:nosuch")


def test_certificates(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").touch()
    assert connect("tcp://box", certs=str(tmp_path)).url == "tcp://box:2376"
    with pytest.raises(InvalidArgument, match="must hold"):
        connect("tcp://box", certs="/nosuch")


def test_who_can_be_overheard_is_told():
    with pytest.warns(RuntimeWarning, match="neither encrypted"):
        assert connect("tcp://192.0.2.1").url == "tcp://192.0.2.1:2375"


def test_nothing_is_asked_before_it_is_used(tmp_path):
    engine = connect(f"unix://{tmp_path}/absent")
    with pytest.raises(Unavailable, match="Cannot connect .*leave the URL out"):
        engine.info()


def test_the_docker_sdk_is_for_those_who_need_it(store):
    script = """
import sys, cellbox
cellbox.connect("").close()
assert not {"docker", "requests", "h11"} & set(sys.modules), "imported for nothing"
cellbox.connect("unix:///x").close()
assert "docker" in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_the_function_is_not_hidden_by_its_module():
    code = (
        "from cellbox.connecting import connect; import cellbox; print(cellbox.connect is connect)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
