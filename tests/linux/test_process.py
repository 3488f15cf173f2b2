"""Telling processes apart, and what they inherit."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.linux import process


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        ("15", 15),
        ("9", 9),
        ("64", 64),
        ("KILL", 9),
        ("RTMIN", signal.SIGRTMIN),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX", signal.SIGRTMAX),
        ("RTMAX-14", signal.SIGRTMAX - 14),
    ],
)
def test_signal_numbers(name, number):
    assert process.signal_number(name) == number


@pytest.mark.parametrize(
    "name",
    [
        *("", "0", "65", "-1", "99999", "NOPE", "SIG", "SIGSIGTERM", "TERM ", "9.0", "RTMIN+"),
        *("RTMIN+99", "RTMIN-1+2", "RTMAX+99", "TERM+1", "KILL+0", "RTMIN--5", "_DFL", "\0"),
    ],
)
def test_what_is_no_signal(name):
    with pytest.raises(ValueError, match="Invalid signal"):
        process.signal_number(name)


@given(st.text(max_size=10))
def test_any_text_is_a_signal_or_an_error(text):
    try:
        assert 0 < process.signal_number(text) < signal.NSIG
    except ValueError:
        pass


def test_every_signal_has_its_name():
    for one in signal.Signals:
        assert process.signal_number(one.name) == one.value


@pytest.mark.parametrize(
    ("status", "code"), [(0, 0), (1 << 8, 1), (255 << 8, 255), (9, 137), (15, 143), (11 | 128, 139)]
)
def test_exit_codes(status, code):
    assert process.exit_code(status) == code


def test_a_process_is_told_by_its_start(sleeper):
    started = process.start_time(sleeper.pid)
    assert started > 0
    assert process.is_alive(sleeper.pid, started)
    assert not process.is_alive(sleeper.pid, started + 1)
    assert not process.is_alive(sleeper.pid, 0)
    assert not process.is_alive(0, started)


def test_a_name_with_spaces_and_parentheses_confuses_nobody(tmp_path):
    program = tmp_path / ") 1 (x"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as child:
        assert process.start_time(child.pid) >= process.start_time(os.getpid())
        child.kill()


def test_one_that_has_ended_is_gone(sleeper):
    started = process.start_time(sleeper.pid)
    sleeper.kill()
    assert process.wait_gone(sleeper.pid, started, 20)
    assert process.start_time(sleeper.pid) == 0  # a zombie still
    assert not process.is_alive(sleeper.pid, started)
    sleeper.wait()
    assert process.start_time(sleeper.pid) == 0
    assert not process.kill(sleeper.pid, started, signal.SIGTERM)
    assert process.wait_gone(sleeper.pid, started)


def test_another_with_the_same_number_is_left_alone(sleeper):
    started = process.start_time(sleeper.pid)
    assert not process.kill(sleeper.pid, started - 1, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        process.open_process(sleeper.pid, started - 1)
    assert sleeper.poll() is None
    assert process.kill(sleeper.pid, started, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL


def test_waiting_has_an_end(sleeper):
    started = process.start_time(sleeper.pid)
    assert not process.wait_gone(sleeper.pid, started, 0.01)
    assert not process.wait_gone(sleeper.pid, started, -1.0)


def test_no_descriptor_stays_open(sleeper):
    before = os.listdir("/proc/self/fd")
    started = process.start_time(sleeper.pid)
    process.kill(sleeper.pid, started, 0)
    process.kill(sleeper.pid, started + 1, 0)
    process.wait_gone(sleeper.pid, started, 0)
    assert os.listdir("/proc/self/fd") == before


def test_a_program_starts_with_signals_as_the_kernel_makes_them(tmp_path, in_child):
    def action():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        process.reset_signals()
        out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            os.execvp("grep", ["grep", "Sig[BI]", "/proc/self/status"])
        os.waitpid(pid, 0)

    in_child(action)
    found = dict(line.split(":\t") for line in (tmp_path / "out").read_text().splitlines())
    assert found == {"SigBlk": "0" * 16, "SigIgn": "0" * 16}


def test_what_a_program_inherits_of_signals(in_child):
    def action():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        process.reset_signals()
        with open("/proc/self/status") as file:
            lines = dict(line.split(":\t") for line in file)
        return [lines[name].strip() for name in ("SigBlk", "SigIgn")]

    assert in_child(action) == ["0" * 16] * 2  # those that are caught are reset by exec


def test_rights_that_were_given_up_do_not_come_back(in_child):
    def action():
        process.give_up_rights()
        told = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
        lines = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        return int(lines["CapEff"], 16), lines["NoNewPrivs"], os.geteuid()

    assert in_child(action) == (0, "1", os.geteuid())
