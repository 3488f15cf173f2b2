"""One blob into the content store: what counts as a try, what is told."""

import hashlib

import pytest

from cellbox.errors import IntegrityError
from cellbox.model.image import Descriptor
from cellbox.registry.download import WORTH_A_TRY, Download, Reporter
from cellbox.registry.retry import Policy, Stopped, Transient

DATA = bytes(range(256)) * 4096 * 12  # twelve mebibytes
BLOB = Descriptor(
    "application/octet-stream", "sha256:" + hashlib.sha256(DATA).hexdigest(), 12 << 20
)
POLICY = Policy(tries=3, first_wait=0.001)


class Stream:
    """Bytes of the blob from ``start``, then a failure if there is one to come."""

    def __init__(self, start, data, error=None):
        self.start = start
        self._data = data
        self._error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for position in range(0, len(self._data), 1 << 18):
            yield self._data[position : position + (1 << 18)]
        if self._error:
            raise self._error

    def cut(self):
        pass


class Source:
    """A repository whose streams break after ``step`` bytes each."""

    def __init__(self, step=None, data=DATA):
        self.step = step
        self.data = data
        self.offsets = []

    def __call__(self, descriptor, offset=0):
        self.offsets.append(offset)
        end = len(self.data) if self.step is None else offset + self.step
        error = None if end >= len(self.data) else Transient("cut")
        return Stream(offset, self.data[offset:end], error)


class Clock:
    def __init__(self, step):
        self.now = 0.0
        self.step = step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def download(store, new_stop):
    """``download(source)``: run it; what was told."""

    def run(source, clock_step=1.0, stop=None):
        told = []
        report = Reporter(told.append, "id", BLOB.size, Clock(clock_step))
        with store.ingest(BLOB.digest, BLOB.size) as ingest:
            Download(source, BLOB, ingest, report, stop or new_stop(), POLICY).run()
        return told

    return run


def test_a_blob_arrives(download, store):
    source = Source()
    download(source)
    assert source.offsets == [0]
    assert store.verify(BLOB.digest)


def test_tries_that_bring_much_do_not_count(download, store, waits):
    source = Source(step=WORTH_A_TRY)
    download(source)
    assert source.offsets == [number << 20 for number in range(12)]
    assert store.verify(BLOB.digest)
    assert len(waits) == 11


def test_tries_that_bring_little_do(download, store):
    source = Source(step=WORTH_A_TRY - 1)
    with pytest.raises(Transient, match="cut"):
        download(source)
    assert len(source.offsets) == POLICY.tries
    assert store.partial() == POLICY.tries * (WORTH_A_TRY - 1)


def test_wrong_bytes_are_fetched_from_the_start_once_more(download, store):
    source = Source(data=DATA[:-1] + b"x")
    with pytest.raises(IntegrityError, match=BLOB.digest):
        download(source)
    assert source.offsets == [0, 0]
    assert store.partial() == 0


def test_progress_is_told_at_most_ten_times_a_second():
    told = []
    report = Reporter(told.append, "id", BLOB.size, Clock(0.01))
    for number in range(95):
        report.downloading(number)
    assert len(told) == 10
    assert {one.total for one in told} == {BLOB.size}
    report.say("Download complete")
    assert told[-1].action == "Download complete"


def test_a_task_that_was_called_off_is_not_tried_again(download, new_stop):
    stop = new_stop()

    def source(descriptor, offset=0):
        stop.set()
        return Stream(0, DATA[:10], Transient("cut by us"))

    with pytest.raises(Stopped):
        download(source, stop=stop)
