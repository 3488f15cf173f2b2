"""Where options end and the program begins."""

from __future__ import annotations

import click
import pytest

from cellbox_magics.grammar.words import Split, plain_flags, split

COMMAND = click.Command(
    "x",
    params=[
        click.Option(["--name", "-n"]),
        click.Option(["--rm"], is_flag=True),
        click.Option(["-t", "--tty"], is_flag=True),
        click.Option(["-i"], is_flag=True),
        click.Option(["-p", "--pause/--no-pause"], default=True),
        click.Argument(["words"], nargs=-1),
    ],
)


@pytest.mark.parametrize(
    ("words", "options", "rest", "dashed"),
    [
        ("--rm image ls", "--rm", "image ls", False),
        ("--name a image", "--name a", "image", False),
        ("--name=a image", "--name=a", "image", False),
        ("-n a image -n b", "-n a", "image -n b", False),
        ("-na image", "-na", "image", False),
        ("-itn a image", "-itn a", "image", False),
        ("-- image", "", "image", True),
        ("image -- x", "", "image -- x", False),
        ("--rm=true --tty=0 image --rm=false", "--rm", "image --rm=false", False),
        ("--unknown image", "--unknown", "image", False),
        ("- x", "", "- x", False),
        ("--name", "--name", "", False),
    ],
)
def test_the_first_word_that_is_no_option_ends_them(words, options, rest, dashed):
    expected = Split(tuple(options.split()), tuple(rest.split()), dashed)
    assert split(COMMAND, words.split()) == expected


def test_a_flag_may_be_given_a_value_but_not_any():
    words = [
        "a",
        "--rm=True",
        "--tty=f",
        "--pause=false",
        "--pause=true",
        "--rm=perhaps",
        "--name=true",
        "--",
        "--rm=true",
    ]
    assert plain_flags(COMMAND, words) == [
        "a", "--rm", "--no-pause", "--pause", "--rm=perhaps", "--name=true", "--", "--rm=true",
    ]  # fmt: skip
