"""Plugins over the API."""

import pytest

from cellbox.errors import InUse, NotFound, Unavailable
from cellbox.model.plugin import Plugin, PluginConfig, PluginKind, Privilege

OURS = Plugin(PluginKind.LOG, "json-file", "built in", "cellbox.containers.logs:JsonFile")
NFS = Plugin(PluginKind.VOLUME, "nfs", "nfs-volumes", "nfs:Volumes")
SOCKET = Plugin(PluginKind.VOLUME, "shelf", "socket /run/shelf.sock", "unix:///run/shelf.sock")
BROKEN = Plugin(PluginKind.LOG, "bad", "bad-logs", "bad:Log", error="No module named 'bad'")
MANAGED = Plugin(
    PluginKind.VOLUME, "lab/x:1", "image lab/x:1", "lab/x:1", id="ab" * 32, enabled=False,
    config=PluginConfig("Shelves", types=("docker.volumedriver/1.0",), socket="it.sock"),
)  # fmt: skip
WANTED = Privilege("mount", "host path to mount", ("/srv",))


@pytest.fixture(autouse=True)
def plugins(scripted):
    """The collection, which has one of each kind."""
    known = {one.name: one for one in (OURS, NFS, SOCKET, BROKEN, MANAGED)}

    def get(ref):
        return known.get(ref.removesuffix(":latest")) or NotFound("plugin", ref)

    scripted.plugins.answers |= {"list": [*known.values()], "get": get}
    return scripted.plugins


def changes(plugins):
    return [call for call in plugins.calls if call[0] not in ("get", "list")]


def test_all_but_the_engines_own_are_listed(ask, plugins):
    answer = ask("GET", "/plugins?filters={%22capability%22:[%22volumedriver%22]}")
    assert [(one["Name"], one["Enabled"]) for one in answer.json] == [
        ("nfs:latest", True),
        ("shelf:latest", True),
        ("bad:latest", False),
        ("lab/x:1", False),
    ]
    assert plugins.calls == [("list", {"filters": {"capability": ["volumedriver"]}})]


def test_inspect(ask):
    told = ask("GET", "/plugins/nfs/json").json
    assert (told["Name"], told["Enabled"], told["PluginReference"]) == (
        "nfs:latest",
        True,
        "nfs:Volumes",
    )
    assert ask("GET", "/plugins/bad:latest/json").json["Config"]["Description"] == BROKEN.error
    told = ask("GET", "/plugins/lab/x:1/json").json
    assert (told["Id"], told["Config"]["Interface"]["Socket"]) == ("ab" * 32, "it.sock")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/plugins/lab/y:1/json"),
        ("DELETE", "/plugins/lab/y:1"),
        ("POST", "/plugins/lab/y:1/enable?timeout=0"),
        ("POST", "/plugins/lab/y:1/set"),
        ("POST", "/plugins/lab/y:1/upgrade?remote=x"),
        ("POST", "/plugins/lab/y:1/push"),
    ],
)
def test_what_is_not_there(ask, method, path):
    answer = ask(method, path)
    assert (answer.status, answer.json) == (404, {"message": 'plugin "lab/y:1" not found'})


def test_what_changes_one(ask, plugins):
    assert ask("POST", "/plugins/lab/x:1/enable?timeout=7").status == 200
    assert ask("POST", "/plugins/lab/x:1/disable?force=1").status == 200
    assert ask("POST", "/plugins/lab/x:1/set", ["A=1", "B=2"]).status == 204
    assert ask("DELETE", "/plugins/lab/x:1").status == 200
    assert changes(plugins) == [
        ("enable", "lab/x:1", {"timeout": 7}),
        ("disable", "lab/x:1", {"force": True}),
        ("set", "lab/x:1", ["A=1", "B=2"]),
        ("remove", "lab/x:1", {"force": False}),
    ]
    plugins.answers["disable"] = InUse("plugin lab/x:1 is in use by volume data")
    assert ask("POST", "/plugins/lab/x:1/disable").status == 409


@pytest.mark.parametrize("body", [{"A": "1"}, ["A=1", 5]])
def test_settings_are_a_list_of_strings(ask, body):
    assert ask("POST", "/plugins/lab/x:1/set", body).status == 400


def test_install_asks_first(ask, plugins):
    plugins.answers["privileges"] = [WANTED]
    told = ask("GET", "/plugins/privileges?remote=lab/x:1").json
    assert told == [{"Name": "mount", "Description": "host path to mount", "Value": ["/srv"]}]
    answer = ask("POST", "/plugins/pull?remote=lab/x:1&name=mine:1", told)
    assert (answer.status, answer.headers["Docker-Plugin-Name"]) == (200, "mine:1")
    (call,) = [one for one in plugins.calls if one[0] == "install"]
    assert call[1] == "lab/x:1"
    assert (call[2]["name"], call[2]["privileges"]) == ("mine:1", [WANTED])
    plugins.answers["install"] = Unavailable("no registry")
    assert ask("POST", "/plugins/pull?remote=lab/x:1", []).status == 503
    assert ask("POST", "/plugins/pull", []).status == 400


def test_upgrade(ask, plugins):
    body = [{"Name": "mount", "Description": "host path to mount", "Value": ["/srv"]}]
    assert ask("POST", "/plugins/lab/x:1/upgrade?remote=lab/x:2", body).status == 200
    (call,) = changes(plugins)
    assert call[:3] == ("upgrade", "lab/x:1", "lab/x:2")
    assert call[3]["privileges"] == [WANTED]


def test_create_takes_a_tar(ask, plugins):
    got = []
    plugins.answers["create"] = lambda name, source: got.append((name, source.read()))
    sent = ask("POST", "/plugins/create?name=lab/z", b"tar", Content_Type="application/x-tar")
    assert sent.status == 204
    assert got == [("lab/z", b"tar")]


def test_nothing_is_pushed(ask):
    assert ask("POST", "/plugins/lab/x:1/push").status == 501
