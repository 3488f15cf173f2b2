"""The filters of ``docker events``."""

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.event import Event
from cellbox.model.event_filter import matcher


def happened(action, kind="container", id="c" * 64, **attributes):
    return Event(1.0, kind, action, id, attributes)


EVENTS = {
    "run": happened("start", name="web", image="ubuntu:22.04", colour="red", id="abc1"),
    "exec": happened("exec_create: ls -l", name="db", image="lab/db:1", id="abd2"),
    "pull": happened(
        "pull", kind="image", id="ubuntu:22.04", name="ubuntu", colour="red", size="s"
    ),
    "net": happened("create", kind="network", id="abc1", name="web"),
}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "run exec pull net"),
        ({"type": ["container"]}, "run exec"),
        ({"type": ["container", "image"]}, "run exec pull"),
        ({"event": ["exec_create"]}, "exec"),
        ({"event": ["start", "pull"]}, "run pull"),
        ({"container": ["web"]}, "run"),
        ({"container": ["ab"]}, "run exec"),
        ({"container": ["nobody"]}, ""),
        ({"image": ["ubuntu"]}, "run pull"),
        ({"image": ["ubuntu:22.04"]}, "run pull"),
        ({"image": ["lab/db"]}, "exec"),
        ({"label": ["colour"]}, "run pull"),
        ({"label": ["colour=red", "size=s"]}, "pull"),
        ({"label": ["colour=blue"]}, ""),
        ({"type": ["image"], "label": ["colour=red"]}, "pull"),
        ({"type": []}, "run exec pull net"),
        ({"network": ["web"]}, "net"),
        ({"volume": ["web"]}, ""),
        ({"scope": ["local"]}, "run exec pull net"),
        ({"scope": ["swarm"]}, ""),
    ],
)
def test_filters(filters, expected):
    matches = matcher(filters)
    assert [name for name, event in EVENTS.items() if matches(event)] == expected.split()


def test_an_unknown_filter_is_refused():
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        matcher({"colour": ["red"]})
