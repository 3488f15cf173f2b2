"""Volumes as Docker tells them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.volume import Volume
from cellbox.wire.volumes import volume_from, volume_json

VOLUME = Volume("v", "local", "/m", 1.0, {"o": "size=1m"}, {"a": "b"}, users=("c1", "c2"))


def test_nothing_is_null_as_with_docker():
    told = volume_json(replace(VOLUME, options={}, labels={}))
    assert (told["Options"], told["Labels"], told["Scope"]) == (None, None, "local")
    assert "UsageData" not in told


def test_its_use_is_told_with_its_size():
    assert volume_json(VOLUME, 0)["UsageData"] == {"Size": 0, "RefCount": 2}


def test_what_a_daemon_tells_is_told_again_as_it_was(dockerd):
    for theirs in dockerd["volumes"]["Volumes"]:
        assert volume_json(volume_from(theirs)) == theirs


tables = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)


@given(tables, tables, st.integers(0, 1 << 32))
def test_there_and_back(options, labels, created):
    facts = Volume("v", "d", "", float(created), options, labels)
    assert volume_from(json.loads(json.dumps(volume_json(facts)))) == facts


def test_values_of_the_wrong_type_are_refused():
    with pytest.raises(InvalidArgument):
        volume_from({"Name": "v", "Labels": {"a": 1}})
