"""The verbs that talk with a program, beyond what test_magics shows."""

from __future__ import annotations

import pytest

from cellbox.errors import AlreadyExists, InvalidArgument
from cellbox_magics.grammar.programs import detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [(None, b"\x10\x11"), ("ctrl-a", b"\x01"), ("ctrl-@,x", b"\x00x"), ("", b""),
     ("CTRL-P,q", b"\x10q")],
)  # fmt: skip
def test_detach_keys_are_bytes(text, keys):
    assert detach_keys(text) == keys


def test_what_is_no_key_is_refused():
    with pytest.raises(InvalidArgument, match="ctrl-p,ctrl-q"):
        detach_keys("control-p")


def test_the_id_is_written_once(engine, say, tmp_path):
    path = tmp_path / "cid"
    say(f"%container run --cidfile {path} ubuntu hello")
    (facts,) = engine.containers.facts.values()
    assert path.read_text() == facts.id
    with pytest.raises(InvalidArgument, match="File exists"):
        say(f"%container run --cidfile {path} ubuntu hello")
    assert len(engine.containers.facts) == 1


def test_create_makes_and_does_not_start(engine, say):
    handle = say("%container create -it --name web ubuntu")
    assert handle.name == "web"
    assert not engine.named("start")
    with pytest.raises(AlreadyExists):
        say("%container create --name web ubuntu")


def test_exec_runs_in_a_running_container(engine, say, capsys):
    say("_ = %container run -d --name web ubuntu sleep 9")
    say("%container exec -u root -w /w -e A=1 web hello --help")
    spec = engine.named("exec")[0][2]
    assert (spec.command, spec.user, spec.workdir, spec.env) == (
        ("hello", "--help"), "root", "/w", ("A=1",),
    )  # fmt: skip
    assert capsys.readouterr().out == "hello\n"
    assert say("%container exec --no-raise web fail") == 3
    assert say("%container exec -d web hello") is None
    with pytest.raises(Exception, match="exec needs a command"):
        say("%container exec web")
    engine.containers.kill("web", signal="TERM")


def test_attach_shows_what_comes(engine, say, capsys):
    say("_ = %container create --name c ubuntu hello")
    engine.containers.start("c")
    say("%container attach c")
    assert capsys.readouterr().out == "hello\n"


def test_a_container_killed_by_its_limit_says_so(engine, say):
    def greedy(process):
        engine.containers.set("g", oom_killed=True)
        return 137

    engine.programs["greedy"] = greedy
    with pytest.raises(Exception, match="memory limit of 64MiB; give it more"):
        say("%container run -m 64m --name g ubuntu greedy")


def test_a_terminal_has_no_place_in_a_cell(engine, say):
    say("_ = %container run -d --name web ubuntu sleep 9")
    for line in ("run -t ubuntu", "exec -t web"):
        with pytest.raises(InvalidArgument, match="no place in a cell"):
            say(f"%%container {line}\nbody\n")
    engine.containers.kill("web", signal="TERM")


def test_an_own_entrypoint_reads_the_cell(engine, say):
    engine.programs["default"] = engine.programs["cat"]
    say("%%container run --entrypoint python ubuntu\nx\n")
    spec = engine.named("create")[0][1]
    assert (spec.entrypoint, spec.command) == (("python",), ())


def test_ports_that_nobody_publishes_are_remarked_on(engine, say, capsys):
    say("%container run --rm --network host -p 80:80 ubuntu hello")
    assert "Published ports are discarded" in capsys.readouterr().err
    say("%container run --rm -p 80:80 ubuntu hello")
    say("%container run --rm --network host ubuntu hello")
    assert "discarded" not in capsys.readouterr().err
