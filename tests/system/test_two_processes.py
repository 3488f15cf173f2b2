"""Several processes on one store at once: nobody fails for another's work, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellbox.model.container import ExecSpec, RunSpec

RUNTIME = Path(__file__).parents[2] / "runtime"
HEAD = """
import json, sys
from cellbox.connecting import connect
from cellbox.errors import *
from cellbox.model.container import ExecSpec, RunSpec
engine, number, argument = connect(), int(sys.argv[1]), sys.argv[2]
counts = {}
def count(what):
    counts[what] = counts.get(what, 0) + 1
def run(*command, image="busybox", **fields):
    id = engine.containers.create(RunSpec(image, command, auto_remove=True, **fields)).id
    with engine.containers.attach(id) as stream:
        engine.containers.start(id)
        output = b"".join(data for _, data in stream)
        return stream.wait(30), output
print("ready", flush=True)
sys.stdin.readline()
"""
TAIL = """
engine.close()
print(json.dumps(counts))
"""


@pytest.fixture
def together(store: Path) -> Iterator[Callable[..., list[dict[str, int]]]]:
    """``together(code, 4)``: so many processes do ``code`` at the same time; what each counted."""
    started: list[subprocess.Popen[str]] = []

    def do(code: str, processes: int = 4, argument: str = "") -> list[dict[str, int]]:
        for number in range(processes):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", HEAD + code + TAIL, str(number), argument],
                    env={**os.environ, "PYTHONPATH": str(RUNTIME)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in started:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=90) for process in started]
        assert [errors for _, errors in answers if errors] == []
        return [json.loads(output) for output, _ in answers]

    yield do
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def total(counts: list[dict[str, int]], what: str) -> int:
    return sum(one.get(what, 0) for one in counts)


@pytest.fixture(autouse=True)
def sound(engine) -> Iterator[None]:
    """After each test the store is whole, and a repair finds nothing to do."""
    yield
    for repair in (False, True, True):
        found = engine.check(repair=repair)
        assert [one for one in found if one.kind not in ("cgroup", "blob")] == []
    for folder in ("layers/staging", "trash"):
        assert os.listdir(Path(engine.url.removeprefix("local:")) / folder) == []


def test_containers_run_in_all_of_them(engine, busybox, together):
    counts = together("""
for turn in range(6):
    assert run("echo", f"{number}.{turn}") == (0, f"{number}.{turn}\\n".encode())
    engine.containers.list(all=True)
    count("ran")
""")
    assert total(counts, "ran") == 24
    assert engine.containers.list(all=True) == []


def test_one_name_is_had_by_one(engine, busybox, together):
    counts = together("""
for turn in range(10):
    try:
        engine.containers.create(RunSpec("busybox", ("true",)), name=f"shared{turn}")
        count("won")
    except AlreadyExists:
        count("lost")
""")
    assert (total(counts, "won"), total(counts, "lost")) == (10, 30)
    assert len(engine.containers.list(all=True)) == 10


def test_one_container_is_removed_once(engine, busybox, together):
    for number in range(10):
        engine.containers.create(RunSpec("busybox", ("true",)), name=f"c{number}")
    counts = together("""
for turn in range(10):
    try:
        engine.containers.remove(f"c{turn}")
        count("removed")
    except (NotFound, WrongState):
        count("late")
""")
    assert (total(counts, "removed"), total(counts, "late")) == (10, 30)
    assert engine.containers.list(all=True) == []
    destroyed = engine.events(since=0.0, until=time.time(), filters={"event": ["destroy"]})
    assert len([event.id for event in destroyed]) == 10


def test_running_containers_are_removed_by_whoever_is_first(engine, busybox, together):
    from cellbox.model.container import RunSpec

    for number in range(8):
        spec = RunSpec("busybox", ("sleep", "1000"), detach=True, auto_remove=bool(number % 2))
        engine.containers.create(spec, name=f"c{number}")
        engine.containers.start(f"c{number}")
    together("""
for turn in range(8):
    try:
        engine.containers.remove(f"c{turn}", force=True)
    except (NotFound, WrongState):
        count("late")
""")
    assert engine.containers.list(all=True) == []


def test_one_container_is_started_once(engine, busybox, together):
    spec = RunSpec("busybox", ("sh", "-c", "echo $$ >> /starts; exec sleep 1000"), detach=True)
    engine.containers.create(spec, name="one")
    together('engine.containers.start("one")')
    events = engine.events(since=0.0, until=time.time(), filters={"event": ["start"]})
    assert [event.action for event in events] == ["start"]
    with engine.containers.exec("one", ExecSpec(("wc", "-l", "/starts"))) as stream:
        assert list(stream) == [("stdout", b"1 /starts\n")]
    engine.containers.kill("one")
    assert engine.containers.wait("one") == 137


def test_what_one_starts_another_uses_and_ends(engine, busybox, together):
    counts = together("""
if number % 2:
    engine.containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True), name=f"n{number}")
    engine.containers.start(f"n{number}")
    count("started")
else:
    import time
    partner, deadline = f"n{number + 1}", time.monotonic() + 30
    while True:
        try:
            with engine.containers.exec(partner, ExecSpec(("echo", "hi"))) as stream:
                assert list(stream) == [("stdout", b"hi\\n")]
            break
        except (NotFound, WrongState):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    engine.containers.remove(partner, force=True)
    count("ended")
""")
    assert (total(counts, "started"), total(counts, "ended")) == (2, 2)
    assert engine.containers.list(all=True) == []


def test_one_image_is_downloaded_once(engine, registry, together):
    together(
        """
assert engine.images.pull(argument).tags == (argument,)
assert run("echo", "hi", image=argument) == (0, b"hi\\n")
""",
        argument=registry.name,
    )
    assert registry.blobs_sent == 2  # its config and its layer


def test_images_come_and_go_while_containers_run(engine, busybox_tar, together):
    """Whoever runs one finds it whole or not at all; whoever removes one, unused or refused."""
    counts = together(
        """
for turn in range(8):
    if number == 0:
        with open(argument, "rb") as source:
            engine.images.import_(source, name="busybox")
        count("imported")
    elif number == 1:
        try:
            engine.images.remove("busybox")
            count("removed")
        except (NotFound, InUse):
            count("not removed")
    else:
        try:
            assert run("echo", "hi") == (0, b"hi\\n")
            count("ran")
        except NotFound:
            count("not there")
""",
        argument=str(busybox_tar),
    )
    assert total(counts, "imported") == 8
    assert total(counts, "ran") + total(counts, "not there") == 16
    assert engine.containers.list(all=True) == []


def test_names_move_and_stores_are_repaired_while_others_work(engine, busybox, together):
    together("""
for turn in range(6):
    if number == 0:
        engine.check(repair=True)
    elif number == 1:
        engine.images.tag("busybox", f"other:{turn}")
        engine.images.remove(f"other:{turn}")
    else:
        name = f"n{number}-{turn}"
        engine.containers.create(RunSpec("busybox", ("touch", "/f")), name=name)
        engine.containers.update(name, name=name + "x")
        engine.containers.start(name + "x")
        assert engine.containers.wait(name + "x", timeout=30) == 0
        engine.images.commit(name + "x", name=f"made:{number}")
        engine.containers.remove(name + "x")
""")
    assert engine.containers.list(all=True) == []
    assert {"made:2", "made:3"} <= {tag for one in engine.images.list() for tag in one.tags}
