"""The embedded engine as one object: where it lies, how it is told, what it shares."""

from __future__ import annotations

import os

from cellbox.local import engine as module
from cellbox.local.engine import LocalEngine
from cellbox.local.places import run_directory


def test_two_stores_share_nothing(engine, tmp_path):
    other = LocalEngine(tmp_path / "other")
    try:
        assert run_directory(tmp_path / "other") != run_directory(engine._store.root)
        assert other._store.state.id() != engine._store.state.id()
        assert other.images.list() == []
    finally:
        other.close()
        os.rmdir(run_directory(tmp_path / "other"))


def test_engines_of_one_store_share_it(engine, store, busybox):
    other = LocalEngine(store)
    assert other.info().id == engine.info().id
    assert other.images.list() == [busybox]
    other.close()


def test_the_mode_is_told(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert module._mode() == "root"
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(module.idmap, "helpers", lambda: ("newuidmap", "newgidmap"))
    monkeypatch.setattr(module.idmap, "subordinate", lambda uid, file: [(100000, 65536)])
    assert module._mode() == "rootless"
    monkeypatch.setattr(module.idmap, "subordinate", lambda uid, file: [])
    assert module._mode() == "rootless, single id"


def test_a_closed_engine_opens_again(engine, busybox):
    engine.close()
    engine.close()
    assert engine.images.list() == [busybox]


def test_what_keeps_containers_from_networks_is_a_warning(engine):
    note = engine._store.run / "reach.json"
    note.write_text('{"obstacle": "nftables are missing"}', encoding="utf-8")
    assert "containers have no network: nftables are missing" in engine.info().warnings
    note.write_text('{"missing": "no way out"}', encoding="utf-8")
    assert "no way out" in engine.info().warnings
    note.write_text("{}", encoding="utf-8")
    assert not any("no network" in warning for warning in engine.info().warnings)
    note.unlink()
    assert not any("no network" in warning for warning in engine.info().warnings)
