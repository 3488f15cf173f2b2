"""The verbs of the engine itself."""

from __future__ import annotations

import pytest

from cellbox.model.system import Damage


def test_info_and_version(say):
    assert say("%container info")["Memory"] == "4GiB"
    assert say("%container info -f '{{.Driver}} {{.NCPU}}'") == ["overlay 2"]
    assert say("%container version")["cellbox"] == "0.1.0"
    assert say("%container version --format '{{.Server.ApiVersion}}'") == ["1.45"]


def test_doctor_says_what_would_help(say):
    table = say("%container doctor")
    assert table.rows[1] == ("!!", "cgroups", "no", "mount it")


def test_disk_usage(say):
    assert say("%container system df").titles[0] == "TYPE"


def test_a_sound_store(say):
    assert say("%container system check") == ["no damage found"]


def test_damage_fails_the_cell_until_it_is_mended(engine, say, capsys):
    engine.damage = [Damage("layer", "sha256:1", "a file is missing")]
    with pytest.raises(Exception, match="--repair mends"):
        say("%container system check")
    assert "a file is missing" in capsys.readouterr().out
    engine.damage = [Damage("layer", "sha256:1", "a file is missing", "removed")]
    assert say("%container system check --repair").rows[0][3] == "removed"


def test_system_prune_takes_containers_networks_and_images(engine, say):
    say("_ = %container create --name web ubuntu ls")
    say("%container network create shop")
    said = say("%container system prune -af")
    assert said[0] == "Deleted Objects:"
    assert "shop" in said
    assert not engine.containers.facts
    assert sorted(engine.networks.facts) == ["bridge", "host", "none"]
