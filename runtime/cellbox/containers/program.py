"""The last steps of a process before it becomes the program of a container.

:func:`become` is shared by init (a container's first process) and by exec. It runs inside the
container's namespaces with the container's root as its own, so it imports nothing, looks up no
user, host or codec by name, and holds no descriptor but its standard streams and the channel on
which a failure is told (CVE-2019-14271, CVE-2024-21626).

The order matters: the bounding set is dropped while CAP_SETPCAP is there; ids change with the
capabilities kept; the working directory is entered as the user; the filter is loaded last, while
CAP_SYS_ADMIN (of the container's user namespace) still allows it without no_new_privs.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cellbox.containers import users
from cellbox.containers.messages import Failure, Process
from cellbox.linux import capabilities, mounts, syscalls
from cellbox.linux import process as processes
from cellbox.model.container import Ulimit

_LIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}


class Failed(Exception):
    """A step failed; ``failure`` says which, as data."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@contextmanager
def step(stage: str, detail: str = "") -> Iterator[None]:
    """Name the step that an OSError or a wrong value comes from."""
    try:
        yield
    except OSError as error:
        what = detail or str(error.filename or stage)
        raise Failed(Failure(stage, error.errno or errno.EIO, what)) from error
    except ValueError as error:
        raise Failed(Failure(stage, errno.EINVAL, str(error))) from error


def become(process: Process, program: bytes, keep: int) -> None:
    """Turn this process into ``process``. Returns never, or raises :class:`Failed`.

    ``program`` is the compiled seccomp filter, empty for none; ``keep`` the one descriptor above 2
    that stays open until exec.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with step("user", f"user {process.user}"):
        identity = users.resolve(
            process.user, process.groups, lambda path: users.read_file(root, path)
        )
    with step("limits"):
        set_limits(process.rlimits)
    _own_streams(identity.uid)
    _make_workdir(root, process.cwd)
    _close_all_but(keep)
    mask = capabilities.mask(process.capabilities)
    with step("user", f"user {process.user}"):
        capabilities.bound(mask)
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        _set_groups(identity.groups, identity.gid)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    _enter_workdir(process.cwd)
    _confine(process, mask, program)
    os.umask(0o022)
    processes.reset_signals()
    environment = environ(process.env, identity.home)
    _execute(process.argv, environment)


def rehearse() -> None:
    """Go through those motions of :func:`become` that change nothing."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    users.resolve("", (), lambda path: users.read_file(root, path))
    _make_workdir(root, "/")
    os.close(root)
    _enter_workdir("/")
    syscalls.default_signal(signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with suppress(OSError):
        syscalls.capset(1, 0, 0)  # more than is permitted
    with suppress(OSError):
        syscalls.seccomp_load(b"")
    with suppress(Failed):
        _execute(("true",), {b"PATH": b"/proc"})


def set_limits(limits: Sequence[Ulimit]) -> None:
    """setrlimit(2) for each; a hard limit above the one in force is clamped to it, as raising needs
    CAP_SYS_RESOURCE on the host."""
    for limit in limits:
        kind = _LIMITS[limit.name]
        ceiling = resource.getrlimit(kind)[1]
        hard = _within(limit.hard, ceiling)
        resource.setrlimit(kind, (_within(limit.soft, hard), hard))


def _within(value: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return value
    return ceiling if value == resource.RLIM_INFINITY else min(value, ceiling)


def _set_groups(groups: Sequence[int], own: int) -> None:
    """setgroups(2); a user namespace of a single id forbids it, and then has no groups to give."""
    try:
        os.setgroups(groups)
    except PermissionError:
        if set(groups) - {own}:
            raise


def _own_streams(uid: int) -> None:
    """Let the user open /dev/stdout and the like by name, which goes by the owner of the pipe or
    terminal behind it (runc, ``fixStdioPermissions``)."""
    for fd in range(3):
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode) or os.isatty(fd):
            with suppress(OSError):  # one that was made by somebody we have no power over
                os.fchown(fd, uid, -1)


def _close_all_but(keep: int) -> None:
    if keep > 3:
        syscalls.close_range(3, keep - 1)
    syscalls.close_range(keep + 1)


def _make_workdir(root: int, path: str) -> None:
    with step("workdir", path):
        os.close(mounts.make_target(root, path, True))


def _enter_workdir(path: str) -> None:
    """Enter the working directory as the user, and make sure that it lies inside the root."""
    with step("workdir", path):
        os.chdir(path)
        if not os.getcwdb().startswith(b"/"):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _confine(process: Process, mask: int, program: bytes) -> None:
    with step("seccomp"):
        if process.no_new_privileges:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if program:
            privileged = mask | capabilities.mask(("SYS_ADMIN",))
            syscalls.capset(privileged, privileged, 0)
            syscalls.seccomp_load(program)
    with step("capabilities"):
        syscalls.capset(mask, mask, 0)


def environ(variables: Sequence[str], home: str) -> dict[bytes, bytes]:
    """The environment from ``NAME=value`` strings, with HOME where nobody set it."""
    environment = {b"HOME": os.fsencode(home)}
    for variable in variables:
        name, _, value = os.fsencode(variable).partition(b"=")
        environment[name] = value
    return environment


def _execute(argv: Sequence[str], environment: dict[bytes, bytes]) -> None:
    """execve(2), searching PATH as execvp(3) does; raises :class:`Failed` with Docker's codes."""
    name = argv[0]
    arguments = [os.fsencode(argument) for argument in argv]
    if "/" in name:
        candidates = [arguments[0]]
    else:
        search = environment.get(b"PATH", b"")
        folders = search.split(b":") if search else []
        candidates = [(folder or b".") + b"/" + arguments[0] for folder in folders]
    worst = errno.ENOENT
    for path in candidates:
        try:
            os.execve(path, arguments, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or worst
    if worst == errno.ENOENT and "/" not in name:
        raise Failed(
            Failure("exec", worst, f'exec: "{name}": executable file not found in $PATH', 127)
        )
    raise Failed(Failure("exec", worst, f'exec: "{name}"', 127 if worst == errno.ENOENT else 126))
