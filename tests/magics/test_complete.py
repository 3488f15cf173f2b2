"""Completion behind %container."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

from cellbox_magics.complete import ContainerMatcher, Names
from cellbox_magics.session import Session


@pytest.fixture
def complete(engine):
    """The texts and types for a line up to the cursor."""
    from cellbox.model.container import RunSpec
    from cellbox.model.network import NetworkSpec
    from cellbox.model.volume import VolumeSpec

    engine.images.add("python:3.11")
    engine.images.add("python:3.12")
    engine.containers.create(RunSpec("ubuntu"), name="web")
    engine.networks.create(NetworkSpec("shop"))
    engine.volumes.create(VolumeSpec("data"))
    matcher = ContainerMatcher(Session(connect=lambda url: engine))

    def ask(line: str) -> dict[str, str]:
        return {one.text: one.type for one in matcher.answer(line)["completions"]}

    return ask


@pytest.mark.parametrize(
    ("line", "some", "kind"),
    [
        ("%container ", {"run", "ps", "image", "system"}, "command"),
        ("%container pu", {"pull"}, "command"),
        ("x = %container im", {"images", "image", "import"}, "command"),
        ("%container image ", {"ls", "prune"}, "command"),
        ("%%container ", {"run", "exec"}, "command"),
        ("%container run --mem", {"--memory", "--memory-swap"}, "flag"),
        ("%%container run --o", {"--out"}, "flag"),
        ("%container run ", {"host", "ubuntu", "ubuntu:latest", "python:3.12"}, "image"),
        ("%container run --rm -e A=1 pyt", {"python:3.11", "python:3.12"}, "image"),
        ("%container run python:3.", {"python:3.11", "python:3.12"}, "image"),
        ("%container run --pull ", {"always", "missing", "never"}, "value"),
        ("%container run --network ", {"container:web"}, "value"),
        ("%container run --net ", {"none", "host", "bridge", "shop"}, "network"),
        ("%container run --link ", {"web"}, "container"),
        ("%container network ", {"ls", "connect", "prune"}, "command"),
        ("%container network inspect ", {"bridge", "shop"}, "network"),
        ("%container network rm host s", {"shop"}, "network"),
        ("%container network connect --alias a ", {"shop"}, "network"),
        ("%container network disconnect shop ", {"web"}, "container"),
        ("%container port w", {"web"}, "container"),
        ("%container run -v ", {"data:"}, "volume"),
        ("%container run --volumes-from ", {"web"}, "container"),
        ("%container volume rm ", {"data"}, "volume"),
        ("%container volume rename d", {"data"}, "volume"),
        ("%container -", {"--host", "-H"}, "flag"),
        ("%container --host ", {"embedded", "default"}, "context"),
        ("%container ps -H ", {"embedded", "default"}, "context"),
        ("%container context use ", {"embedded", "default"}, "context"),
        ("%container --host unix:///x ", {"run", "ps", "context"}, "command"),
        ("%container -H unix:///x,b stop ", {"web"}, "container"),
        ("%container rmi ubuntu ", {"python:3.12"}, "image"),
        ("%container stop ", {"web"}, "container"),
        ("%container stop web w", {"web"}, "container"),
        ("%container exec -u root ", {"web"}, "container"),
        ("%container container logs -f ", {"web"}, "container"),
    ],
)
def test_what_may_stand_here(complete, line, some, kind):
    found = complete(line)
    assert some <= set(found)
    assert {found[text] for text in some} == {kind}


@pytest.mark.parametrize(
    "line",
    [
        "container run ", "%containers run ", "%container run ubuntu l", "%container run ubuntu -",
        "%container nothing ", "%container run --name ", "%container rename web ", "print('%",
        "%container info x", "%container exec web l",
    ],
)  # fmt: skip
def test_where_nothing_can_be_said(complete, line):
    assert complete(line) == {}


def test_hidden_flags_stay_hidden(complete):
    assert complete("%container run --gpu") == {}


def test_a_flag_does_not_start_the_engine():
    def connect(url):
        raise AssertionError("the engine was asked for")

    matcher = ContainerMatcher(Session(connect=connect))
    assert matcher.answer("%container run --r")["completions"]
    assert matcher.answer("%container ru")["completions"]


def test_a_failing_engine_is_an_empty_answer(shell):
    class Context:
        text_until_cursor = "%container run "
        cursor_line = 0

    def connect(url):
        raise RuntimeError("no")

    assert ContainerMatcher(Session(connect=connect)).matcher(Context())["completions"] == []


def test_the_body_of_a_cell_is_not_ours(engine):
    matcher = ContainerMatcher(Session(connect=lambda url: engine))
    assert matcher.answer("%%container run ", 1)["completions"] == []


def test_names_are_kept_for_a_moment(engine):
    now = [0.0]
    names = Names(Session(connect=lambda url: engine), clock=lambda: now[0])
    names.images()
    names.images()
    assert len(engine.named("images")) == 1
    now[0] = 5.0
    names.images()
    assert len(engine.named("images")) == 2


def test_in_the_shell_a_tag_completes_across_the_colon(shell, engine):
    engine.images.add("python:3.12")
    line = "%container run python:3."
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    assert [(one.start, one.text, one.type) for one in found if one.type == "image"] == [
        (15, "python:3.12", "image")
    ]


@pytest.mark.parametrize("host", ["--host far,b", "--host=far", "-H far"])
def test_names_are_those_of_the_host_that_is_named(engine, host):
    from cellbox.model.container import RunSpec

    other = type(engine)()
    other.containers.create(RunSpec("host"), name="away")
    engine.containers.create(RunSpec("host"), name="here")
    engines = {"": engine, "context:far": other}
    matcher = ContainerMatcher(Session(connect=engines.__getitem__))
    for line, name in ((f"%container {host} stop ", "away"), ("%container stop ", "here")):
        assert [one.text for one in matcher.answer(line)["completions"]] == [name]
