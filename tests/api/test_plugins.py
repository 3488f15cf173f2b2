"""Plugins over the API."""

import pytest

from cellbox.model.plugin import Plugin, PluginKind

OURS = Plugin(PluginKind.LOG, "json-file", "built in", "cellbox.containers.logs:JsonFile")
NFS = Plugin(PluginKind.VOLUME, "nfs", "nfs-volumes", "nfs:Volumes")
BROKEN = Plugin(PluginKind.LOG, "bad", "bad-logs", "bad:Log", error="No module named 'bad'")


@pytest.fixture(autouse=True)
def plugins(scripted):
    scripted.plugins = lambda: [OURS, NFS, BROKEN]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("", ["nfs:latest", "bad:latest"]),
        ("{%22enabled%22:{%22true%22:true}}", ["nfs:latest"]),
        ("{%22enabled%22:[%22false%22]}", ["bad:latest"]),
        ("{%22capability%22:[%22volumedriver%22]}", ["nfs:latest"]),
    ],
)
def test_what_others_added_is_listed(ask, filters, names):
    assert [one["Name"] for one in ask("GET", f"/plugins?filters={filters}").json] == names


def test_an_unknown_filter_is_refused(ask):
    assert ask("GET", "/plugins?filters={%22colour%22:[%22red%22]}").status == 400


def test_inspect_by_name_and_id(ask):
    told = ask("GET", "/plugins/nfs/json").json
    assert (told["Name"], told["Enabled"], told["PluginReference"]) == (
        "nfs:latest",
        True,
        "nfs:Volumes",
    )
    assert ask("GET", f"/plugins/{told['Id']}/json").json == told
    told = ask("GET", "/plugins/bad:latest/json").json
    assert not told["Enabled"]
    assert told["Config"]["Description"] == BROKEN.error


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/plugins/lab/x:1/json"),
        ("DELETE", "/plugins/lab/x:1"),
        ("POST", "/plugins/lab/x:1/enable?timeout=0"),
        ("POST", "/plugins/lab/x:1/set"),
        ("POST", "/plugins/lab/x:1/push"),
    ],
)
def test_what_is_not_there(ask, method, path):
    answer = ask(method, path)
    assert (answer.status, answer.json) == (404, {"message": 'plugin "lab/x:1" not found'})


def test_what_came_with_a_package_goes_with_it(ask):
    answer = ask("POST", "/plugins/nfs/disable")
    assert answer.status == 501
    assert "pip" in answer.json["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/plugins/privileges?remote=x"), ("POST", "/plugins/pull?remote=x"),
     ("POST", "/plugins/create?name=x")],
)  # fmt: skip
def test_plugins_do_not_come_as_images(ask, method, path):
    assert ask(method, path).status == 501
