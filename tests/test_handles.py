"""Friendly objects and what is written once above the contract, over a recording engine."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cellbox import handles
from cellbox.errors import Conflict, InUse, InvalidArgument, NotFound, StartError
from cellbox.handles import Collect, ContainerHandle, ImageHandle, NetworkHandle
from cellbox.model.container import Container, RunSpec, Status
from cellbox.model.image import Image, ImageConfig, Platform
from cellbox.model.network import Endpoint, EndpointSpec, Network, NetworkSpec
from cellbox.model.system import DiskUsage
from cellbox.model.volume import ANONYMOUS_LABEL, Volume


class Stream:
    """Two pieces of output, an exit code, and a record of what was done."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.done: list[Any] = []

    def __iter__(self):
        yield "stdout", b"out"
        yield "stderr", b"err"

    def write(self, data):
        self.done.append(data)
        raise BrokenPipeError

    def close_stdin(self):
        self.done.append("close_stdin")

    def wait(self, timeout=None):
        return self.code

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.done.append("closed")


class Recorder:
    """Any collection: records calls, answers from a table, raises what the table holds."""

    def __init__(self, calls: list[Any], answers: dict[str, Any]) -> None:
        self._calls, self._answers = calls, answers

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.append((name, *args, kwargs) if kwargs else (name, *args))
            answer = self._answers.get(name)
            answer = answer(*args) if callable(answer) else answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


FACTS = Container(
    "a" * 64, "web", "sha256:1", RunSpec("ubuntu"), ("ls",), Status.RUNNING, 100.0, exit_code=3
)
IMAGE = Image(
    "sha256:" + "b" * 64, ("ubuntu:latest",), (), (), ImageConfig(labels={"k": "v"}), Platform(),
    5, created=50.0,
)  # fmt: skip


@pytest.fixture
def engine():
    """Records every call in ``calls``; ``answers`` says what comes back."""
    calls: list[Any] = []
    answers = {"get": FACTS, "create": FACTS, "attach": Stream(), "exec": Stream(4)}
    images = {"get": IMAGE, "pull": IMAGE, "commit": IMAGE}
    made = SimpleNamespace(calls=calls, answers=answers, image_answers=images, sizes=[1000, 400])
    made.containers = Recorder(calls, answers)
    made.images = Recorder(calls, images)
    made.files = Recorder(calls, {"stats": "stats", "processes": "table", "diff": []})
    made.disk_usage = lambda: [DiskUsage("Images", 1, 1, made.sizes.pop(0), 0)]
    return made


@pytest.fixture
def web(engine):
    return ContainerHandle(engine, FACTS)


def test_a_container_tells_its_facts(web, engine):
    assert (web.id, web.short_id, web.name, web.image) == ("a" * 64, "a" * 12, "web", "ubuntu")
    assert (web.status, web.exit_code) == (Status.RUNNING, 3)
    assert repr(web) == f"<container web ({'a' * 12}) of ubuntu: running>"
    assert web == ContainerHandle(engine, replace(FACTS, name="other"))
    assert len({web, ContainerHandle(engine, FACTS)}) == 1


def test_html_is_escaped(engine):
    spec = RunSpec("<img src=x onerror=alert(1)>")
    assert "<img" not in ContainerHandle(engine, replace(FACTS, spec=spec))._repr_html_()
    assert "&lt;none&gt;" in ImageHandle(engine, replace(IMAGE, tags=()))._repr_html_()


@pytest.mark.parametrize(
    ("act", "calls"),
    [
        (lambda c: c.start(), [("start", FACTS.id), ("get", FACTS.id)]),
        (
            lambda c: c.stop(3),
            [("stop", FACTS.id, {"timeout": 3, "signal": ""}), ("get", FACTS.id)],
        ),
        (lambda c: c.kill("HUP"), [("kill", FACTS.id, {"signal": "HUP"}), ("get", FACTS.id)]),
        (lambda c: c.pause(), [("pause", FACTS.id), ("get", FACTS.id)]),
        (lambda c: c.unpause(), [("unpause", FACTS.id), ("get", FACTS.id)]),
        (lambda c: c.rename("x"), [("update", FACTS.id, {"name": "x"}), ("get", FACTS.id)]),
        (lambda c: c.wait(2), [("wait", FACTS.id, {"timeout": 2})]),
        (lambda c: c.remove(True), [("remove", FACTS.id, {"force": True, "volumes": False})]),
        (lambda c: c.attach(True), [("attach", FACTS.id, {"stdin": True, "logs": False})]),
        (lambda c: c.stats(), [("stats", FACTS.id)]),
        (lambda c: c.top(), [("processes", FACTS.id, {"ps_args": "-ef"})]),
        (lambda c: c.diff(), [("diff", FACTS.id)]),
        (
            lambda c: c.commit("n", volumes=True),
            [("commit", FACTS.id, {"name": "n", "message": "", "volumes": True})],
        ),
    ],
)
def test_a_verb_is_one_call(web, engine, act, calls):
    act(web)
    assert engine.calls == calls


