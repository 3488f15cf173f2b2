"""The parameters of a build, both ways."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.build import BuildSpec
from cellbox.model.container import Limits, Ulimit
from cellbox.model.registry import Credential
from cellbox.wire.builds import (
    build_query,
    build_spec,
    credentials_from_header,
    credentials_header,
)

WORD = st.text("abcXYZ019.-_/:", min_size=1, max_size=8)
MAP = st.dictionaries(WORD, st.text(max_size=8), max_size=3)
SPECS = st.builds(
    BuildSpec,
    dockerfile=st.one_of(st.just(""), WORD),
    tags=st.lists(WORD, max_size=2).map(tuple),
    arguments=MAP,
    labels=MAP,
    target=st.one_of(st.just(""), WORD),
    no_cache=st.booleans(),
    pull=st.booleans(),
    keep=st.booleans(),
    network=WORD,
    platform=st.one_of(st.just(""), WORD),
    extra_hosts=st.lists(WORD, max_size=2).map(tuple),
    shm_size=st.one_of(st.none(), st.integers(1, 1 << 40)),
    limits=st.builds(
        Limits,
        memory=st.one_of(st.none(), st.integers(1, 1 << 40)),
        cpu_shares=st.one_of(st.none(), st.integers(1, 4096)),
        cpus=st.sampled_from([None, 0.5, 2.0]),
        cpuset=st.sampled_from(["", "0-1"]),
    ),
    ulimits=st.lists(
        st.builds(Ulimit, WORD, st.integers(-1, 9), st.integers(-1, 9)), max_size=2
    ).map(tuple),
)


def sent(spec: BuildSpec) -> dict[str, list[str]]:
    """A query as a server reads it."""
    found = {}
    for name, value in build_query(spec).items():
        values = value if isinstance(value, list) else [value]
        texts = [str(int(one)) if isinstance(one, bool) else str(one) for one in values]
        if value is not None and texts:
            found[name] = texts
    return found


@given(SPECS)
def test_a_build_comes_back_as_it_went(spec):
    assert build_spec(sent(spec)) == spec


def test_what_the_docker_command_sends():
    query = {
        "buildargs": ['{"A":"1","B":null}'],
        "cachefrom": ["[]"],
        "cgroupparent": [""],
        "cpuperiod": ["0"],
        "cpuquota": ["0"],
        "dockerfile": ["Dockerfile"],
        "labels": ["{}"],
        "memory": ["0"],
        "networkmode": ["default"],
        "rm": ["1"],
        "shmsize": ["0"],
        "t": ["a:1", "b"],
        "target": [""],
        "ulimits": ["null"],
        "version": ["1"],
    }
    assert build_spec(query) == BuildSpec(
        dockerfile="Dockerfile", tags=("a:1", "b"), arguments={"A": "1"}
    )


@pytest.mark.parametrize(
    "query",
    [
        {"buildargs": ["{"]},
        {"buildargs": ["[1]"]},
        {"labels": ['{"a":1}']},
        {"ulimits": ['{"a":1}']},
        {"memory": ["much"]},
    ],
)
def test_what_cannot_be_read_is_refused(query):
    with pytest.raises(InvalidArgument):
        build_spec(query)


@pytest.mark.parametrize("name", ["remote", "squash", "outputs"])
def test_what_cannot_be_done_is_refused(name):
    with pytest.raises(NotSupported, match=name):
        build_spec({name: ["x"]})


def test_credentials_by_registry():
    known = {"r.test:5000": Credential(username="ada", password="p")}
    assert credentials_from_header(credentials_header(known)) == known
    hub = {"https://index.docker.io/v1/": {"username": "u", "password": "p"}}
    text = base64.urlsafe_b64encode(json.dumps(hub).encode()).decode()
    assert credentials_from_header(text) == {"docker.io": Credential(username="u", password="p")}
    for nonsense in ("", "e30=", "%%%", base64.b64encode(b"[1]").decode()):
        assert credentials_from_header(nonsense) == {}
