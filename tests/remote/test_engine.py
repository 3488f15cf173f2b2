"""The engine as a whole behind the API: events, what it tells of itself, the way to it."""

from __future__ import annotations

import json
import threading
import time

import pytest

from cellbox.errors import NotSupported
from cellbox.model.event import Event
from cellbox.remote.address import Address, Tls
from cellbox.remote.engine import RemoteEngine
from cellbox.wire.events import event_json

DIE = Event(1.5e9, "container", "die", "abc", {"name": "web"})


def events_of(daemon, *events, end=True):
    def answer(asked):
        asked.begin()
        for event in events:
            asked.chunk(json.dumps(event_json(event)).encode() + b"\n")
        if end:
            asked.chunk(b"")

    daemon.answers["GET /events"] = answer


def test_events(engine, daemon, told):
    events_of(daemon, DIE, DIE)
    found = engine.events(since=1.25, filters={"type": ["container"]})
    assert list(found) == [DIE, DIE]
    query = told()[1]
    assert float(query["since"][0]) == 1.25 and "container" in query["filters"][0]
    assert "until" not in query


def test_events_until_a_time_begin_now(engine, daemon, told):
    events_of(daemon)
    before = time.time()
    assert list(engine.events(until=before + 9)) == []
    assert before <= float(told()[1]["since"][0]) <= time.time()


def test_listening_begins_at_once_and_ends_when_closed(engine, daemon):
    events_of(daemon, DIE, end=False)
    live = engine.events()
    assert len(daemon.asked) == 1
    assert next(live) == DIE
    seen = []
    listener = threading.Thread(target=lambda: seen.extend(live))
    listener.start()
    live.close()
    listener.join(10)
    assert not listener.is_alive() and seen == []


def test_listening_ends_when_told(engine, daemon):
    events_of(daemon, DIE, end=False)
    stop = threading.Event()
    live = engine.events(stop=stop.is_set)
    assert next(live) == DIE
    stop.set()
    assert next(live, None) is None


def test_a_doctor_tells_of_the_way(engine, daemon, tells):
    version = {"Version": "20.10", "Os": "linux", "Arch": "amd64", "ApiVersion": "1.41"}
    tells("GET /version", version)
    reached, versions = engine.doctor()
    assert reached.ok and str(daemon.path) in reached.detail
    assert versions.ok and "20.10 on linux/amd64, API 1.41; we speak 1.41" in versions.detail


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        (Address("tcp", "192.0.2.1", 1), "encryption"),
        (Address("tcp", "192.0.2.1", 1, tls=Tls(verify=False)), "encryption"),
        (Address("tcp", "192.0.2.1", 1, tls=Tls()), None),
    ],
)
def test_a_doctor_tells_who_can_listen(address, subject, monkeypatch):
    def unreachable(*args):
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", unreachable)
    found = RemoteEngine(address).doctor()
    assert not found[0].ok and "did not answer" in found[0].detail and found[0].remedy
    assert [one.subject for one in found[1:]] == ([subject] if subject else [])


def test_a_store_is_checked_where_it_is(engine, daemon):
    with pytest.raises(NotSupported, match="cellbox system check"):
        engine.check(repair=True)
    assert daemon.asked == []


def test_what_it_tells_of_itself(engine, tells, daemon):
    tells("GET /info", {"ID": "x", "NCPU": 2, "Plugins": {"Log": ["json-file"]}})
    assert (engine.info().id, engine.info().cpus) == ("x", 2)
    tells("GET /system/df", {"Images": [], "Containers": [], "Volumes": [], "LayersSize": 0})
    assert {one.kind for one in engine.disk_usage()} >= {"Images", "Containers"}
    assert engine.url == f"unix://{daemon.path}"
