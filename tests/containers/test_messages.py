"""Messages as data: packets, bundles as JSON, and what of a bundle can be prepared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.containers.messages import (
    MAX_PAYLOAD,
    SAMPLE,
    Bundle,
    ExitRecord,
    Failure,
    IdMap,
    Kind,
    Namespaces,
    Preparation,
    Process,
    RunState,
    packet,
    preparation,
    unpack,
)
from cellbox.linux.mounts import Mount
from cellbox.model.codec import from_json, to_json
from cellbox.model.container import HealthCheck, Limits, LogConfig, RestartPolicy, Ulimit

text = st.text(max_size=20)
words = st.lists(text, max_size=3).map(tuple)
facts = st.dictionaries(text, text, max_size=3)
numbers = st.integers(0, 2**32)
processes = st.builds(
    Process,
    argv=words,
    env=words,
    cwd=text,
    user=text,
    groups=words,
    tty=st.booleans(),
    stdin=st.booleans(),
    capabilities=words,
    rlimits=st.lists(st.builds(Ulimit, text, numbers, numbers), max_size=2).map(tuple),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
)
mounts = st.lists(
    st.builds(Mount, text, text, text, words, text, text, words, text, st.booleans()), max_size=3
).map(tuple)
bundles = st.builds(
    Bundle,
    *(text, text, text, processes, mounts),
    sysctls=facts,
    namespaces=st.builds(Namespaces, text, text, text, text, text),
    id_map=st.lists(st.builds(IdMap, numbers, numbers, numbers), max_size=2).map(tuple),
    limits=st.builds(Limits, memory=st.none() | numbers, cpus=st.none() | st.floats(0, 64)),
    restart=st.builds(RestartPolicy, text, st.integers(0, 9)),
    health=st.none() | st.builds(HealthCheck, words, st.floats(0, 99)),
    log=st.builds(LogConfig, text, facts),
    attributes=facts,
)


@given(st.sampled_from(Kind), st.binary(max_size=100))
def test_a_packet_is_its_kind_and_its_payload(kind, payload):
    assert unpack(packet(kind, payload)) == (kind, payload)


def test_the_largest_packet():
    assert len(packet(Kind.STDIN, bytes(MAX_PAYLOAD))) == MAX_PAYLOAD + 1


@pytest.mark.parametrize("data", [b"", b"\x09", b"\xff\0\0"])
def test_what_is_no_packet(data):
    with pytest.raises(ValueError):
        unpack(data)


@given(bundles)
def test_a_bundle_survives_json(bundle):
    assert from_json(Bundle, json.loads(json.dumps(to_json(bundle)))) == bundle


@pytest.mark.parametrize(
    "fact",
    [
        SAMPLE,
        Failure("exec", 2, "nope", 127),
        RunState(1, 2, 3, 4, 5.5, True, 6, True, "healthy", 7),
        ExitRecord(137, 1.0, 2.0, True, "why", 3),
        Preparation(),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_facts_survive_json(fact):
    assert from_json(type(fact), json.loads(json.dumps(to_json(fact)))) == fact


def bundle_with(*mounts, **how):
    return replace(SAMPLE, mounts=(Mount("overlay", "/"), *mounts), **how)


PROC, SYS = Mount("proc", "/proc"), Mount("sysfs", "/sys")
DEV, PTS = Mount("tmpfs", "/dev"), Mount("devpts", "/dev/pts")


def test_the_kernels_own_file_systems_can_be_prepared():
    found = preparation(
        bundle_with(
            *(PROC, DEV, PTS, SYS),
            Mount("tmpfs", "/run"),
            Mount("bind", "/dev/log", source="/log"),
            Mount("bind", "/etc/hosts", source="/hosts"),
            masked=("/proc/keys", "/sys/firmware", "/data/secret"),
            read_only=("/proc/sys", "/etc"),
            namespaces=Namespaces(ipc="host"),
        )
    )
    assert found.mounts == (PROC, DEV, PTS, SYS)
    assert found.masked == ("/proc/keys", "/sys/firmware")
    assert found.read_only == ("/proc/sys",)
    assert found.namespaces == Namespaces(ipc="host")


def test_what_is_bound_in_their_place_cannot():
    bound = Mount("bind", "/proc", source="/proc")
    found = preparation(bundle_with(bound, DEV, masked=("/proc/keys",), read_only=("/proc/sys",)))
    assert found.mounts == (DEV,)
    assert found.masked == found.read_only == ()


def test_below_a_directory_that_is_not_prepared_nothing_is():
    assert preparation(bundle_with(Mount("bind", "/dev", source="/d"), PTS)).mounts == ()


def test_a_container_without_any():
    found = preparation(bundle_with())
    assert found == Preparation(namespaces=Namespaces(user="host"), bounding=("CHOWN",))


def test_what_was_given_up_shows_in_no_file_system():
    assert Preparation(bounding=("KILL",)).looks_like(Preparation())
    assert not Preparation(masked=("/proc/keys",)).looks_like(Preparation())
    assert not Preparation(namespaces=Namespaces(uts="host")).looks_like(Preparation())


@pytest.mark.parametrize(
    ("held", "allowed"), [((), True), (("KILL",), True), (("KILL", "CHOWN"), False)]
)
def test_what_was_given_up_cannot_be_held(held, allowed):
    assert Preparation(bounding=("KILL",)).allows(Process(("sh",), capabilities=held)) is allowed
    assert Preparation().allows(Process(("sh",), capabilities=held))
