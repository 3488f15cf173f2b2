"""Log drivers."""

import json
import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.containers import logs
from cellbox.containers.logs import PIECE, LogReader, LogWriter
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import LogConfig

NOON = 1_714_564_800_000_000_000
"""2024-05-01T12:00:00Z in nanoseconds."""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "container.log")


def entries(path, **how):
    return [(stream, data) for _, stream, data in LogReader(path).entries(**how)]


def wrote(path, *writes, max_size=0, max_files=1):
    writer = LogWriter(path, max_size, max_files)
    for number, (stream, data) in enumerate(writes):
        writer.write(stream, data, NOON + number * 10**9)
    writer.close()
    return writer


# --- the format ----------------------------------------------------------------------------------


def test_the_lines_are_dockers(path):
    writer = LogWriter(path, 0, 1)
    writer.write("stdout", b'say "hi"\n', NOON + 120_000_000)
    writer.write("stderr", "größe\n".encode(), NOON)
    writer.close()

    with open(path, "rb") as file:
        assert file.read() == (
            b'{"log":"say \\"hi\\"\\n","stream":"stdout","time":"2024-05-01T12:00:00.12Z"}\n'
            + '{"log":"größe\\n","stream":"stderr","time":"2024-05-01T12:00:00Z"}\n'.encode()
        )
    assert list(LogReader(path).entries()) == [
        (NOON / 1e9 + 0.12, "stdout", b'say "hi"\n'),
        (NOON / 1e9, "stderr", "größe\n".encode()),
    ]


def test_what_docker_wrote_is_read(path):
    with open(path, "w") as file:
        file.write('{"log":"a \\u003cb\\u003e\\n","stream":"stdout","attrs":{"x":"y"},')
        file.write('"time":"2024-05-01T12:00:00.123456789Z"}\n')
    ((when, stream, data),) = LogReader(path).entries()
    assert (stream, data) == ("stdout", b"a <b>\n")
    assert abs(when - NOON / 1e9 - 0.123456789) < 1e-6


def test_a_line_is_one_entry_however_it_was_written(path):
    wrote(path, ("stdout", b"on"), ("stderr", b"err\n"), ("stdout", b"e\ntwo\nthr"))
    assert entries(path) == [
        ("stderr", b"err\n"),
        ("stdout", b"one\n"),
        ("stdout", b"two\n"),
        ("stdout", b"thr"),
    ]


def test_a_long_line_is_cut_in_pieces(path):
    wrote(path, ("stdout", b"x" * (2 * PIECE + 5) + b"\n"))
    assert [len(data) for _, data in entries(path)] == [PIECE, PIECE, 6]


def test_a_cut_does_not_part_a_character(path):
    text = ("€" * PIECE + "\n").encode()
    wrote(path, ("stdout", text))

    pieces = [data for _, data in entries(path)]
    assert b"".join(pieces) == text
    assert all(len(piece) <= PIECE and piece.decode() for piece in pieces)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_come_back(tmp_path_factory, writes):
    path = str(tmp_path_factory.mktemp("logs") / "container.log")
    wrote(path, *(("stdout", data) for data in writes))

    assert b"".join(data for _, data in entries(path)) == b"".join(writes)
    if any(writes):
        with open(path, encoding="utf-8") as file:
            assert all(json.loads(line)["stream"] == "stdout" for line in file)


def test_memory_is_bounded_by_a_piece(path):
    writer = LogWriter(path, 0, 1)
    for _ in range(100):
        writer.write("stdout", b"x" * 60_000)
        assert sum(map(len, writer._partial.values())) < PIECE
    writer.close()


# --- rotation ------------------------------------------------------------------------------------


def test_rotation_keeps_the_newest(path):
    wrote(path, *(("stdout", b"%04d\n" % n) for n in range(100)), max_size=400, max_files=3)

    found = [data for _, data in entries(path)]
    assert found == [b"%04d\n" % n for n in range(100)][-len(found) :]
    names = sorted(os.listdir(os.path.dirname(path)))
    assert names == ["container.log", "container.log.1", "container.log.2"]
    for name in names:
        assert os.path.getsize(os.path.join(os.path.dirname(path), name)) <= 400


def test_one_file_only(path):
    wrote(path, *(("stdout", b"%04d\n" % n) for n in range(100)), max_size=400, max_files=1)
    assert os.listdir(os.path.dirname(path)) == ["container.log"]
    assert entries(path)[-1] == ("stdout", b"0099\n")


def test_an_entry_larger_than_a_file_is_kept_alone(path):
    wrote(path, ("stdout", b"a\n"), ("stdout", b"x" * 500 + b"\n"), max_size=100, max_files=2)
    assert entries(path) == [("stdout", b"a\n"), ("stdout", b"x" * 500 + b"\n")]


def test_one_write_over_many_rotations(path):
    data = b"".join(b"%04d\n" % n for n in range(1000))
    wrote(path, ("stdout", data), max_size=10_000, max_files=100)
    assert b"".join(data for _, data in entries(path)) == data


