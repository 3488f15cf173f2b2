"""The content store, against damage, death and company."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from cellbox.errors import IntegrityError, InvalidArgument, NotFound
from cellbox.images.content import ContentStore, check_digest, digest_of

DATA = os.urandom(3 << 20)
DIGEST = digest_of(DATA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha512:" + "0" * 64,
        "md5:" + "0" * 32,
        "../../etc/passwd",
        "sha256:../../../../etc/passwd",
        "sha256:" + "0" * 64 + "\n",
        "sha256:" + "٠" * 64,
    ],
)
def test_only_a_digest_becomes_a_path(content, text):
    with pytest.raises(InvalidArgument):
        check_digest(text)
    with pytest.raises(InvalidArgument):
        content.has(text)
    with pytest.raises(InvalidArgument):
        content.ingest(text, 1)


def test_put_and_read(content):
    digest = content.put(b"hello")
    assert digest == digest_of(b"hello")
    assert content.has(digest)
    assert content.size(digest) == 5
    assert content.read(digest, 100) == b"hello"
    assert list(content.walk()) == [digest]
    assert content.verify(digest)
    with pytest.raises(InvalidArgument):
        content.read(digest, 4)


def test_a_blob_that_is_not_there(content):
    for call in (content.size, content.open, content.verify):
        with pytest.raises(NotFound):
            call(DIGEST)
    assert content.delete(DIGEST) is False


def test_damage_is_noticed_and_healed_by_put(content):
    digest = content.put(b"hello")
    content.path(digest).write_bytes(b"hullo")
    assert content.verify(digest) is False
    with pytest.raises(IntegrityError):
        content.read(digest, 100)
    assert content.put(b"hello") == digest
    assert content.read(digest, 100) == b"hello"


def test_sha512(content):
    digest = "sha512:" + hashlib.sha512(b"x").hexdigest()
    with content.ingest(digest, 1) as ingest:
        ingest.write(b"x")
        ingest.commit()
    assert content.read(digest, 10) == b"x"
    assert content.verify(digest)


def test_ingest_leaves_nothing_but_the_blob(content, root):
    with content.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest.done is False
        assert ingest.offset == 0
        ingest.write(DATA)
        ingest.commit()
        assert ingest.done
    assert content.read(DIGEST, 1 << 30) == DATA
    assert os.listdir(root / "content" / "ingest") == []
    with content.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest.done


def test_what_was_written_is_continued(content):
    with content.ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(DATA[:1000])
    assert content.partial() == 1000
    with content.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest.offset == 1000
        with ingest.existing() as file:
            assert file.read() == DATA[:1000]
        ingest.write(DATA[1000:])
        ingest.commit()
    assert content.verify(DIGEST)


def test_restart_forgets(content):
    with content.ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(b"wrong")
        ingest.restart()
        assert ingest.offset == 0
        ingest.write(DATA)
        ingest.commit()
    assert content.verify(DIGEST)


def test_too_much_is_refused_at_the_first_byte_too_many(content):
    with content.ingest(DIGEST, 10) as ingest:
        ingest.write(b"0123456789")
        with pytest.raises(IntegrityError):
            ingest.write(b"!")
    assert not content.has(DIGEST)


def test_too_little_is_kept_and_wrong_is_not(content):
    with content.ingest(DIGEST, 10) as ingest:
        ingest.write(b"12345")
        with pytest.raises(IntegrityError):
            ingest.commit()
    with content.ingest(DIGEST, 10) as ingest:
        assert ingest.offset == 5
        ingest.write(b"67890")
        with pytest.raises(IntegrityError):
            ingest.commit()
    with content.ingest(DIGEST, 10) as ingest:
        assert ingest.offset == 0
    assert not content.has(DIGEST)


def test_a_wrong_file_of_full_length_is_started_again(content):
    with content.ingest(DIGEST, 10) as ingest:
        ingest.write(b"1234567890")
    with content.ingest(DIGEST, 10) as ingest:
        assert ingest.offset == 0


def test_waiting_can_be_given_up(content):
    class GivenUp(Exception):
        pass

    def give_up() -> None:
        raise GivenUp

    with content.ingest(DIGEST, 10):
        with pytest.raises(GivenUp), content.ingest(DIGEST, 10, waiting=give_up):
            pass


def test_clean_spares_what_is_locked_or_young(content, root):
    with content.ingest(DIGEST, 10) as ingest:
        ingest.write(b"12345")
        assert content.clean(older_than=-1) == 0
    assert content.clean(older_than=3600) == 0
    assert content.clean(older_than=-1) == 5
    assert os.listdir(root / "content" / "ingest") == []


def test_clean_takes_what_a_dead_writer_left_and_spares_a_living_one(content, root):
    with content.writer() as writer:
        writer.write(b"hello")
        left = root / "content" / "ingest" / "new-0123"
        left.mkdir()
        (left / "data").write_bytes(b"12345")
        assert content.clean(older_than=3600) == 5
        assert writer.commit() == (digest_of(b"hello"), 5)
    assert os.listdir(root / "content" / "ingest") == []


def test_writer_finds_the_digest_out(content, root):
    with content.writer() as writer:
        writer.write(b"he")
        writer.write(memoryview(b"llo"))
        assert writer.commit() == (digest_of(b"hello"), 5)
    with content.writer() as writer:
        writer.write(b"lost")
    assert list(content.walk()) == [digest_of(b"hello")]
    assert os.listdir(root / "content" / "ingest") == []


def _download(root: Path, log: Path) -> None:
    with ContentStore(root).ingest(DIGEST, len(DATA)) as ingest:
        if not ingest.done:
            with log.open("a") as file:
                file.write("one\n")
            ingest.write(DATA[ingest.offset :])
            ingest.commit()
    assert ContentStore(root).verify(DIGEST)


def test_of_many_processes_one_downloads(root, tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_download, args=(root, log)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text() == "one\n"


def _die_in_the_middle(root: Path, ready: int) -> None:
    with ContentStore(root).ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(DATA[: 2 << 20])
        assert ingest._file is not None
        ingest._file.flush()
        os.write(ready, b"!")
        signal.pause()


def test_a_killed_writer_is_succeeded(root, content):
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_die_in_the_middle, args=(root, writer)
    )
    process.start()
    assert os.read(reader, 1) == b"!"
    waited = []

    def kill() -> None:
        waited.append(time.monotonic())
        process.kill()

    with content.ingest(DIGEST, len(DATA), waiting=kill) as ingest:
        assert waited
        assert ingest.offset == 2 << 20
        ingest.write(DATA[2 << 20 :])
        ingest.commit()
    process.join(10)
    assert content.verify(DIGEST)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("point", "visible"), [("content.blob.written", False), ("content.blob.renamed", True)]
)
def test_a_death_at_any_step_leaves_a_whole_blob_or_none(content, monkeypatch, point, visible):
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr("cellbox.faults._name", point)
        monkeypatch.setattr("cellbox.faults._action", "kill")
        with content.ingest(DIGEST, len(DATA)) as ingest:
            ingest.write(DATA)
            ingest.commit()
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert content.has(DIGEST) is visible
    with content.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest.done is visible
        if not ingest.done:
            assert ingest.offset == len(DATA)
            ingest.commit()
    assert content.verify(DIGEST)
    assert content.clean(older_than=-1) == 0
