"""Names, Docker's rules for adding and dropping, and the sets of a real process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument
from cellbox.linux import capabilities, syscalls

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="dropping capabilities needs root")


def test_numbers_are_those_of_the_kernel_header() -> None:
    assert len(capabilities.ALL) == 41
    assert len(set(capabilities.ALL)) == 41
    known = {"CHOWN": 0, "SYS_ADMIN": 21, "MKNOD": 27, "SETFCAP": 31, "BPF": 39}
    assert {name: capabilities.NUMBERS[name] for name in known} == known
    assert capabilities.NUMBERS["CHECKPOINT_RESTORE"] == 40


def test_the_default_is_dockers_mask() -> None:
    assert capabilities.mask(capabilities.DEFAULT) == 0xA80425FB
    assert capabilities.names(0xA80425FB) == capabilities.DEFAULT


@pytest.mark.parametrize("written", ["NET_RAW", "net_raw", "CAP_NET_RAW", "cap_net_raw"])
def test_a_name_may_be_written_in_four_ways(written: str) -> None:
    assert capabilities.canonical(written) == "NET_RAW"
    assert capabilities.mask((written,)) == 1 << 13


@pytest.mark.parametrize("wrong", ["", "NET_RAWW", "CAP_", "CAP_ALL", "21", "NET RAW"])
def test_an_unknown_name_is_told(wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown capability"):
        capabilities.effective(add=(wrong,))
    with pytest.raises(InvalidArgument, match="unknown capability"):
        capabilities.effective(drop=(wrong,), privileged=True)


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in capabilities.ALL if name not in names)


@pytest.mark.parametrize(
    ("add", "drop", "privileged", "held"),
    [
        ((), (), False, capabilities.DEFAULT),
        ((), (), True, capabilities.ALL),
        ((), ("ALL",), True, capabilities.ALL),
        (("ALL",), (), False, capabilities.ALL),
        (("all",), ("sys_admin", "CAP_BPF"), False, without("SYS_ADMIN", "BPF")),
        (("ALL",), ("ALL",), False, capabilities.ALL),
        ((), ("ALL",), False, ()),
        (("chown", "KILL"), ("ALL",), False, ("CHOWN", "KILL")),
        (("MKNOD",), ("MKNOD",), False, capabilities.DEFAULT),
    ],
)
def test_adding_and_dropping(
    add: tuple[str, ...], drop: tuple[str, ...], privileged: bool, held: tuple[str, ...]
) -> None:
    assert capabilities.effective(add, drop, privileged) == held


def test_dropping_one_and_adding_one() -> None:
    held = capabilities.effective(add=("NET_ADMIN",), drop=("NET_RAW",))
    assert "NET_ADMIN" in held
    assert "NET_RAW" not in held
    assert len(held) == 14


def test_the_mask_of_nothing_and_of_all() -> None:
    assert capabilities.mask(()) == 0
    assert capabilities.mask(capabilities.ALL) == (1 << 41) - 1
    assert capabilities.names(1 << 63) == ()


def sets_after_bound(tmp_path: Path, bits: int, uid: int = 0) -> dict[str, int]:
    """The Cap lines of a child that bounds itself to ``bits`` and becomes ``uid``."""
    report = tmp_path / "status"
    pid = os.fork()
    if pid == 0:
        try:
            capabilities.bound(bits)
            out = os.open(report, os.O_WRONLY | os.O_CREAT)
            if uid:
                os.setresuid(uid, uid, uid)
            else:
                syscalls.capset(bits, bits, 0)
            with open("/proc/self/status", "rb") as status:
                os.write(out, status.read())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    lines = [line.split(":") for line in report.read_text().splitlines() if line[:3] == "Cap"]
    return {name: int(value, 16) for name, value in lines}


@ROOT
def test_a_root_process_holds_the_mask_and_nothing_more(tmp_path: Path) -> None:
    bits = capabilities.mask(capabilities.DEFAULT)
    sets = sets_after_bound(tmp_path, bits)
    assert sets == {"CapInh": 0, "CapPrm": bits, "CapEff": bits, "CapBnd": bits, "CapAmb": 0}


@ROOT
def test_another_user_keeps_only_the_bounding_set(tmp_path: Path) -> None:
    bits = capabilities.mask(("CHOWN",))
    sets = sets_after_bound(tmp_path, bits, uid=12345)
    assert sets == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": bits, "CapAmb": 0}


@ROOT
def test_what_was_dropped_does_not_come_back(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            capabilities.bound(0)
            capabilities.bound(capabilities.mask(capabilities.ALL))
            with open("/proc/self/status") as status:
                bounding = next(line for line in status if line.startswith("CapBnd"))
            code = 0 if int(bounding.split()[1], 16) == 0 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
