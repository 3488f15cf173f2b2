"""Jobs in processes of their own, and how answers and errors travel."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox import errors
from cellbox.containers import worker
from cellbox.errors import CellboxError, EngineError, NotFound, StartError, WrongState
from cellbox.linux.mounts import Mount


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text()))
def test_an_answer_arrives(answer):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker.send(theirs, {"result": answer})
        assert worker.receive(ours) == {"result": answer}


@pytest.mark.parametrize("size", [0, 65_000, 65_536, 70_000, 20_000_000])
def test_an_answer_of_any_size(pair, size):
    ours, theirs = pair
    before = os.listdir("/proc/self/fd")
    worker.send(theirs, {"result": "x" * size})
    assert worker.receive(ours) == {"result": "x" * size}
    assert os.listdir("/proc/self/fd") == before


def test_one_who_has_gone_is_no_error(pair):
    ours, theirs = pair
    ours.close()
    worker.send(theirs, {"result": 1})
    worker.send(theirs, {"result": "x" * 100_000})


def test_a_worker_that_died(pair):
    ours, theirs = pair
    theirs.close()
    with pytest.raises(EOFError):
        worker.receive(ours)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full", "/path"),
        FileNotFoundError(errno.ENOENT, "none", "/path"),
        WrongState("it is paused"),
        NotFound("image", "x"),
        StartError("exec", 2, "nope", 127),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel(pair, error):
    ours, theirs = pair
    worker.send(theirs, {"error": worker.describe(error)})
    with pytest.raises(type(error)) as caught:
        worker.receive(ours)
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (error.errno, error.filename)
    else:
        assert str(caught.value) == str(error)
        assert {**vars(error)} == {**vars(caught.value)}


@pytest.mark.parametrize("error", [KeyError("x"), OSError("no number"), RecursionError("deep")])
def test_other_errors_become_one_of_ours(error):
    rebuilt = worker.rebuild(json.loads(json.dumps(worker.describe(error))))
    assert type(rebuilt) is EngineError
    assert type(error).__name__ in str(rebuilt)


@pytest.mark.parametrize("name", ["os", "annotations", "__name__", "nothing", "CellboxError"])
def test_a_kind_is_never_anything_but_an_error_of_ours(name):
    rebuilt = worker.rebuild({"kind": name, "message": "x"})
    assert isinstance(rebuilt, CellboxError) and hasattr(errors, type(rebuilt).__name__)


def test_what_an_error_holds_of_others_is_not_told():
    error = json.JSONDecodeError("bad", "x" * 100_000, 5)
    assert len(json.dumps(worker.describe(error))) < 1000


def archive(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def packed(ask, tmp_path, path):
    """A path of a container as a tar."""
    with open(tmp_path / "out.tar", "w+b") as file:
        ask("tree-pack", {"path": path}, [file.fileno()])
        file.seek(0)
        return file.read()


def test_work_inside_a_running_container(store, tmp_path):
    box = store.begin("sh", "-c", "echo secret > /tmp/file; echo up; sleep 1000")
    box.read_until(b"up")
    assert "file" in " ".join(archive(packed(box.shim.work, tmp_path, "/tmp/file")))


def test_links_lead_nowhere_but_into_the_container(store, tmp_path):
    """CVE-2018-15664: ``cp`` of a path that the container has made a link."""
    outside = tmp_path / "outside"
    outside.write_text("of the host")
    box = store.begin("sh", "-c", f"ln -s {outside} /tmp/link; echo up; sleep 1000")
    box.read_until(b"up")
    try:
        data = packed(box.shim.work, tmp_path, "/tmp/link")
    except (OSError, CellboxError):
        return
    assert b"of the host" not in data


def test_work_on_a_container_that_does_not_run(store, tmp_path):
    box = store.begin("sh", "-c", "echo data > /kept")
    assert box.stream.wait() == 0
    rootfs = [mount for mount in box.bundle.mounts if mount.kind == "overlay"]

    def ask(job, args, fds):
        return store.launcher.work_in(rootfs, job, args, fds)

    assert "kept" in " ".join(archive(packed(ask, tmp_path, "/kept")))


def test_a_rootfs_that_cannot_be_built_is_told(store):
    with pytest.raises(FileNotFoundError):
        store.launcher.work_in([Mount("bind", "/", source="/no/such")], "tree-stat", {"path": "/"})


def test_a_job_that_fails_inside_leaves_the_container_alone(store, until):
    box = store.begin("sleep", "1000")
    shim = box.state.shim
    for _ in range(3):
        with pytest.raises((OSError, CellboxError)):
            box.shim.work("tree-stat", {"nonsense": 1})
    assert box.exec("true").wait() == 0
    until(lambda: len(store.children(shim)) == 1)  # no copy of the shim goes on


def test_workers_are_reaped(store, until):
    box = store.begin("sleep", "1000")
    shim = box.state.shim
    for _ in range(3):
        box.shim.work("tree-stat", {"path": "/etc"})

    def zombies():
        text = open(f"/proc/{shim}/task/{shim}/children").read()
        return len(text.split()) > 1

    until(lambda: not zombies())
