"""What ``docker login`` left behind."""

import base64
import json

import pytest

from cellbox.errors import InvalidArgument, NotSupported, Unauthorized
from cellbox.model.registry import Credential
from cellbox.registry.config import HUB
from cellbox.registry.credentials import Credentials

ADA = base64.b64encode(b"ada:en:gine").decode()


@pytest.fixture
def login(tmp_path):
    """``login(document, helpers)``: the credentials of a user with this config.json."""

    def make(document, helpers=None):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "config.json").write_text(text)
        return Credentials.of_user({"DOCKER_CONFIG": str(tmp_path)}, helpers)

    return make


@pytest.fixture
def program(tmp_path, monkeypatch):
    """``program(script)``: install docker-credential-test, which runs this shell script."""

    def make(script):
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return make


def test_nobody_has_logged_in(tmp_path):
    assert Credentials.of_user({"HOME": str(tmp_path)}).get("reg.example") is None
    assert Credentials.of_user({"DOCKER_CONFIG": "/dev/null/x"}).get("reg.example") is None


@pytest.mark.parametrize(
    "key", ["reg.example:5000", "https://reg.example:5000", "http://reg.example:5000/v1/"]
)
def test_an_entry_is_found_by_its_host(login, key):
    found = login({"auths": {"other.example": {}, key: {"auth": ADA}}}).get("reg.example:5000")
    assert found == Credential("ada", "en:gine")


def test_the_hub_has_a_key_of_its_own(login):
    credentials = login({"auths": {"https://index.docker.io/v1/": {"auth": ADA}}})
    assert credentials.get(HUB) == Credential("ada", "en:gine")


def test_other_ports_and_hosts_are_others(login):
    credentials = login({"auths": {"reg.example:5000": {"auth": ADA}}})
    for host in ("reg.example", "reg.example:5001", "example", HUB):
        assert credentials.get(host) is None


def test_the_implied_port_may_be_left_out(login):
    assert login({"auths": {"reg.example:443": {"auth": ADA}}}).get("reg.example")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "ada", "password": "engine"}, Credential("ada", "engine")),
        ({"auth": ADA, "identitytoken": "t"}, Credential("ada", "en:gine", identity_token="t")),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({}, None),
    ],
)
def test_forms_of_an_entry(login, entry, expected):
    assert login({"auths": {"reg.example": entry}}).get("reg.example") == expected


def test_secrets_do_not_show():
    credential = Credential("ada", "pass-word", "identity-secret", "registry-secret")
    assert repr(credential) == "Credential(username='ada')"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ('{\n"auths": {,}}', r"config\.json: line 2: "),
        ("[]", r"config\.json: must be a JSON object"),
        ({"auths": []}, None),
        ({"auths": [1]}, r"config\.json: auths must be an object"),
        ({"credsStore": 3}, r"config\.json: credsStore must be text"),
        ({"credHelpers": {"reg.example": 3}}, r"config\.json: credHelpers must be text"),
        ({"auths": {"reg.example": {"auth": "%"}}}, r"auths\.reg\.example\.auth is not base64"),
        ({"auths": {"reg.example": {"auth": "YWRh"}}}, r"is not base64 of user:password"),
        ({"credsStore": "../evil"}, r"not the name of a credential helper"),
    ],
)
def test_a_bad_file_is_one_clear_error(login, document, sentence):
    credentials = login(document)
    if sentence is None:
        assert credentials.get("reg.example") is None
        return
    with pytest.raises(InvalidArgument, match=sentence):
        credentials.get("reg.example")


def test_a_helper_is_asked_for_the_host(login, program, tmp_path):
    program(
        f'cat > {tmp_path}/asked; echo "$1" >> {tmp_path}/asked;'
        ' echo \'{"ServerURL": "x", "Username": "ada", "Secret": "engine"}\''
    )
    credentials = login({"credsStore": "test", "auths": {"reg.example": {"auth": ADA}}})
    assert credentials.get("reg.example") == Credential("ada", "engine")
    assert (tmp_path / "asked").read_text() == "reg.exampleget\n"


def test_a_helper_may_give_an_identity_token(login, program):
    program('echo \'{"Username": "<token>", "Secret": "refresh"}\'')
    found = login({"credHelpers": {"reg.example": "test"}}).get("reg.example")
    assert found == Credential(identity_token="refresh")


def test_a_helper_of_a_host_comes_before_the_store(login):
    helpers = {
        "one": lambda server: Credential("one", server),
        "store": lambda server: Credential("store", server),
    }
    document = {"credHelpers": {"reg.example": "one"}, "credsStore": "store"}
    credentials = login(document, helpers)
    assert credentials.get("reg.example") == Credential("one", "reg.example")
    assert credentials.get(HUB) == Credential("store", "https://index.docker.io/v1/")


def test_a_helper_that_knows_nothing(login, program):
    program("echo credentials not found in native keychain; exit 1")
    assert login({"credsStore": "test"}).get("reg.example") is None


@pytest.mark.parametrize(
    "script",
    ["echo secret-word; exit 1", "echo secret-word", 'echo \'{"Username": "secret-word"}\''],
)
def test_a_helper_that_fails_is_named_and_not_quoted(login, program, script):
    program(script)
    with pytest.raises(Unauthorized, match="docker-credential-test") as caught:
        login({"credsStore": "test"}).get("reg.example")
    assert "secret-word" not in str(caught.value)


def test_a_helper_that_is_not_installed(login):
    with pytest.raises(NotSupported, match="docker-credential-absent-helper.*install it"):
        login({"credsStore": "absent-helper"}).get("reg.example")
