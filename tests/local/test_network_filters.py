from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local.network_filters import select
from cellbox.model.network import Network, NetworkSpec

NETWORKS = [
    Network("a" * 64, NetworkSpec("back", labels={"tier": "b", "env": "x"}), 1.0),
    Network("b" * 64, NetworkSpec("bridge"), 1.0, built_in=True),
    Network("c" * 64, NetworkSpec("front", labels={"tier": "a"}), 1.0),
    Network("d" * 64, NetworkSpec("host", driver="host"), 1.0, built_in=True),
]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["back", "bridge", "front", "host"]),
        ({"name": ["ro", "bri"]}, ["bridge", "front"]),
        ({"id": ["aaa"]}, ["back"]),
        ({"driver": ["host"]}, ["host"]),
        ({"scope": ["local"]}, ["back", "bridge", "front", "host"]),
        ({"scope": ["swarm"]}, []),
        ({"type": ["custom"]}, ["back", "front"]),
        ({"type": ["builtin"]}, ["bridge", "host"]),
        ({"label": ["tier"]}, ["back", "front"]),
        ({"label": ["tier=b", "env=x"]}, ["back"]),
        ({"label": ["tier=b", "env=y"]}, []),
        ({"dangling": ["true"]}, ["front"]),
        ({"dangling": ["0"]}, ["back", "bridge", "host"]),
        ({"name": ["b"], "type": ["custom"]}, ["back"]),
    ],
)
def test_filters(filters, names):
    assert [one.name for one in select(NETWORKS, filters, {"a" * 64})] == names


@pytest.mark.parametrize("filters", [{"x": ["y"]}, {"type": ["mine"]}, {"dangling": ["maybe"]}])
def test_nonsense_is_refused(filters):
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        select(NETWORKS, filters, set())
