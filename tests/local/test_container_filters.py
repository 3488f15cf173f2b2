"""The table of filters, over containers that are facts only."""

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.local.container_filters import select
from cellbox.model.container import Container, Health, MountKind, MountSpec, RunSpec, Status


def container(number, name, status, **fields):
    spec = RunSpec(**{"image": "busybox:latest", **fields.pop("spec", {})})
    return Container(
        id=f"{number}a" + "0" * 62,
        name=name,
        image_id=f"sha256:{number}b" + "0" * 62,
        spec=spec,
        command=(),
        status=status,
        created=float(number),
        **fields,
    )


BIND = MountSpec(MountKind.BIND, "/inside", "/outside")
ALL = [
    container(6, "again", Status.RESTARTING, exit_code=1),
    container(5, "held", Status.PAUSED, spec={"network": "container:up"}),
    container(4, "up", Status.RUNNING, health=Health("healthy"), spec={"mounts": (BIND,)}),
    container(3, "failed", Status.EXITED, exit_code=1, spec={"labels": {"a": "1", "b": ""}}),
    container(2, "done", Status.EXITED, spec={"image": "10.0.0.1:5000/x/y:v1"}),
    container(1, "new", Status.CREATED, spec={"labels": {"a": "2"}}),
]
NAMES = [one.name for one in ALL]


def find(ref):
    for one in ALL:
        if one.name == ref:
            return one
    raise NotFound("container", ref)


def names(all=True, **filters):
    return [one.name for one in select(ALL, all=all, filters=filters, find=find)]


def test_without_filters_those_that_run_or_all():
    assert names(all=False) == ["again", "held", "up"]
    assert names() == NAMES


@pytest.mark.parametrize(
    ("key", "values", "found"),
    [
        ("id", ["4a"], ["up"]),
        ("id", ["a"], []),  # from the beginning
        ("name", ["e"], ["held", "failed", "done", "new"]),  # anywhere
        ("name", ["/up"], ["up"]),
        ("name", ["up", "done"], ["up", "done"]),
        ("label", ["a"], ["failed", "new"]),
        ("label", ["a=1"], ["failed"]),
        ("label", ["a", "b"], ["failed"]),
        ("label", ["b="], ["failed"]),
        ("label", ["a=1", "a=2"], []),
        ("status", ["restarting"], ["again"]),
        ("status", ["created", "running"], ["up", "new"]),
        ("exited", ["0"], ["done"]),  # neither those that run nor those that never ran
        ("exited", ["1"], ["failed"]),
        ("exited", ["0", "1"], ["failed", "done"]),
        ("exited", ["-1"], []),
        ("ancestor", ["10.0.0.1:5000/x/y:v1"], ["done"]),
        ("ancestor", ["10.0.0.1:5000/x/y"], []),
        ("ancestor", ["busybox"], ["again", "held", "up", "failed", "new"]),
        ("ancestor", ["busybox:latest"], ["again", "held", "up", "failed", "new"]),
        ("ancestor", ["3b0"], ["failed"]),
        ("ancestor", ["sha256:3b0"], ["failed"]),
        ("health", ["healthy"], ["up"]),
        ("health", ["unhealthy"], []),
        ("network", ["container:up"], ["held"]),
        ("volume", ["/inside"], ["up"]),
        ("volume", ["/outside"], ["up"]),
        ("volume", ["/in"], []),
        ("before", ["done"], ["new"]),
        ("since", ["up"], ["again", "held"]),
        ("before", ["up", "done"], ["new"]),
    ],
)
def test_what_a_filter_lets_through(key, values, found):
    assert names(**{key: values}) == found


def test_all_keys_must_hold():
    assert names(label=["a"], status=["exited"]) == ["failed"]
    assert names(since=["new"], before=["up"], exited=["0"]) == ["done"]
    assert names(label=["a"], status=["running"]) == []


@pytest.mark.parametrize("filters", [{"status": ["created"]}, {"exited": ["0"]}])
def test_to_ask_for_a_status_is_to_ask_for_all(filters):
    assert names(all=False, **filters) == names(**filters) != []


def test_other_filters_show_those_that_run_only():
    assert names(all=False, name=["e"]) == ["held"]
    assert names(all=False, label=["a"]) == []


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"nosuch": ["x"]}, "Invalid filter 'nosuch'"),
        ({"status": ["sleeping"]}, "Invalid filter 'status=sleeping'"),
        ({"exited": ["one"]}, "Invalid filter 'exited=one'"),
    ],
)
def test_what_is_no_filter(filters, told):
    with pytest.raises(InvalidArgument, match=told):
        names(**filters)


@pytest.mark.parametrize("key", ["before", "since"])
def test_a_moment_that_nobody_knows(key):
    with pytest.raises(NotFound, match="No such container: nosuch"):
        names(**{key: ["nosuch"]})
