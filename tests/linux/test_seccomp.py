"""Programs loaded into a real process, which then tries the calls.

Each attempt is made twice: without a filter first, so that a refusal is known to be the filter's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.linux import capabilities, seccomp, syscalls
from cellbox.linux.seccomp_default import PROFILE

try:
    seccomp.version()
except NotSupported as missing:
    pytest.skip(f"no libseccomp: {missing}", allow_module_level=True)
if platform.machine() != "x86_64":
    pytest.skip("the numbers of the calls are those of x86-64", allow_module_level=True)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NR = {
    "getpid": 39,
    "socket": 41,
    "clone": 56,
    "ptrace": 101,
    "syslog": 103,
    "personality": 135,
    "pivot_root": 155,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "swapoff": 168,
    "reboot": 169,
    "sethostname": 170,
    "init_module": 175,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "setns": 308,
    "kcmp": 312,
    "bpf": 321,
    "userfaultfd": 323,
    "io_uring_setup": 425,
    "fsopen": 430,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_open": 434,
}
NEWUSER, NEWNS = 0x10000000, 0x20000


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.compile("default", capabilities.DEFAULT)


def in_child(program: bytes, attempt: Callable[[], int]) -> int:
    """What ``attempt`` gives (0 to 250) in a child that has loaded ``program``; -N for signal N."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            if program:
                syscalls.seccomp_load(program)
            code = attempt()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call(number: int, *arguments: int) -> Callable[[], int]:
    """An attempt whose result is the errno, 0 for success."""
    words = [ctypes.c_ulong(argument) for argument in arguments]

    def attempt() -> int:
        ctypes.set_errno(0)
        result = _libc.syscall(ctypes.c_long(number), *words)
        if result == 0 and number in (NR["clone"], NR["clone3"]) and os.getpid() != parent:
            os._exit(0)
        return ctypes.get_errno() if result < 0 else 0

    parent = os.getpid()
    return attempt


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mount", (0, 0, 0, 0, 0)),
        ("umount2", (0, 0)),
        ("unshare", (NEWUSER,)),
        ("unshare", (NEWNS,)),
        ("unshare", (0,)),
        ("setns", (-1 & 0xFFFFFFFF, 0)),
        ("clone", (NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)),
        ("clone", (NEWNS | signal.SIGCHLD, 0, 0, 0, 0)),
        ("pivot_root", (0, 0)),
        ("fsopen", (0, 0)),
        ("keyctl", (0, 0)),
        ("add_key", (0, 0, 0, 0, 0)),
        ("request_key", (0, 0, 0, 0)),
        ("bpf", (0, 0, 0)),
        ("userfaultfd", (1,)),
        ("io_uring_setup", (1, 0)),
        ("perf_event_open", (0, 0, 0, 0, 0)),
        ("open_by_handle_at", (0, 0, 0)),
        ("kcmp", (0, 0, 0, 0, 0)),
        ("syslog", (10, 0, 0)),
        ("reboot", (0, 0, 0, 0)),
        ("swapoff", (0,)),
        ("sethostname", (0, 1 << 20)),
        ("init_module", (0, 0, 0)),
        ("socket", (38, 5, 0)),
        ("socket", (40, 1, 0)),
        ("socket", (12, 1, 0)),
        ("personality", (0x0040000,)),
        ("personality", (0x0000001,)),
    ],
)
def test_what_docker_denies_is_denied(
    default: bytes, name: str, arguments: tuple[int, ...]
) -> None:
    assert in_child(default, call(NR[name], *arguments)) == errno.EPERM


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("unshare", (0,)), ("keyctl", (1, 0)), ("personality", (0x0040000,))],
)
def test_without_the_filter_they_work(name: str, arguments: tuple[int, ...]) -> None:
    assert in_child(b"", call(NR[name], *arguments)) == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("getpid", ()),
        ("socket", (1, 1, 0)),
        ("socket", (2, 1, 0)),
        ("socket", (16, 3, 0)),
        ("clone", (signal.SIGCHLD, 0, 0, 0, 0)),
        ("personality", (0xFFFFFFFF,)),
        ("personality", (0,)),
        ("close_range", (1000, 1001, 0)),
        ("pidfd_open", (1, 0)),
    ],
)
def test_what_programs_need_is_allowed(
    default: bytes, name: str, arguments: tuple[int, ...]
) -> None:
    assert in_child(default, call(NR[name], *arguments)) == 0


def test_an_allowed_call_reaches_the_kernel(default: bytes) -> None:
    assert in_child(default, call(NR["openat2"], 0, 0, 0, 0)) == errno.EINVAL
    assert in_child(default, call(NR["ptrace"], 9999, 0, 0, 0)) == errno.ESRCH


def test_clone3_is_told_to_be_missing(default: bytes) -> None:
    assert in_child(default, call(NR["clone3"], 0, 0)) == errno.ENOSYS


@pytest.mark.parametrize("number", [463, 500, 999, 0x3FFFFFFF, 0x40000000 | 600])
def test_a_call_newer_than_the_profile_is_missing(default: bytes, number: int) -> None:
    assert in_child(default, call(number)) == errno.ENOSYS


def test_threads_and_programs_work_under_the_filter(default: bytes) -> None:
    def attempt() -> int:
        os.execv("/bin/sh", ["sh", "-c", "ls / | cat >/dev/null && exit 7"])

    assert in_child(default, attempt) == 7


