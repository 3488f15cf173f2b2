"""The verbs of volumes."""

from __future__ import annotations

import json

import pytest

from cellbox.errors import CellboxError, InvalidArgument, NotFound
from cellbox.model.volume import VolumeSpec


def test_create_tells_the_name(engine, say):
    assert say("%container volume create --label a=1 --label b -o type=tmpfs -o device=x data") == [
        "data"
    ]
    spec = VolumeSpec("data", options={"type": "tmpfs", "device": "x"}, labels={"a": "1", "b": ""})
    assert engine.named("volume create") == [("volume create", spec)]
    assert say("%container volume create -d nfs") == ["f" * 64]
    assert engine.named("volume create")[-1][1].driver == "nfs"
    with pytest.raises(InvalidArgument, match="key=value"):
        say("%container volume create -o size data")


def test_ls_is_a_list_of_handles(engine, say):
    say("%container volume create two")
    say("%container volume create one")
    found = say("%container volume ls --filter label=a")
    assert [handle.name for handle in found] == ["one", "two"]
    assert engine.named("volumes")[-1] == ("volumes", {"label": ["a"]})
    assert found.titles == ("DRIVER", "VOLUME NAME")
    assert say("%container volume list -q") == ["one", "two"]
    assert say("%container volume ls --format '{{.Name}} {{.Mountpoint}}'")[0] == (
        "one /store/one/_data"
    )


def test_inspect_is_dockers_json(say):
    say("%container volume create data")
    (facts,) = say("%container volume inspect data")
    assert (facts["Name"], facts["Driver"], facts["Scope"]) == ("data", "local", "local")
    assert json.loads(say("%container volume inspect -f '{{json .Mountpoint}}' data")[0]) == (
        "/store/data/_data"
    )
    with pytest.raises(NotFound, match="No such volume: gone"):
        say("%container volume inspect gone")


def test_rm_and_rename(engine, say):
    say("%container volume create one")
    say("%container volume rename one two")
    assert list(engine.volumes.facts) == ["two"]
    assert say("%container volume rm two") == ["two"]
    with pytest.raises(NotFound):
        say("%container volume remove two")
    assert say("%container volume rm -f two") == ["two"]


def test_prune_spares_names_unless_told_otherwise(engine, say):
    say("%container volume create data")
    say("%container volume create")
    assert say("%container volume prune -f") == [
        "Deleted Volumes:", "f" * 64, "", "Total reclaimed space: 64B",
    ]  # fmt: skip
    assert say("%container volume prune -f --filter label=a -a") == ["Total reclaimed space: 0B"]
    assert "data" in say("%container volume prune -f -a")
    with pytest.raises(CellboxError, match="until"):
        say("%container volume prune -f --filter until=1h")


def test_rm_v_and_system_prune_take_those_without_a_name(engine, say):
    say("_ = %container create --name web ubuntu ls")
    say("%container rm -v web")
    assert engine.named("remove")[-1] == ("remove", "web", False, True)
    say("%container volume create")
    assert "f" * 64 not in say("%container system prune -f")
    assert "f" * 64 in say("%container system prune -f --volumes")
