"""The verbs that change a container."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.model.container import Limits, PortSpec, RestartPolicy, Status


@pytest.fixture
def two(say):
    """Containers a and b, made and not started."""
    for name in "ab":
        say(f"_ = %container create --name {name} ubuntu sleep 9")


def test_one_verb_over_several_names(two, engine, say):
    assert say("%container stop -t 3 -s INT a b") == ["a", "b"]
    assert engine.named("stop") == [("stop", "a", 3.0, "INT"), ("stop", "b", 3.0, "INT")]
    assert say("%container kill -s HUP a") == ["a"]
    assert say("%container pause a") == ["a"]
    assert engine.containers.get("a").status is Status.PAUSED
    assert say("%container unpause a") == ["a"]
    assert say("%container rm -fv a b") == ["a", "b"]


def test_one_that_fails_does_not_hold_up_the_others(two, engine, say, capsys):
    with pytest.raises(Exception, match="1 of 3 failed"):
        say("%container rm a nothing b")
    captured = capsys.readouterr()
    assert captured.out.startswith("a\nb\n")
    assert "No such container: nothing" in captured.err
    assert not engine.containers.facts
    with pytest.raises(NotFound):
        say("%container rm nothing")


def test_start_restart_and_wait(two, engine, say, until):
    assert say("%container start a") == ["a"]
    engine.containers.kill("a", signal="TERM")
    assert say("%container wait a") == [143]
    assert say("%container wait --condition next-exit a") == [143]
    conditions = [call[-1] for call in engine.named("wait")]
    assert conditions == ["not-running", "next-exit"]
    engine.containers.processes[engine.containers.get("a").id].signals.put("INT")
    assert say("%container restart a") == ["a"]
    assert [call[0] for call in engine.calls[-2:]] == ["stop", "start"]


def test_start_attached_streams_and_fails_with_the_program(engine, say, capsys):
    say("_ = %container create --name f ubuntu fail")
    with pytest.raises(Exception, match="exit code 3"):
        say("%container start -a f")
    assert "it went wrong" in capsys.readouterr().err


def test_rename_and_update(two, engine, say):
    assert say("%container rename a c") is None
    assert engine.containers.get("c")
    say("%container update -m 1g --restart always c b")
    assert engine.named("update")[0] == (
        "update", "c", Limits(memory=1 << 30), RestartPolicy("always"),
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="at least one flag"):
        say("%container update c")


def test_update_can_make_a_container_anew(two, engine, say):
    say("%container update -e A=1 -p 8080:80 a")
    anew = {"env": ("A=1",), "ports": (PortSpec(80, host_port=8080),)}
    assert engine.named("anew") == [("anew", "a", None, None, anew)]
    say("%container update -m 1g --mount-rm /x a")
    assert engine.named("anew")[-1] == ("anew", "a", Limits(memory=1 << 30), None, {"mounts": ()})
    assert not engine.named("update")


def test_prune_removes_what_does_not_run(two, engine, say):
    engine.containers.set("a", status=Status.RUNNING)
    said = say("%container container prune -f --filter until=0s")
    assert said[0] == "Deleted Containers:"
    assert said[-1] == "Total reclaimed space: 1kB"
    assert [facts.name for facts in engine.containers.facts.values()] == ["a"]
    assert say("%container container prune -f") == ["Total reclaimed space: 0B"]


def test_prune_asks_first(two, engine, say, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    with pytest.raises(Exception, match="nothing was removed"):
        say("%container container prune")
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    say("%container container prune")
    assert not engine.containers.facts


def test_move(two, engine, say, monkeypatch):
    from cellbox_magics.grammar import lifecycle

    class Other:
        closed = False

        def close(self) -> None:
            self.closed = True

    other, asked = Other(), []

    def move(source, ref, target, **how):
        del how["watch"]
        asked.append((source is engine, ref, target is other, how))

    monkeypatch.setattr(lifecycle, "connect", {"unix:///other.sock": other}.__getitem__)
    monkeypatch.setattr(lifecycle.moving, "move", move)
    assert say("%container move a b --to unix:///other.sock -t 3 --keep-volumes") == ["a", "b"]
    how = {"keep_volumes": True, "timeout": 3.0}
    assert asked == [(True, "a", True, how), (True, "b", True, how)]
    assert other.closed
    with pytest.raises(Exception, match="--to"):
        say("%container move a")
