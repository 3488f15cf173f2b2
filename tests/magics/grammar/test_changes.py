"""The flags of update that make a container anew."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import MountKind, MountSpec, PortSpec, RunSpec
from cellbox_magics.grammar.changes import anew
from cellbox_magics.grammar.place import Place
from cellbox_magics.grammar.spec import Caller
from cellbox_magics.grammar.tree import load

WHO = Caller({"HOME": "/home/ada"}, "/work", "/home/ada", {"/env": "D=4\n"}.__getitem__)
DATA = MountSpec(MountKind.VOLUME, "/data", "data")
SPEC = RunSpec(
    "ubuntu",
    env=("A=1", "B=2"),
    ports=(PortSpec(80, host_port=8080), PortSpec(53, "udp"), PortSpec(53)),
    mounts=(DATA, MountSpec(MountKind.TMPFS, "/t")),
)


def changed(words: str):
    """What ``update WORDS`` makes anew of :data:`SPEC`."""
    context = load("update", Place.LINE).make_context("update", [*words.split(), "web"])
    return anew(SPEC, context.params, WHO)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("-m 1g --restart always", {}),
        ("-e B=3 -e C=4 -e HOME", {"env": ("A=1", "B=3", "C=4", "HOME=/home/ada")}),
        ("--env-file /env", {"env": ("A=1", "B=2", "D=4")}),
        ("--env-rm A --env-rm Z", {"env": ("B=2",)}),
        ("-p 81:80", {"ports": (PortSpec(53, "udp"), PortSpec(53), PortSpec(80, host_port=81))}),
        ("--publish-rm 53", {"ports": (PortSpec(80, host_port=8080), PortSpec(53, "udp"))}),
        ("--publish-rm 53-80 --publish-rm 53/udp", {"ports": ()}),
        ("-v /x:/data --mount-rm /t/", {
            "mounts": (MountSpec(MountKind.BIND, "/data", "/x", make_source=True),),
        }),
        ("--tmpfs /u --mount type=volume,src=var,dst=/t", {
            "mounts": (DATA, MountSpec(MountKind.VOLUME, "/t", "var"),
                       MountSpec(MountKind.TMPFS, "/u")),
        }),
    ],
)  # fmt: skip
def test_what_is_given_joins_what_is_there(words, found):
    assert changed(words) == found


def test_what_cannot_be_taken_away():
    with pytest.raises(InvalidArgument, match="--publish-rm: x"):
        changed("--publish-rm x")
