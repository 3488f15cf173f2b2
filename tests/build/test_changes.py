"""The Dockerfile lines of ``commit -c`` and ``import -c``."""

from __future__ import annotations

import pytest

from cellbox.build.changes import apply_changes
from cellbox.errors import InvalidArgument
from cellbox.model.container import HealthCheck
from cellbox.model.image import ImageConfig


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('CMD ["a", "b c"]', ImageConfig(command=("a", "b c"))),
        ("cmd echo $HOME", ImageConfig(command=("/bin/sh", "-c", "echo $HOME"))),
        ('ENTRYPOINT ["/init"]', ImageConfig(entrypoint=("/init",))),
        ("ENV A=1 B='2 3'", ImageConfig(env=("A=1", "B=2 3"))),
        ("ENV A the rest", ImageConfig(env=("A=the rest",))),
        (
            "EXPOSE 80 53/udp 8000-8001",
            ImageConfig(exposed_ports=("53/udp", "80/tcp", "8000/tcp", "8001/tcp")),
        ),
        ('LABEL a="b c" d=', ImageConfig(labels={"a": "b c", "d": ""})),
        ("ONBUILD RUN x", ImageConfig(on_build=("RUN x",))),
        ("STOPSIGNAL SIGINT", ImageConfig(stop_signal="SIGINT")),
        ("USER 1000:1000", ImageConfig(user="1000:1000")),
        ('VOLUME ["/a", "/b"]', ImageConfig(volumes=("/a", "/b"))),
        ("VOLUME /a /b", ImageConfig(volumes=("/a", "/b"))),
        ("WORKDIR /a", ImageConfig(workdir="/a")),
        ('SHELL ["/bin/bash", "-c"]', ImageConfig(shell=("/bin/bash", "-c"))),
        ("HEALTHCHECK NONE", ImageConfig(health=HealthCheck(("NONE",)))),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD curl x",
            ImageConfig(health=HealthCheck(("CMD-SHELL", "curl x"), 90.0, 0.5, retries=2)),
        ),
        ('HEALTHCHECK CMD ["true"]', ImageConfig(health=HealthCheck(("CMD", "true")))),
    ],
)
def test_a_line(line, expected):
    assert apply_changes(ImageConfig(), [line]) == expected


def test_lines_build_on_each_other():
    config = ImageConfig(env=("A=1", "B=2"), labels={"x": "y"}, workdir="/w", volumes=("/v",))
    changed = apply_changes(
        config,
        ["ENV A=9 C=3", "LABEL z=1", "WORKDIR sub", "WORKDIR ../up", "VOLUME /v /u", "USER u"],
    )
    assert changed.env == ("A=9", "B=2", "C=3")
    assert changed.labels == {"x": "y", "z": "1"}
    assert changed.workdir == "/w/up"
    assert changed.volumes == ("/u", "/v")
    assert config.env == ("A=1", "B=2")


def test_a_shell_is_used_by_the_commands_after_it():
    changed = apply_changes(ImageConfig(), ['SHELL ["/bin/bash", "-c"]', "CMD x"])
    assert changed.command == ("/bin/bash", "-c", "x")


def test_an_entry_point_takes_the_command_of_another_one_away():
    config = ImageConfig(entrypoint=("old",), command=("for", "old"))
    assert apply_changes(config, ['ENTRYPOINT ["new"]']).command == ()
    assert apply_changes(config, ["CMD x", 'ENTRYPOINT ["new"]']).command[-1] == "x"


def test_variables_are_those_of_the_config():
    assert apply_changes(ImageConfig(env=("A=1",)), ["LABEL l=$A$B"]).labels == {"l": "1"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "RUN x",
        "FROM x",
        "COPY a b",
        'CMD ["a", 5]',
        "ENV A",
        "BOGUS x",
        "ENV A=1 B",
        "LABEL =x",
        "EXPOSE http",
        "EXPOSE 70000",
        "EXPOSE 0",
        "EXPOSE 90-80",
        "USER 'x",
        "ONBUILD FROM x",
        "ONBUILD ONBUILD RUN x",
        "HEALTHCHECK x",
        "HEALTHCHECK CMD",
        "HEALTHCHECK --interval=soon CMD x",
        "HEALTHCHECK --colour=red CMD x",
    ],
)
def test_lines_that_are_refused(line):
    with pytest.raises(InvalidArgument):
        apply_changes(ImageConfig(), [line])
