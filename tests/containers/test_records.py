"""Small files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal

import pytest

from cellbox.containers import records
from cellbox.containers.messages import SAMPLE, ExitRecord, RunState
from cellbox.linux import process as processes

RECORD = ExitRecord(3, 1.5, 2.5, error="x")


def test_what_was_written_is_read(tmp_path):
    records.write(str(tmp_path / records.EXIT), RECORD)
    records.write(str(tmp_path / records.BUNDLE), SAMPLE, durable=True)
    assert records.read_exit(str(tmp_path)) == RECORD
    assert records.read_bundle(str(tmp_path)) == SAMPLE
    assert sorted(os.listdir(tmp_path)) == [records.BUNDLE, records.EXIT]
    assert (tmp_path / records.EXIT).stat().st_mode & 0o777 == 0o600


def test_a_missing_file_is_none(tmp_path):
    assert records.read_exit(str(tmp_path)) is None
    assert records.read_bundle(str(tmp_path / "none")) is None
    assert records.read_state(str(tmp_path)) is None


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 100, b"\xff\xfe", b'{"exit_code": 1'])
def test_what_a_power_cut_leaves_is_none(tmp_path, data):
    (tmp_path / records.EXIT).write_bytes(data)
    assert records.read_exit(str(tmp_path)) is None


def test_a_newer_record_takes_the_place_of_the_old(tmp_path):
    for code in range(5):
        records.write(str(tmp_path / records.EXIT), ExitRecord(code, 0.0, 0.0))
    assert records.read_exit(str(tmp_path)).exit_code == 4
    assert os.listdir(tmp_path) == [records.EXIT]


def test_when_it_cannot_be_written_the_old_one_stays(tmp_path, monkeypatch):
    path = str(tmp_path / records.EXIT)
    records.write(path, RECORD)

    def full(fd, data):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError):
        records.write(path, ExitRecord(9, 0.0, 0.0))
    monkeypatch.undo()
    assert records.read_exit(str(tmp_path)) == RECORD
    assert os.listdir(tmp_path) == [records.EXIT]


def test_half_a_write_is_an_error_too(tmp_path):
    """A limit on the size of files cuts the write short, as a full disk does."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            records.write(str(tmp_path / records.EXIT), RECORD)
        except OSError:
            os._exit(0 if not os.listdir(tmp_path) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_no_descriptor_stays_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    records.write(str(tmp_path / records.EXIT), RECORD)
    with pytest.raises(FileNotFoundError):
        records.write(str(tmp_path / "none/exit.json"), RECORD)
    assert os.listdir("/proc/self/fd") == before


def test_a_state_counts_while_its_shim_lives(tmp_path):
    path = str(tmp_path / records.STATE)
    own = RunState(os.getpid(), processes.start_time(os.getpid()), pid=5)
    records.write(path, own)
    assert records.read_state(str(tmp_path)) == own
    records.write(path, RunState(os.getpid(), own.shim_start + 1))
    assert records.read_state(str(tmp_path)) is None
    records.write(path, RunState(0, 0))
    assert records.read_state(str(tmp_path)) is None
