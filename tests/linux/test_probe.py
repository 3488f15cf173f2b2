"""Trying what the kernel allows, as root and as somebody else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cellbox.linux import probe


def make(directory: Path) -> Path:
    for name in ("lower", "upper", "work", "merged", "proc"):
        (directory / name).mkdir()
    (directory / "lower/file").write_bytes(b"x")
    return directory


def test_every_attempt_has_a_result(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    found = probe.probe(str(make(tmp_path)))
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


def test_a_directory_without_layers_cannot_hold_an_overlay(tmp_path: Path) -> None:
    found = probe.probe(str(tmp_path))
    assert found["overlay"] != 0


def test_an_ordinary_user_may_not_map_ids_of_the_hosts_files(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    place = make(tmp_path)
    for path in (place, *place.iterdir()):
        os.chown(path, 12345, 12345)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(place)
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
