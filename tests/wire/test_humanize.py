"""Times and statuses as Docker words them."""

from __future__ import annotations

import pytest

from cellbox.model.container import Container, Health, RunSpec, Status
from cellbox.wire import humanize


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (150, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"), (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"), (60 * 86400, "2 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_are_coarse(seconds, text):
    assert humanize.duration(seconds) == text


def test_when_nobody_knows_is_not_available():
    assert humanize.ago(None, 5.0) == "N/A"
    assert humanize.ago(9.0, 5.0) == "Less than a second ago"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": Status.CREATED}, "Created"),
        ({"status": Status.RUNNING, "started": 0.0}, "Up 2 minutes"),
        ({"status": Status.PAUSED, "started": 0.0}, "Up 2 minutes (Paused)"),
        ({"status": Status.RUNNING, "started": 0.0, "health": Health("healthy")},
         "Up 2 minutes (healthy)"),
        ({"status": Status.RUNNING, "started": 0.0, "health": Health("starting")},
         "Up 2 minutes (health: starting)"),
        ({"status": Status.EXITED, "exit_code": 3, "finished": 60.0},
         "Exited (3) About a minute ago"),
        ({"status": Status.RESTARTING, "exit_code": 1, "finished": 110.0},
         "Restarting (1) 10 seconds ago"),
        ({"status": Status.REMOVING}, "Removal In Progress"),
        ({"status": Status.DEAD}, "Dead"),
    ],
)  # fmt: skip
def test_the_status_column(changes, text):
    facts = Container("a" * 64, "n", "i", RunSpec("u"), ("ls",), created=0.0, **changes)
    assert humanize.status(facts, 120.0) == text
