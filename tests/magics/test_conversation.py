"""A program that reads, talked with through input boxes."""

from __future__ import annotations

import threading

import pytest

from cellbox_magics import conversation
from cellbox_magics.conversation import Conversation, Echo
from cellbox_magics.outcome import Interrupted


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(conversation.Conversation.__init__, "__kwdefaults__", {"quiet": 0.01})


@pytest.fixture
def answers(monkeypatch):
    """What the user types, box by box; an exception is raised, a callable is called."""
    given: list[object] = []
    boxes: list[str] = []

    def box(kind):
        def show(prompt=""):
            boxes.append(kind)
            answer = given.pop(0)
            if callable(answer):
                answer = answer()
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return show

    monkeypatch.setattr("builtins.input", box("input"))
    monkeypatch.setattr("getpass.getpass", box("password"))
    given_boxes = given, boxes
    return given_boxes


def asks(process):
    process.out("name? ")
    name = process.read()
    process.out(b"hello " + name)
    return 0


def test_a_program_that_waits_gets_a_line(engine, say, answers, capsys):
    given, boxes = answers
    given.append("ada")
    engine.programs["asks"] = asks
    say("%container run -i ubuntu asks")
    assert capsys.readouterr().out == "name? hello ada\n"
    assert boxes == ["input"]


def test_a_password_is_hidden(engine, say, answers):
    given, boxes = answers
    given.append("secret")

    def login(process):
        process.out("Password for ada: ")
        process.read()
        return 0

    engine.programs["login"] = login
    say("%container run -i ubuntu login")
    assert boxes == ["password"]


def test_the_end_of_input_is_the_key_that_ends_it(engine, say, answers, capsys):
    given, _ = answers
    given.extend(["one", "^D"])
    say("%container run -i ubuntu cat")
    assert capsys.readouterr().out == "one\n"


def test_a_front_end_without_an_input_box_ends_the_input(engine, say, answers):
    given, boxes = answers
    given.append(NotImplementedError())
    say("%container run -i ubuntu cat")
    assert boxes == ["input"]


def test_an_interrupt_at_the_box_ends_the_input_and_a_second_stops(engine, say, answers, capsys):
    given, _ = answers
    given.append(KeyboardInterrupt())
    say("%container run -i ubuntu cat")
    assert "interrupt again" in capsys.readouterr().err


def test_a_terminal_is_ended_by_its_own_key_and_then_stopped(engine, say, answers):
    given, _ = answers
    given.extend([KeyboardInterrupt(), KeyboardInterrupt()])
    told = []

    def deaf(process):
        told.append(process.read())
        told.append(process.signal())
        return 130

    engine.programs["deaf"] = deaf
    with pytest.raises(Interrupted):
        say("%container run -it ubuntu deaf")
    assert told == [b"\x04", "INT"]


def test_the_box_closes_when_the_program_ends(engine, say, answers, until, capsys):
    given, boxes = answers
    given.append(lambda: threading.Event().wait(20))  # the user never types

    def brief(process):
        until(lambda: bool(boxes))
        process.out("done\n")
        return 0

    engine.programs["brief"] = brief
    say("%container run -i ubuntu brief")
    assert capsys.readouterr().out == "done\n"


def test_output_goes_on_while_the_box_is_open(engine, say, answers, until, capsys):
    given, boxes = answers
    shown = threading.Event()

    def type_late():
        assert shown.wait(20)
        return "late"

    given.append(type_late)

    def busy(process):
        until(lambda: bool(boxes))
        process.out("meanwhile\n")
        until(process.output.empty)
        shown.set()
        return 0 if process.read() == b"late\n" else 1

    engine.programs["busy"] = busy
    say("%container run -i ubuntu busy")
    assert capsys.readouterr().out == "meanwhile\n"


def test_a_terminal_session_says_dumb_unless_told_otherwise(engine, say, answers):
    engine.programs["brief"] = lambda process: 0
    say("%container run -it ubuntu brief")
    say("%container run -it -e TERM=xterm ubuntu brief")
    envs = [call[1].env for call in engine.named("create")]
    assert envs == [("TERM=dumb",), ("TERM=xterm",)]


def test_the_failure_of_a_talk_is_still_the_programs(engine, say, answers):
    with pytest.raises(Exception, match="exit code 3"):
        say("%container run -i ubuntu fail")


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([b"ls\r\nfile\r\n"], b"file\r\n"),
        ([b"l", b"s\r", b"\nfile"], b"file"),
        ([b"no echo"], b"no echo"),
        ([b"l", b"onger"], b"onger"),
    ],
)
def test_the_echo_of_a_line_is_not_shown_twice(pieces, shown):
    echo = Echo()
    echo.expect(b"ls\r\n")
    assert b"".join(echo.strip(piece) for piece in pieces) == shown


def test_joining_a_program_that_runs_gives_up(engine):
    from cellbox.model.container import RunSpec

    facts = engine.containers.create(RunSpec("ubuntu", ("sleep",)))
    stream = engine.containers.attach(facts.id)
    talk = Conversation(stream, lambda name, data: None, print, tty=False)
    talk._thread.start()
    with pytest.raises(TimeoutError):
        talk.join(0.01)
    stream.close()
    talk.join(20)
