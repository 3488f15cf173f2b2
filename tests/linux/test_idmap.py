"""Maps of ids, and the slots of ids that running containers hold."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.linux import idmap, syscalls

WHOLE = (0, 0, 2**32 - 1)


def test_slots_do_not_overlap_and_stay_below_what_the_kernel_has():
    first, second, last = (idmap.slot_range(slot) for slot in (0, 1, idmap.SLOTS - 1))
    assert first == (0, idmap.FIRST, 65536)
    assert second[1] == first[1] + first[2]
    assert last[1] + last[2] <= 2**31


def test_a_slot_is_held_while_its_descriptor_is_open(tmp_path):
    held = [idmap.take_slot(str(tmp_path)) for _ in range(3)]
    assert [slot for slot, _ in held] == [0, 1, 2]
    os.close(held[1][1])
    slot, fd = idmap.take_slot(str(tmp_path))
    assert slot == 1
    for each in (held[0][1], held[2][1], fd):
        os.close(each)


def test_a_slot_ends_with_the_process_that_holds_it(tmp_path, in_child):
    assert in_child(lambda: idmap.take_slot(str(tmp_path))[0]) == 0
    slot, fd = idmap.take_slot(str(tmp_path))
    os.close(fd)
    assert slot == 0


def test_two_processes_have_two_slots(tmp_path):
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(told, bytes([idmap.take_slot(str(tmp_path))[0]]))
        signal.pause()
    assert os.read(ready, 1) == b"\0"
    slot, fd = idmap.take_slot(str(tmp_path))
    os.close(fd)
    assert slot == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    slot, fd = idmap.take_slot(str(tmp_path))
    for each in (fd, ready, told):
        os.close(each)
    assert slot == 0


def test_when_all_slots_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(idmap, "SLOTS", 2)
    fds = [idmap.take_slot(str(tmp_path))[1] for _ in range(2)]
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="all ranges of ids are in use"):
        idmap.take_slot(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("4242:100000:65536\n", [(100000, 65536)]),
        ("4242:1:2\nother:3:4\n4242:5:6", [(1, 2), (5, 6)]),
        ("4242:1\n4242:1:2:3\n::\n\n#4242:1:2\n", []),
        ("4242:x:2\n4242:1:y\n4242:-1:5\n4242:1:0\n", []),
        (" 4242:7:8 \n", [(7, 8)]),
        ("\udcff:1:2\n4242:9:9\n", [(9, 9)]),
    ],
)
def test_subordinate_ids(tmp_path, text, expected):
    path = tmp_path / "subuid"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert idmap.subordinate(4242, str(path)) == expected


def test_subordinate_ids_by_name(tmp_path):
    path = tmp_path / "subuid"
    path.write_text("root:100:5\n0:200:5\n")
    assert idmap.subordinate(0, str(path)) == [(100, 5), (200, 5)]


def test_no_file_lends_nothing(tmp_path):
    assert idmap.subordinate(0, str(tmp_path / "none")) == []


@given(st.lists(st.tuples(st.integers(1, 2**31), st.integers(1, 2**20)), max_size=5))
def test_a_rootless_map_has_no_gaps(ranges):
    lines = idmap.rootless_map(1000, ranges)
    assert lines[0] == (0, 1000, 1)
    expected = 0
    for inside, _, count in lines:
        assert inside == expected
        expected += count
    assert [(first, count) for _, first, count in lines[1:]] == ranges


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([WHOLE], [(0, 1000, 10)]),
        ([(0, 500, 1010)], [(0, 1000, 10)]),
        ([(0, 500, 1009)], [(0, 0, 1009)]),
        ([(0, 500, 1)], [(0, 0, 1)]),
        ([(0, 500, 1), (1, 9000, 65536)], [(0, 1000, 10)]),
        ([(0, 5, 1005), (1005, 9000, 5)], [(0, 0, 1005), (1005, 1005, 5)]),
    ],
)
def test_a_map_that_can_be_nested(monkeypatch, own, expected):
    monkeypatch.setattr(idmap, "own_map", lambda kind: own)
    assert idmap.nested_map("uid", [(0, 1000, 10)]) == expected


def test_our_own_map():
    for kind in ("uid", "gid"):
        lines = idmap.own_map(kind)
        assert lines and all(len(line) == 3 for line in lines)
    assert idmap.root_of(os.getpid()) == idmap.own_map()[0][1]


def test_helpers_are_both_there_or_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert idmap.helpers() is None
    for name in ("newuidmap", "newgidmap"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    assert idmap.helpers() == (f"{tmp_path}/newuidmap", f"{tmp_path}/newgidmap")


def test_maps_are_written(in_child):
    def action():
        ready, go = os.pipe()
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER)
        if pid == 0:
            os.read(ready, 1)
            os._exit(os.getuid() * 10 + os.getgid())
        uid, gid = os.geteuid(), os.getegid()
        idmap.deny_setgroups(pid)
        idmap.write_maps(pid, [(3, uid, 1)], [(4, gid, 1)])
        root = idmap.root_of(pid)
        os.write(go, b"x")
        return root, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    try:
        assert in_child(action) == (0, 34)
    except AssertionError as error:
        if "EPERM" in str(error) or "Operation not permitted" in str(error):
            pytest.skip("this machine does not let us make user namespaces")
        raise
