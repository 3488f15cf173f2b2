"""The event log."""

import json
import time

import pytest

from cellbox.containers import journal
from cellbox.errors import InvalidArgument
from cellbox.local.events import EventLog
from cellbox.model.event import Event


@pytest.fixture
def log(tmp_path):
    return EventLog(tmp_path / "events.jsonl")


def happened(action="start", kind="container", id="c" * 64, when=1.0, **attributes):
    return Event(when, kind, action, id, attributes)


def past(log, **filters):
    """All that is in the log and passes ``filters``."""
    return list(log.follow(since=0.0, ended=lambda: True, filters=filters or None))


def test_events_come_back_as_they_were(log):
    events = [happened("create", name="web"), happened("die", exitCode="0", when=2.5)]
    for event in events:
        log.append(event)
    assert past(log) == events


def test_since_and_until(log):
    for second in range(10):
        log.append(happened(when=float(second)))
    found = log.follow(since=3.0, until=5.0)
    assert [event.time for event in found] == [3.0, 4.0, 5.0]


def test_without_since_only_new_ones_come(log):
    log.append(happened("old"))
    steps = [lambda: log.append(happened("new")), lambda: log.append(happened("newer"))]

    found = log.follow(ended=lambda: not steps, wait=lambda seconds: steps.pop(0)())
    assert [event.action for event in found] == ["new", "newer"]


def test_until_in_the_future_waits_for_it(log):
    until = time.time() + 0.05
    assert list(log.follow(since=0.0, until=until)) == []
    assert time.time() >= until


def test_what_others_append_over_rotations_is_followed(log, python, tmp_path):
    code = """
import sys
from pathlib import Path
from cellbox.containers import journal
from cellbox.local.events import EventLog
from cellbox.model.event import Event
journal.EVENTS_LIMIT = 20_000
log = EventLog(Path(sys.argv[1]))
for number in range(300):
    log.append(Event(1.0, "container", "start", str(number), {"filler": "x" * 100}))
    if number % 100 == 99:
        print(number, flush=True)
        sys.stdin.readline()
"""
    process = python(code, tmp_path / "events.jsonl")
    pending = [True]

    def wait(seconds):
        pending[:] = [bool(process.stdout.readline())]
        if pending[0]:
            process.stdin.write("go\n")
            process.stdin.flush()

    found = log.follow(since=0.0, ended=lambda: not pending[0], wait=wait)
    assert [event.id for event in found] == [str(number) for number in range(300)]


def test_torn_and_foreign_lines_are_skipped_and_the_next_is_not(log, tmp_path):
    log.append(happened("one"))
    whole = json.dumps({"time": 1.0, "kind": "container", "action": "two", "id": "x"})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('nonsense\n{}\n7\n{"time":1.0,"kind":"cont')
        file.write(whole.replace(" ", "") + "\n")
    log.append(happened("three"))
    assert [event.action for event in past(log)] == ["one", "two", "three"]


def test_a_line_from_elsewhere_is_an_event(log, tmp_path):
    journal.append(
        str(tmp_path / "events.jsonl"),
        b'{"time":1,"kind":"container","action":"die","id":"x","attributes":{"exitCode":"1"}}',
        limit=1000,
    )
    assert past(log) == [Event(1, "container", "die", "x", {"exitCode": "1"})]


def test_a_disk_that_cannot_be_written_is_no_error(tmp_path):
    EventLog(tmp_path / "no" / "folder").append(happened())


def test_filters_choose_what_comes(log):
    for event in (happened("start"), happened("pull", kind="image")):
        log.append(event)
    assert [event.action for event in past(log, type=["image"])] == ["pull"]


def test_an_unknown_filter_is_refused_at_once(log):
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        log.follow(filters={"colour": ["red"]})
