"""Volumes over the API."""

import pytest

from cellbox.errors import InUse, NotFound
from cellbox.model.volume import ANONYMOUS_LABEL, Volume, VolumeSpec

DATA = Volume("data", "local", "/v/data/_data", 100.0, labels={"k": "v"})
USED = Volume("used", "local", "/v/used/_data", 100.0, users=("c" * 64,))
NAMELESS = Volume("f" * 64, "local", "/v/f/_data", 100.0, labels={ANONYMOUS_LABEL: ""})


@pytest.fixture
def volumes(scripted):
    scripted.volumes.answers = {
        "get": DATA,
        "list": [DATA, NAMELESS, USED],
        "create": DATA,
        "size": 7,
    }
    return scripted.volumes


def test_list_and_inspect(ask, volumes):
    told = ask("GET", "/volumes?filters={%22dangling%22:[%22true%22]}").json
    assert [one["Name"] for one in told["Volumes"]] == ["data", "f" * 64, "used"]
    assert told["Warnings"] is None
    told = ask("GET", "/volumes/data").json
    assert (told["Driver"], told["Scope"]) == ("local", "local")
    assert told["Mountpoint"] == DATA.mountpoint
    assert volumes.calls == [("list", {"filters": {"dangling": ["true"]}}), ("get", "data")]


def test_a_volume_is_made_as_asked(ask, volumes):
    body = {"Name": "data", "DriverOpts": {"type": "tmpfs"}, "Labels": {"k": "v"}}
    answer = ask("POST", "/volumes/create", body)
    assert (answer.status, answer.json["Name"]) == (201, "data")
    assert volumes.calls == [
        ("create", VolumeSpec("data", options={"type": "tmpfs"}, labels={"k": "v"}))
    ]


def test_a_volume_without_any_request_has_no_name(ask, volumes):
    assert ask("POST", "/volumes/create", {}).status == 201
    assert volumes.calls == [("create", VolumeSpec())]


def test_remove(ask, volumes):
    answer = ask("DELETE", "/volumes/data?force=1")
    assert (answer.status, answer.body) == (204, b"")
    assert volumes.calls == [("remove", "data", {"force": True})]


def test_one_in_use_and_one_that_is_not_there(ask, volumes):
    volumes.answers["remove"] = InUse("remove used: volume is in use - [cc]")
    answer = ask("DELETE", "/volumes/used")
    assert (answer.status, answer.json["message"]) == (409, "remove used: volume is in use - [cc]")
    volumes.answers["get"] = NotFound("volume", "nope")
    answer = ask("GET", "/volumes/nope")
    assert (answer.status, answer.json) == (404, {"message": "get nope: no such volume"})


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("/v1.45/volumes/prune", [NAMELESS.name]),
        ("/v1.45/volumes/prune?filters={%22all%22:{%22true%22:true}}", ["data", NAMELESS.name]),
        ("/v1.45/volumes/prune?filters={%22all%22:[%22false%22]}", [NAMELESS.name]),
        ("/v1.41/volumes/prune", ["data", NAMELESS.name]),
        ("/v1.41/volumes/prune?filters={%22label%22:[%22k=v%22]}", ["data"]),
        ("/v1.45/volumes/prune?filters={%22label%22:[%22none%22]}", None),
    ],
)
def test_prune(ask, volumes, path, gone):
    answer = ask("POST", path).json
    assert answer == {"VolumesDeleted": gone, "SpaceReclaimed": 7 * len(gone or ())}


def test_the_volumes_of_a_cluster(ask, volumes):
    assert ask("PUT", "/volumes/data?version=1", {}).status == 503
