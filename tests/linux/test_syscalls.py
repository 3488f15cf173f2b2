"""The calls that Python does not offer: what they do, and how they fail."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

import pytest

from cellbox.linux import syscalls


def test_an_error_tells_the_call_and_its_argument(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.openat2(syscalls.AT_FDCWD, str(tmp_path / "none"), os.O_PATH)
    assert caught.value.filename == f"openat2 {tmp_path}/none"
    with pytest.raises(OSError) as other:
        syscalls.setns(0, 0)
    assert other.value.errno == errno.EINVAL and other.value.filename == "setns 0x0"


@pytest.mark.parametrize(
    "call",
    [
        lambda: syscalls.openat2(-1, "x", 0),
        lambda: syscalls.open_tree(-1, "x", 0),
        lambda: syscalls.move_mount(-1, -1),
        lambda: syscalls.fsopen("no-such-file-system"),
        lambda: syscalls.fsconfig(-1, syscalls.FSCONFIG_CMD_CREATE),
        lambda: syscalls.fsmount(-1),
        lambda: syscalls.mount_setattr(-1, "x", 0, set=syscalls.MOUNT_ATTR_RDONLY),
        lambda: syscalls.mount("", "/no/such/place", "tmpfs"),
        lambda: syscalls.umount("/no/such/place"),
        lambda: syscalls.pivot_root("/no/such/place", "/no/such/place"),
        lambda: syscalls.clone3(0xFFFF_0000_0000_0000),
        lambda: syscalls.setns(-1, 0),
        lambda: syscalls.unshare(1),
        lambda: syscalls.syncfs(-1),
        lambda: syscalls.prctl(9999),
        lambda: syscalls.capset(1, 0, 0),
        lambda: syscalls.seccomp_load(b""),
        lambda: syscalls.setdomainname("x" * 65),
        lambda: syscalls.close_range(5, 4),
    ],
)
def test_every_call_raises_what_the_kernel_says(call):
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno and caught.value.filename


@pytest.mark.parametrize("kind", [str, os.fsencode])
def test_openat2_stays_in_the_root(tmp_path, kind):
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("outside")
    (tmp_path / "in/file").write_text("inside")
    (tmp_path / "in/link").symlink_to("/file")
    root = os.open(tmp_path / "in", os.O_PATH)
    for path in ("file", "/file", "../file", "/../../file", "link"):
        fd = syscalls.openat2(root, kind(path), os.O_RDONLY)
        assert os.read(fd, 10) == b"inside"
        assert not os.get_inheritable(fd)
        os.close(fd)
    for path, resolve in (
        ("../file", syscalls.RESOLVE_BENEATH),
        ("link", syscalls.RESOLVE_BENEATH),
        ("link", syscalls.RESOLVE_NO_SYMLINKS),
    ):
        with pytest.raises(OSError):
            syscalls.openat2(root, path, os.O_RDONLY, resolve=resolve)
    os.close(root)


@pytest.mark.parametrize(
    ("path", "resolve", "number"),
    [
        ("proc/self/stat", syscalls.RESOLVE_NO_XDEV, errno.EXDEV),
        ("proc/self/exe", syscalls.RESOLVE_NO_MAGICLINKS, errno.ELOOP),
        ("proc/self/root/proc", syscalls.RESOLVE_NO_MAGICLINKS, errno.ELOOP),
    ],
)
def test_openat2_refuses_other_mounts_and_magic_links(path, resolve, number):
    root = os.open("/", os.O_PATH)
    with pytest.raises(OSError) as caught:
        syscalls.openat2(root, path, os.O_RDONLY, resolve=resolve)
    os.close(root)
    assert caught.value.errno == number


def test_openat2_is_asked_again_while_names_change(tmp_path):
    """Renames anywhere make the kernel answer EAGAIN to a path with ``..``."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    child = os.fork()
    if child == 0:
        while True:
            os.rename(tmp_path / "x", tmp_path / "y")
            os.rename(tmp_path / "y", tmp_path / "x")
    root = os.open(tmp_path, os.O_PATH)
    try:
        for _ in range(3000):
            os.close(syscalls.openat2(root, "a/b/../../a/b/../b", os.O_PATH))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(root)


def test_openat2_is_not_asked_for_ever(monkeypatch, tmp_path):
    asked = []

    def busy(*_):
        asked.append(1)
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(syscalls, "_syscall", busy)
    with pytest.raises(BlockingIOError):
        syscalls.openat2(syscalls.AT_FDCWD, str(tmp_path), os.O_PATH)
    assert len(asked) == syscalls._OPENAT2_TRIES


