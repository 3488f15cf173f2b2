"""What instructions change in a config, and how the history tells them."""

from __future__ import annotations

import pytest

from cellbox.build import config as configs
from cellbox.build import syntax
from cellbox.build.parser import parse_line
from cellbox.model.image import ImageConfig


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ENV a=1 b=2", "ENV a=1 b=2"),
        ("env a  1", "ENV a=1"),
        ("LABEL a=b", "LABEL a=b"),
        ('CMD ["a", "b c"]', 'CMD ["a", "b c"]'),
        ("ENTRYPOINT a  b", "ENTRYPOINT a  b"),
        ("EXPOSE 80 53/udp", "EXPOSE 80 53/udp"),
        ("VOLUME /a /b", 'VOLUME ["/a", "/b"]'),
        ("WORKDIR /w", "WORKDIR /w"),
        ("HEALTHCHECK NONE", "HEALTHCHECK NONE"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
        ("MAINTAINER A B", "MAINTAINER A B"),
        ("ARG a b=1", "ARG a b=1"),
    ],
)
def test_history(line, told):
    assert configs.told(syntax.instruction(parse_line(line))) == told


@pytest.mark.parametrize(
    ("workdir", "path", "result"),
    [
        ("", "a", "/a"),
        ("/w", "a/../b/", "/w/b"),
        ("/w", "/x//y", "/x/y"),
        ("/w", "../../..", "/"),
        ("/w", "//x", "/x"),
        ("/w", ".", "/w"),
    ],
)
def test_paths_are_seen_from_the_working_directory(workdir, path, result):
    assert configs.absolute(ImageConfig(workdir=workdir), path) == result


def test_a_search_path_is_given_where_there_is_none():
    assert configs.with_path(ImageConfig()).env == (f"PATH={configs.PATH}",)
    known = ImageConfig(env=("A=1", "PATH=/p"))
    assert configs.with_path(known) is known
    assert configs.environment(known) == {"A": "1", "PATH": "/p"}


def test_a_command_of_the_shell_uses_the_images_own():
    step = syntax.instruction(parse_line("RUN a b"))
    assert configs.command_line(ImageConfig(shell=("ash", "-c")), step.command) == (
        "ash",
        "-c",
        "a b",
    )
    step = syntax.instruction(parse_line('RUN ["a", "b"]'))
    assert configs.command_line(ImageConfig(shell=("ash", "-c")), step.command) == ("a", "b")
