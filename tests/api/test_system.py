"""The engine as a whole, over the API."""

import dataclasses
from types import SimpleNamespace

import pytest

from cellbox.errors import NotFound, Unauthorized
from cellbox.model.container import Container, RunSpec, Status
from cellbox.model.image import Image, ImageConfig, Layer, Platform
from cellbox.model.plugin import Plugin, PluginKind
from cellbox.model.registry import Credential
from cellbox.model.system import Info
from cellbox.model.volume import Volume

INFO = Info(
    "id", "1.2", "/root", "root", "6.1", "x86_64", "Debian", 2, 1 << 30, "overlay", "2",
    ("memory",), 3, 1, 1, 1, 4,
)  # fmt: skip
BOX = Image("sha256:" + "b" * 64, ("box:1",), (), (Layer("l1", 70),), ImageConfig(), Platform(), 70)
WEB = Container("c" * 64, "web", BOX.id, RunSpec("box:1"), ("sh",), Status.RUNNING, 1.0)
GONE = dataclasses.replace(WEB, id="d" * 64, name="gone")
DATA = Volume("data", "local", "/v", 1.0)


@pytest.fixture
def asked(scripted):
    """How often the engine was asked for its facts."""
    counted = SimpleNamespace(times=0)

    def info():
        counted.times += 1
        return INFO

    scripted.info = info
    scripted.plugins.answers["list"] = [Plugin(PluginKind.VOLUME, "local", "built in", "x")]
    return counted


def test_ping_tells_clients_what_they_need(ask):
    answer = ask("GET", "/_ping")
    assert (answer.status, answer.body) == (200, b"OK")
    told = {key.lower(): value for key, value in answer.headers.items()}
    assert told["content-type"].startswith("text/plain")
    assert {
        "api-version": "1.45",
        "builder-version": "1",
        "docker-experimental": "false",
        "ostype": "linux",
        "swarm": "inactive",
        "cache-control": "no-cache, no-store, must-revalidate",
        "pragma": "no-cache",
    }.items() <= told.items()


def test_ping_without_a_body(ask):
    answer = ask("HEAD", "/v1.24/_ping")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Builder-Version"] == "1"


def test_version_is_asked_of_the_engine_once(ask, asked):
    for _ in range(2):
        told = ask("GET", "/version").json
        assert told["Version"] == "1.2"
        assert (told["ApiVersion"], told["MinAPIVersion"]) == ("1.45", "1.12")
        assert (told["Os"], told["Arch"], told["KernelVersion"]) == ("linux", "amd64", "6.1")
        assert told["Components"][0]["Name"] == "Engine"
    assert asked.times == 1


def test_info_is_of_now(ask, asked):
    for _ in range(2):
        told = ask("GET", "/info").json
    assert asked.times == 2
    assert (told["Containers"], told["ContainersRunning"], told["Images"]) == (3, 1, 4)
    assert (told["OSType"], told["Architecture"], told["NCPU"]) == ("linux", "x86_64", 2)
    assert told["Swarm"]["LocalNodeState"] == "inactive"
    assert told["Plugins"]["Volume"] == ["local"]


# --- disk usage ----------------------------------------------------------------------------------


@pytest.fixture
def measured(scripted):
    def size(ref):
        if ref == GONE.id:
            raise NotFound("container", ref)
        return (5, 75)

    scripted.images.answers["list"] = [BOX]
    scripted.containers.answers["list"] = [WEB, GONE]
    scripted.volumes.answers = {"list": [DATA], "size": 9}
    scripted.files.answers["size"] = size
    return scripted


def test_disk_usage_in_the_shape_of_before_1_52(ask, measured):
    told = ask("GET", "/system/df").json
    assert told["LayersSize"] == 70
    assert (told["Images"][0]["Size"], told["Images"][0]["Containers"]) == (70, 2)
    assert [one.get("SizeRw") for one in told["Containers"]][0] == 5
    assert told["Volumes"][0]["UsageData"] == {"Size": 9, "RefCount": 0}
    assert told["BuildCache"] == []


def test_what_is_not_asked_for_is_not_measured(ask, measured):
    told = ask("GET", "/system/df?type=volume").json
    assert told["Volumes"][0]["Name"] == "data"
    assert (told["Images"], told["Containers"], told["LayersSize"]) == (None, None, 0)
    assert measured.files.calls == []
    told = ask("GET", "/system/df?type=image&type=container").json
    assert told["Volumes"] is None
    assert told["Images"][0]["Containers"] == 2
    assert ask("GET", "/system/df?type=x").status == 400


# --- login ---------------------------------------------------------------------------------------


def test_login(ask, scripted):
    body = {"username": "ada", "password": "engine", "serveraddress": "reg:5000"}
    answer = ask("POST", "/auth", body)
    assert answer.json == {"Status": "Login Succeeded", "IdentityToken": ""}
    assert scripted.images.calls == [("login", "reg:5000", Credential("ada", "engine"))]


def test_a_login_that_is_refused(ask, scripted):
    scripted.images.answers["login"] = Unauthorized("login attempt to reg failed")
    answer = ask("POST", "/auth", {"username": "ada", "password": "wrong"})
    assert (answer.status, answer.json) == (401, {"message": "login attempt to reg failed"})
