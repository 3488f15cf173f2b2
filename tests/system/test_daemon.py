"""The daemon over the embedded engine, judged by its clients: the docker command line and the
docker SDK for Python."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Until = Callable[..., None]
PATIENCE = 30.0


@pytest.fixture
def sleeper(docker: Any) -> str:
    """The id of a container that runs."""
    return bare(docker("run", "-d", "--network", "none", "--name", "web", "busybox", "sleep", "99"))


def bare(done: subprocess.CompletedProcess[bytes]) -> str:
    """What it wrote; it must have gone well."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


RUN = ("run", "--rm", "--network", "none")


# The command line --------------------------------------------------------------------------------


def test_streams_and_exit_code(docker: Any) -> None:
    done = docker(*RUN, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_nothing_is_lost_of_a_large_round_trip(docker: Any) -> None:
    data = os.urandom(3_000_000)
    done = docker(*RUN, "-i", "busybox", "cat", input=data)
    assert (done.returncode, done.stdout == data) == (0, True)


def test_the_last_line_of_a_short_run_is_never_lost(docker: Any) -> None:
    for number in range(15):
        assert bare(docker(*RUN, "busybox", "echo", str(number))) == str(number)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("busybox", "nosuch"), 127, "executable file not found in $PATH"),
        (("busybox", "/etc/passwd"), 126, "permission denied"),
        (("--pull=never", "nosuch"), 125, "No such image: nosuch:latest"),
        (("--name", "a b", "busybox"), 125, "Invalid container name (a b)"),
    ],
)
def test_failures_have_dockers_codes(
    docker: Any, words: tuple[str, ...], code: int, text: str
) -> None:
    done = docker(*RUN, *words)
    assert done.returncode == code
    assert text in done.stderr.decode()


def test_a_detached_one_is_waited_for_and_its_log_read(docker: Any) -> None:
    run = ("run", "-d", "--network", "none", "busybox", "sh", "-c")
    id = bare(docker(*run, "echo a; echo e >&2; sleep 0.2; echo b; exit 5"))
    assert re.fullmatch("[0-9a-f]{64}", id)
    followed = docker("logs", "-f", id)
    assert (followed.stdout, followed.stderr) == (b"a\nb\n", b"e\n")
    assert bare(docker("wait", id)) == "5"
    assert bare(docker("logs", "--tail", "1", id)) == "b"
    stamp = bare(docker("logs", "-t", id)).splitlines()[-1].split()[0]
    assert bare(docker("logs", "--since", stamp, id)) == "b"


def test_a_life(docker: Any, sleeper: str) -> None:
    status = ("inspect", "-f", "{{.State.Status}}", "web")
    assert docker("rm", "web").returncode == 1
    for verb, then in (
        (("pause",), "paused"),
        (("unpause",), "running"),
        (("stop", "-t", "0"), "exited"),
        (("start",), "running"),
        (("restart", "-t", "0"), "running"),
        (("kill",), "exited"),
    ):
        bare(docker(*verb, "web"))
        if verb == ("kill",):
            bare(docker("wait", "web"))
        assert bare(docker(*status)) == then
    bare(docker("rename", "web", "other"))
    bare(docker("rm", "other"))
    assert docker("inspect", sleeper).returncode == 1


