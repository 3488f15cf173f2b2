"""Rotated files of lines: many writers, readers that follow, tails."""

import json
import os
import threading
import time

import pytest

from cellbox.containers import journal


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


def read(path, **how):
    return list(journal.lines(path, **how))


def write(path, text):
    with open(path, "a") as file:
        file.write(text)


def test_lines_come_back_in_order(path):
    for number in range(10):
        assert journal.append(path, b"%d" % number, limit=1000)
    assert read(path) == [b"%d" % number for number in range(10)]
    assert not os.path.exists(path + ".1")


def test_a_file_is_rotated_at_its_limit_and_read_across(path):
    for number in range(100):
        journal.append(path, b"%03d" % number, limit=50, keep=3)

    found = read(path)
    assert found == [b"%03d" % number for number in range(100)][-len(found) :]
    assert sorted(os.listdir(os.path.dirname(path))) == ["log", "log.1", "log.2", "log.3"]
    assert len(found) == 3 * 13 + 9


def test_rotation_without_old_files(path):
    for number in range(30):
        journal.append(path, b"%03d" % number, limit=50, keep=0)
    assert read(path) == [b"026", b"027", b"028", b"029"]


def test_a_long_line_is_one_line(path):
    journal.append(path, b"x" * 300_000, limit=1 << 20)
    journal.append(path, b"y", limit=1 << 20)
    assert read(path) == [b"x" * 300_000, b"y"]


def test_what_cannot_be_written_is_dropped(tmp_path):
    assert not journal.append(str(tmp_path / "no" / "folder"), b"x", limit=10)
    if os.path.exists("/dev/full"):
        os.symlink("/dev/full", tmp_path / "full")
        assert not journal.append(str(tmp_path / "full"), b"x", limit=10)


def test_a_torn_last_line_is_no_line_until_it_is_whole(path):
    write(path, "one\ntw")
    assert read(path) == [b"one"]
    write(path, "o\n")
    assert read(path) == [b"one", b"two"]


@pytest.mark.parametrize("tail", [0, 1, 2, 5, 8, 12, 100])
def test_tail_counts_over_all_files(path, tail):
    for name, first in ((f"{path}.2", 0), (f"{path}.1", 4), (path, 8)):
        write(name, "".join(f"{number}\n" for number in range(first, first + 4)))
    write(path, "torn")

    every = [b"%d" % number for number in range(12)]
    assert read(path, tail=tail) == (every[-tail:] if tail else [])


def test_tail_of_lines_longer_than_a_chunk(path):
    lines = [letter * (journal.CHUNK + 10) for letter in "abc"]
    write(path, "\n".join(lines) + "\n")
    assert read(path, tail=2) == [line.encode() for line in lines[1:]]


def test_no_file_has_no_lines(path):
    assert read(path) == read(path, tail=3) == []


# --- following -----------------------------------------------------------------------------------


def follow(path, steps, **how):
    """What is read when ``steps`` are taken, one at each pause; it ends when they are done."""
    waiting = list(steps)

    def wait(seconds):
        waiting.pop(0)()

    return read(path, follow=True, ended=lambda: not waiting, wait=wait, **how)


def test_following_reads_what_comes(path):
    write(path, "one\n")
    steps = [lambda: write(path, "tw"), lambda: write(path, "o\nthree\n")]
    assert follow(path, steps) == [b"one", b"two", b"three"]


def test_following_a_file_that_is_yet_to_come(path):
    assert follow(path, [lambda: None, lambda: write(path, "one\n")]) == [b"one"]


def test_following_from_the_end(path):
    write(path, "old\n")
    assert follow(path, [lambda: write(path, "new\n")], tail=0) == [b"new"]


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_following_over_rotations_between_two_looks(path, rotations):
    def turn():
        for number in range(rotations):
            write(path, f"last{number}\n")
            journal.rotate(path, 3)
            write(path, f"first{number}\n")

    write(path, "start\n")
    expected = [b"start"]
    for number in range(rotations):
        expected += [b"last%d" % number, b"first%d" % number]
    assert follow(path, [turn, lambda: write(path, "end\n")]) == [*expected, b"end"]


def test_a_gap_in_the_middle_of_a_rotation_hides_nothing(path):
    write(f"{path}.2", "one\n")
    write(path, "two\n")
    assert read(path) == [b"one", b"two"]
    os.rename(path, f"{path}.1")
    assert read(path) == [b"one", b"two"]


def test_neither_do_the_gaps_of_several_rotations(path):
    for number in (4, 2):
        write(f"{path}.{number}", f"{number}\n")
    write(path, "0\n")
    assert read(path) == [b"4", b"2", b"0"]


def test_many_writers_and_a_follower_over_many_rotations(path):
    """Rotation every few hundred lines while all is read: nothing is lost, nothing comes twice."""
    writers, each = 4, 400
    running = [
        threading.Thread(
            target=lambda name=name: [
                journal.append(path, b"%d:%d" % (name, number), limit=2000, keep=50)
                for number in range(each)
            ]
        )
        for name in range(writers)
    ]
    for thread in running:
        thread.start()
    ended = lambda: not any(thread.is_alive() for thread in running)  # noqa: E731
    found = list(journal.lines(path, follow=True, ended=ended))

    assert len(found) == len(set(found)) == writers * each
    for name in range(writers):
        mine = [int(line.split(b":")[1]) for line in found if line.startswith(b"%d:" % name)]
        assert mine == list(range(each))


def test_descriptors_are_closed(path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        journal.append(path, b"%d" % number, limit=20, keep=3)
    reader = journal.lines(path, follow=True)
    next(reader)
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_event_is_one_line_of_json(tmp_path):
    path = str(tmp_path / "events.jsonl")
    before = time.time()
    assert journal.note(path, "container", "start", "ab", {"name": "web"})
    assert not journal.note(str(tmp_path / "none" / "events"), "container", "start", "ab", {})
    (event,) = (json.loads(line) for line in open(path))
    assert before <= event.pop("time") <= time.time()
    assert event == {
        "kind": "container", "action": "start", "id": "ab", "attributes": {"name": "web"}
    }  # fmt: skip
