"""Reference names against the results of Docker's own implementation (references.jsonl).

The file is data from that implementation; HUB stands for the default domain in it.
"""

import json
from pathlib import Path

import pytest

from cellbox.errors import InvalidReference
from cellbox.model.reference import Reference, matches, parse, valid_digest

DIGEST = "sha256:" + "a" * 64
CASES = [
    json.loads(line)
    for line in Path(__file__)
    .with_name("references.jsonl")
    .read_text(encoding="utf-8")
    .replace("HUB", "docker.io")
    .splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["ref"][:40] or "empty")
def test_agrees_with_the_reference_implementation(case):
    if "error" in case:
        with pytest.raises(InvalidReference) as caught:
            parse(case["ref"])
        assert str(caught.value) == case["error"]
        return
    bare = parse(case["ref"], default_tag="")
    assert str(bare) == case["canonical"]
    assert bare.familiar == case["familiar"]
    assert (bare.domain, bare.path) == (case["domain"], case["path"])
    assert (bare.tag, bare.digest) == (case.get("tag", ""), case.get("digest", ""))
    assert str(parse(case["ref"])) == case["with_default_tag"]


def test_there_are_all_the_cases():
    assert len(CASES) == 86


def test_a_default_tag_of_ones_own():
    assert parse("ubuntu", default_tag="edge").tag == "edge"
    assert parse("ubuntu:22.04", default_tag="edge").tag == "22.04"


def test_the_digest_names_the_manifest_and_the_tag_is_a_remark():
    assert parse(f"ubuntu:22.04@{DIGEST}").identifier == DIGEST
    assert parse("ubuntu:22.04").identifier == "22.04"


def test_a_name_below_library_stays_long_where_it_would_read_as_another():
    assert Reference("docker.io", "library/a/b").familiar == "library/a/b"


@pytest.mark.parametrize("text", ["foo\n", "foo:bar\n", "foo\0", f"foo@{DIGEST}\n", "foo/../bar"])
def test_nothing_hides_behind_the_end_of_the_name(text):
    with pytest.raises(InvalidReference):
        parse(text)


@pytest.mark.parametrize(
    ("digest", "sentence"),
    [
        ("sha256:" + "a" * 32, "invalid checksum digest length"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_digests_that_are_refused(digest, sentence):
    with pytest.raises(InvalidReference, match=sentence):
        parse(f"foo@{digest}")


def test_a_valid_digest_is_safe_as_part_of_a_path():
    assert valid_digest(DIGEST)
    assert valid_digest("sha512:" + "0" * 128)
    bad = ["", "sha256:", DIGEST + "\n", DIGEST.upper(), "sha256:../../x", "sha256:" + "a" * 63]
    assert not any(map(valid_digest, bad))


@pytest.mark.parametrize(
    ("tag", "pattern", "fits"),
    [
        ("a/b:v1", "a/b", True),
        ("a/b:v1", "a/b:v1", True),
        ("a/b:v1", "a/*", True),
        ("a/b:v1", "*", False),  # a star stays within one part of the path
        ("a/b:v1", "*/*:v?", True),
        ("a/b:v1", "b", False),
        ("10.0.0.1:5000/x:v1", "10.0.0.1:5000/x", True),
        ("10.0.0.1:5000/x:v1", "*/x:v[12]", True),
        ("a:v1", "A", False),
    ],
)
def test_patterns_of_names(tag, pattern, fits):
    assert matches(tag, pattern) is fits
