"""Shims that sleep, and what wakes them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from cellbox.containers import records
from cellbox.containers.client import Shim


def begin_alone(store, *argv, **how):
    """Start what nobody is attached to: its bundle, and the state that it begins with."""
    bundle = store.make(*argv, **how)
    assert store.launcher.start(Path(bundle.directory), owned=False, streams=[]) is None
    return bundle, records.read_state(str(store.run_directory(bundle)))


def test_one_that_nobody_asks_for_anything_takes_little_memory(store):
    bundle, state = begin_alone(store, "sleep", "1000")
    lines = Path(f"/proc/{state.shim}/smaps_rollup").read_text().splitlines()
    kibibytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    assert kibibytes < 1200
    Shim(store.run_directory(bundle)).ask({"op": "kill", "signal": 9})


def test_it_wakes_when_the_program_prints(store, until):
    bundle, state = begin_alone(store, "sh", "-c", "sleep 0.1; echo out; exit 3")
    until(lambda: records.read_exit(bundle.directory))
    record = records.read_exit(bundle.directory)
    assert (record.exit_code, record.started) == (3, state.started)
    log = [
        json.loads(line)
        for line in Path(bundle.directory, "container.log").read_text().splitlines()
    ]
    assert [line["log"] for line in log] == ["out\n"]


def test_it_wakes_when_somebody_asks(store, until):
    bundle, state = begin_alone(store, "sleep", "1000")
    shim = Shim(store.run_directory(bundle))
    threading.Timer(0.1, lambda: shim.ask({"op": "kill", "signal": 9})).start()
    assert shim.wait(20) == 137
    until(lambda: records.read_exit(bundle.directory))
    assert records.read_exit(bundle.directory).started == state.started
