"""Trying what the kernel allows, as root and as somebody else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cellbox.linux import probe


def test_every_attempt_has_a_result(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    found = probe.probe(str(tmp_path))
    assert tuple(found) == probe.NAMES
    assert all(number in (0, *errno.errorcode) for number in found.values())
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_result_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    probe.main(str(tmp_path))
    assert set(json.loads(capfd.readouterr().out)) == set(probe.NAMES)


def test_without_a_namespace_nothing_else_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uid: int, gid: int) -> None:
        raise OSError(errno.ENOSPC, "no more of them")

    monkeypatch.setattr(probe, "_enter", refuse)
    found = probe.probe(str(tmp_path))
    assert set(found.values()) == {errno.ENOSPC}


def test_where_nothing_can_be_made_it_says_so() -> None:
    with pytest.raises(OSError):
        probe.probe("/proc/nothing")


def test_an_ordinary_user_may_not_map_ids_of_the_hosts_files(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    os.chown(tmp_path, 12345, 12345)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            os.setgroups([])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            os.write(write, json.dumps(probe.probe(".")).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    found = json.loads(os.read(read, 4096))
    os.close(read)
    assert found["idmap"] != 0