def test_a_second_run_appends_after_a_torn_line(path):
    wrote(path, ("stdout", b"one\n"))
    with open(path, "a") as file:
        file.write('{"log":"torn')
    assert entries(path) == [("stdout", b"one\n")]

    wrote(path, ("stdout", b"two\n"))
    assert entries(path) == [("stdout", b"one\n"), ("stdout", b"two\n")]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"log":1,"stream":"stdout","time":"2024-05-01T12:00:00Z"}',
        "[" * 100_000,
        *(f'{{"log":"x","stream":"stdout","time":"{when}"}}' for when in ("", "soon", "2024-05")),
    ],
)
def test_lines_that_are_no_entries_are_skipped(path, line):
    with open(path, "w") as file:
        file.write(line + "\n")
    wrote(path, ("stdout", b"one\n"))
    assert entries(path) == [("stdout", b"one\n")]


# --- reading -------------------------------------------------------------------------------------


def test_tail_since_and_until(path):
    wrote(path, *(("stdout", b"%d\n" % n) for n in range(10)))
    noon = NOON / 1e9

    def found(**how):
        return [int(data) for _, data in entries(path, **how)]

    assert found(tail=3) == [7, 8, 9]
    assert found(tail=0) == []
    assert found(since=noon + 8) == [8, 9]
    assert found(until=noon + 1) == [0, 1]
    assert found(tail=5, since=noon + 3, until=noon + 6) == [5, 6]


def test_a_clock_that_was_set_back_hides_nothing(path):
    writer = LogWriter(path, 0, 1)
    for number, hour in enumerate((2, 0, 1)):
        writer.write("stdout", b"%d\n" % number, NOON + hour * 3600 * 10**9)
    writer.close()
    assert [data for _, data in entries(path, until=NOON / 1e9 + 3600)] == [b"1\n", b"2\n"]


def test_following_over_rotation_until_the_end(path):
    writer = LogWriter(path, 300, 3)
    written = iter(range(50))
    alive = [True]

    def wait(seconds):
        for number in written:
            writer.write("stdout", b"%04d\n" % number)
            if number % 4 == 0:
                return
        writer.write("stdout", b"end")
        writer.close()
        alive.clear()

    found = entries(path, follow=True, ended=lambda: not alive, wait=wait)
    assert [data for _, data in found] == [*(b"%04d\n" % n for n in range(50)), b"end"]


def test_following_ends_when_until_has_passed(path):
    wrote(path, ("stdout", b"one\n"))
    assert entries(path, follow=True, until=time.time()) == [("stdout", b"one\n")]


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path]).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_drops_and_counts_and_recovers(disk):
    path = str(disk / "container.log")
    writer = LogWriter(path, 0, 1)
    writer.write("stdout", b"first\n")
    (disk / "filler").write_bytes(bytes(200 << 10))
    for number in range(100):
        writer.write("stdout", b"%04d" % number + b"x" * 1000 + b"\n")
    assert writer.dropped > 20

    (disk / "filler").unlink()
    writer.write("stdout", b"last\n")
    writer.close()
    found = [data for _, data in entries(path)]
    assert (found[0], found[-1], len(found)) == (b"first\n", b"last\n", 102 - writer.dropped)
    with open(path) as file:
        assert all(json.loads(line) for line in file)


def test_a_log_that_cannot_be_opened_drops(tmp_path):
    writer = LogWriter(str(tmp_path / "no" / "folder"), 0, 1)
    writer.write("stdout", b"one\n")
    writer.close()
    assert writer.dropped == 1


def test_a_log_is_no_way_out_of_its_folder(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "container.log").symlink_to(victim)

    assert wrote(str(tmp_path / "container.log"), ("stdout", b"one\n")).dropped == 1
    assert victim.read_text() == "precious\n"


# --- drivers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("", {}, (10 << 20, 3)),
        ("json-file", {"max-size": "10k"}, (10240, 3)),
        ("json-file", {"max-size": "1.5M", "max-file": "7"}, (3 << 19, 7)),
        ("json-file", {"max-size": "-1"}, (0, 3)),
        ("json-file", {"max-size": "2gb", "max-file": "1"}, (2 << 30, 1)),
        ("local", {}, (20 << 20, 5)),
        ("local", {"max-size": "100"}, (100, 5)),
    ],
)
def test_options(path, name, options, settings):
    writer = logs.driver(name).writer(path, options)
    assert (writer._max_size, writer._max_files) == settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max-sise": "1"}, "unknown log opt 'max-sise' for json-file log driver"),
        ({"max-size": "ten"}, "'ten' is not a size"),
        ({"max-size": "0"}, "'0' is not a size"),
        ({"max-size": "-5"}, "'-5' is not a size"),
        ({"max-file": "0"}, "'0' is not in 1 to 1000"),
        ({"max-file": "x"}, "'x' is not in 1 to 1000"),
        ({"max-file": "²"}, "is not in 1 to 1000"),
    ],
)
def test_wrong_options(options, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        logs.driver("json-file").check(options)


def test_opening_by_what_was_asked_for(path):
    writer = logs.open_log(LogConfig("local", {"max-file": "2"}), path)
    assert (writer._max_size, writer._max_files) == (20 << 20, 2)
    assert isinstance(logs.open_log(LogConfig("none"), path), logs.NoWriter)


def test_an_unknown_driver():
    with pytest.raises(InvalidArgument, match="no log driver named 'syslog' is registered"):
        logs.driver("syslog")


def test_none_keeps_nothing(path):
    driver = logs.driver("none")
    writer = driver.writer(path, {"anything": "x"})
    writer.write("stdout", b"one\n")
    writer.close()
    assert not os.path.exists(path)
    with pytest.raises(NotSupported, match="does not support reading"):
        driver.reader(path)
