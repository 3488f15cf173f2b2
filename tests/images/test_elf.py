"""ELF headers: the same libraries as the system's own linker finds, and no harm from damage."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.images.elf import Linker, needs

PYTHON = os.path.realpath(sys.executable)


@pytest.mark.skipif(not shutil.which("ldd"), reason="there is no ldd to judge by")
@pytest.mark.parametrize("program", [PYTHON, shutil.which("bash") or "/bin/sh", "/bin/ls"])
def test_the_same_libraries_as_ldd(program):
    told = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    judged = {os.path.realpath(path) for path in re.findall(r"(/\S+) \(", told)}
    found = {os.path.realpath(path) for path in Linker().closure([program])}
    assert judged <= found
    assert os.path.realpath(program) in found


def test_what_a_program_needs():
    what = needs(PYTHON)
    assert what is not None
    assert os.path.exists(what.interpreter)
    assert any(name.startswith("libc.") for name in what.libraries)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + b"\xff" * 100])
def test_what_is_no_program(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    answer = needs(str(path))
    assert answer is None or answer.libraries == ()
    assert Linker().closure([str(path)]) == {str(path)}
    assert needs(str(tmp_path / "absent")) is None
    assert needs(str(tmp_path)) is None


@given(at=st.integers(0, 4096), change=st.binary(min_size=1, max_size=16))
@settings(max_examples=200, deadline=None)
def test_damage_is_only_an_answer(tmp_path_factory, at, change):
    with open(PYTHON, "rb") as file:
        data = bytearray(file.read(1 << 16))
    data[at : at + len(change)] = change
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    needs(str(path))


def test_paths_of_the_configuration(tmp_path: Path):
    library = next(path for path in Linker().closure([PYTHON]) if "/libc." in path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/libc.so.6").symlink_to(library)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.conf").write_text(f"# mine\n{tmp_path}/own # here\n")
    (tmp_path / "ld.so.conf").write_text("include conf.d/*.conf ld.so.conf\n")
    linker = Linker(str(tmp_path / "ld.so.conf"))
    assert linker.library("libc.so.6", PYTHON) == str(tmp_path / "own/libc.so.6")
    assert linker.library("libabsent.so", PYTHON) == ""
    assert linker.library("libc.so.6", str(tmp_path)) == ""


def test_a_library_of_another_machine_is_not_taken(tmp_path):
    with open(PYTHON, "rb") as file:
        foreign = bytearray(file.read())
    foreign[18:20] = b"\xf7\x00" if foreign[18:20] != b"\xf7\x00" else b"\x3e\x00"
    (tmp_path / "libc.so.6").write_bytes(foreign)
    (tmp_path / "ld.so.conf").write_text(str(tmp_path))
    found = Linker(str(tmp_path / "ld.so.conf")).library("libc.so.6", PYTHON)
    assert not found.startswith(str(tmp_path))
