"""Manifests, indexes and configs: what is read, what is refused, and that writing is canonical."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.images import config as documents
from cellbox.model.container import HealthCheck
from cellbox.model.image import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Platform,
)

DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "c", "digest": DIGEST, "size": 7}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": CONFIG,
    "layers": [{"mediaType": OCI_LAYER, "digest": DIGEST, "size": 9, "urls": ["http://evil/"]}],
}


def manifest(**changes) -> bytes:
    return json.dumps(MANIFEST | changes).encode()


def test_a_manifest():
    parsed = documents.parse_manifest(manifest(annotations={"a": "b"}), OCI_MANIFEST)
    assert parsed.config == Descriptor("c", DIGEST, 7)
    assert parsed.layers == (Descriptor(OCI_LAYER, DIGEST, 9),)
    assert parsed.annotations == {"a": "b"}


def test_a_manifest_written_and_read_is_the_same():
    parsed = documents.parse_manifest(manifest(annotations={"a": "b"}), OCI_MANIFEST)
    assert documents.parse_manifest(documents.write_manifest(parsed), OCI_MANIFEST) == parsed
    docker = documents.write_manifest(parsed, DOCKER_MANIFEST)
    assert b"annotations" not in docker


@pytest.mark.parametrize(
    "data",
    [
        manifest(manifests=[CONFIG]),
        manifest(mediaType=OCI_INDEX),
        manifest(mediaType=DOCKER_MANIFEST),
        manifest(schemaVersion=1),
        manifest(schemaVersion=True),
        manifest(config=None),
        manifest(layers={}),
        manifest(Layers=[]),
        manifest(MediaType=OCI_INDEX),
        manifest(config={**CONFIG, "digest": "sha256:../../etc/passwd"}),
        manifest(config={**CONFIG, "digest": 5}),
        manifest(config={**CONFIG, "size": -1}),
        manifest(config={**CONFIG, "size": 1 << 64}),
        manifest(config={**CONFIG, "size": "7"}),
        manifest(layers=[CONFIG] * 1001),
        b'{"schemaVersion": 2, "layers": [], "layers": []}',
        b"[]",
        b"null",
        b"",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"n": ' + b"9" * 100_000 + b"}",
        b'"' + b" " * documents.MANIFEST_LIMIT + b'"',
    ],
)
def test_what_is_ambiguous_or_too_much_is_refused(data):
    with pytest.raises(InvalidArgument):
        documents.parse_manifest(data, OCI_MANIFEST)


def test_the_descriptor_says_what_a_document_is():
    with pytest.raises(InvalidArgument):
        documents.parse_manifest(manifest(), OCI_INDEX)
    with pytest.raises(InvalidArgument):
        documents.parse_index(manifest(), OCI_MANIFEST)
    without = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert documents.parse_manifest(json.dumps(without).encode(), OCI_MANIFEST)


def test_brackets_in_strings_do_not_nest():
    data = json.dumps({"a": "[" * 1000, "b\\": '"{{{{{'}).encode()
    assert documents.strict_json(data, 10_000, "x")["a"] == "[" * 1000


def index(*platforms: str) -> tuple[Descriptor, ...]:
    listed = []
    for number, text in enumerate(platforms):
        parts = dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))
        digest = f"sha256:{number:064x}"
        listed.append(Descriptor(OCI_MANIFEST, digest, number, platform=parts))
    return documents.parse_index(documents.write_index(listed, OCI_INDEX), OCI_INDEX)


@pytest.mark.parametrize(
    ("platforms", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", 1),
        (["linux/arm/v8", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm64/v9", "linux/arm64/v8"], "linux/arm64", 1),
        (["unknown/unknown", "linux/amd64"], "amd64", 1),
    ],
)
def test_the_fitting_platform(platforms, wanted, chosen):
    found = documents.select_platform(index(*platforms), documents.parse_platform(wanted))
    assert found.size == chosen


def test_no_fitting_platform_tells_what_there_is():
    with pytest.raises(NotSupported, match="linux/arm64, linux/s390x"):
        documents.select_platform(
            index("linux/s390x", "linux/arm64", "unknown/unknown"), Platform()
        )


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/../x", "linux/ amd64"])
def test_what_is_no_platform(text):
    with pytest.raises(InvalidArgument):
        documents.parse_platform(text)


def test_platform_words():
    assert documents.parse_platform("linux/x86_64") == Platform("linux", "amd64")
    assert documents.host_platform().os == "linux"


FULL = documents.ParsedConfig(
    config=ImageConfig(
        user="1000:1000",
        env=("PATH=/bin", "EMPTY="),
        entrypoint=("/init",),
        command=("a", "b c"),
        workdir="/work",
        labels={"k": "v", "ü": "ö"},
        volumes=("/data",),
        exposed_ports=("80/tcp",),
        stop_signal="SIGINT",
        shell=("/bin/bash", "-c"),
        on_build=("RUN x",),
        health=HealthCheck(("CMD", "true"), 1.5, 2.0, 3.0, 0.25, 4),
    ),
    platform=Platform("linux", "arm64", "v8"),
    diff_ids=(DIGEST,),
    history=(HistoryEntry(1700000000.25, "RUN x", "c"), HistoryEntry(empty_layer=True)),
    created=1700000000.5,
    author="me",
    comment="why",
)


def test_a_config_written_and_read_is_the_same():
    data = documents.write_config(FULL)
    assert documents.parse_config(data) == FULL
    assert documents.write_config(documents.parse_config(data)) == data


def test_what_old_writers_wrote():
    data = {
        "architecture": "amd64",
        "os": "linux",
        "created": "0001-01-01T00:00:00Z",
        "config": {"Cmd": "one string", "Env": None, "Volumes": None, "Labels": None},
        "rootfs": None,
        "history": None,
        "container_config": {"Hostname": "x"},
    }
    parsed = documents.parse_config(json.dumps(data).encode())
    assert parsed.config == ImageConfig(command=("one string",))
    assert parsed.created is None
    assert parsed.diff_ids == ()


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": {"diff_ids": ["sha256:x"]}},
        {"rootfs": {"diff_ids": [DIGEST] * 1001}},
        {"config": {"Env": ["A=\0"]}},
        {"config": {"User": 5}},
        {"config": {"Cmd": [["x"]]}},
        {"history": [5]},
    ],
)
def test_configs_that_are_refused(change):
    with pytest.raises(InvalidArgument):
        documents.parse_config(json.dumps(change).encode())


def test_bytes_are_those_of_the_facts():
    other = replace(FULL, config=replace(FULL.config, labels={"ü": "ö", "k": "v"}))
    assert documents.write_config(other) == documents.write_config(FULL)
