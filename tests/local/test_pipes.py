"""Descriptors for Python's file objects; errors on either side."""

import io
import os

import pytest

from cellbox.local.pipes import CHUNK, reading, writing

LONG = bytes(range(256)) * 4 * (CHUNK // 256)  # more than a pipe holds


class Failing(io.RawIOBase):
    """Gives or takes ``good`` bytes, then fails."""

    def __init__(self, good=1000):
        self.left = good

    def readable(self):
        return True

    def writable(self):
        return True

    def read(self, size=-1):
        if not self.left:
            raise OSError("the source is gone")
        self.left, given = 0, self.left
        return b"x" * given

    def write(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise OSError("the sink is full")
        return len(data)


def read_all(fd):
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def write_all(fd, data):
    with open(fd, "wb", closefd=False) as file:
        file.write(data)


@pytest.fixture(autouse=True)
def descriptors():
    """All descriptors are closed in the end."""
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"short", LONG], ids=["empty", "short", "long"])
def test_all_of_a_source_arrives(data):
    with reading(io.BytesIO(data)) as fd:
        assert read_all(fd) == data


def test_what_waits_in_pythons_buffer_is_not_lost(tmp_path):
    (tmp_path / "f").write_bytes(b"headtail")
    with (tmp_path / "f").open("rb") as source:
        assert source.read(4) == b"head"
        with reading(source) as fd:
            assert read_all(fd) == b"tail"


def test_an_unbuffered_file_is_given_as_it_is(tmp_path):
    (tmp_path / "f").write_bytes(b"headtail")
    with (tmp_path / "f").open("rb", buffering=0) as source:
        source.seek(4)
        with reading(source) as fd:
            assert fd == source.fileno()
            assert read_all(fd) == b"tail"


@pytest.mark.parametrize("data", [b"short", LONG], ids=["short", "long"])
def test_a_reader_that_has_enough_is_no_error(data):
    with reading(io.BytesIO(data)) as fd:
        os.read(fd, 1)


def test_a_reader_that_has_enough_before_the_source_gives_is_no_error():
    late, giver = os.pipe()
    with open(late, "rb") as source:
        with reading(source):
            os.write(giver, b"x")
            os.close(giver)


def test_an_error_of_the_source_comes_out():
    with pytest.raises(OSError, match="the source is gone"):
        with reading(Failing()) as fd:
            assert read_all(fd) == b"x" * 1000


def test_an_error_of_the_source_goes_before_what_follows_from_it():
    with pytest.raises(OSError, match="the source is gone") as caught:
        with reading(Failing()) as fd:
            read_all(fd)
            raise ValueError("the archive is cut")
    assert str(caught.value.__context__) == "the archive is cut"


def test_an_error_of_the_reader_comes_out_and_ends_the_feeding():
    with pytest.raises(ValueError, match="no archive"):
        with reading(io.BytesIO(LONG)) as fd:
            os.read(fd, 1)
            raise ValueError("no archive")


# Writing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"short", LONG], ids=["empty", "short", "long"])
def test_all_has_arrived_when_the_block_ends(data):
    out = io.BytesIO()
    with writing(out) as fd:
        write_all(fd, data)
    assert out.getvalue() == data


def test_a_file_is_given_as_it_is_after_what_waits_in_its_buffer(tmp_path):
    with (tmp_path / "f").open("wb") as out:
        out.write(b"head")
        with writing(out) as fd:
            assert fd == out.fileno()
            write_all(fd, b"tail")
    assert (tmp_path / "f").read_bytes() == b"headtail"


def test_an_error_of_the_sink_comes_out_and_ends_the_writing():
    with pytest.raises(OSError, match="the sink is full") as caught:
        with writing(Failing()) as fd:
            write_all(fd, LONG)
    assert isinstance(caught.value.__context__, BrokenPipeError)


def test_an_error_of_the_writer_comes_out_and_what_it_wrote_has_arrived():
    out = io.BytesIO()
    with pytest.raises(ValueError, match="no such path"):
        with writing(out) as fd:
            write_all(fd, b"some")
            raise ValueError("no such path")
    assert out.getvalue() == b"some"
