"""Plugins behind the API."""

from __future__ import annotations

import io
import json

import pytest

from cellbox.errors import NotFound
from cellbox.model.plugin import Plugin, PluginConfig, PluginKind, Privilege
from cellbox.wire.plugins import plugin_json, privileges_json

NFS = Plugin(PluginKind.VOLUME, "nfs", "nfs-volumes", "nfs:Volumes")
MINE = Plugin(
    PluginKind.VOLUME, "lab/x:1", "image lab/x:1", "lab/x:1", id="ab" * 32,
    config=PluginConfig("Shelves", types=("docker.volumedriver/1.0",)),
)  # fmt: skip
WANTED = [Privilege("mount", "host path to mount", ("/srv",))]


def test_the_list_has_the_engines_own_too(engine, tells):
    tells("GET /plugins", [plugin_json(MINE), plugin_json(NFS)])
    tells("GET /info", {"Plugins": {"Volume": ["local", "nfs"], "Log": ["json-file"]}})
    found = {(one.kind, one.name, one.origin) for one in engine.plugins.list()}
    assert found == {
        ("volume", "lab/x:1", "image lab/x:1"),
        ("volume", "nfs", "nfs-volumes"),
        ("volume", "local", "engine"),
        ("log", "json-file", "engine"),
    }
    filtered = engine.plugins.list(filters={"enabled": ["true"]})
    assert [one.name for one in filtered] == ["lab/x:1", "nfs"]


def test_get(engine, tells):
    tells("GET /plugins/lab/x:1/json", plugin_json(MINE))
    assert engine.plugins.get("lab/x:1") == MINE
    tells("GET /plugins/lab/y/json", {"message": 'plugin "lab/y" not found'}, 404)
    with pytest.raises(NotFound, match='plugin "lab/y" not found'):
        engine.plugins.get("lab/y")


def test_install_and_upgrade(engine, tells, daemon):
    tells("GET /plugins/privileges", privileges_json(WANTED))
    assert engine.plugins.privileges("lab/x:1") == WANTED
    tells("POST /plugins/pull", {"status": "done"})
    tells("GET /plugins/mine/json", plugin_json(MINE))
    seen = []
    made = engine.plugins.install("lab/x:1", name="mine", privileges=WANTED, watch=seen.append)
    assert (made, [one.action for one in seen]) == (MINE, ["done"])
    pulled = daemon.asked[1]
    assert json.loads(pulled.body) == privileges_json(WANTED)
    tells("POST /plugins/mine/upgrade", {"status": "done"})
    assert engine.plugins.upgrade("mine", "lab/x:2", privileges=WANTED) == MINE


def test_what_changes_one(engine, tells, daemon):
    tells("POST /plugins/create", "", 204)
    tells("GET /plugins/lab/x:1/json", plugin_json(MINE))
    assert engine.plugins.create("lab/x:1", io.BytesIO(b"tar")) == MINE
    for verb in ("enable", "disable", "set"):
        tells(f"POST /plugins/lab/x:1/{verb}", "", 204)
    tells("DELETE /plugins/lab/x:1", "", 200)
    engine.plugins.enable("lab/x:1", timeout=7)
    engine.plugins.disable("lab/x:1", force=True)
    engine.plugins.set("lab/x:1", ("A=1",))
    engine.plugins.remove("lab/x:1")
    assert json.loads(daemon.asked[-2].body) == ["A=1"]