def test_restart_is_one_verb_of_the_engine(web, engine):
    web.restart(1)
    assert engine.calls == [("restart", FACTS.id, {"timeout": 1}), ("get", FACTS.id)]


def test_a_container_that_removes_itself_can_be_stopped(web, engine):
    engine.answers["get"] = NotFound("container", "web")
    assert web.stop() is web


def test_logs_are_text(web, engine):
    engine.answers["logs"] = iter([(0.0, "stdout", b"a\xc3"), (0.0, "stdout", b"\xa9\xff")])
    assert web.logs(5) == "aé\ufffd"


def test_exec_collects_and_splits_one_word(web, engine):
    done = web.exec("ls -l 'a b'", stdin=b"x")
    assert (done.exit_code, done.output, done.stderr) == (4, "out", b"err")
    spec = engine.calls[0][2]
    assert (spec.command, spec.interactive) == (("ls", "-l", "a b"), True)
    assert engine.answers["exec"].done == [b"x", "close_stdin", "closed"]


def test_an_image_tells_its_facts_and_acts(engine):
    image = ImageHandle(engine, IMAGE)
    assert (image.short_id, image.tags, image.size) == ("b" * 12, ("ubuntu:latest",), 5)
    assert repr(image) == "<image ubuntu:latest>"
    image.tag("mine").remove(force=True)
    assert [call[0] for call in engine.calls] == ["tag", "get", "remove"]
    assert image.history() == ()
    assert image == ImageHandle(engine, IMAGE)
    assert hash(image) == hash(IMAGE.id)
    assert image.run("ls").output == "out"


@pytest.mark.parametrize(
    ("policy", "there", "calls"),
    [
        ("missing", True, ["get"]),
        ("missing", False, ["get", "pull"]),
        ("always", True, ["pull"]),
        ("never", True, ["get"]),
    ],
)
def test_the_policy_decides_about_a_pull(engine, policy, there, calls):
    if not there:
        engine.image_answers["get"] = NotFound("image", "ubuntu")
    assert handles.ensure_image(engine, "ubuntu", policy=policy) is IMAGE
    assert [call[0] for call in engine.calls] == calls


def test_never_says_what_to_do(engine):
    engine.image_answers["get"] = NotFound("image", "ubuntu")
    with pytest.raises(NotFound, match="pull it first"):
        handles.ensure_image(engine, "ubuntu", policy="never")


def test_the_host_is_never_pulled(engine):
    handles.ensure_image(engine, "host", policy="always")
    assert [call[0] for call in engine.calls] == ["get"]


def test_run_attaches_before_it_starts(engine):
    seen = []
    done = handles.run(engine, RunSpec("ubuntu"), name="web", created=seen.append)
    assert [call[0] for call in engine.calls] == ["create", "attach", "start", "get"]
    assert (done.exit_code, done.output, done.container.name) == (0, "out", "web")
    assert seen == [done.container]


def test_who_waited_for_the_end_of_what_removes_itself_finds_it_removed(engine):
    engine.answers["create"] = replace(FACTS, spec=RunSpec("ubuntu", auto_remove=True))
    handles.run(engine, RunSpec("ubuntu", auto_remove=True))
    assert [call[0] for call in engine.calls] == ["create", "attach", "start"]


def test_run_detached_returns_at_once(engine):
    done = handles.run(engine, RunSpec("ubuntu", detach=True))
    assert done.exit_code is None
    assert "attach" not in [call[0] for call in engine.calls]


def test_a_talk_that_lets_go_leaves_the_container(engine):
    engine.answers["create"] = replace(FACTS, spec=RunSpec("ubuntu", auto_remove=True))
    done = handles.run(engine, RunSpec("ubuntu"), talk=lambda stream: None)
    assert done.exit_code is None
    assert engine.calls[-1][0] == "start"


