"""The life of containers as their shims lead it, with real ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cellbox.containers import records
from cellbox.containers.client import ProcessStream, Shim
from cellbox.containers.messages import ExitRecord, Namespaces
from cellbox.errors import CellboxError, EngineError, StartError
from cellbox.linux import process as processes
from cellbox.linux import sockets
from cellbox.linux.mounts import Mount
from cellbox.model.container import HealthCheck, RestartPolicy

SLOW = "trap '' TERM; echo up; while :; do sleep 0.01; done"


def actions(store, bundle):
    return [event["action"] for event in store.told() if event["id"] == bundle.id]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def settled(until):
    """How many descriptors a shim holds when all is done that it was asked for."""
    streams = []

    def runs(stream):
        with suppress(TimeoutError):
            stream.read(0.01)
        return stream.pid

    def count(box):
        streams.append(box.exec("sleep", "1000"))
        until(lambda: runs(streams[-1]))
        return min(descriptors(box.state.shim) for _ in range(50))

    yield count
    for stream in streams:
        stream.close()


def ask_raw(box, data, fds=()):
    """Send anything at all to a shim: its answer, b"" where it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(box.run / records.SOCKET))
        connection.settimeout(20)
        socket.send_fds(connection, [data], fds)
        return connection.recv(65536)


# --- running and ending --------------------------------------------------------------------------


def test_output_exit_code_and_record(store, until):
    box = store.begin("sh", "-c", "echo out; echo err >&2; exit 3")
    assert box.output() == (b"out\n", b"err\n")
    assert box.stream.wait() == 3
    until(lambda: not box.run.exists())
    record = records.read_exit(str(box.directory))
    assert record == ExitRecord(3, record.started, record.finished)
    assert 0 < record.started <= record.finished


def test_standard_input_reaches_its_end(store):
    data = os.urandom(3_000_000)
    assert store.result("cat", stdin=data) == (data, 0)


def test_without_standard_input_there_is_an_end_at_once(store):
    assert store.result("cat") == (b"", 0)


def test_output_of_megabytes_is_whole_for_a_slow_reader(store):
    box = store.begin("sh", "-c", "dd if=/dev/zero bs=64k count=160 2>/dev/null; echo end")
    out = b""
    while (piece := box.stream.read()) is not None:
        out += piece[1]
        if len(out) < 2_000_000:
            time.sleep(0.001)  # the program is held up meanwhile, and nothing is lost
    assert len(out) == 160 * 65536 + 4 and out.endswith(b"end\n")


def test_a_terminal_has_the_size_that_was_told_last(store):
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done"
    box = store.begin("sh", "-c", script, process={"tty": True, "stdin": True})
    box.read_until(b"\n")
    box.stream.resize(33, 101)
    box.read_until(b"33 101")


def test_input_to_a_terminal_and_its_end(store):
    box = store.begin("cat", process={"tty": True, "stdin": True})
    box.stream.write(b"hello\n")
    box.stream.close_stdin()
    out, err = box.output()
    assert out == b"hello\r\nhello\r\n" and err == b""
    assert box.stream.wait() == 0


def test_much_input_for_a_terminal_that_nobody_reads(store):
    """The end of input waits behind what the terminal has no room for."""
    box = store.begin(
        "sh", "-c", "stty -icanon; echo up; sleep 1000", process={"tty": True, "stdin": True}
    )
    box.read_until(b"up")
    for _ in range(10):
        box.stream.write(b"x" * 10_000)
    box.stream.close_stdin()
    assert box.exec("true").wait() == 0
    box.stream.signal("KILL")
    assert box.stream.wait() == 137


def test_input_that_nobody_takes_holds_nothing_up(store):
    box = store.begin("sh", "-c", "exec <&-; echo up; sleep 1000", process={"stdin": True})
    box.read_until(b"up")
    for _ in range(200):
        box.stream.write(b"x" * 1000)
    box.stream.signal("KILL")
    assert box.stream.wait() == 137


def test_a_signal_of_the_program_itself_is_told_as_a_shell_does(store):
    assert store.result("sh", "-c", "kill -9 $$", init=True)[1] == 137
    box = store.begin("sleep", "1000")
    box.stream.signal("KILL")
    assert box.stream.wait() == 137


def test_stop_kills_after_the_time_that_was_given(store):
    box = store.begin("sh", "-c", SLOW)
    box.read_until(b"up")
    box.shim.ask({"op": "stop", "timeout": 0.1})
    assert box.stream.wait() == 137


