"""Events over the API: one reader of the engine, any number of clients."""

import json
import queue
import threading
import time

import pytest

from cellbox.api.events import Feed
from cellbox.model.event import Event


def happened(action, when=None, kind="container"):
    return Event(time.time() if when is None else when, kind, action, "c" * 64, {"name": "web"})


class Log:
    """An engine's events: ``past`` ones, and new ones by :meth:`append`."""

    def __init__(self):
        self.past = []
        self.coming = queue.Queue()
        self.asked = []

    def append(self, *events):
        for event in events:
            self.coming.put(event)

    def events(self, *, since=None, until=None, filters=None, stop=None):
        self.asked.append((since, until))
        if since is None:
            return iter(self.coming.get, None)
        return iter([one for one in self.past if since <= one.time <= until])


@pytest.fixture
def log(scripted):
    made = Log()
    scripted.events = made.events
    yield made
    made.append(None)


@pytest.fixture
def follow(dial):
    """``follow(query)``: the lines of ``GET /events``, once its head has come."""

    def start(query=""):
        client = dial()
        client.request("GET", f"/events?{query}")
        answer = client.getresponse()
        assert answer.status == 200
        return answer

    return start


def actions(answer):
    return [json.loads(line)["Action"] for line in answer.read().splitlines()]


def test_an_event_comes_at_once_in_both_shapes(log, follow):
    answer = follow()
    log.append(happened("start", 100.5))
    assert json.loads(answer.readline()) == {
        "status": "start",
        "id": "c" * 64,
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "c" * 64, "Attributes": {"name": "web"}},
        "scope": "local",
        "time": 100,
        "timeNano": 100_500_000_000,
    }
    answer.close()


def test_the_past_ends_by_itself(log, follow):
    log.past = [happened(f"e{second}", float(second)) for second in range(10)]
    assert actions(follow("since=3&until=5")) == ["e3", "e4", "e5"]


def test_a_time_to_come_keeps_it_open_until_then(log, follow):
    now = time.time()
    answer = follow(f"until={now + 1.2}")
    log.append(happened("in"), happened("late", now + 50))
    assert actions(answer) == ["in"]
    assert time.time() >= now + 1.1


def test_what_was_and_what_comes_meet_without_gap_or_double(log, follow):
    both = happened("both")
    log.past = [happened("old"), both]
    answer = follow(f"since={time.time() - 10}&until={time.time() + 1}")
    log.append(both, happened("new"))
    assert actions(answer) == ["old", "both", "new"]


def test_filters_hold_for_both(log, follow):
    log.past = [happened("old"), happened("pull", kind="image")]
    filters = "filters={%22type%22:[%22image%22]}"
    answer = follow(f"since={time.time() - 10}&until={time.time() + 1}&{filters}")
    log.append(happened("new"), happened("tag", kind="image"))
    assert actions(answer) == ["pull", "tag"]


@pytest.mark.parametrize("query", ["filters={%22x%22:[%22y%22]}", "since=yesterday", "until=x"])
def test_what_cannot_be_is_refused(ask, log, query):
    assert ask("GET", f"/events?{query}").status == 400


def test_many_clients_are_one_reader(log, follow):
    answers = [follow() for _ in range(50)]
    log.append(happened("start"))
    for answer in answers:
        assert json.loads(answer.readline())["Action"] == "start"
        answer.close()
    assert log.asked == [(None, None)]


def test_one_who_hangs_up_is_forgotten(log, dial, daemon, until):
    client = dial()
    client.request("GET", "/events")
    answer = client.getresponse()
    assert len(daemon.events) == 1
    answer.close()
    client.close()
    until(lambda: not len(daemon.events))


def test_the_end_of_the_engines_events_is_the_end(log, follow):
    answer = follow()
    log.append(happened("start"), None)
    assert actions(answer) == ["start"]
    again = follow()
    log.append(happened("stop"), None)
    assert actions(again) == ["stop"]


def test_an_engine_that_nobody_asks_about_is_not_followed(monkeypatch, until):
    monkeypatch.setattr("cellbox.api.events.LINGER", 0.0)
    following = []

    class Engine:
        def events(self, *, stop):
            following.append(stop)
            while not stop():
                yield happened("tick")
                time.sleep(0.001)
            following.remove(stop)

    feed = Feed(Engine())
    one, two = feed.listen(), feed.listen()
    assert one.take(20.0).action == two.take(20.0).action == "tick"
    assert len(following) == 1
    one.close()
    assert two.take(20.0).action == "tick"
    two.close()
    until(lambda: following == [])
    again = feed.listen()  # for whom it is followed anew
    assert again.take(20.0).action == "tick"
    again.close()
    until(lambda: following == [])


def test_one_who_does_not_read_is_let_go(log, monkeypatch, until):
    monkeypatch.setattr("cellbox.api.events.WAITING", 3)
    feed = Feed(log)
    slow, quick = feed.listen(), feed.listen()
    heard = []

    def hear():
        while event := quick.take(20.0):
            heard.append(event.action)

    thread = threading.Thread(target=hear)
    thread.start()
    for number in range(10):
        log.append(happened(str(number)))
        until(lambda seen=number + 1: len(heard) == seen)
    log.append(None)
    thread.join(20.0)
    assert heard == [str(number) for number in range(10)]
    assert [slow.take(0.0).action for _ in range(3)] == ["0", "1", "2"]
    assert slow.take(0.0) is None