def test_openat2_creates_with_a_mode(tmp_path):
    root = os.open(tmp_path, os.O_PATH)
    os.close(syscalls.openat2(root, "new", os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(root)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_clone3_is_a_fork_with_a_pidfd(in_child):
    """For a process of one thread: in a child of others, one that is not there may hold the
    interpreter's lock."""

    def action():
        pid, pidfd = syscalls.clone3(0)
        if pid == 0:
            os._exit(7)
        signal.pidfd_send_signal(pidfd, 0)
        return os.get_inheritable(pidfd), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(action) == (False, 7)


def test_close_range(in_child):
    def action():
        fds = [os.dup(0) for _ in range(5)]
        syscalls.close_range(fds[1], fds[3])
        return [os.path.exists(f"/proc/self/fd/{fd}") for fd in fds]

    assert in_child(action) == [True, False, False, False, True]


def test_a_signal_that_was_ignored_and_is_no_more(in_child):
    def ignored():
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("SigIgn"))
        return int(line.split()[1], 16) >> (signal.SIGCHLD - 1) & 1

    def action():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        before = ignored()
        syscalls.default_signal(signal.SIGCHLD)
        return before, ignored()

    assert in_child(action) == (1, 0)


def test_the_name_of_a_process(in_child):
    def action():
        syscalls.set_name("a name that is too long")
        with open("/proc/self/comm") as file:
            return file.read()

    assert in_child(action) == "a name that is \n"


def test_capset_takes_all_64_bits(in_child):
    def action():
        syscalls.capset(0, 0, 0)
        with open("/proc/self/status") as file:
            return [line.split()[1] for line in file if line.startswith(("CapEff", "CapPrm"))]

    assert in_child(action) == ["0" * 16, "0" * 16]


def test_seccomp_load(in_child):
    """A filter that refuses one call: chroot(2) with an error it never gives by itself."""
    number = {"x86_64": 161, "aarch64": 51, "riscv64": 51}.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of chroot(2) on this architecture is not known here")
    load, compare, answer = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.ENOTTY, 0x7FFF0000
    lines = (
        (load, 0, 0, 0),
        (compare, 0, 1, number),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    )

    def action():
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.seccomp_load(b"".join(struct.pack("HBBI", *line) for line in lines))
        with pytest.raises(OSError) as caught:
            os.chroot("/")
        return caught.value.errno

    assert in_child(action) == errno.ENOTTY


def test_a_session_keyring_of_ones_own(in_child):
    def keyrings():
        with open("/proc/keys") as file:
            return [line.split()[0] for line in file if "_ses" in line]

    def action():
        try:
            syscalls.join_new_session_keyring()
            first = keyrings()
            syscalls.join_new_session_keyring()
        except OSError as error:
            return error.errno
        return first != keyrings()

    found = in_child(action)
    if found in (errno.ENOSYS, errno.EPERM, errno.EACCES):
        pytest.skip("this kernel has no keyrings for us")
    assert found is True


def test_names_of_a_uts_namespace(in_namespace):
    def action():
        syscalls.unshare(syscalls.CLONE_NEWUTS)
        syscalls.setdomainname("example")
        with open("/proc/sys/kernel/domainname") as file:
            return file.read()

    before = open("/proc/sys/kernel/domainname").read()
    assert in_namespace(action) == "example\n"
    assert open("/proc/sys/kernel/domainname").read() == before


def test_out_of_a_namespace_and_back(in_namespace):
    def action():
        home = os.open("/proc/self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        names = [os.readlink("/proc/self/ns/uts")]
        for enter in (syscalls.unshare, lambda flags: syscalls.setns(home, flags)):
            enter(syscalls.CLONE_NEWUTS)
            names.append(os.readlink("/proc/self/ns/uts"))
        return names

    first, second, third = in_namespace(action)
    assert first == third != second


def test_mounts_by_the_new_calls_and_the_old(in_namespace, tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()

    def action():
        context = syscalls.fsopen("tmpfs")
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "size", "64k")
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        made = syscalls.fsmount(context, syscalls.MOUNT_ATTR_NOSUID)
        syscalls.move_mount(made, syscalls.AT_FDCWD, str(tmp_path / "new"))
        syscalls.mount("tmpfs", str(tmp_path / "old"), "tmpfs", 2, "size=64k")
        copy = syscalls.open_tree(
            syscalls.AT_FDCWD, str(tmp_path / "new"), syscalls.OPEN_TREE_CLONE
        )
        syscalls.mount_setattr(copy, "", syscalls.AT_EMPTY_PATH, set=syscalls.MOUNT_ATTR_RDONLY)
        flags = [os.statvfs(tmp_path / name).f_flag & os.ST_NOSUID for name in ("new", "old")]
        assert all(flags) and os.fstatvfs(copy).f_flag & os.ST_RDONLY
        for fd in (context, made, copy):
            assert not os.get_inheritable(fd)
        syscalls.syncfs(os.open(tmp_path / "new", os.O_RDONLY))
        syscalls.umount(str(tmp_path / "old"))
        assert not os.path.ismount(tmp_path / "old")

    in_namespace(action)
