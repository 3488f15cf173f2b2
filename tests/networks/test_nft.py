"""nftables by its library and by its command."""

from __future__ import annotations

import json
import shutil

import pytest

from cellbox.errors import EngineError, NotSupported
from cellbox.linux import syscalls
from cellbox.networks import nft
from cellbox.networks.nft import Nft

TABLE = """table inet cbtest {
  set s {
    type ipv4_addr; elements = { 10.0.0.1 }
  }
}
"""
LIST = "list table inet cbtest\n"


@pytest.fixture(params=["library", "command"])
def way(request, monkeypatch):
    """Both ways to nftables."""
    if request.param == "command":
        monkeypatch.setattr(nft, "_LIBRARY", "libnothing.so.1")
        nft._load.cache_clear()
    yield request.param
    nft._load.cache_clear()


def need():
    if not shutil.which("nft", path=nft._PATH):
        pytest.skip("needs nftables")


@pytest.mark.root
def test_it_is_done_and_told(apart, way):
    need()

    def action():
        tables = Nft()
        before = tables.ask(LIST)
        tables.apply(TABLE)
        told = json.loads(tables.ask("list set inet cbtest s\n"))
        with pytest.raises(EngineError, match="nftables refused the rules: .*rror"):
            tables.apply("delete table inet cbtest\nadd rule inet nowhere x accept\n")
        return before, told["nftables"][-1]["set"]["elem"], bool(tables.ask("list tables\n"))

    assert apart(action) == ("", ["10.0.0.1"], True)


@pytest.mark.root
def test_one_belongs_to_the_namespace_in_which_it_was_made(apart, space, way):
    need()
    if way == "command":
        pytest.skip("a command is of the namespace in which it runs")

    def action():
        tables, there = Nft(), space()
        with there.entered():
            tables.apply(TABLE)
            return Nft().ask(LIST), bool(tables.ask(LIST))

    assert apart(action) == ("", True)


@pytest.mark.root
def test_whether_it_can_be_used(apart, way):
    need()
    if way == "command":
        pytest.skip("root gets its rights back with a command that it executes")

    def action():
        good = nft.usable()
        syscalls.capset(0, 0, 0)
        return good, nft.usable()

    good, without_rights = apart(action)
    assert good == ""
    assert without_rights.startswith("this machine does not let us use nftables: ")


def test_where_neither_is_there_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(nft, "_LIBRARY", "libnothing.so.1")
    monkeypatch.setattr(nft.shutil, "which", lambda name, path: None)
    nft._load.cache_clear()
    with pytest.raises(NotSupported, match="apt-get install nftables"):
        Nft()
    assert "apt-get install nftables" in nft.usable()
