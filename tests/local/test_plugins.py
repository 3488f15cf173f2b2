"""One list of all plugins; and what cannot be changed here says where it can."""

from __future__ import annotations

import pytest
from tests.drivers.programs import program, shelves

from cellbox.errors import InvalidArgument, NotFound, NotSupported
from cellbox.plugins import REGISTRY


@pytest.fixture
def socket(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLBOX_PLUGIN_PATH", str(tmp_path / "sockets"))
    path = tmp_path / "sockets" / "shelf.sock"
    with program(path, shelves(tmp_path)):
        yield path


def test_one_list_has_all(quick_engine, socket):
    found = {(one.kind, one.name): one for one in quick_engine.plugins.list()}
    assert set(found) >= {("snapshotter", "overlay"), ("volume", "local"), ("volume", "shelf")}
    assert found["volume", "local"].origin == "built in"
    assert found["volume", "shelf"].origin == f"socket {socket}"
    assert quick_engine.plugins.get("shelf") == found["volume", "shelf"]
    assert quick_engine.plugins.get("shelf:latest").enabled


def test_filters(quick_engine, socket):
    plugins = quick_engine.plugins
    names = {one.name for one in plugins.list(filters={"capability": ["volumedriver"]})}
    assert names == {"local", "shelf"}
    (socket.parent / "bad.spec").write_text("nonsense")
    assert [one.name for one in plugins.list(filters={"enabled": ["false"]})] == ["bad"]
    for filters in ({"colour": ["red"]}, {"enabled": ["perhaps"]}):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            plugins.list(filters=filters)


@pytest.mark.parametrize(
    ("name", "told"), [("shelf", "somebody else runs"), ("overlay", "a part of the engine")]
)
def test_others_are_changed_elsewhere(quick_engine, socket, name, told):
    plugins = quick_engine.plugins
    for change in (
        plugins.enable,
        plugins.disable,
        plugins.remove,
        lambda ref: plugins.set(ref, ["A=1"]),
        lambda ref: plugins.upgrade(ref, "x"),
    ):
        with pytest.raises(NotSupported, match=told):
            change(name)


def test_a_package_is_changed_with_pip(quick_engine, monkeypatch):
    from cellbox.model.plugin import Plugin, PluginKind

    theirs = Plugin(PluginKind.VOLUME, "nfs", "nfs-volumes", "nfs:Volumes")
    monkeypatch.setattr(REGISTRY, "all", lambda: [theirs])
    with pytest.raises(NotSupported, match="use pip"):
        quick_engine.plugins.disable("nfs")
    with pytest.raises(NotFound, match="No such plugin: none"):
        quick_engine.plugins.get("none")
