"""Health checks as they are run, with a shim that does nothing."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cellbox.containers import probes, records
from cellbox.containers.messages import SAMPLE
from cellbox.model.container import HealthCheck


class Shim:
    """Keeps what it was asked for; time is what the test makes of it."""

    def __init__(self, directory, check):
        self.bundle = replace(SAMPLE, health=check)
        self.run_directory = str(directory)
        self.main = object()
        self.state = SimpleNamespace(paused=False)
        self.deadlines = {}
        self.events = []
        self.ended_unwell = 0
        self.started = []
        self.refuses = None
        self.probes = probes.begin(self)

    def later(self, name, seconds, handler):
        self.deadlines[name] = (seconds, handler)

    def end_unwell(self):
        self.ended_unwell += 1

    def event(self, action, **attributes):
        self.events.append(action)

    def start_exec(self, process, client, sink):
        if self.refuses:
            raise self.refuses
        task = SimpleNamespace(on_end=None, exit_code=None, signals=[])
        task.signal = task.signals.append
        self.started.append((process, sink, task))
        return task

    def run(self, name):
        _, handler = self.deadlines.pop(name)
        handler()

    def probe(self, code, output=b""):
        """One whole probe."""
        self.run("probe")
        _, sink, task = self.started[-1]
        sink("stdout", output)
        task.exit_code = code
        task.on_end(task)


@pytest.fixture
def shim(tmp_path):
    return Shim(tmp_path, HealthCheck(("CMD", "ask"), interval=5.0, timeout=2.0, retries=2))


def told(shim):
    with open(f"{shim.run_directory}/{records.HEALTH}") as file:
        return json.load(file)


@pytest.mark.parametrize("check", [None, HealthCheck(), HealthCheck(("NONE",))])
def test_nothing_to_ask(tmp_path, check):
    assert Shim(tmp_path, check).probes is None


def test_the_first_one_is_due_after_the_interval(shim):
    assert 4 < shim.deadlines["probe"][0] <= 5
    assert told(shim)["status"] == "starting"


def test_a_probe_is_the_containers_process_with_another_command(shim):
    shim.run("probe")
    process, _, _ = shim.started[0]
    assert process == replace(SAMPLE.process, argv=("ask",), tty=False, stdin=False)
    assert shim.deadlines["probe-timeout"][0] == 2.0


def test_changes_of_the_status_are_told(shim):
    for code in (0, 0, 1, 1, 1, 0):
        shim.probe(code)
    assert shim.events == [
        *("health_status: healthy", "health_status: unhealthy", "health_status: healthy")
    ]
    assert "probe-timeout" not in shim.deadlines


def test_output_is_kept_up_to_a_limit(shim):
    shim.probe(1, b"\xff" + b"x" * 10_000)
    entry = told(shim)["log"][0]
    assert entry["exit_code"] == 1
    assert entry["output"] == "\ufffd" + "x" * 4095


def test_one_that_takes_too_long_is_killed_and_counts(shim):
    for _ in range(2):
        shim.run("probe")
        shim.run("probe-timeout")
        task = shim.started[-1][2]
        assert task.signals == [signal.SIGKILL] and task.on_end is None
    assert shim.events == ["health_status: unhealthy"]
    assert "exceeded timeout (2s)" in told(shim)["log"][-1]["output"]


def test_one_that_cannot_be_started_counts_and_does_no_harm(shim):
    shim.refuses = OSError(11, "no more processes")
    for _ in range(2):
        shim.run("probe")
    assert shim.events == ["health_status: unhealthy"]
    assert "no more processes" in told(shim)["log"][-1]["output"]
    shim.refuses = None
    shim.probe(0)
    assert shim.events[-1] == "health_status: healthy"


def test_while_it_is_paused_nothing_is_asked(shim):
    shim.state.paused = True
    shim.run("probe")
    assert not shim.started and shim.deadlines["probe"][0] == 5.0


@pytest.mark.parametrize("end", ["probe-timeout", "exit"])
def test_a_probe_of_an_earlier_run_leaves_the_next_one_alone(shim, end):
    """Its process and its time-out may outlive the run by a moment."""
    shim.run("probe")
    task = shim.started[0][2]
    old = shim.deadlines["probe-timeout"][1]
    shim.probes = probes.begin(shim)
    shim.deadlines["probe-timeout"] = new = (2.0, lambda: None)
    before = dict(shim.deadlines)
    if end == "exit":
        task.exit_code = 137
        task.on_end(task)
    else:
        old()
    assert shim.deadlines == before and shim.deadlines["probe-timeout"] == new
    assert shim.events == [] and "log" not in told(shim)


def test_after_the_container_has_ended_nothing_is_asked(shim):
    shim.main = None
    shim.run("probe")
    shim.probes = None
    assert not shim.started


def test_a_full_disk_does_no_harm(shim, monkeypatch):
    def full(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(records, "write", full)
    shim.probe(0)
    assert shim.events == ["health_status: healthy"]


def test_whoever_is_unhealthy_may_be_ended(shim):
    shim.probe(1)
    assert shim.ended_unwell == 0
    for _ in range(2):  # the second time its policy may be another one
        shim.probe(1)
    assert shim.ended_unwell == 2
    shim.probe(0)
    assert shim.ended_unwell == 2
