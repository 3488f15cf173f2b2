"""The verbs that look."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.model.container import PortSpec, Status
from cellbox.model.image import ImageConfig


@pytest.fixture
def web(say, engine):
    """A container called web, made and not started."""
    say("_ = %container create --name web -l a=1 ubuntu sleep 9")
    return engine.containers.get("web")


def test_ps_asks_for_what_runs_unless_told(web, engine, say):
    assert len(say("%container ps")) == 0
    assert len(say("%container ps -a")) == 1
    assert len(say("%container ps -l")) == 1
    assert len(say("%container ps --filter status=created")) == 1
    assert engine.named("list")[-1] == ("list", True, {"status": ["created"]})
    assert say("%container ps -aq") == [web.short_id]
    assert say("%container ps -aq --no-trunc") == [web.id]
    assert say("%container container ls -a --format '{{.Names}}'") == ["web"]


def test_logs_go_to_their_streams(web, engine, say, capsys):
    say("%container logs -f --tail 5 --since 10s web")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("first\n", "second\n")
    how = engine.named("logs")[0][2]
    assert (how["follow"], how["tail"], how["until"]) == (True, 5, None)
    say("%container logs -t web")
    assert capsys.readouterr().out == "2023-11-14T22:13:20Z first\n"


def test_logs_can_be_cleared(web, engine, say, capsys):
    say("%container logs --clear web")
    assert engine.named("clear_logs") == [("clear_logs", "web")]
    assert capsys.readouterr().out == ""


def test_a_tail_is_a_number(web, say):
    with pytest.raises(InvalidArgument, match="number of lines"):
        say("%container logs --tail many web")


def test_inspect_tells_containers_and_images_as_docker_does(web, say):
    told = say("%container inspect web ubuntu")
    assert (told[0]["Name"], told[1]["RepoTags"]) == ("/web", ["ubuntu:latest"])
    assert json.loads(repr(told))[0]["Id"] == web.id
    assert say("%container inspect -f '{{.State.Status}}' web") == ["created"]
    assert say("%container inspect --format '{{json .Config.Cmd}}' web") == ['["sleep","9"]']
    assert json.loads(say("%container inspect -f json ubuntu")[0])[0]["Size"] == 72_800_000
    assert say("%container image inspect -f '{{.Os}}' ubuntu") == ["linux"]


def test_inspect_shows_what_is_there_and_fails_for_the_rest(web, say, capsys):
    with pytest.raises(Exception, match="1 of 2 failed"):
        say("%container inspect web nothing")
    captured = capsys.readouterr()
    assert '"Name": "/web"' in captured.out
    assert "No such object: nothing" in captured.err
    with pytest.raises(NotFound, match="No such container: ubuntu"):
        say("%container inspect --type container ubuntu")
    assert say("%container inspect -f '{{.Driver}}' bridge") == ["bridge"]
    with pytest.raises(NotFound, match="No such volume: web"):
        say("%container inspect --type volume web")
    with pytest.raises(InvalidArgument, match="container, image, network, volume"):
        say("%container inspect --type node web")


def test_top_passes_the_options_of_ps(web, engine, say):
    table = say("%container top web -o pid,cmd")
    assert table.titles == ("PID", "CMD")
    assert engine.named("top") == [("top", "web", "-o pid,cmd")]


def test_stats_once(web, say, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    table = say("%container stats --no-stream web")
    assert table.rows[0][2] == "100.00%"
    assert len(say("%container stats --no-stream -a")) == 1


def test_ports_of_one_that_runs(web, engine, say):
    assert say("%container port web") == []
    ports = (
        PortSpec(443, host_ip="::1", host_port=444), PortSpec(80, host_port=8080),
        PortSpec(53, "udp", "127.0.0.1", 1053),
    )  # fmt: skip
    engine.containers.set("web", status=Status.RUNNING, pid=7, ports=ports)
    assert say("%container port web") == [
        "53/udp -> 127.0.0.1:1053", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080",
        "443/tcp -> [::1]:444",
    ]  # fmt: skip
    assert say("%container port web 80") == ["0.0.0.0:8080", "[::]:8080"]
    assert say("%container port web 53/udp") == ["127.0.0.1:1053"]
    with pytest.raises(NotFound, match="public port: 53 published for web"):
        say("%container port web 53")
    with pytest.raises(InvalidArgument, match=r"invalid port \(http\)"):
        say("%container port web http")


def test_ps_tells_what_is_published_and_what_could_be(web, engine, say):
    image = engine.images.get("ubuntu")
    config = ImageConfig(exposed_ports=("443/tcp",))
    engine.images.facts["ubuntu:latest"] = replace(image, config=config)
    ports = (PortSpec(80, host_ip="127.0.0.1", host_port=8080),)
    engine.containers.set("web", status=Status.RUNNING, pid=7, ports=ports)
    assert say("%container ps --format '{{.Ports}}|{{.Networks}}'") == [
        "443/tcp, 127.0.0.1:8080->80/tcp|bridge"
    ]


def test_changes(web, say):
    assert say("%container diff web") == ["C /etc", "A /etc/new"]


def test_events_are_lines_or_json(engine, say, capsys):
    say("%container events --since 1h --until 0s --filter type=container")
    assert "container start abc (image=ubuntu, name=web)" in capsys.readouterr().out
    assert engine.named("events")[0][1]["filters"] == {"type": ["container"]}
    say("%container system events --until 0s --format json")
    assert json.loads(capsys.readouterr().out)["Actor"]["ID"] == "abc"
