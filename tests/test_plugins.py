"""Plugins: found, loaded when asked for, and kept from harming each other."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from cellbox import plugins
from cellbox.containers.logs import JsonFile
from cellbox.errors import EngineError, NotFound
from cellbox.model.plugin import Plugin, PluginKind
from cellbox.plugins import BUILT_IN, Registered, Registry

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

MODULE = """
class Volumes:
    def create(self, name, options): ...
    def remove(self, name): ...
    def mount(self, name, container): ...
    def unmount(self, name, container): ...
    def path(self, name): ...
    def names(self): ...

class Half:
    def create(self, name, options): ...

def maker(): return Volumes()

constant = 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A stranger's module ``somebody`` with plugins in it, and one that cannot be imported."""
    (tmp_path / "somebody.py").write_text(MODULE)
    (tmp_path / "somebody_broken.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "somebody"
    for name in ("somebody", "somebody_broken"):
        sys.modules.pop(name, None)


def registry(*entries, built_in=None):
    """Entries are ``(KIND.NAME, reference, distribution)``."""
    return Registry(built_in or {}, lambda: [Registered(*entry) for entry in entries])


def test_the_table_is_what_pyproject_registers():
    with PYPROJECT.open("rb") as file:
        registered = tomllib.load(file)["project"]["entry-points"][plugins.GROUP]
    assert registered == BUILT_IN


def test_every_default_can_be_loaded():
    listed = Registry(find=lambda: []).all()
    assert [f"{plugin.kind}.{plugin.name}" for plugin in listed] == sorted(BUILT_IN)
    assert {plugin.origin for plugin in listed} == {"built in"}
    assert [plugin for plugin in listed if plugin.error] == []


def test_a_default_is_loaded_without_a_search():
    def search():
        raise AssertionError("searched")

    assert Registry(find=search).load(PluginKind.LOG, "json-file") is JsonFile


def test_a_strangers_plugin_is_loaded_when_asked_for(module):
    found = registry(("volume.nfs", f"{module}:Volumes", "somebody"))

    assert found.names(PluginKind.VOLUME) == ("nfs",)
    assert module not in sys.modules
    assert found.load(PluginKind.VOLUME, "nfs")().names() is None
    assert found.all() == [Plugin(PluginKind.VOLUME, "nfs", "somebody", f"{module}:Volumes")]


def test_a_function_that_makes_one_will_do(module):
    found = registry(("volume.nfs", f"{module}:maker", "somebody"))
    assert found.load(PluginKind.VOLUME, "nfs")().names() is None


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("somebody_broken:Volumes", "RuntimeError: no luck"),
        ("nobody_has_this:Volumes", "ModuleNotFoundError: No module named 'nobody_has_this'"),
        ("somebody:Missing", "AttributeError: module 'somebody' has no attribute 'Missing'"),
        ("somebody:constant", "TypeError: somebody:constant cannot be called"),
        ("somebody:Half", "TypeError: somebody:Half has no remove, mount, unmount, path, names"),
    ],
)
def test_a_broken_one_is_listed_and_harms_no_other(module, reference, error):
    found = registry(
        ("volume.bad", reference, "somebody"), ("volume.good", f"{module}:Volumes", "somebody")
    )

    assert [(plugin.name, plugin.error) for plugin in found.all()] == [("bad", error), ("good", "")]
    assert found.load(PluginKind.VOLUME, "good")
    with pytest.raises(EngineError, match="the plugin volume.bad is broken: "):
        found.load(PluginKind.VOLUME, "bad")


def test_an_unknown_one_is_told_with_what_there_is():
    with pytest.raises(NotFound, match=r"No such plugin: log.syslog \(.*: json-file, local, none"):
        Registry(find=lambda: []).load(PluginKind.LOG, "syslog")


def test_a_default_cannot_be_taken_over(module):
    found = Registry(
        {"log.json-file": BUILT_IN["log.json-file"]},
        lambda: [Registered("log.json-file", f"{module}:Volumes", "a-thief")],
    )

    assert found.load(PluginKind.LOG, "json-file") is JsonFile
    mine, thief = found.all()
    assert (mine.origin, mine.error) == ("built in", "")
    assert (thief.origin, thief.error) == ("a-thief", "the name is taken: built in has it")


def test_our_own_entry_points_are_not_twice_there():
    entries = [Registered(name, reference, "cellbox") for name, reference in BUILT_IN.items()]
    assert len(Registry(find=lambda: entries).all()) == len(BUILT_IN)


def test_of_two_strangers_the_first_in_the_alphabet_has_the_name(module):
    found = registry(
        ("volume.nfs", f"{module}:maker", "zoo"), ("volume.nfs", f"{module}:Volumes", "Ant")
    )

    assert found.load(PluginKind.VOLUME, "nfs").__name__ == "Volumes"
    assert [(plugin.origin, plugin.error) for plugin in found.all()] == [
        ("Ant", ""),
        ("zoo", "the name is taken: Ant has it"),
    ]


@pytest.mark.parametrize("name", ["volume", "teleporter.beam", "volume.", ".nfs"])
def test_what_is_no_plugin_of_this_engine_is_left_alone(name):
    assert registry((name, "nowhere:Nothing", "somebody")).all() == []


def test_entry_points_of_installed_distributions_are_found(tmp_path, monkeypatch):
    info = tmp_path / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cellbox.plugins]\nvolume.nfs = somebody:Volumes\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert metadata.distribution("somebody")
    expected = Registered("volume.nfs", "somebody:Volumes", "somebody")
    assert expected in plugins.installed()