def test_exec(docker: Any, sleeper: str) -> None:
    done = docker("exec", "web", "sh", "-c", "echo o; echo e >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"o\n", b"e\n")
    assert docker("exec", "-i", "web", "cat", input=b"typed").stdout == b"typed"
    missing = docker("exec", "web", "nosuch")
    assert missing.returncode == 127
    assert b"executable file not found" in missing.stdout + missing.stderr
    bare(docker("pause", "web"))
    assert b"is paused, unpause" in docker("exec", "web", "true").stderr


def test_files_in_and_out(docker: Any, sleeper: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("1")
    (tree / "sub" / "b").write_text("2")
    bare(docker("cp", str(tree), "web:/d"))
    bare(docker("cp", f"{tree}/.", "web:/tmp"))
    assert bare(docker("exec", "web", "cat", "/d/a", "/d/sub/b", "/tmp/sub/b")) == "122"
    bare(docker("cp", "web:/d/sub", str(tmp_path / "out")))
    assert (tmp_path / "out" / "b").read_text() == "2"
    bare(docker("cp", "web:/d/.", str(tmp_path / "contents")))
    assert (tmp_path / "contents" / "a").read_text() == "1"
    piped = docker("cp", "web:/d/a", "-")
    assert tarfile.open(fileobj=io.BytesIO(piped.stdout)).getnames() == ["a"]
    said = docker("cp", "web:/nope", ".").stderr
    assert re.search(b"Could not find the file /nope|No such container:path", said)  # new, old
    assert "A /d" in bare(docker("diff", "web")).splitlines()
    exported = docker("export", "web")
    assert "d/sub/b" in tarfile.open(fileobj=io.BytesIO(exported.stdout)).getnames()


def test_looking(docker: Any, sleeper: str) -> None:
    assert bare(docker("ps", "-q", "--no-trunc", "--filter", "name=web")) == sleeper
    assert "sleep 99" in bare(docker("top", "web"))
    shown = bare(docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web"))
    assert shown == "web 1"
    told = json.loads(bare(docker("inspect", "-s", "web")))[0]
    assert (told["Id"], told["State"]["Running"]) == (sleeper, True)
    assert isinstance(told["SizeRw"], int)


def test_detach_keys_at_a_terminal(docker: Any, address: Path, until: Until) -> None:
    words = ("run", "-dit", "--network", "none", "--name", "web", "busybox", "sh")
    bare(docker(*words))
    master, slave = pty.openpty()
    environment = {**os.environ, "DOCKER_HOST": f"unix://{address}"}
    attached = subprocess.Popen(
        ["docker", "attach", "web"], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    try:
        os.write(master, b"echo $((40+2))\n")
        shown = b""
        while b"\n42" not in shown:
            shown += os.read(master, 4096)
        os.write(master, b"\x10\x11")
        assert attached.wait(PATIENCE) is not None
    finally:
        attached.kill()
        attached.wait()
        os.close(master)
    assert bare(docker("inspect", "-f", "{{.State.Running}}", "web")) == "true"


# The SDK -----------------------------------------------------------------------------------------


def test_the_sdk_runs_and_looks(client: Any) -> None:
    output = client.containers.run("busybox", "echo hi", remove=True, network_mode="none")
    assert output == b"hi\n"
    made = client.containers.run("busybox", "sleep 99", detach=True, network_mode="none")
    assert client.containers.get(made.short_id).status == "running"
    assert [one.id for one in client.containers.list()] == [made.id]
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    made.remove()
    assert client.containers.list(all=True) == []


def test_the_sdk_executes_with_sockets(client: Any) -> None:
    made = client.containers.run("busybox", "sleep 99", detach=True, network_mode="none")
    code, (out, err) = made.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"o\n", b"e\n")
    _, stream = made.exec_run("cat", stdin=True, socket=True)
    raw = stream._sock
    raw.sendall(b"typed")
    raw.shutdown(socket.SHUT_WR)
    heard = b"".join(iter(lambda: raw.recv(100), b""))
    assert heard == b"\x01\0\0\0\0\0\0\x05typed"
    stream.close()


def test_the_sdk_follows_and_streams(client: Any) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.05; done"
    made = client.containers.run("busybox", ["sh", "-c", script], detach=True, network_mode="none")
    assert b"".join(made.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert made.wait()["StatusCode"] == 0


def test_the_sdk_copies(client: Any, tar_of: Any) -> None:
    made = client.containers.create("busybox", "true", network_mode="none")
    assert made.put_archive("/tmp", tar_of(name=b"data").read())
    pieces, facts = made.get_archive("/tmp/name")
    assert (facts["name"], facts["size"]) == ("name", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.extractfile("name")
        assert member is not None and member.read() == b"data"


def test_attached_before_the_start_all_is_seen(client: Any) -> None:
    for number in range(10):
        made = client.containers.create("busybox", f"echo {number}", network_mode="none")
        output = made.attach(stream=True, logs=False)
        made.start()
        assert b"".join(output) == f"{number}\n".encode()
        made.remove(force=True)


def test_a_restart_policy_of_our_own(docker: Any, until: Until) -> None:
    words = ("--restart", "on-unhealthy:2", "--health-cmd", "false", "--health-interval", "50ms")
    sick = ("--health-retries", "1", "--stop-timeout", "0", "busybox", "sleep", "99")
    id = bare(docker("run", "-d", "--network", "none", *words, *sick))
    look = "{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}} {{.State.Status}}"
    until(lambda: bare(docker("inspect", "-f", look, id)) == "on-unhealthy 2 running")
    bare(docker("rm", "-f", id))
