"""What goes in and out of a container's processes: attach, exec, terminals, logs."""

from __future__ import annotations

import hashlib
import time

import pytest

from cellbox.errors import NotFound, NotSupported, StartError, WrongState
from cellbox.model.container import ExecSpec, LogConfig, RunSpec

LINES = "i=0; while [ $i -lt 5 ]; do echo line$i; i=$((i+1)); done"


def text(pieces, stream="stdout"):
    return b"".join(data for name, data in pieces if name == stream).decode()


def execute(engine, id, *command, stdin=b"", **fields):
    """Run a further process; its exit code and pieces of output."""
    spec = ExecSpec(command, interactive=bool(stdin), **fields)
    with engine.containers.exec(id, spec) as stream:
        if stdin:
            stream.write(stdin)
            stream.close_stdin()
        pieces = list(stream)
        return stream.wait(10), pieces


# The container's own streams --------------------------------------------------------------------


def test_the_two_outputs_are_told_apart(run):
    ran = run("sh", "-c", "echo out; echo err >&2")
    assert (ran.out, ran.err) == ("out\n", "err\n")


def test_all_output_comes_before_the_end(run):
    ran = run("sh", "-c", "yes 0123456789abcde | head -c 5000000; echo end >&2")
    assert (
        hashlib.sha256(ran.out.encode()).digest()
        == hashlib.sha256((b"0123456789abcde\n" * 312500)[:5000000]).digest()
    )
    assert ran.err == "end\n"


def test_input_arrives_and_ends(run):
    data = b"x" * 1_000_000 + b"\n"
    assert run("wc", "-c", stdin=data).out.strip() == "1000001"


def test_without_interactive_there_is_no_input(run):
    assert run("cat").pieces == []


def test_writing_to_nobody_is_a_broken_pipe(engine, busybox, until):
    id = engine.containers.create(RunSpec("busybox", ("true",), interactive=True)).id
    with engine.containers.attach(id, stdin=True) as stream:
        engine.containers.start(id)
        assert stream.wait(10) == 0
        with pytest.raises(BrokenPipeError):
            until(lambda: stream.write(b"x"), 5)
        stream.close_stdin()
        stream.resize(1, 1)
        stream.signal("TERM")


def test_a_read_can_be_given_up(engine, start):
    id = start().id
    with engine.containers.attach(id) as stream, pytest.raises(TimeoutError):
        stream.read(0.01)
    with engine.containers.attach(id) as stream, pytest.raises(TimeoutError):
        stream.wait(0.01)


def test_a_terminal(engine, busybox):
    script = "test -t 0 && test -t 1 && stty size; read line; stty size; echo bye >&2"
    spec = RunSpec("busybox", ("sh", "-c", script), tty=True, interactive=True)
    id = engine.containers.create(spec).id
    with engine.containers.attach(id, stdin=True) as stream:
        engine.containers.start(id)
        stream.resize(33, 101)
        stream.write(b"go\r")
        pieces = list(stream)
        assert stream.wait(10) == 0
    assert {name for name, _ in pieces} == {"stdout"}
    assert text(pieces).endswith("33 101\r\nbye\r\n")


def test_everybody_who_is_attached_sees_all(engine, busybox):
    id = engine.containers.create(RunSpec("busybox", ("sh", "-c", LINES))).id
    streams = [engine.containers.attach(id) for _ in range(3)]
    engine.containers.start(id)
    for stream in streams:
        assert text(stream).count("line") == 5
        assert stream.wait(10) == 0
        stream.close()


@pytest.mark.differs(dockerd="the code of an exec is gone with its container")
def test_who_comes_later_may_have_what_was_written(engine, start, until):
    id = start("sh", "-c", "echo early; while ! test -e /go; do sleep 0.02; done; echo late").id
    until(lambda: list(engine.containers.logs(id)))
    with engine.containers.attach(id, logs=True) as full, engine.containers.attach(id) as rest:
        assert execute(engine, id, "touch", "/go") == (0, [])
        assert text(full) == "early\nlate\n"
        assert text(rest) == "late\n"


def test_who_detaches_leaves_it_running(engine, start):
    id = start().id
    stream = engine.containers.attach(id)
    stream.close()
    stream.close()
    assert engine.containers.get(id).status == "running"


def test_a_signal_by_the_stream(engine, busybox):
    id = engine.containers.create(RunSpec("busybox", ("sleep", "1000"), init=True)).id
    with engine.containers.attach(id) as stream:
        engine.containers.start(id)
        stream.signal("SIGKILL")
        assert stream.wait(10) == 137


# Further processes ------------------------------------------------------------------------------


