"""Processes and files of containers: what ps writes, pipes that fail, and shims that have gone."""

import contextlib
import io
import os
import subprocess
import time

import pytest

from cellbox.errors import CellboxError, EngineError, InvalidArgument
from cellbox.local import files
from cellbox.local.containers import LocalContainers
from cellbox.local.files import LocalFiles, descendants
from cellbox.model.container import RunSpec, Status

# What ps writes ---------------------------------------------------------------------------------

LISTING = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 05:00 ?        00:00:01 /sbin/init splash
100000        20       1  0 05:01 ?        00:00:00 sh -c sleep 10  20
100405       201      20  0 05:01 ?        00:00:00 sleep 20
"""


def test_rows_are_those_of_the_wanted_processes():
    table = files._table(LISTING, frozenset({20, 201}))
    assert table.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
    assert [row[1] for row in table.rows] == ["20", "201"]


def test_the_last_column_may_hold_blanks():
    (row,) = files._table(LISTING, frozenset({20})).rows
    assert row[-1] == "sh -c sleep 10  20" and len(row) == 8


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("  PID\n    1\n   20\n", (("20",),)),
        ("COMMAND  PID\nsleep     20\n20  1\n", (("sleep", "20"),)),
        ("  PID CMD\n", ()),
    ],
)
def test_other_columns(text, rows):
    assert files._table(text, frozenset({20})).rows == rows


@pytest.mark.parametrize("text", ["", "COMMAND\nsleep\n", "   20 sleep\n", "SPID\n20\n"])
def test_without_a_title_for_the_pid_there_is_no_telling(text):
    with pytest.raises(InvalidArgument, match="Couldn't find PID field in ps output"):
        files._table(text, frozenset({20}))


def test_descendants_are_children_and_theirs():
    script = "sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & echo $!; wait"
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        wanted = {int(shell.stdout.readline()) for _ in range(3)}
        assert descendants(shell.pid) == wanted
        assert wanted | {shell.pid} <= descendants(os.getpid())
        assert descendants(min(wanted)) <= wanted
    finally:
        os.killpg(shell.pid, 9)
        shell.stdout.close()
        shell.wait()
    assert descendants(shell.pid) == frozenset()


def test_what_nobody_may_see_of_the_network_counts_nothing():
    assert files._traffic(os.getpid()) >= (0, 0)
    assert files._traffic(0) == (0, 0)


@pytest.mark.parametrize(
    ("path", "absolute"), [("etc", "/etc"), ("/etc/", "/etc/"), ("", "/"), ("./a", "/./a")]
)
def test_paths_begin_at_the_root(path, absolute):
    assert files._absolute(path) == absolute


# In containers ----------------------------------------------------------------------------------


class Failing(io.RawIOBase):
    """A source that breaks off, and a sink that is full."""

    def read(self, size=-1):
        raise OSError("the source is gone")

    def write(self, data):
        raise OSError("the sink is full")


@pytest.fixture
def make(engine, busybox):
    """``make("2000")``: a container that sleeps so long, running or not."""

    def container(seconds="1000", *, start=True):
        spec = RunSpec("busybox", ("sleep", seconds), detach=True, network="none")
        id = engine.containers.create(spec).id
        if start:
            engine.containers.start(id)
        return id

    return container


@pytest.fixture
def running(make):
    return make()


@pytest.fixture
def boxes(make):
    """A container that runs and one that never did: their files are reached in different ways."""
    return [make(), make(start=False)]


def test_errors_of_the_callers_own_file_are_what_is_told(engine, boxes):
    for box in boxes:
        with pytest.raises(OSError, match="the sink is full"):
            engine.files.get(box, "/bin", Failing())
        with pytest.raises(OSError, match="the sink is full"):
            engine.files.export(box, Failing())
        with pytest.raises(OSError, match="the source is gone"):
            engine.files.put(box, "/srv", Failing())
        assert engine.files.diff(box) == []


def test_an_archive_is_refused_before_all_of_it_was_read(engine, boxes):
    for box in boxes:
        endless = io.BytesIO(b"no tar at all " * 1_000_000)
        with pytest.raises(CellboxError):
            engine.files.put(box, "/srv", endless)
        assert endless.tell() < len(endless.getvalue())


def test_paths_that_name_the_root_or_end_in_a_slash(engine, boxes):
    paths = {"/": "/", "etc/": "etc", "/etc/passwd": "passwd", "bin/cat": "cat"}
    for box in boxes:
        assert {path: engine.files.stat(box, path).name for path in paths} == paths


def test_what_was_done_is_noted(engine, running, tar_of):
    engine.files.put(running, "/srv", tar_of(a=b"1"))
    engine.files.get(running, "/srv/a", io.BytesIO())
    engine.files.export(running, io.BytesIO())
    with contextlib.closing(engine.events(since=0.0, until=time.time())) as events:
        actions = [event.action for event in events]
    assert actions[-3:] == ["extract-to-dir", "archive-path", "export"]


def test_an_export_leaves_no_trace(engine, store, busybox, tar_of):
    id = engine.containers.create(RunSpec("busybox")).id
    engine.files.put(id, "/srv", tar_of(a=b"1"))
    layer = store / "containers" / id / "layer"
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in layer.rglob("*"))
    engine.files.export(id, io.BytesIO())
    assert before == sorted((str(path), path.lstat().st_mtime_ns) for path in layer.rglob("*"))


def test_a_container_that_ends_while_it_is_asked_is_read_as_one_that_has(
    engine, inner, running, monkeypatch, tar_of
):
    """Its status was read while it ran; when its shim is asked it is gone."""
    engine.files.put(running, "/srv", tar_of(a=b"1"))
    containers = LocalContainers(inner)
    seen = containers.get(running)
    assert seen.status is Status.RUNNING
    engine.containers.kill(running)
    engine.containers.wait(running)
    monkeypatch.setattr(containers, "facts", lambda record: seen)
    assert LocalFiles(inner, containers).stat(running, "/srv/a").size == 1


def test_a_container_is_told_its_own_processes_and_figures(engine, make):
    for id, command in ((make(), "sleep 1000"), (make("2000"), "sleep 2000")):
        assert [row[-1] for row in engine.files.processes(id).rows] == [command]
    figures = engine.files.stats(id)
    assert figures.read > 0 and (figures.received_bytes, figures.sent_bytes) == (0, 0)


def test_ps_that_finds_nothing_and_ps_that_is_not_there(engine, running, monkeypatch, tmp_path):
    assert engine.files.processes(running, ps_args="-C nosuch").rows == ()
    with pytest.raises(InvalidArgument, match="Couldn't find PID"):
        engine.files.processes(running, ps_args="--no-headers -C nosuch")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="there is no ps .*apt-get install procps"):
        engine.files.processes(running)
