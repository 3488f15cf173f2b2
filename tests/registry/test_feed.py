"""The unpacker beside a download."""

import os
import threading

import pytest

from cellbox.errors import IntegrityError
from cellbox.registry.feed import Feed
from cellbox.registry.retry import Stop, Stopped

LARGE = bytes(5 << 20)


def read_all(fd):
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def test_what_is_written_is_unpacked():
    with Feed(read_all, Stop()) as feed:
        feed.write(b"ab")
        feed.write(b"c")
        assert feed.finish() == b"abc"


def test_more_than_a_pipe_holds():
    with Feed(read_all, Stop()) as feed:
        feed.write(LARGE)
        assert feed.finish() == LARGE


def test_an_empty_blob_is_unpacked_too():
    with Feed(read_all, Stop()) as feed:
        assert feed.finish() == b""


def test_starting_again_gives_a_fresh_pipe():
    seen = []

    def unpack(fd):
        seen.append(read_all(fd))
        return len(seen)

    with Feed(unpack, Stop()) as feed:
        feed.write(b"wrong")
        feed.restart()
        feed.write(b"right")
        assert feed.finish() == 2
    assert seen == [b"wrong", b"right"]


def test_starting_again_before_anything_came():
    with Feed(read_all, Stop()) as feed:
        feed.restart()
        assert feed.finish() == b""


def test_a_failure_of_the_machine_ends_the_download_at_once():
    def unpack(fd):
        raise OSError(28, "No space left on device")

    with Feed(unpack, Stop()) as feed, pytest.raises(OSError, match="No space left"):
        feed.write(LARGE)


def test_a_complaint_about_the_bytes_waits_for_their_digest():
    def unpack(fd):
        os.read(fd, 1)
        raise IntegrityError("layer", "a", "b")

    with Feed(unpack, Stop()) as feed:
        feed.write(LARGE)
        feed.write(LARGE)
        with pytest.raises(IntegrityError):
            feed.finish()


def test_after_a_complaint_the_right_bytes_may_come():
    def unpack(fd):
        if read_all(fd) != b"right":
            raise IntegrityError("layer", "a", "b")
        return "kept"

    with Feed(unpack, Stop()) as feed:
        feed.write(b"wrong")
        feed.restart()
        feed.write(b"right")
        assert feed.finish() == "kept"


def test_an_unpacker_that_is_content_early_is_left_in_peace():
    with Feed(lambda fd: os.read(fd, 1), Stop()) as feed:
        feed.write(LARGE)
        assert feed.finish() == b"\0"


def test_calling_off_frees_a_writer_that_waits():
    stop, over = Stop(), threading.Event()

    def unpack(fd):
        over.wait(20)

    threading.Timer(0.02, stop.set).start()
    with pytest.raises(Stopped):
        Feed(unpack, stop).write(LARGE)
    over.set()


def test_leaving_early_ends_the_unpacker():
    ended = threading.Event()

    def unpack(fd):
        read_all(fd)
        ended.set()

    with pytest.raises(KeyError), Feed(unpack, Stop()) as feed:
        feed.write(b"some")
        raise KeyError
    assert ended.is_set()


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Feed(read_all, Stop()) as feed:
            feed.write(b"a")
            feed.restart()
            feed.write(b"b")
            feed.finish()
    assert len(os.listdir("/proc/self/fd")) == before
