"""Telling processes apart, and putting one in order before it becomes another program."""

from __future__ import annotations

import os
import select
import signal

from cellbox.linux import syscalls

_SETTABLE = [int(one) for one in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]


def start_time(pid: int) -> int:
    """When ``pid`` started, in clock ticks since boot; 0 for one that is gone or a zombie.

    Together with the pid it names a process for good: a later one with the same number has another
    start time (proc_pid_stat(5), fields 3 and 22).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the command in parentheses and may hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Does the process ``pid`` that started at ``started`` still run?"""
    return pid > 0 and started > 0 and start_time(pid) == started


def open_process(pid: int, started: int) -> int:
    """A pidfd of exactly this process. Raises ProcessLookupError when it is gone."""
    if pid <= 0:  # none was ever noted down
        raise ProcessLookupError(pid)
    fd = os.pidfd_open(pid)
    if start_time(pid) != started:
        os.close(fd)
        raise ProcessLookupError(pid)
    return fd


def give_up_rights() -> None:
    """Be without capabilities from now on, in this thread and what it executes; the user stays who
    it is. For who serves strangers, and has opened what takes rights."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.capset(0, 0, 0)


def kill(pid: int, started: int, number: int) -> bool:
    """Send a signal to exactly this process; False when it is gone."""
    try:
        fd = open_process(pid, started)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def wait_gone(pid: int, started: int, timeout: float | None = None) -> bool:
    """Block until this process has ended; False after ``timeout`` seconds."""
    try:
        fd = open_process(pid, started)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))
    finally:
        os.close(fd)


def reset_signals() -> None:
    """Default disposition for every signal and an empty mask.

    Python ignores SIGPIPE and SIGXFSZ, and both an ignored signal and the mask outlive exec
    (signal(7)), where programs do not expect them.
    """
    for number in _SETTABLE:
        syscalls.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def signal_number(name: str) -> int:
    """The number of ``"TERM"``, ``"SIGTERM"``, ``"RTMIN+3"`` or ``"15"``. Raises ValueError."""
    text = name.upper().removeprefix("SIG")
    if text.isdecimal():
        if 0 < int(text) < signal.NSIG:
            return int(text)
        raise ValueError(f"Invalid signal: {name}")
    base, sign, offset = text.partition("+") if "+" in text else text.partition("-")
    if sign and base not in ("RTMIN", "RTMAX"):
        raise ValueError(f"Invalid signal: {name}")
    try:
        number = signal.Signals[f"SIG{base}"].value + int(f"{sign}{offset}" or 0)
    except (KeyError, ValueError):
        raise ValueError(f"Invalid signal: {name}") from None
    if not 0 < number < signal.NSIG:
        raise ValueError(f"Invalid signal: {name}")
    return number


def exit_code(status: int) -> int:
    """The exit code of a wait status as a shell and Docker tell it: 128 + n after signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