def test_exec_is_its_own_process_with_its_own_code(engine, start):
    id = start(env=("A=1",)).id
    code, pieces = execute(engine, id, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (code, text(pieces), text(pieces, "stderr")) == (9, "out\n", "err\n")
    assert engine.containers.get(id).status == "running"


def test_exec_takes_what_is_not_said_from_the_container(engine, start):
    id = start(env=("A=1", "B=1"), workdir="/srv").id
    script = "echo $A $B $(pwd) $(id -u)"
    assert text(execute(engine, id, "sh", "-c", script)[1]) == "1 1 /srv 0\n"
    changed = execute(engine, id, "sh", "-c", script, env=("B=2",), workdir="/tmp", user="guest")
    assert text(changed[1]) == "1 2 /tmp 405\n"


def test_exec_reads(engine, start):
    assert execute(engine, start().id, "wc", "-c", stdin=b"12345")[1] == [("stdout", b"5\n")]


def test_exec_with_a_terminal(engine, start):
    spec = ExecSpec(("sh", "-c", "read line; stty size; tty"), tty=True, interactive=True)
    with engine.containers.exec(start().id, spec) as stream:
        stream.resize(20, 60)
        stream.write(b"go\r")
        seen = text(stream)
        assert stream.wait(10) == 0
    assert "20 60\r\n/dev/pts/" in seen


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [(("nosuch",), 127, "not found"), (("/etc/passwd",), 126, "permission denied")],
)
def test_exec_of_what_cannot_be_run(engine, start, command, code, words):
    id = start().id
    with engine.containers.exec(id, ExecSpec(command)) as stream:
        with pytest.raises(StartError, match=f"(?i){words}") as caught:
            stream.wait(10)
    assert caught.value.exit_code == code
    assert engine.containers.get(id).status == "running"


@pytest.mark.differs(dockerd="for it, one that was killed early was not started")
def test_exec_ends_with_its_container(engine, start):
    id = start().id
    with engine.containers.exec(id, ExecSpec(("sleep", "1000"))) as stream:
        engine.containers.kill(id)
        assert stream.wait(10) == 137


def test_exec_where_nothing_runs(engine, run):
    with pytest.raises(WrongState, match="is not running"):
        engine.containers.exec(run("true").id, ExecSpec(("true",)))
    with pytest.raises(NotFound):
        engine.containers.exec("nosuch", ExecSpec(("true",)))


# Logs -------------------------------------------------------------------------------------------


def test_logs_tell_stream_time_and_order(engine, run):
    begin = time.time()
    ran = run("sh", "-c", "echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c")
    entries = list(engine.containers.logs(ran.id))
    assert [(stream, data) for _, stream, data in entries] == [
        ("stdout", b"a\n"),
        ("stderr", b"b\n"),
        ("stdout", b"c\n"),
    ]
    times = [moment for moment, _, _ in entries]
    assert times == sorted(times) and begin - 1 <= times[0] <= time.time()


@pytest.mark.parametrize(("tail", "count"), [(0, 0), (2, 2), (5, 5), (99, 5), (None, 5)])
def test_the_tail_of_logs(engine, run, tail, count):
    found = list(engine.containers.logs(run("sh", "-c", LINES).id, tail=tail))
    assert [data for _, _, data in found] == [b"line%d\n" % n for n in range(5)][5 - count :]


def test_logs_between_two_times(engine, run):
    ran = run("sh", "-c", "echo a; sleep 0.05; echo b; sleep 0.05; echo c")
    (_, _, _), (middle, _, _), (_, _, _) = engine.containers.logs(ran.id)
    since = engine.containers.logs(ran.id, since=middle)
    until = engine.containers.logs(ran.id, until=middle)
    assert [data for _, _, data in since] == [b"b\n", b"c\n"]
    assert [data for _, _, data in until] == [b"a\n", b"b\n"]


def test_following_ends_with_the_container(engine, start):
    id = start("sh", "-c", "echo a; sleep 0.2; echo b").id
    assert [data for _, _, data in engine.containers.logs(id, follow=True)] == [b"a\n", b"b\n"]


def test_logs_of_a_container_that_never_ran(engine, busybox):
    id = engine.containers.create(RunSpec("busybox")).id
    assert list(engine.containers.logs(id)) == []
    with pytest.raises(NotFound):
        engine.containers.logs("nosuch")


def test_logs_can_be_switched_off(engine, run):
    ran = run("echo", "hi", log=LogConfig("none"))
    assert ran.out == "hi\n"
    with pytest.raises(NotSupported, match="logging driver does not support reading"):
        engine.containers.logs(ran.id)
