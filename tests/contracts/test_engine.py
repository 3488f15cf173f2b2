"""The engine as a whole: what it tells of itself, its events, its care for the store."""

from __future__ import annotations

import threading
import time

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import RunSpec


def actions(events):
    return [event.action for event in events]


def past(engine, **filters):
    return list(engine.events(since=0.0, until=time.time(), filters=filters or None))


def test_info_counts(engine, start, run):
    start()
    engine.containers.pause(start().id)
    run("true")
    info = engine.info()
    assert (info.containers, info.images) == (4 - 1, 1)
    assert (info.containers_running, info.containers_paused, info.containers_stopped) == (1, 1, 1)
    assert info.id == engine.info().id and info.version and info.kernel and info.snapshotter
    assert info.cpus >= 1 and info.memory > 1 << 20


@pytest.mark.differs(
    remote="Docker's API tells of no snapshotters",
    dockerd="Docker's API tells of no snapshotters",
)
def test_built_in_drivers_are_plugins(engine):
    found = {(one.kind, one.name) for one in engine.plugins.list()}
    assert {("snapshotter", "overlay"), ("log", "json-file")} <= found


@pytest.mark.differs(remote="it has the daemon's URL", dockerd="it has the daemon's URL")
def test_the_url_says_where_it_is(engine, store):
    assert engine.url == f"local:{store}"


def test_a_doctor_names_what_is_wrong_and_the_way_out(engine):
    findings = engine.doctor()
    assert findings and all(one.subject and one.detail for one in findings)
    assert all(not one.remedy for one in findings if one.ok)


@pytest.mark.differs(remote="Docker's API cannot say it", dockerd="Docker's API cannot say it")
def test_a_whole_store_has_no_damage(engine, run):
    run("true")
    assert [one for one in engine.check() if one.kind != "cgroup"] == []
    assert [one for one in engine.check(repair=True) if one.kind != "cgroup"] == []


def test_disk_usage(engine, run, start, busybox):
    ran = run("sh", "-c", "head -c 100000 /dev/zero > /f")
    usage = {one.kind: one for one in engine.disk_usage()}
    images, containers = usage["Images"], usage["Containers"]
    assert (images.total, images.active, images.size) == (1, 1, busybox.size)
    assert (containers.total, containers.active) == (1, 0)
    assert containers.size == containers.reclaimable >= 100000
    engine.containers.remove(ran.id)
    usage = {one.kind: one for one in engine.disk_usage()}
    assert usage["Images"].reclaimable == busybox.size
    assert usage["Containers"].size == 0


# Events -----------------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="it tells of the tests before too")
def test_the_events_of_a_life_in_their_order(engine, start):
    id = start(name="web", labels={"tier": "a"}).id
    engine.containers.pause(id)
    engine.containers.unpause(id)
    engine.containers.update(id, name="front")
    engine.containers.stop(id, timeout=0)
    engine.containers.remove(id)
    found = past(engine, type=["container"])
    assert actions(found) == [
        *("create", "start", "pause", "unpause", "rename", "kill", "die", "stop", "destroy"),
    ]
    assert {event.id for event in found} == {id}
    times = [event.time for event in found]
    assert times == sorted(times)
    attributes = {event.action: event.attributes for event in found}
    assert attributes["create"]["name"] == "web" and attributes["create"]["tier"] == "a"
    assert attributes["rename"]["name"] == "front" and attributes["rename"]["oldName"] == "web"
    assert attributes["die"]["exitCode"] == "137" and attributes["die"]["image"] == "busybox"


@pytest.mark.differs(dockerd="it tells of the tests before too")
def test_the_events_of_images(engine, busybox):
    engine.images.tag("busybox", "other:1")
    engine.images.remove("other:1")
    assert actions(past(engine, type=["image"])) == ["import", "tag", "untag"]


@pytest.mark.differs(dockerd="it tells of the tests before too")
def test_events_are_filtered(engine, run, start):
    first, second = run("true", labels={"a": "1"}).id, start(name="web").id
    assert {event.id for event in past(engine, container=["web"])} == {second}
    assert {event.id for event in past(engine, label=["a=1"])} == {first}
    assert actions(past(engine, event=["die", "create"])) == ["create", "die", "create"]
    assert past(engine, image=["nosuch"]) == []
    with pytest.raises(InvalidArgument, match="(?i)invalid filter"):
        engine.events(filters={"nosuch": ["x"]})


def test_events_arrive_as_they_happen(engine, busybox, until):
    """Also for who asks for them first and looks later."""
    live = engine.events(filters={"type": ["container"]})
    id = engine.containers.create(RunSpec("busybox", ("true",))).id
    seen = []

    def look():
        for event in live:
            seen.append(event.action)
            if event.action == "die":
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    until(lambda: seen == ["create"])
    engine.containers.start(id)
    watcher.join(20)
    assert seen == ["create", "start", "die"]


def test_events_end_at_a_time(engine):
    until = time.time() + 0.05
    assert list(engine.events(until=until)) == []
    assert time.time() >= until


# Several at once --------------------------------------------------------------------------------


def test_every_method_may_be_called_from_any_thread(engine, run):
    codes = {}

    def one(number):
        codes[number] = run("sh", "-c", f"exit {number}", auto_remove=True).code

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == {number: number for number in range(8)}
    assert engine.containers.list(all=True) == []


@pytest.mark.differs(
    remote="containers belong to the daemon",
    dockerd="containers belong to the daemon",
)
def test_close_ends_what_runs_in_the_foreground_and_nothing_else(engine, start, until):
    attached, detached = start(detach=False).id, start().id
    engine.close()
    until(lambda: engine.containers.get(attached).status == "exited")
    assert engine.containers.get(detached).status == "running"


def test_a_start_is_told_before_the_end(engine, run):
    """However short the run."""
    begun = time.time()
    ids = [run("true").id for _ in range(10)]
    told = [(one.id, one.action) for one in engine.events(since=begun, until=time.time())]
    for id in ids:
        assert [action for whose, action in told if whose == id and action in ("start", "die")] == (
            ["start", "die"]
        )