def i386(number: int, first: int) -> Callable[[], int]:
    """An attempt by ``int 0x80``, the way into the kernel of 32-bit programs."""
    # push rbx; mov eax, edi; mov ebx, esi; xor ecx, ecx; xor edx, edx; int 0x80; pop rbx; ret
    code = bytes.fromhex("5389f889f331c931d2cd805bc3")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)

    def attempt(page: mmap.mmap = page) -> int:  # it holds on to the page
        return max(0, -function(number, first))

    return attempt


@pytest.mark.parametrize(
    ("number", "first", "result"),
    [
        (310, NEWUSER, errno.EPERM),  # unshare
        (288, 0, errno.EPERM),  # keyctl
        (425, 1, errno.EPERM),  # io_uring_setup
        (120, NEWUSER, errno.EPERM),  # clone
        (435, 0, errno.ENOSYS),  # clone3
        (999, 0, errno.ENOSYS),
        (20, 0, 0),  # getpid
    ],
)
def test_32_bit_calls_are_filtered_too(
    default: bytes, number: int, first: int, result: int
) -> None:
    if in_child(b"", i386(20, 0)) != 0:
        pytest.skip("this kernel runs no 32-bit calls")
    assert in_child(default, i386(number, first)) == result


@pytest.mark.parametrize("number", [NR["unshare"], NR["keyctl"]])
def test_x32_calls_are_filtered_too(default: bytes, number: int) -> None:
    assert in_child(default, call(0x40000000 | number, 0)) in (errno.EPERM, errno.ENOSYS)


def test_a_capability_gives_back_its_calls() -> None:
    admin = seccomp.compile("default", (*capabilities.DEFAULT, "CAP_SYS_ADMIN"))
    assert in_child(admin, call(NR["unshare"], 0)) == 0
    assert in_child(admin, call(NR["clone3"], 0, 0)) == errno.EINVAL
    assert in_child(admin, call(NR["keyctl"], 0, 0)) == errno.EPERM
    without = seccomp.compile("default", ())
    assert in_child(without, call(NR["chroot"], 0)) == errno.EPERM


def test_no_name_stands_in_two_groups_of_the_default() -> None:
    plain = [name for rule in PROFILE.rules[:10] for name in rule.names]
    assert len(plain) == len(set(plain))


def custom(
    syscalls: Sequence[dict[str, object]], default: str = "SCMP_ACT_ALLOW", **more: object
) -> bytes:
    document = {"defaultAction": default, "syscalls": syscalls, **more}
    return seccomp.compile(json.dumps(document), ())


def test_a_custom_profile() -> None:
    program = custom(
        [
            {"names": ["getpid", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
            },
            {"names": ["unshare"], "action": "SCMP_ACT_KILL_PROCESS"},
        ]
    )
    assert in_child(program, call(NR["getpid"])) == 99
    assert in_child(program, call(NR["personality"], 8)) == errno.EPERM
    assert in_child(program, call(NR["personality"], 0xFFFFFFFF)) == 0
    assert in_child(program, call(NR["unshare"], 0)) == -signal.SIGSYS


def test_a_profile_that_allows_by_default_has_no_stub() -> None:
    program = custom([{"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}])
    assert in_child(program, call(999)) == errno.ENOSYS  # the kernel's own answer
    assert len(program) < 20 * 8


def test_rules_that_change_nothing_and_repeated_arguments() -> None:
    program = custom(
        [
            {"names": ["getppid"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 0x20000, "op": "SCMP_CMP_EQ"},
                ],
            },
        ]
    )
    assert in_child(program, call(NR["personality"], 8)) == errno.EPERM
    assert in_child(program, call(NR["personality"], 0x20000)) == errno.EPERM


def test_the_default_errno_of_a_profile() -> None:
    allowed = ["exit_group", "prctl", "write", "futex", "rt_sigprocmask", "munmap", "mmap", "brk"]
    program = custom(
        [{"names": allowed, "action": "SCMP_ACT_ALLOW"}], "SCMP_ACT_ERRNO", defaultErrnoRet=95
    )
    assert in_child(program, call(NR["getpid"])) == 95


def test_a_wrong_profile_is_told() -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        seccomp.compile("{", ())


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(seccomp.ctypes, "CDLL", missing)
    with pytest.raises(NotSupported, match="apt-get install libseccomp2"):
        seccomp.version()


def test_programs_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "cache" / "seccomp"
    path = seccomp.cached(directory, "default", capabilities.DEFAULT)
    assert path.read_bytes() == seccomp.compile("default", capabilities.DEFAULT)
    before = path.stat().st_mtime_ns
    assert seccomp.cached(directory, "default", tuple(reversed(capabilities.DEFAULT))) == path
    assert path.stat().st_mtime_ns == before
    assert seccomp.cached(directory, "default", ()) != path
    assert sorted(directory.glob("*")) == sorted(directory.glob("*.bpf"))
    assert not list(directory.glob(".*"))


def test_another_interpreter_finds_the_same_file(tmp_path: Path) -> None:
    """Sets have another order in each interpreter; the name of the file must not."""
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from cellbox.linux.seccomp import cached; print(cached(Path(sys.argv[1]), 'default', ()))"
    )
    words = [sys.executable, "-c", program, str(tmp_path), *sys.path]
    found = {
        subprocess.run(
            words, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert found == {f"{seccomp.cached(tmp_path, 'default', ())}\n".encode()}


def test_a_wrong_profile_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        seccomp.cached(tmp_path, "{}", ())
    assert not list(tmp_path.iterdir())


def test_threads_that_ask_at_once_get_one_whole_program(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: seccomp.cached(tmp_path, "default", ("CHOWN",)), range(16)))
    (path,) = paths
    assert path.read_bytes() == seccomp.compile("default", ("CHOWN",))
    assert list(tmp_path.iterdir()) == [path]
