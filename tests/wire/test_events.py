"""Events in Docker's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.event import Event
from cellbox.wire.events import event_from, event_json


def test_a_container_has_the_old_fields_too():
    told = event_json(Event(1.5, "container", "die", "abc", {"image": "web", "exitCode": "0"}))
    assert list(told)[:3] == ["status", "id", "from"]
    assert (told["status"], told["id"], told["from"]) == ("die", "abc", "web")
    assert (told["time"], told["timeNano"]) == (1, 1_500_000_000)


def test_a_network_has_not():
    told = event_json(Event(1.0, "network", "create", "abc"))
    assert not {"status", "id", "from"} & set(told)


def test_what_a_daemon_tells_is_told_again_as_it_was(dockerd):
    for theirs in dockerd["events"]:
        ours = event_json(event_from(theirs))
        assert list(ours) == list(theirs)  # the order too, as moby writes it
        # a float holds the time to a quarter of a microsecond
        assert ours.pop("timeNano") == pytest.approx(theirs.pop("timeNano"), abs=256)
        assert ours == theirs


kinds = st.sampled_from(["container", "image", "volume", "network", "daemon"])


@given(
    st.floats(1e9, 4e9), kinds, st.text(min_size=1), st.text(min_size=1),
    st.dictionaries(st.text(), st.text(), max_size=3),
)  # fmt: skip
def test_there_and_back(time, kind, action, id, attributes):
    event = Event(time, kind, action, id, attributes)
    assert event_from(json.loads(json.dumps(event_json(event)))) == event


def test_values_of_the_wrong_type_are_refused():
    with pytest.raises(InvalidArgument):
        event_from({"Type": "container", "Actor": {"ID": 5}})
