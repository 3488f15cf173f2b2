"""The namespaces of the launcher."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cellbox.linux import idmap, namespaces, syscalls

USER = 54321


def as_user(action):
    """``action`` as a user who lends no ids."""

    def inside():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            # As after an exec; else /proc/PID/uid_map belongs to root and cannot be written.
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        return action()

    return inside


@pytest.fixture
def in_user_namespace(in_child):
    def run(action):
        def inside():
            namespaces.enter_private()
            return action()

        try:
            return in_child(as_user(inside))
        except AssertionError as error:
            if "Errno 1]" in str(error) or "Errno 28]" in str(error):
                pytest.skip("this machine does not let ordinary users make user namespaces")
            raise

    return run


def test_what_is_mounted_there_is_not_seen_here(in_child, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root; as a user the tests below are this one")

    def action():
        namespaces.enter_private()
        syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
        return os.path.ismount(tmp_path)

    assert in_child(action)
    assert not os.path.ismount(tmp_path)


def test_root_needs_no_user_namespace(in_child):
    if os.geteuid() != 0:
        pytest.skip("needs root")

    def action():
        before = os.readlink("/proc/self/ns/user")
        namespaces.enter_private()
        return before == os.readlink("/proc/self/ns/user")

    assert in_child(action)


def test_an_ordinary_user_becomes_root_of_a_user_namespace(in_user_namespace):
    def action():
        syscalls.mount("tmpfs", "/mnt", "tmpfs")
        return os.getresuid(), os.getresgid(), idmap.own_map()

    uids, gids, lines = in_user_namespace(action)
    assert uids == gids == (0, 0, 0)
    assert lines[0] == (0, USER if os.geteuid() == 0 else os.geteuid(), 1)


def test_a_user_namespace_is_shared_with_who_has_one(in_user_namespace, in_child):
    """As a later launcher of a user does, to reach what the one before has made."""
    in_user_namespace(lambda: None)  # skips where this machine forbids it

    def action():
        ready, done = os.pipe(), os.pipe()
        other = os.fork()
        if other == 0:
            namespaces.enter_private()
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
            os.write(ready[1], b"x")
            os.read(done[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        pidfd = os.pidfd_open(other)
        theirs = os.readlink(f"/proc/{other}/ns/user")
        namespaces.enter_private(beside=pidfd)
        syscalls.mount("tmpfs", "/mnt", "tmpfs")
        os.write(done[1], b"x")
        os.waitpid(other, 0)
        return theirs == os.readlink("/proc/self/ns/user"), os.getresuid(), os.getresgid()

    assert in_child(as_user(action)) == (True, (0, 0, 0), (0, 0, 0))


def test_who_has_ended_shares_nothing(in_user_namespace, in_child):
    in_user_namespace(lambda: None)

    def action():
        other = os.fork()
        if other == 0:
            os._exit(0)
        pidfd = os.pidfd_open(other)
        os.waitpid(other, 0)
        namespaces.enter_private(beside=pidfd)
        return os.getresuid()

    assert in_child(as_user(action)) == (0, 0, 0)


def test_no_child_and_no_descriptor_is_left(in_user_namespace):
    before = len(os.listdir("/proc/self/fd"))

    def action():
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return len(os.listdir("/proc/self/fd"))

    assert in_user_namespace(action) == before + 2  # the pipe of the answer


def test_a_fresh_interpreter_of_an_ordinary_user(in_child, in_user_namespace):
    """As the launcher begins: nothing is inherited from root, and one id is mapped."""
    python, package = Path("/usr/bin/python3"), Path(namespaces.__file__).parents[2]
    code = (
        "import os; from cellbox.linux import namespaces, idmap; namespaces.enter_private();"
        "print(os.getresuid(), idmap.own_map(), idmap.own_map('gid'),"
        "open('/proc/self/setgroups').read().strip(), sep='|')"
    )
    where = {"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*command):
        done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    if (
        not python.exists()
        or in_child(as_user(lambda: run(python, "-c", "import cellbox.linux.idmap")))[0]
    ):
        pytest.skip("needs a /usr/bin/python3 and a clone that other users may read")
    in_user_namespace(lambda: None)  # skips where this machine forbids it
    status, out, errors = in_child(as_user(lambda: run(python, "-c", code)))
    assert status == 0, errors
    user = USER if os.geteuid() == 0 else os.geteuid()
    ids, users, groups, setgroups = out.strip().split("|")
    assert ids == "(0, 0, 0)" and users == f"[(0, {user}, 1)]"
    assert setgroups == "deny" and groups.startswith("[(0, ")


def test_ids_that_are_lent_are_mapped_by_the_helpers(in_child, monkeypatch):
    """With subuid ranges the launcher has more than one id."""
    if os.geteuid() != 0 or not idmap.helpers():
        pytest.skip("needs root and newuidmap (Debian: uidmap)")
    monkeypatch.setattr(idmap, "subordinate", lambda uid, file: [(900_000_000, 1000)])
    asked = []

    def run(tool, pid, lines):
        # The helpers believe /etc/subuid alone, so what they would write is written in their place.
        asked.append((os.path.basename(tool), lines))
        return False

    monkeypatch.setattr(namespaces, "_run", run)
    assert namespaces._map_ranges(1, 1000, 1000) is False
    assert asked == [("newuidmap", [(0, 1000, 1), (1, 900_000_000, 1000)])]


def test_where_it_is_forbidden_the_error_says_so(in_child, monkeypatch):
    def action():
        def refuse(flags):
            raise PermissionError(errno.EPERM, "no", f"unshare {flags:#x}")

        syscalls.unshare = refuse
        try:
            namespaces.enter_private()
        except PermissionError as error:
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            return error.filename
        return None

    assert in_child(as_user(action)).startswith("unshare")


def test_the_interpreters_directory_becomes_read_only(in_namespace, tmp_path):
    """CVE-2019-5736: nobody who gets hold of /proc/PID/exe can write to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy("/bin/true", folder / "python")

    def action():
        namespaces.protect_executable(str(folder / "python"), str(tmp_path / "store"))
        with pytest.raises(OSError) as caught:
            open(folder / "python", "r+b")
        return caught.value.errno

    assert in_namespace(action) in (errno.EROFS, errno.ETXTBSY)
    with open(folder / "python", "r+b"):
        pass


def test_not_where_the_store_lies_in_it(in_namespace, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").write_text("x")

    def action():
        namespaces.protect_executable(str(folder / "python"), str(folder / "store"))
        (folder / "store").mkdir()

    in_namespace(action)
