"""Which program a name means, and what is listed."""

from __future__ import annotations

import pytest

from cellbox.drivers import finder as module
from cellbox.drivers.finder import Finder
from cellbox.drivers.places import Place
from cellbox.errors import InvalidArgument, NotFound
from cellbox.model.plugin import Plugin, PluginKind


def test_a_program_is_found_by_name_and_asked_once(served, tmp_path):
    calls = served({"Plugin.Activate": {"Implements": ["VolumeDriver"]}}).calls
    finder = Finder([tmp_path])
    one = finder.find("shelf", "VolumeDriver")
    assert finder.find("shelf", "VolumeDriver") is one
    assert calls == [("Plugin.Activate", {})]
    with pytest.raises(InvalidArgument, match="shelf implements VolumeDriver, but no authz"):
        finder.find("shelf", "authz")
    with pytest.raises(NotFound, match="No such plugin: nobody"):
        finder.find("nobody", "VolumeDriver")


def test_what_the_engine_runs_goes_first(served, tmp_path):
    served({"Plugin.Activate": {"Implements": ["VolumeDriver"]}})
    own = served({"Plugin.Activate": {"Implements": ["authz"]}}, "own")
    asked = []

    def managed(name) -> Place | None:
        asked.append(name)
        return own.place

    assert Finder([tmp_path], managed).find("shelf", "authz").place is own.place
    assert asked == ["shelf"]


def test_the_list_has_all_and_their_errors(served, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.3)
    both = ["VolumeDriver", "IpamDriver", "SomethingElse"]
    served({"Plugin.Activate": {"Implements": both}}, "both")
    served({"Plugin.Activate": {"Implements": ["metricscollector"]}}, "odd")
    served({"Plugin.Activate": {"Err": "not today"}}, "sick")
    (tmp_path / "bad.spec").write_text("nonsense")
    found = Finder([tmp_path]).plugins()
    assert [
        (one.name, one.kind, one.enabled) for one in sorted(found, key=lambda one: one.name)
    ] == [
        ("bad", PluginKind.OTHER, False),
        ("both", PluginKind.IPAM, True),
        ("both", PluginKind.VOLUME, True),
        ("odd", PluginKind.OTHER, True),
        ("sick", PluginKind.OTHER, False),
    ]
    errors = {one.name: one.error for one in found}
    assert "not today" in errors["sick"] and "no address" in errors["bad"]
    socket = tmp_path / "odd.sock"
    assert Plugin(PluginKind.OTHER, "odd", f"socket {socket}", f"unix://{socket}") in found


def test_nothing_is_listed_of_nothing(tmp_path):
    assert Finder([tmp_path]).plugins() == []
