"""A blob as it comes: which answers to a range are believed, and where reading ends."""

import pytest

from cellbox.errors import IntegrityError, Unavailable
from cellbox.model.image import Descriptor
from cellbox.registry.blob import open_blob
from cellbox.registry.origins import Origin
from cellbox.registry.retry import Transient

BLOB = Descriptor("application/octet-stream", "sha256:" + "a" * 64, 10)
DATA = b"0123456789"


class Answer:
    """A response with no network below it."""

    origin = Origin("https", "reg.example", 443)

    def __init__(self, status, *pieces, **headers):
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pieces = list(pieces)
        self.closed = self.kept = False

    def read(self):
        return self.pieces.pop(0) if self.pieces else b""

    def discard(self):
        self.kept = True

    def close(self):
        self.closed = True


class Server:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, headers):
        self.asked.append(headers.get("Range"))
        return self.answers[len(self.asked) - 1]


def opened(server, offset=0):
    return open_blob(server, BLOB, "reg.example", offset)


def test_a_whole_blob():
    answer = Answer(200, DATA[:4], DATA[4:], Content_Length="10")
    with opened(Server(answer)) as stream:
        assert (stream.start, b"".join(stream)) == (0, DATA)
    assert answer.kept and not answer.closed


@pytest.mark.parametrize("total", ["10", "*"])
def test_a_blob_from_an_offset(total):
    server = Server(Answer(206, DATA[4:], Content_Range=f"bytes 4-9/{total}"))
    with opened(server, 4) as stream:
        assert (stream.start, b"".join(stream)) == (4, DATA[4:])
    assert server.asked == ["bytes=4-"]


def test_a_server_may_start_again():
    server = Server(Answer(200, DATA))
    assert (opened(server, 4).start, server.asked) == (0, ["bytes=4-"])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(206, Content_Range="bytes 3-9/10"),
        Answer(206, Content_Range="bytes 5-9/10"),
        Answer(206, Content_Range="bytes 4-9/11"),
        Answer(206, Content_Range="bytes 4-10/10"),
        Answer(206, Content_Range="bytes 4-9/10, bytes 0-1/10"),
        Answer(206, Content_Range="items 4-9/10"),
        Answer(206, Content_Range="bytes 4-" + "9" * 100 + "/10"),
        Answer(206),
        Answer(416, Content_Range="bytes */10"),
    ],
)
def test_other_answers_to_a_range_are_not_believed(answer):
    server = Server(answer, Answer(200, DATA))
    with opened(server, 4) as stream:
        assert (stream.start, b"".join(stream)) == (0, DATA)
    assert server.asked == ["bytes=4-", None]
    assert answer.closed


@pytest.mark.parametrize("status", [206, 416])
def test_a_part_that_was_not_asked_for(status):
    with pytest.raises(Unavailable, match=f"answers {status} to a request for a whole blob"):
        opened(Server(Answer(status, DATA)))


@pytest.mark.parametrize("length", ["9", "11", "010", "-1", "many"])
def test_a_length_that_is_not_the_descriptors(length):
    with pytest.raises(IntegrityError, match=f"size of blob {BLOB.digest}"):
        opened(Server(Answer(200, DATA, Content_Length=length)))


def test_a_stream_that_ends_too_early_may_be_continued():
    answer = Answer(200, DATA[:7])
    with pytest.raises(Transient, match="ended after 7 of 10 bytes"), opened(Server(answer)) as one:
        list(one)
    assert answer.closed


def test_a_stream_that_goes_on_is_refused_before_its_end_is_read():
    answer = Answer(200, DATA, b"more", b"and more")
    with pytest.raises(IntegrityError, match="more than 10"), opened(Server(answer)) as stream:
        list(stream)
    assert answer.pieces == [b"and more"]
    assert answer.closed


def test_an_empty_blob():
    empty = Descriptor("application/octet-stream", BLOB.digest, 0)
    with open_blob(Server(Answer(200)), empty, "reg.example", 0) as stream:
        assert list(stream) == []
