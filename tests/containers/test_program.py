"""The last steps before a process becomes the program, in containers and in children of ours."""

from __future__ import annotations

import errno
import os
import pickle
import resource

import pytest

from cellbox.containers import program
from cellbox.containers.program import Failed, environ, step
from cellbox.errors import StartError
from cellbox.model.container import Ulimit


def in_child(action):
    """What ``action`` returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = action()
        except BaseException as error:
            answer = repr(error)
        with open(write, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(pid, 0)
    return answer


# --- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "detail", "expected"),
    [
        (OSError(errno.EPERM, "no", "mount /x"), "", (errno.EPERM, "mount /x")),
        (OSError(errno.EPERM, "no", "mount /x"), "told", (errno.EPERM, "told")),
        (OSError(errno.EPERM, "no"), "", (errno.EPERM, "here")),
        (OSError("no number"), "", (errno.EIO, "here")),
        (ValueError("no user"), "ignored", (errno.EINVAL, "no user")),
    ],
)
def test_a_step_names_what_failed(error, detail, expected):
    with pytest.raises(Failed) as caught, step("here", detail):
        raise error
    failure = caught.value.failure
    assert (failure.stage, failure.errno, failure.detail) == ("here", *expected)
    assert failure.exit_code == 125


def test_other_errors_pass_through_a_step():
    with pytest.raises(KeyError), step("here"):
        raise KeyError("x")


# --- the environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ((), {b"HOME": b"/root"}),
        (("HOME=/else",), {b"HOME": b"/else"}),
        (("HOME=",), {b"HOME": b""}),
        (("A=1", "A=2"), {b"HOME": b"/root", b"A": b"2"}),
        (("A=b=c",), {b"HOME": b"/root", b"A": b"b=c"}),
        (("A=\udcff\n",), {b"HOME": b"/root", b"A": b"\xff\n"}),
    ],
)
def test_environ(variables, expected):
    assert environ(variables, "/root") == expected


def test_the_environment_is_built_from_nothing(store):
    out, _ = store.result("env", process={"user": "ann"})
    assert sorted(out.split()) == [b"HOME=/home/ann", b"PATH=/bin"]


# --- limits --------------------------------------------------------------------------------------


def limit(*limits):
    kind = resource.RLIMIT_NOFILE

    def action():
        resource.setrlimit(kind, (100, 1000))
        program.set_limits(limits)
        return resource.getrlimit(kind)

    return in_child(action)


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (50, 60, (50, 60)),
        (60, 50, (50, 50)),
        (5000, 9000, (1000, 1000)),
        (50, 9000, (50, 1000)),
        (-1, -1, (1000, 1000)),
        (0, 0, (0, 0)),
    ],
)
def test_limits_are_clamped_to_what_we_have(soft, hard, expected):
    assert limit(Ulimit("nofile", soft, hard)) == expected


def test_a_limit_above_infinity_is_itself():
    assert program._within(5, resource.RLIM_INFINITY) == 5
    assert program._within(resource.RLIM_INFINITY, resource.RLIM_INFINITY) == -1


def test_limits_in_a_container(store):
    out, _ = store.result(
        "sh", "-c", "ulimit -Sn; ulimit -Hn", process={"rlimits": (Ulimit("nofile", 33, 44),)}
    )
    assert out == b"33\n44\n"


# --- finding and executing -----------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Two folders of a PATH with programs good and bad."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a/closed").write_text("#!/bin/sh\n")
    (tmp_path / "b/closed").symlink_to("/bin/true")
    (tmp_path / "a/only-closed").write_text("#!/bin/sh\n")
    (tmp_path / "a/folder").mkdir()
    (tmp_path / "a/text").write_text("no program\n")
    (tmp_path / "a/text").chmod(0o755)
    (tmp_path / "a/lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "a/lost").chmod(0o755)
    return f"{tmp_path}/a:/no/such/place:{tmp_path}/b"


def execute(path, *argv):
    def action():
        try:
            program._execute(argv, {b"PATH": path.encode()} if path is not None else {})
        except Failed as failed:
            return failed.failure.exit_code, failed.failure.errno
        return None

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(write, "wb") as file:
            os.dup2(file.fileno(), 1)
            answer = action()
            pickle.dump(answer, file)
            file.flush()
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(data) if data else "executed"


def test_a_later_folder_is_tried_when_the_first_refuses(folders):
    assert execute(folders, "closed") == "executed"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("nope", (127, errno.ENOENT)),
        ("/no/such/thing", (127, errno.ENOENT)),
        ("./nope", (127, errno.ENOENT)),
        ("only-closed", (126, errno.EACCES)),
        ("folder", (126, errno.EACCES)),
        ("text", (126, errno.ENOEXEC)),
        ("lost", (127, errno.ENOENT)),
        ("/etc/passwd/x", (127, errno.ENOENT)),
        ("x" * 300, (126, errno.ENAMETOOLONG)),
    ],
)
def test_exit_codes_of_what_cannot_be_executed(folders, argv, expected):
    found = execute(folders, argv)
    assert found[0] == expected[0]
    assert found[1] in (expected[1], errno.ENOTDIR)


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path_nothing_is_searched(path, tmp_path, monkeypatch):
    """Least of all the working directory."""
    (tmp_path / "here").symlink_to("/bin/true")
    monkeypatch.chdir(tmp_path)
    assert execute(path, "here") == (127, errno.ENOENT)
    assert execute(path, "./here") == "executed"


def test_an_empty_folder_of_a_path_is_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").symlink_to("/bin/true")
    monkeypatch.chdir(tmp_path)
    assert execute("/none:", "here") == "executed"


# --- the working directory -----------------------------------------------------------------------


def test_a_working_directory_is_made(store):
    assert store.result("pwd", process={"cwd": "/new/place"}) == (b"/new/place\n", 0)


@pytest.mark.parametrize(
    "cwd",
    ["/proc/self/fd/5", "/proc/self/fd/7/../../..", "/proc/1/root", "/away", "/proc/self/cwd"],
)
def test_a_working_directory_outside_is_refused(store, cwd):
    """CVE-2024-21626: a descriptor of a directory of the host as WORKDIR, here or by exec."""
    with pytest.raises(StartError) as caught:
        store.begin("true", process={"cwd": cwd})
    assert caught.value.stage == "workdir"
    box = store.begin("sleep", "1000")
    with box.exec("true", cwd=cwd) as stream, pytest.raises(StartError) as caught:
        stream.wait()
    assert caught.value.stage == "workdir"


def test_a_working_directory_that_the_user_may_not_enter(store):
    script = "mkdir -p /closed && /bin/busybox chmod 700 /closed && echo up && sleep 1000"
    box = store.begin("sh", "-c", script)
    box.read_until(b"up")
    with box.exec("pwd", user="ann", cwd="/closed") as stream, pytest.raises(StartError) as caught:
        stream.wait()
    assert (caught.value.stage, caught.value.errno) == ("workdir", errno.EACCES)


# --- users ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", b"uid=0(root) gid=0(root) groups=0(root)\n"),
        ("ann", b"uid=1000(ann) gid=1000(ann) groups=50(staff),1000(ann)\n"),
        ("1000", b"uid=1000(ann) gid=1000(ann) groups=50(staff),1000(ann)\n"),
        ("ann:staff", b"uid=1000(ann) gid=50(staff) groups=50(staff)\n"),
        ("4000:4001", b"uid=4000 gid=4001 groups=4001\n"),
    ],
)
def test_who_the_program_is(store, user, expected):
    assert store.result("id", process={"user": user}) == (expected, 0)


def test_groups_of_the_engine_are_left_behind(store):
    """CVE-2022-2989: those of the launcher's user would come along."""
    out, _ = store.result("grep", "Groups", "/proc/self/status", process={"user": "4000"})
    assert out.split() == [b"Groups:", b"0"]


def test_a_fifo_in_place_of_passwd_hangs_nobody(store):
    script = "rm /etc/passwd; /bin/busybox mkfifo /etc/passwd; echo up; sleep 1000"
    box = store.begin("sh", "-c", script)
    box.read_until(b"up")
    with box.exec("id", user="ann") as stream, pytest.raises(StartError) as caught:
        stream.wait(20)
    assert caught.value.stage == "user"


def test_the_streams_belong_to_the_user(store):
    for user in ("", "ann", "4000"):
        script = "echo out > /dev/stdout; echo err > /dev/stderr"
        assert store.result("sh", "-c", script, process={"user": user}) == (b"out\nerr\n", 0)