def test_stop_sends_the_signal_of_the_bundle(store):
    script = "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done"
    box = store.begin("sh", "-c", script, stop_signal="USR1", stop_timeout=60.0)
    box.read_until(b"up")
    box.shim.ask({"op": "stop"})
    assert box.stream.wait() == 5


def test_kill_sends_any_signal(store):
    script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.01; done"
    box = store.begin("sh", "-c", script)
    box.read_until(b"up")
    box.shim.ask({"op": "kill", "signal": int(signal.SIGHUP)})
    box.read_until(b"hup")
    with pytest.raises(OSError):
        box.shim.ask({"op": "kill", "signal": 999})
    box.shim.ask({"op": "kill", "signal": int(signal.SIGKILL)})
    assert box.stream.wait() == 137


def test_when_the_owner_hangs_up_the_container_goes(store, until):
    box = store.begin("sleep", "1000")
    state = box.state
    box.owner.close()
    until(lambda: not processes.is_alive(state.pid, state.pid_start))
    until(lambda: not box.run.exists())
    assert records.read_exit(str(box.directory)).exit_code == 137


def test_an_owner_that_dies_before_it_reads_the_answer(store, until):
    """Its socket then tells ECONNRESET, not an end of file."""
    bundle = store.make("sleep", "1000")
    run = store.run_directory(bundle)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(store.run / "start.sock"))
        connection.send(json.dumps({"directory": bundle.directory, "owned": True}).encode())
        until(lambda: records.read_state(str(run)))
    until(lambda: not run.exists())
    assert records.read_exit(bundle.directory).exit_code == 137


def test_without_an_owner_it_lives_on(store):
    box = store.begin("sleep", "1000", owned=False)
    box.stream.close()
    assert box.exec("true").wait() == 0
    box.shim.ask({"op": "kill", "signal": 9})
    with suppress(FileNotFoundError):  # it has gone already
        assert box.shim.wait(20) in (137, None)


def test_auto_remove_leaves_nothing(store, until):
    box = store.begin("sh", "-c", "mkdir -p /a/b/c; echo x > /a/b/c/d", auto_remove=True)
    assert box.stream.wait() == 0
    until(lambda: not box.directory.exists() and not box.run.exists())


def test_events_of_a_life(store, until):
    box = store.begin("false")
    box.stream.wait()
    until(lambda: actions(store, box.bundle) == ["start", "die"])
    assert store.told()[-1]["attributes"]["exitCode"] == "1"


# --- failing to start ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "process", "code", "stage"),
    [
        (["nope"], {}, 127, "exec"),
        (["/etc/nope"], {}, 127, "exec"),
        (["/etc/text"], {}, 126, "exec"),
        (["script"], {}, 126, "exec"),
        (["/etc"], {}, 126, "exec"),
        (["true"], {"user": "nobody-there"}, 125, "user"),
        (["true"], {"cwd": "/etc/passwd"}, 125, "workdir"),
        (["true"], {"cwd": "/proc/self/fd/3"}, 125, "workdir"),
        (["x" * 100_000], {}, 126, "exec"),
        (["true"], {"seccomp": "/no/such/filter"}, 125, "seccomp"),
    ],
)
def test_a_failure_is_data(store, argv, process, code, stage, until):
    bundle = store.make(*argv, process=process)
    with pytest.raises(StartError) as caught:
        store.start(bundle)
    assert (caught.value.stage, caught.value.exit_code) == (stage, code)
    until(lambda: not store.run_directory(bundle).exists())
    record = records.read_exit(bundle.directory)
    assert record.exit_code == code and record.error


def test_a_stream_hears_of_the_failure_too(store):
    ours, theirs = sockets.pair()
    bundle = store.make("nope")
    with theirs, pytest.raises(StartError):
        store.launcher.start(Path(bundle.directory), owned=True, streams=[(theirs, False)])
    with ProcessStream(ours) as stream, pytest.raises(StartError) as caught:
        stream.wait()
    assert caught.value.exit_code == 127


