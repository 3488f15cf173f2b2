"""Credentials and descriptors as they travel."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.model.image import OCI_INDEX, Descriptor, Platform
from cellbox.model.registry import Credential, Distribution
from cellbox.wire.registry import (
    credential_from,
    credential_from_header,
    credential_header,
    distribution_from,
    distribution_json,
)

CREDENTIALS = st.builds(Credential, st.text(), st.text(), st.text(), st.text())
DISTRIBUTION = Distribution(
    Descriptor(OCI_INDEX, "sha256:" + "1" * 64, 527),
    (Platform("linux", "amd64"), Platform("linux", "arm64", "v8")),
)


@given(CREDENTIALS)
def test_a_header_says_what_was_put_in(credential):
    assert credential_from_header(credential_header(credential, "reg.example")) == credential


@pytest.mark.parametrize("text", ["", "e30=", base64.b64encode(b"null").decode()])
def test_an_empty_header_names_nobody(text):
    assert credential_from_header(text) == Credential()


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["=", ""])
def test_either_alphabet_is_read_with_and_without_padding(encode, padding):
    body = json.dumps({"username": "ada", "password": "?>~~ü"}, ensure_ascii=False).encode()
    text = encode(body).decode().rstrip("=") + padding * 2
    assert credential_from_header(text) == Credential("ada", "?>~~ü")


@pytest.mark.parametrize("value", [b"{", b"[]", b'"x"', b"[" * 100_000, b'{"username": 1}'])
def test_what_is_no_credential_is_refused(value):
    with pytest.raises(InvalidArgument):
        credential_from_header(base64.b64encode(value).decode())


def test_name_and_password_may_come_as_one():
    both = base64.b64encode(b"ada:en:gine").decode()
    assert credential_from({"auth": both}) == Credential("ada", "en:gine")
    assert credential_from({"auth": both, "username": "eve", "password": "x"}).username == "eve"


def test_a_distribution_in_dockers_shape():
    assert distribution_json(DISTRIBUTION) == {
        "Descriptor": {"mediaType": OCI_INDEX, "digest": "sha256:" + "1" * 64, "size": 527},
        "Platforms": [
            {"architecture": "amd64", "os": "linux"},
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
        ],
    }
    assert distribution_from(distribution_json(DISTRIBUTION)) == DISTRIBUTION


@pytest.mark.parametrize("body", [{"Descriptor": 1}, {"Platforms": [3]}, {"Platforms": {}}])
def test_a_distribution_of_wrong_types_is_refused(body):
    with pytest.raises(InvalidArgument):
        distribution_from(body)
