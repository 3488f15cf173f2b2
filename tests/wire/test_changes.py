"""A config as Dockerfile lines, read by what reads such lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.build.changes import apply_changes
from cellbox.errors import InvalidArgument
from cellbox.model.image import ImageConfig
from cellbox.wire.changes import lines_of

WORDS = st.text(st.characters(exclude_characters="\0\n", exclude_categories=("Cs",)), min_size=1)


def test_what_is_not_said_is_no_line():
    assert lines_of({}) == []
    assert lines_of({"Hostname": "x", "Env": None, "Cmd": [], "User": ""}) == []


def test_everything_that_a_commit_may_change():
    body = {
        "Env": ["A=1 2", "B="],
        "Labels": {"l": "it's"},
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/my data": {}},
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["echo $HOME"],
        "User": "guest",
        "WorkingDir": "/a b",
        "StopSignal": "INT",
        "OnBuild": ["RUN true"],
    }
    assert apply_changes(ImageConfig(), lines_of(body)) == ImageConfig(
        user="guest",
        env=("A=1 2", "B="),
        entrypoint=("sh", "-c"),
        command=("echo $HOME",),
        workdir="/a b",
        labels={"l": "it's"},
        volumes=("/my data",),
        exposed_ports=("80/tcp",),
        stop_signal="INT",
        on_build=("RUN true",),
    )


@given(st.lists(WORDS, min_size=1), WORDS)
def test_words_and_values_come_through_as_they_are(command, value):
    made = apply_changes(ImageConfig(), lines_of({"Cmd": command, "Env": [f"K={value}"]}))
    assert made.command == tuple(command)
    assert made.env == (f"K={value}",)


@pytest.mark.parametrize("body", [{"Env": "A=1"}, {"Labels": ["a"]}, {"User": 1}])
def test_wrong_types_are_refused(body):
    with pytest.raises(InvalidArgument):
        lines_of(body)