@pytest.mark.parametrize(("rm", "last"), [(True, "remove"), (False, "kill")])
def test_whatever_ends_the_talk_ends_the_container(engine, rm, last):
    engine.answers["create"] = replace(FACTS, spec=RunSpec("ubuntu", auto_remove=rm))

    def talk(stream):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        handles.run(engine, RunSpec("ubuntu"), talk=talk)
    assert engine.calls[-1][0] == last


@pytest.mark.parametrize(("rm", "detach"), [(True, False), (False, False), (True, True)])
def test_what_does_not_start_is_removed_if_asked(engine, rm, detach):
    spec = RunSpec("ubuntu", auto_remove=rm, detach=detach)
    engine.answers["create"] = replace(FACTS, spec=spec)
    engine.answers["start"] = StartError("exec", 2, "ls", 127)
    with pytest.raises(StartError):
        handles.run(engine, spec)
    assert (engine.calls[-1][0] == "remove") is rm


def test_what_removes_itself_meanwhile_need_not_be_removed(engine):
    spec = RunSpec("ubuntu", auto_remove=True)
    engine.answers["create"] = replace(FACTS, spec=spec)
    engine.answers["start"] = StartError("exec", 2, "ls", 127)
    engine.answers["remove"] = Conflict("removal is in progress")
    with pytest.raises(StartError):
        handles.run(engine, spec)
    assert engine.calls[-1] == ("remove", FACTS.id, {"force": True, "volumes": False})


def test_each_goes_on_after_an_error():
    def act(ref):
        if ref == "b":
            raise NotFound("container", ref)
        return ref.upper()

    outcome = handles.each(["a", "b", "c"], act)
    assert outcome.done == (("a", "A"), ("c", "C"))
    assert [(ref, error.kind) for ref, error in outcome.failed] == [("b", "container")]


def container(number: int, status: Status, **labels: str) -> Container:
    return replace(
        FACTS, id=str(number) * 64, status=status, created=float(number),
        spec=RunSpec("u", labels=labels),
    )  # fmt: skip


def test_pruning_takes_what_does_not_run(engine):
    engine.answers["list"] = [
        container(1, Status.EXITED), container(2, Status.RUNNING), container(3, Status.CREATED),
        container(4, Status.PAUSED), container(5, Status.REMOVING),
    ]  # fmt: skip
    pruned = handles.prune_containers(engine)
    assert pruned.removed == ("1" * 64, "3" * 64)
    assert pruned.bytes == 600


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"until": ["1.5"]}, ["1"]),
        ({"label": ["keep"]}, ["2"]),
        ({"label": ["keep=yes"]}, ["2"]),
        ({"label": ["keep=no"]}, []),
        ({"label!": ["keep"]}, ["1"]),
    ],
)
def test_filters_choose_what_is_pruned(engine, filters, left):
    engine.answers["list"] = [
        container(1, Status.EXITED), container(2, Status.EXITED, keep="yes"),
    ]  # fmt: skip
    assert [ref[0] for ref in handles.prune_containers(engine, filters).removed] == left


@pytest.mark.parametrize("filters", [{"odd": ["x"]}, {"until": ["soon"]}])
def test_filters_that_make_no_sense_are_refused(engine, filters):
    engine.answers["list"] = [container(1, Status.EXITED)]
    with pytest.raises(InvalidArgument):
        handles.prune_containers(engine, filters)


@pytest.mark.parametrize(
    ("all_", "filters", "count"),
    [
        (False, {}, 1),
        (True, {}, 2),
        (False, {"dangling": ["false"]}, 2),
        (True, {"label": ["k=v"]}, 2),
        (True, {"label": ["z"]}, 0),
    ],
)
def test_images_in_use_are_kept(engine, all_, filters, count):
    used = replace(IMAGE, id="sha256:1")
    nameless = replace(IMAGE, id="sha256:2", tags=())
    engine.answers["list"] = [FACTS]
    engine.image_answers["list"] = [IMAGE, used, nameless]
    assert len(handles.prune_images(engine, all=all_, filters=filters).removed) == count


def network(name, *, labels=(), **more):
    return Network(name * 64, NetworkSpec(name, labels=dict(labels)), 1.0, **more)


