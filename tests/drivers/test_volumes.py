"""The volume protocol: what is sent, and what is made of the answers."""

from __future__ import annotations

import pytest
from tests.drivers.programs import shelves

from cellbox.drivers.client import Client
from cellbox.drivers.places import Place
from cellbox.drivers.volumes import VolumeProgram
from cellbox.errors import EngineError


def test_what_is_said_is_the_protocols(served, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    client = served(shelves(folder))
    volumes = VolumeProgram(client)
    volumes.create("data", {"size": "1g"})
    assert volumes.mount("data", "c1") == volumes.path("data") == str(folder / "data")
    assert volumes.names() == ["data"]
    volumes.unmount("data", "c1")
    volumes.remove("data")
    assert not (folder / "data").exists()
    assert client.calls == [
        ("VolumeDriver.Create", {"Name": "data", "Opts": {"size": "1g"}}),
        ("VolumeDriver.Mount", {"Name": "data", "ID": "c1"}),
        ("VolumeDriver.Path", {"Name": "data"}),
        ("VolumeDriver.List", {}),
        ("VolumeDriver.Unmount", {"Name": "data", "ID": "c1"}),
        ("VolumeDriver.Remove", {"Name": "data"}),
    ]
    with pytest.raises(EngineError, match=r"VolumeDriver\.Remove: no such volume data"):
        volumes.remove("data")


@pytest.mark.parametrize(
    "answer", [{}, {"Mountpoint": ""}, {"Mountpoint": 5}, {"Mountpoint": None}]
)
def test_a_place_that_is_none(served, answer):
    volumes = VolumeProgram(served({"VolumeDriver.Mount": answer, "VolumeDriver.Path": answer}))
    assert volumes.mount("data", "c1") == volumes.path("data") == ""


@pytest.mark.parametrize("answer", [{"Volumes": 5}, {"Volumes": [5]}, {"Volumes": [{}]}])
def test_a_list_that_is_none(served, answer):
    with pytest.raises(EngineError, match=r"does not answer VolumeDriver\.List with names"):
        VolumeProgram(served({"VolumeDriver.List": answer})).names()


def test_paths_of_one_in_a_container_are_ours(served, tmp_path):
    inner = served({"VolumeDriver.Mount": lambda body: {"Mountpoint": f"/data/{body['Name']}"}})
    (tmp_path / "prop" / "x").mkdir(parents=True)
    (tmp_path / "prop" / "out").symlink_to("/etc")
    roots = (("/data", str(tmp_path / "prop")), ("/", str(tmp_path / "nothing")))
    volumes = VolumeProgram(Client(Place("p", inner.place.address, "x", roots=roots)))
    assert volumes.mount("x", "c1") == str(tmp_path / "prop" / "x")
    assert volumes.mount("out", "c1") == volumes.mount("../../etc", "c1") == ""
