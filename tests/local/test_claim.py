"""Claims: one holder at a time, in any process, until it lets go or dies."""

from __future__ import annotations

import signal

from cellbox.local.claim import claimed

HOLD = """
import sys
from pathlib import Path
from cellbox.local.claim import claimed
with claimed(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.readline()
"""


def test_one_at_a_time(tmp_path):
    with claimed(tmp_path) as first, claimed(tmp_path) as second:
        assert (first, second) == (True, False)
    with claimed(tmp_path) as again:
        assert again


def test_a_directory_that_is_gone_is_anybodys(tmp_path):
    with claimed(tmp_path / "gone") as first, claimed(tmp_path / "gone") as second:
        assert first and second


def test_a_killed_holder_holds_nothing(tmp_path, python):
    holder = python(HOLD, tmp_path)
    assert holder.stdout.readline() == "True\n"
    with claimed(tmp_path) as ours:
        assert not ours
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with claimed(tmp_path) as ours:
        assert ours


def test_waiting_for_the_holder(tmp_path, python):
    holder = python(HOLD, tmp_path)
    assert holder.stdout.readline() == "True\n"
    with claimed(tmp_path, seconds=0.02) as ours:
        assert not ours
    holder.stdin.write("done\n")
    holder.stdin.flush()
    with claimed(tmp_path, seconds=20.0) as ours:
        assert ours