def test_a_network_tells_its_facts_and_acts(engine):
    member = Endpoint("e", "shop", "s", "c" * 64, "web")
    facts = Network("e" * 64, NetworkSpec("<shop>"), 1.0, endpoints=(member,))
    engine.networks = Recorder(engine.calls, {"get": replace(facts, endpoints=())})
    shop = NetworkHandle(engine, facts)
    assert (shop.id, shop.short_id, shop.name) == ("e" * 64, "e" * 12, "<shop>")
    assert shop.containers == ("web",)
    assert repr(shop) == "<network <shop> (eeeeeeeeeeee) of the driver bridge>"
    assert "<b>&lt;shop&gt;</b>" in shop._repr_html_()
    assert shop == NetworkHandle(engine, facts)
    assert len({shop, NetworkHandle(engine, facts)}) == 1
    assert shop.connect("db", "d", "e").containers == ()
    assert shop.disconnect("db") is shop
    shop.remove()
    assert engine.calls == [
        ("connect", shop.id, "db", EndpointSpec("<shop>", ("d", "e"))), ("get", shop.id),
        ("disconnect", shop.id, "db"), ("get", shop.id),
        ("remove", shop.id),
    ]  # fmt: skip


def test_networks_that_nobody_is_in_are_pruned(engine):
    member = Endpoint("e", "b", "b" * 64, "c" * 64, "web")
    networks = {"list": [
        network("a"), network("b", endpoints=(member,)), network("c", built_in=True),
        network("d", labels={"k": "v"}), network("e"),
    ]}  # fmt: skip
    networks["remove"] = lambda ref: NotFound("network", ref) if ref == "e" else None
    engine.networks = Recorder(engine.calls, networks)
    assert handles.prune_networks(engine).removed == ("a", "d")
    assert handles.prune_networks(engine, {"label!": ["k"]}).removed == ("a",)
    assert handles.prune_networks(engine, {"until": ["0.5"]}).removed == ()


@pytest.mark.parametrize(
    ("all_", "filters", "removed"),
    [
        (False, {}, ("nameless",)),
        (True, {}, ("data", "nameless")),
        (True, {"label": ["k=v"]}, ("data",)),
        (True, {"label!": ["k"]}, ("nameless",)),
    ],
)
def test_volumes_with_a_name_are_pruned_only_when_told(engine, all_, filters, removed):
    volumes = [
        Volume("data", "local", "/d", 1.0, labels={"k": "v"}),
        Volume("nameless", "local", "/n", 1.0, labels={ANONYMOUS_LABEL: ""}),
        Volume("used", "local", "/u", 1.0, labels={ANONYMOUS_LABEL: ""}, users=("c",)),
        Volume("other", "local", "/o", 1.0, labels={ANONYMOUS_LABEL: ""}),
    ]
    answers = {"list": volumes, "size": 7}
    answers["remove"] = lambda name: InUse("just now") if name == "other" else None
    engine.volumes = Recorder(engine.calls, answers)
    pruned = handles.prune_volumes(engine, all=all_, filters=filters)
    assert (pruned.removed, pruned.bytes) == (removed, 7 * len(removed))


def test_volumes_know_no_age(engine):
    with pytest.raises(InvalidArgument, match="Invalid filter 'until'"):
        handles.prune_volumes(engine, filters={"until": ["1"]})


def test_collect_is_a_talk():
    talk = Collect()
    assert talk(Stream(5)) == 5
    assert (talk.written("stdout"), talk.written("none")) == (b"out", b"")


def test_a_volume_is_a_handle(engine):
    facts = Volume("data", "local", "/store/data/_data", 0.0)
    answers = {"get": facts, "rename": replace(facts, name="other"), "size": 7}
    engine.volumes = Recorder(engine.calls, answers)
    handle = handles.VolumeHandle(engine, facts)
    assert (handle.name, handle.mountpoint, handle.size) == ("data", facts.mountpoint, 7)
    assert handle.reload() == handles.VolumeHandle(engine, facts) and handle != facts
    assert repr(handle) == "<volume data>" and "data" in handle._repr_html_()
    assert handle.rename("other").name == "other"
    handle.remove()
    assert engine.calls == [
        ("size", "data"), ("get", "data"), ("rename", "data", "other"), ("remove", "other"),
    ]  # fmt: skip
