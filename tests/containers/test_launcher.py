"""The launcher, and what becomes of it: many at once, killed, sent nonsense."""

from __future__ import annotations

import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cellbox.containers import launcher, records
from cellbox.containers import starter as starters
from cellbox.containers.messages import Namespaces
from cellbox.errors import StartError
from cellbox.linux import process as processes
from cellbox.linux import sockets
from cellbox.linux.mounts import Mount
from cellbox.model.container import RestartPolicy


def ask(store, data, name=launcher.SOCKET, fds=()):
    """Send anything at all: the answer, b"" where it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(store.run / name))
        connection.settimeout(20)
        socket.send_fds(connection, [data], fds)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def in_threads(action, count):
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(action, range(count)))


def reserve(store):
    """A shim in reserve, 0 for none."""
    return next(iter(reserves(store)), 0)


def reserves(store):
    """The shims in reserve: children of the launcher that no container's state names."""
    taken = {
        state.shim
        for path in (store.run / "c").glob("*")
        if (state := records.read_state(str(path)))
    }
    shims = set(store.shims()) & set(store.children(store.launcher_pid()))
    return shims - taken


def test_a_launcher_with_a_volume_mounted_is_needed(tmp_path, monkeypatch):
    lines = ["tmpfs /dev/shm tmpfs rw 0 0", "tmpfs /a\\040b/volumes/data/_data tmpfs rw 0 0"]
    table = tmp_path / "mounts"
    table.write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(launcher, "MOUNTS", str(table))
    assert launcher._has_volumes("/a b")
    assert not launcher._has_volumes("/a") and not launcher._has_volumes("/dev")


def test_what_is_rehearsed_leaves_nothing(lone, until):
    """Before the first shim is forked, the launcher has lived through the lives of a few."""
    box = lone.begin("sleep", "1000")
    for pid in (lone.launcher_pid(), box.state.shim, box.state.pid):
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
    until(lambda: reserve(lone))
    # Standard streams, the log that is one of them, the lock, and its two children.
    until(lambda: len(os.listdir(f"/proc/{lone.launcher_pid()}/fd")) <= 6)
    assert not (lone.run / "rehearsal").exists()


def test_one_that_was_killed_while_it_rehearsed_holds_up_no_other(lone, until):
    os.kill(lone.launcher_pid(), signal.SIGKILL)
    until(lambda: not lone.launcher_pid())
    rehearsal = lone.run / "rehearsal"
    rehearsal.mkdir()
    for name in ("shim.sock", "events"):
        (rehearsal / name).touch()
    assert lone.result("echo", "x") == (b"x\n", 0)
    assert not rehearsal.exists()


def test_ping(store):
    answer = json.loads(ask(store, b'{"op": "ping"}'))
    assert answer == {"pid": store.launcher_pid(), "protocol": launcher.PROTOCOL}


def test_its_sockets_are_for_its_owner_only(store):
    assert store.run.stat().st_mode & 0o077 == 0
    assert (store.run / "launcher.lock").stat().st_mode & 0o077 == 0


def test_it_has_a_session_of_its_own_and_is_nobodys_child(store):
    pid = store.launcher_pid()
    assert os.getsid(pid) != os.getsid(0)
    assert pid not in store.children(os.getpid())


def test_it_has_nothing_of_our_environment(store, lone, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    data = Path(f"/proc/{lone.launcher_pid()}/environ").read_bytes()
    assert {entry.partition(b"=")[0] for entry in data.split(b"\0") if entry} <= {
        *(b"PATH", b"LC_ALL", b"LC_CTYPE")
    }


def test_the_first_start_and_the_next_one_which_was_prepared(lone, until):
    for _ in range(3):
        assert lone.result("echo", "x") == (b"x\n", 0)
        until(lambda: reserve(lone))


def test_many_starts_at_once(lone):
    codes = in_threads(lambda number: lone.result("sh", "-c", f"exit {number}")[1], 12)
    assert codes == list(range(12))


def test_many_engines_that_find_no_launcher(lone):
    os.kill(lone.launcher_pid(), signal.SIGKILL)
    codes = in_threads(lambda number: lone.result("sh", "-c", f"exit {number}")[1], 6)
    assert codes == list(range(6))


def test_containers_that_differ_from_the_last_one(lone):
    """What was prepared does not fit: it is made anew."""
    assert lone.result("echo", "a") == (b"a\n", 0)
    bound = Mount("bind", "/sys", source="/sys", recursive=True, flags=("ro",))
    host = {"namespaces": Namespaces(network="host"), "without": ("/sys",), "mounts": (bound,)}
    out, _ = lone.result("readlink", "/proc/self/ns/net", **host)
    assert out.decode().strip() == os.readlink("/proc/self/ns/net")
    out, _ = lone.result("readlink", "/proc/self/ns/net")
    assert out.decode().strip() != os.readlink("/proc/self/ns/net")
    assert lone.result("ls", "/proc", without=("/proc",), masked=(), read_only=()) == (b"", 0)


def test_killed_while_containers_run_they_live_on_and_the_next_one_works(lone, until):
    box = lone.begin("sh", "-c", "read x; echo $x", process={"stdin": True}, init=True)
    plain = lone.begin("sleep", "1000")
    first = lone.launcher_pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{first}/fd") or not lone.launcher_pid())
    assert processes.is_alive(plain.state.pid, plain.state.pid_start)
    lone.launcher.ensure()
    assert lone.result("echo", "new") == (b"new\n", 0)
    assert lone.launcher_pid() not in (0, first)
    box.stream.write(b"old\n")
    assert list(box.stream) == [("stdout", b"old\n")]
    assert box.stream.wait() == 0
    assert plain.exec("true").wait() == 0


def test_a_container_restarts_without_its_launcher(lone, until):
    script = "[ -e /again ] && sleep 1000; touch /again; read x; exit 1"
    box = lone.begin(
        *("sh", "-c", script),
        process={"stdin": True},
        restart=RestartPolicy("always"),
        owned=False,
    )
    os.kill(lone.launcher_pid(), signal.SIGKILL)
    box.stream.write(b"\n")
    until(lambda: [event["action"] for event in lone.told()].count("start") == 2)
    assert box.exec("true").wait() == 0


def test_a_killed_shim_in_reserve_is_replaced(lone, until):
    for _ in range(3):
        spare = until(lambda: reserve(lone))
        with suppress(ProcessLookupError):  # it was that of the container before, and ends
            os.kill(spare, signal.SIGKILL)
        until(lambda spare=spare: not processes.start_time(spare))
        assert lone.result("echo", "x") == (b"x\n", 0)


def test_a_killed_starter_ends_the_launcher_and_the_next_one_works(lone, until):
    until(lambda: reserve(lone))
    first = lone.launcher_pid()
    others = set(lone.children(first)) - set(lone.shims())
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: _tried(lone)) == (b"x\n", 0)
    assert lone.launcher_pid() != first


