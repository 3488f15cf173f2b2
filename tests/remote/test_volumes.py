"""Volumes behind the API."""

from __future__ import annotations

import json

import pytest

from cellbox.errors import InUse, NotFound, NotSupported
from cellbox.model.volume import Volume, VolumeSpec
from cellbox.wire.volumes import volume_json

DATA = Volume("data", "local", "/v/data", 1e9, labels={"a": "b"})


@pytest.fixture(autouse=True)
def containers(tells):
    """``containers(...)``: what the list of containers says; nothing at first."""

    def tell(*found):
        tells("GET /containers/json", list(found))

    tell()
    return tell


def test_a_volume_knows_its_users(engine, tells, containers):
    containers(
        {"Id": "1", "Mounts": [{"Type": "volume", "Name": "data"}]},
        {"Id": "2", "Mounts": [{"Type": "bind", "Source": "/x"}]},
        {"Id": "3", "Mounts": [{"Type": "volume", "Name": "data"}]},
    )
    tells("GET /volumes/data", volume_json(DATA))
    assert engine.volumes.get("data").users == ("1", "3")


def test_create_and_get(engine, tells, daemon):
    tells("POST /volumes/create", volume_json(DATA), 201)
    assert engine.volumes.create(VolumeSpec("data", labels={"a": "b"})) == DATA
    assert json.loads(daemon.asked[0].body)["Labels"] == {"a": "b"}
    tells("GET /volumes/data", volume_json(DATA))
    assert engine.volumes.get("data") == DATA


def test_lists_are_by_name(engine, tells, told, daemon):
    other = Volume("a", "local", "/v/a", 1e9)
    tells("GET /volumes", {"Volumes": [volume_json(DATA), volume_json(other)]})
    assert engine.volumes.list() == [other, DATA]
    assert daemon.asked[0].target.endswith("/volumes")
    tells("GET /volumes", {"Volumes": None})
    assert engine.volumes.list(filters={"dangling": ["true"]}) == []
    assert "dangling" in told()[1]["filters"][0]


def test_remove(engine, tells, told):
    tells("DELETE /volumes/data", None, 204)
    engine.volumes.remove("data", force=True)
    assert told()[1] == {"force": ["1"]}
    words = "remove data: volume is in use - [abc]"
    tells("DELETE /volumes/data", {"message": words}, 409)
    with pytest.raises(InUse, match="in use"):
        engine.volumes.remove("data")


def test_size(engine, tells):
    found = [volume_json(DATA, 77), {"Name": "far", "UsageData": {"Size": -1}}]
    tells("GET /system/df", {"Volumes": found})
    assert engine.volumes.size("data") == 77
    assert engine.volumes.size("far") == 0
    with pytest.raises(NotFound):
        engine.volumes.size("nosuch")


def test_a_name_is_for_ever(engine):
    with pytest.raises(NotSupported, match="cannot rename"):
        engine.volumes.rename("data", "more")