def test_a_directory_without_a_bundle_is_told(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.launcher.start(tmp_path, owned=False, streams=[])


def test_after_a_failure_it_can_be_started(store):
    bundle = store.make("cat", "/data/x")
    broken = store.make("nope")
    with pytest.raises(StartError):
        store.start(broken)
    assert store.start(bundle).stream.wait() == 1


# --- further processes ---------------------------------------------------------------------------


def test_exec_has_streams_and_an_exit_code(store):
    box = store.begin("sleep", "1000")
    with box.exec("sh", "-c", "echo out; echo err >&2; exit 4") as stream:
        assert sorted(stream) == [("stderr", b"err\n"), ("stdout", b"out\n")]
        assert stream.wait() == 4
    with box.exec("cat", stdin=True) as stream:
        stream.write(b"in")
        stream.close_stdin()
        assert list(stream) == [("stdout", b"in")]


def test_exec_is_in_the_same_namespaces_with_the_same_limits_of_power(store):
    box = store.begin("sleep", "1000")
    script = "for name in /proc/%s/ns/*; do readlink $name; done"
    status = "cat /proc/self/status"
    found, own = (
        b"".join(data for _, data in box.exec("sh", "-c", f"{script % who}; {status}"))
        for who in ("self", "1")
    )
    assert found.partition(b"Name:")[0] == own.partition(b"Name:")[0] != b""
    assert b"CapInh:\t0000000000000000" in found and b"CapEff:\t0000000000000021" in found
    assert b"SigBlk:\t0000000000000000" in found and b"Umask:\t0022" in found


def test_exec_opens_no_descriptor_of_the_host(store):
    box = store.begin("sleep", "1000")
    with box.exec("ls", "/proc/self/fd") as stream:
        assert b"".join(data for _, data in stream).split() == [b"0", b"1", b"2", b"3"]


def test_exec_may_open_its_streams_by_name_as_any_user(store):
    box = store.begin("sleep", "1000")
    with box.exec("sh", "-c", "echo x > /dev/stdout", user="ann") as stream:
        assert list(stream) == [("stdout", b"x\n")]
    with box.exec("sh", "-c", "echo x > /dev/stdout; tty", user="ann", tty=True) as stream:
        assert b"x\r\n/dev/pts/0" in b"".join(data for _, data in stream)


@pytest.mark.parametrize(
    ("argv", "how", "code"),
    [(["nope"], {}, 127), (["/etc"], {}, 126), (["true"], {"user": "who"}, 125)],
)
def test_exec_that_fails(store, argv, how, code):
    box = store.begin("sleep", "1000")
    with box.exec(*argv, **how) as stream, pytest.raises(StartError) as caught:
        stream.wait()
    assert caught.value.exit_code == code


def test_exec_ends_with_the_container(store):
    box = store.begin("sleep", "1000")
    with box.exec("sh", "-c", "echo up; sleep 1000") as stream:
        assert stream.read(20) == ("stdout", b"up\n")
        box.shim.ask({"op": "kill", "signal": 9})
        assert stream.wait() == 137


def test_a_process_left_behind_by_exec_does_not_hold_the_shim(store):
    """Whoever still writes to the pipe must not keep the shim reading for ever."""
    box = store.begin("sleep", "1000")
    with box.exec("sh", "-c", "yes & exit 0") as stream:
        assert stream.wait(20) == 0
    assert box.exec("true").wait(20) == 0


def test_exec_in_a_container_that_is_being_started_or_gone(store, until):
    box = store.begin("true")
    box.stream.wait()
    with pytest.raises((OSError, EngineError)):
        until(lambda: not box.run.exists())
        box.exec("true")


# --- pause ---------------------------------------------------------------------------------------


def test_pause(store, until):
    box = store.begin("sh", "-c", "while :; do echo x; sleep 0.01; done")
    try:
        box.shim.ask({"op": "pause", "paused": True})
    except CellboxError as error:
        pytest.skip(f"no control group can be frozen here: {error}")
    assert box.state.paused
    with pytest.raises(CellboxError, match="is paused, unpause the container before exec"):
        box.exec("true")
    box.shim.ask({"op": "pause", "paused": False})
    assert box.exec("true").wait() == 0
    box.shim.ask({"op": "pause", "paused": True})
    box.shim.ask({"op": "kill", "signal": 9})  # which thaws it
    assert box.stream.wait() == 137
    assert actions(store, box.bundle)[1:5] == ["pause", "unpause"] * 2


# --- restarts ------------------------------------------------------------------------------------


def test_on_failure_restarts_as_often_as_was_said(store, until):
    bundle = store.make("sh", "-c", "echo run; exit 1", restart=RestartPolicy("on-failure", 2))
    box = store.start(bundle, owned=False)
    assert box.stream.wait() == 1  # the first run's
    until(lambda: not box.run.exists())
    record = records.read_exit(str(box.directory))
    assert (record.exit_code, record.restarts) == (1, 2)
    log = (box.directory / "container.log").read_text()
    assert log.count("run") == 3
    assert actions(store, bundle) == ["start", "die"] * 3


def test_a_stop_ends_the_wait_for_a_restart(store, until):
    box = store.begin("false", restart=RestartPolicy("always"), owned=False)
    until(lambda: box.state and box.state.restarting)
    until(lambda: _stopped(box))
    until(lambda: not box.run.exists())
    assert records.read_exit(str(box.directory)).exit_code in (1, 137)


def _stopped(box):
    try:
        box.shim.ask({"op": "stop", "timeout": 0})
    except (OSError, EngineError):
        return True
    return False


def test_state_of_a_container_that_was_restarted(store, until):
    script = "if [ -e /again ]; then sleep 1000; fi; touch /again; exit 1"
    box = store.begin("sh", "-c", script, restart=RestartPolicy("always"), owned=False)
    until(lambda: actions(store, box.bundle).count("start") == 2)
    state = box.state
    assert state.restarts == 1 and not state.restarting
    assert processes.is_alive(state.pid, state.pid_start)
    with box.attach() as stream:
        assert box.exec("true").wait() == 0
        box.shim.ask({"op": "kill", "signal": 9})
        assert stream.wait() == 137


# --- health --------------------------------------------------------------------------------------


def test_health_goes_bad_and_good_again(store, until):
    check = HealthCheck(("CMD-SHELL", "cat /well"), interval=0.02, timeout=20.0, retries=2)
    box = store.begin("sleep", "1000", health=check, owned=False)
    until(lambda: "health_status: unhealthy" in actions(store, box.bundle))
    facts = json.loads((box.run / records.HEALTH).read_text())
    assert facts["failing_streak"] >= 2
    assert "can't open '/well'" in facts["log"][-1]["output"]
    assert box.exec("touch", "/well").wait() == 0
    until(lambda: "health_status: healthy" in actions(store, box.bundle))


def test_a_probe_that_hangs_is_given_up(store, until):
    check = HealthCheck(("CMD", "sleep", "1000"), interval=0.02, timeout=0.05, retries=1)
    box = store.begin("sleep", "1000", health=check, owned=False)
    until(lambda: "health_status: unhealthy" in actions(store, box.bundle))
    facts = json.loads((box.run / records.HEALTH).read_text())
    assert facts["log"][-1]["exit_code"] == -1
    assert "exceeded timeout (0.05s)" in facts["log"][-1]["output"]


def test_probes_of_a_run_that_has_ended_leave_the_next_alone(store, until):
    check = HealthCheck(("CMD", "sleep", "1000"), interval=0.01, timeout=0.2, retries=100)
    script = "sleep 0.1; exit 1"
    box = store.begin(
        "sh", "-c", script, health=check, restart=RestartPolicy("on-failure", 2), owned=False
    )
    until(lambda: not box.run.exists())
    assert records.read_exit(str(box.directory)).restarts == 2


# --- those who attach and those who wait ---------------------------------------------------------


def test_replay_holds_the_log_and_what_has_no_newline_yet(store):
    script = "echo one; printf prompt; read x; echo $x"
    box = store.begin("/bin/busybox", "sh", "-c", script, process={"stdin": True})
    box.read_until(b"prompt")
    with box.attach(stdin=True, logs=True) as stream:
        stream.write(b"two\n")
        assert b"".join(data for _, data in stream) == b"one\nprompttwo\n"
        assert stream.wait() == 0


def test_all_who_are_attached_see_all(store):
    box = store.begin("sh", "-c", "read x; echo $x", process={"stdin": True})
    with box.attach() as one, box.attach() as two:
        box.stream.write(b"hello\n")
        assert list(one) == list(two) == list(box.stream) == [("stdout", b"hello\n")]


def test_one_who_leaves_is_forgotten(store, until, settled):
    box = store.begin(
        "sh", "-c", "echo up; while read x; do echo $x; done", process={"stdin": True}
    )
    box.read_until(b"up")
    before = settled(box)
    for _ in range(20):
        box.attach().close()
    box.stream.write(b"a\n")
    box.read_until(b"a\n")
    until(lambda: descriptors(box.state.shim) <= before)


def test_wait_from_another_process(store, until, settled):
    box = store.begin("sh", "-c", "read x; exit 6", process={"stdin": True})
    before = settled(box)
    shim = box.state.shim
    text = (
        "import sys; from pathlib import Path; from cellbox.containers.client import Shim;"
        "print('up', flush=True); print(Shim(Path(sys.argv[1])).wait(20))"
    )
    path = os.path.dirname(os.path.dirname(sys.modules["cellbox"].__file__))
    waiter = subprocess.Popen(
        [sys.executable, "-c", text, str(box.run)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with waiter:
        assert waiter.stdout.readline() == b"up\n"
        until(lambda: descriptors(shim) > before)
        box.stream.write(b"\n")
        assert waiter.stdout.read() == b"6\n"


def test_those_who_stop_waiting_cost_nothing(store, until, settled):
    """``wait`` with a short time-out in a loop must not use up the shim's descriptors."""
    box = store.begin("sleep", "1000")
    shim = box.state.shim
    before = settled(box)
    for _ in range(30):
        with pytest.raises(TimeoutError):
            box.shim.wait(0.001)
    until(lambda: descriptors(shim) <= before)


def test_one_who_waits_and_one_who_does_not_read(store, until, settled):
    """The shim stays until its clients have read, long after it has answered the others."""
    script = "read x; dd if=/dev/zero bs=1k count=700 2>/dev/null"
    box = store.begin("sh", "-c", script, process={"stdin": True})
    before = settled(box)
    shim = box.state.shim
    codes = []
    thread = threading.Thread(target=lambda: codes.append(box.shim.wait(20)))
    thread.start()
    until(lambda: descriptors(shim) > before)
    box.stream.write(b"\n")
    thread.join()
    assert codes in ([0], [None])
    assert sum(len(data) for _, data in box.stream) == 700 << 10
    assert box.stream.wait() == 0


# --- what nobody should send ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"[]",
        b"{}",
        b'{"op": 5}',
        b'{"op": "nope"}',
        b'{"op": "exec"}',
        b'{"op": "exec", "process": {}}',
        b'{"op": "attach"}',
        b'{"op": "kill", "signal": "x"}',
        b'{"op": "stop", "timeout": "soon"}',
        b'{"op": "work"}',
        b"[" * 60_000,
        b'{"op": "' + b"x" * 150_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_garbage_is_answered_and_does_no_harm(store, data):
    box = store.begin("sleep", "1000")
    answer = ask_raw(box, data)
    assert answer == b"" or "error" in json.loads(answer)
    assert box.exec("true").wait() == 0


def test_descriptors_that_were_not_asked_for_are_closed(store, until, settled):
    box = store.begin("sleep", "1000")
    shim = box.state.shim
    before = settled(box)
    read, write = os.pipe()
    for op in ("attach", "kill", "nope", "exec"):
        request = {"op": op, "stdin": True, "signal": 999}
        ask_raw(box, json.dumps(request).encode(), [read, write])
    os.close(read)
    os.close(write)
    assert box.exec("true").wait() == 0
    until(lambda: descriptors(shim) <= before)


@pytest.mark.parametrize(
    "packet", [b"\x63", b"\x05\xff", b"\x05\x00", b"\x05", b"\x04\x00", b"\x01xx", b"\x08"]
)
def test_garbage_on_a_stream_does_no_harm(store, packet):
    box = store.begin("sleep", "1000")
    ours, theirs = sockets.pair()
    with ours, theirs:
        box.shim.ask({"op": "attach", "stdin": True}, [theirs.fileno()])
        ours.send(packet)
    assert box.exec("true").wait() == 0
    assert processes.is_alive(box.state.pid, box.state.pid_start)


def test_one_who_says_nothing_holds_nobody_up(store):
    box = store.begin("sleep", "1000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(box.run / records.SOCKET))
        assert box.exec("true").wait(20) == 0


# --- work inside, and killed shims ---------------------------------------------------------------


def test_orphans_of_a_container_in_the_hosts_pid_namespace_are_reaped(store, until):
    """There is no pid 1 of its own to do it."""
    script = "(sh -c 'sleep 0.05 & echo $!'); echo up; sleep 1000"
    box = store.begin(
        *("sh", "-c", script),
        namespaces=Namespaces(pid="host"),
        without=("/proc",),
        mounts=(Mount("bind", "/proc", source="/proc", recursive=True),),
        masked=(),
        read_only=(),
    )
    orphan = int(box.read_until(b"up").split()[0])
    assert os.getpgid(orphan)
    until(lambda: box.exec("true").wait() == 0 and not os.path.exists(f"/proc/{orphan}"))
    box.stream.signal("KILL")
    box.stream.wait()


def test_a_killed_shim_leaves_what_tells_of_its_container(lone, until):
    box = lone.begin("sleep", "1000", owned=False)
    state = box.state
    os.kill(state.shim, signal.SIGKILL)
    until(lambda: box.state is None)  # found dead
    left = json.loads((box.run / records.STATE).read_text())
    assert processes.kill(left["pid"], left["pid_start"], signal.SIGKILL)
    assert box.stream.wait() == 137
    with pytest.raises((ConnectionError, FileNotFoundError)):
        Shim(box.run).wait(1)
    again = lone.start(box.bundle)
    assert again.exec("true").wait() == 0