def _tried(store):
    try:
        return store.result("echo", "x")
    except StartError:  # it was ordered of the one that was killed
        return None


def test_the_reserve_ends_with_the_launcher(lone, until):
    until(lambda: reserve(lone))
    os.kill(lone.launcher_pid(), signal.SIGKILL)
    until(lambda: not lone.shims())


def test_a_launcher_that_is_idle_ends_by_itself(lone, until, monkeypatch):
    """Its sockets go with it; here it ends as its last reserve dies too often."""
    first = lone.launcher_pid()
    for _ in range(20):
        spare = reserve(lone)
        if spare:
            with suppress(ProcessLookupError):
                os.kill(spare, signal.SIGKILL)
            until(lambda spare=spare: reserve(lone) != spare)
        if not lone.launcher_pid():
            break
    until(lambda: lone.launcher_pid() != first)
    assert lone.result("echo", "x") == (b"x\n", 0)


@pytest.mark.parametrize("name", [launcher.SOCKET, launcher.START_SOCKET])
@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xff", b"nonsense", b"[]", b"5", b"{}", b'{"op": "nope"}', b'{"op": "work"}'),
        *(b'{"directory": 5}', b'{"directory": "/no/such/place"}', b"[" * 50_000),
        b'{"op": "' + b"x" * 150_000,
    ],
    ids=lambda data: repr(data)[:26],
)
def test_nonsense_does_no_harm(store, data, name):
    pid = store.launcher_pid()
    answer = ask(store, data, name)
    assert answer == b"" or "error" in json.loads(answer)
    assert store.result("echo", "x") == (b"x\n", 0)
    assert store.launcher_pid() == pid


def test_streams_that_do_not_fit_the_request(store):
    bundle = store.make("true")
    ours, theirs = sockets.pair()
    with ours, theirs:
        request = {"directory": bundle.directory, "attach": []}
        answer = ask(store, json.dumps(request).encode(), launcher.START_SOCKET, [theirs.fileno()])
    assert "error" in json.loads(answer)


def test_one_who_says_nothing_holds_nobody_up_for_long(lone):
    silent = []
    for name in (launcher.SOCKET, launcher.START_SOCKET):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(lone.run / name))
        silent.append(connection)
    assert lone.result("echo", "x") == (b"x\n", 0)
    assert lone.launcher_pid()
    for connection in silent:
        connection.close()


def test_one_who_has_gone_already(store):
    for name in (launcher.SOCKET, launcher.START_SOCKET):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(store.run / name))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(store.run / name))
            connection.send(b'{"op": "ping"}')
    assert store.result("echo", "x") == (b"x\n", 0)


def test_starts_leave_no_descriptor_behind(store, until):
    for _ in range(3):
        store.result("true")
    until(lambda: len(reserves(store)) == starters.RESERVE)
    pids = [store.launcher_pid(), *store.children(store.launcher_pid())]
    others = set(pids[1:]) - set(store.shims())
    starter = min(others, key=processes.start_time, default=pids[0])
    # What is made ready has more or less open at any moment; what is left grows with each start.
    most = [len(os.listdir(f"/proc/{pid}/fd")) + 10 for pid in (pids[0], starter)]
    for _ in range(20):
        store.result("true")
        with pytest.raises(StartError):
            store.begin("nope")
    until(
        lambda: (
            len(reserves(store)) == starters.RESERVE
            and len(os.listdir(f"/proc/{pids[0]}/fd")) <= most[0]
            and len(os.listdir(f"/proc/{starter}/fd")) <= most[1]
        )
    )


def test_second_launcher_gives_way(lone, capfd):
    """Of two that are started at once, the one without the lock says that all is well."""
    lone.launcher._spawn()
    assert lone.result("echo", "x") == (b"x\n", 0)
