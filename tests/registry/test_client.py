"""Manifests, tags and logins of a repository."""

import json

import pytest

from cellbox.errors import IntegrityError, NotFound, NotSupported, Unauthorized, Unavailable
from cellbox.model.image import DOCKER_MANIFEST, OCI_MANIFEST
from cellbox.model.reference import parse
from cellbox.model.registry import Credential
from cellbox.registry.auth import basic
from cellbox.registry.config import Settings

ADA = Credential("ada", "engine-secret")
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def wants_basic(handler):
    if handler.headers.get("Authorization") == basic("ada", "engine-secret"):
        return True
    handler.reply(401, WWW_Authenticate='Basic realm="r"')
    return False


# --- what a name stands for


def test_a_name_is_resolved_by_one_request(registry, client):
    image = registry.put_image()
    assert client.resolve(image.reference) == image.manifest
    (seen,) = registry.seen
    assert seen.method == "HEAD"
    assert {OCI_MANIFEST, DOCKER_MANIFEST} <= set(seen.headers["Accept"].split(", "))


def without_digest(handler, image):
    handler.reply(200, b"x", Content_Type=OCI_MANIFEST)


def without_length(handler, image):
    digest = image.manifest.digest
    handler.reply(200, Content_Type=OCI_MANIFEST, Docker_Content_Digest=digest, Content_Length="0")


def without_head(handler, image):
    handler.reply(405)


@pytest.mark.parametrize("head", [without_digest, without_length, without_head])
def test_a_server_whose_head_says_too_little_is_asked_for_the_manifest(registry, client, head):
    image = registry.put_image()
    registry.on("HEAD", "/manifests/", lambda handler: head(handler, image))
    assert client.resolve(image.reference) == image.manifest


def test_a_manifest_by_its_digest(registry, client):
    image = registry.put_image()
    fetched = client.get_manifest(parse(f"{registry.address}/lab/tool@{image.manifest.digest}"))
    assert fetched.descriptor == image.manifest
    assert json.loads(fetched.data) == image.document


def test_a_manifest_that_is_not_what_the_registry_says(registry, client, behave):
    image = registry.put_image()
    answer = behave.status(
        200, b"{}", Content_Type=OCI_MANIFEST, Docker_Content_Digest=image.manifest.digest
    )
    registry.on("GET", "/manifests/", answer)
    with pytest.raises(IntegrityError, match=image.manifest.digest):
        client.get_manifest(image.reference)


def test_a_sha512_digest_is_verified_as_one(registry, client):
    image = registry.put_image()
    digest = "sha512:" + "0" * 128
    registry.manifests[digest] = registry.manifests["latest"]
    with pytest.raises(IntegrityError, match=digest):
        client.get_manifest(parse(f"{registry.address}/lab/tool@{digest}"))
    assert image


def test_schema_1_is_refused_with_a_way_out(registry, client):
    registry.put_manifest({"schemaVersion": 1}, SCHEMA1, "old")
    with pytest.raises(NotSupported, match="old schema 1 format only: push it again"):
        client.resolve(parse(f"{registry.address}/lab/tool:old"))


@pytest.mark.parametrize("media_type", ["", "text/html", "application/json", "a\x1b[31mb"])
def test_what_is_no_manifest_by_its_media_type(registry, client, media_type):
    registry.put_manifest({"schemaVersion": 2}, media_type, "odd")
    with pytest.raises(NotSupported, match="where an image manifest should be") as caught:
        client.resolve(parse(f"{registry.address}/lab/tool:odd"))
    assert "\x1b" not in str(caught.value)


# --- errors


def test_the_sentence_for_an_unknown_repository(registry, client, behave):
    errors = {"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known"}]}
    registry.on("GET", "/manifests/", behave.status(404, json.dumps(errors).encode()))
    with pytest.raises(NotFound) as caught:
        client.get_manifest(parse(f"{registry.address}/lab/tool:1"))
    assert str(caught.value) == (
        f"repository {registry.address}/lab/tool not found: name_unknown: repository name not known"
    )
    assert (caught.value.kind, caught.value.ref) == ("image", f"{registry.address}/lab/tool:1")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": []}', b"[" * 50_000, b"\xff"])
def test_an_error_without_a_readable_body(registry, client, behave, body):
    registry.on("GET", "/manifests/", behave.status(404, body))
    with pytest.raises(NotFound, match="not found: manifest unknown$"):
        client.get_manifest(parse(f"{registry.address}/lab/tool:1"))


def test_what_a_registry_says_is_fit_to_be_printed(registry, client, behave):
    message = "\x1b[2J<script>\r\n" + "x" * 1000
    errors = {"errors": [{"code": "DENIED", "message": message}]}
    registry.on("GET", "/manifests/", behave.status(403, json.dumps(errors).encode()))
    with pytest.raises(Unauthorized, match="pull access denied for ") as caught:
        client.get_manifest(parse(f"{registry.address}/lab/tool:1"))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_an_answer_that_makes_no_sense(registry, client, behave):
    registry.on("GET", "/manifests/", behave.status(418))
    with pytest.raises(Unavailable, match=f"{registry.address} answers 418$"):
        client.get_manifest(parse(f"{registry.address}/lab/tool:1"))


def test_a_failure_that_passes(registry, client, behave, waits):
    image = registry.put_image()
    registry.on("HEAD", "/manifests/", behave.status(500), times=4)
    assert client.resolve(image.reference) == image.manifest
    assert len(waits) == 4


# --- logins


def test_basic(registry, make_client):
    image = registry.put_image()
    registry.gate = wants_basic
    client = make_client(credential=lambda host: ADA if host == registry.address else None)
    assert client.resolve(image.reference) == image.manifest
    client.get_manifest(image.reference)
    assert [bool(one.headers.get("Authorization")) for one in registry.seen] == [False, True, True]


def test_a_wrong_password_is_tried_once_and_not_told(registry, make_client):
    image = registry.put_image()
    registry.gate = lambda handler: handler.reply(401, WWW_Authenticate='Basic realm="r"')
    with pytest.raises(Unauthorized, match="refuses the credentials") as caught:
        make_client(credential=lambda host: ADA).resolve(image.reference)
    assert len(registry.seen) == 2
    assert "engine-secret" not in str(caught.value)


def bearer(registry, realm, accept):
    """A gate that wants a token from ``realm``, and lets ``accept(token)`` pass."""

    def gate(handler):
        if handler.path.startswith("/token"):
            registry.issued = getattr(registry, "issued", 0) + 1
            handler.reply(200, json.dumps({"token": f"t{registry.issued}"}).encode())
            return False
        if accept(handler.headers.get("Authorization", "")):
            return True
        challenge = f'Bearer realm="{realm}",service="s",scope="repository:*:push"'
        handler.reply(401, WWW_Authenticate=challenge)
        return False

    return gate


def test_a_token_is_fetched_once_for_a_repository(registry, client):
    image = registry.put_image()
    registry.gate = bearer(
        registry, f"http://{registry.address}/token", lambda token: token == "Bearer t1"
    )
    client.resolve(image.reference)
    client.get_manifest(image.reference)
    (asked,) = registry.requests("GET", "/token")
    assert "scope=repository%3Alab%2Ftool%3Apull" in asked.path


def test_n7_a_registry_that_is_never_content_is_asked_three_times(registry, client):
    image = registry.put_image()
    registry.gate = bearer(registry, f"http://{registry.address}/token", lambda token: False)
    with pytest.raises(Unauthorized, match="pull access denied"):
        client.resolve(image.reference)
    assert len(registry.requests("HEAD", "/manifests/")) == 3
    assert len(registry.requests("GET", "/token")) == 2


@pytest.mark.parametrize("realm", ["http://169.254.169.254/token", "http://[fe80::1]/token"])
def test_n7_a_realm_on_a_link_local_address(registry, make_client, realm):
    image = registry.put_image()
    registry.gate = bearer(registry, realm, lambda token: False)
    with pytest.raises(Unavailable, match="an address it may not use"):
        make_client(credential=lambda host: ADA).resolve(image.reference)


def test_n7_a_realm_at_another_host_gets_the_credentials_of_the_registry_only(
    registry, other_host, make_client
):
    image = registry.put_image()
    hosts = []
    registry.gate = bearer(
        registry, f"http://{other_host.address}/token", lambda token: token == "Bearer x"
    )
    other_host.gate = lambda handler: handler.reply(200, b'{"token": "x"}')
    client = make_client(credential=lambda host: hosts.append(host) or ADA)
    assert client.resolve(image.reference) == image.manifest
    assert set(hosts) == {registry.address}
    assert other_host.seen[0].headers["Authorization"] == basic("ada", "engine-secret")


def test_a_realm_that_is_overloaded_is_asked_again(registry, client, behave):
    image = registry.put_image()
    registry.on("GET", "/token", behave.status(503), times=2)
    registry.gate = bearer(registry, f"http://{registry.address}/token", bool)
    assert client.resolve(image.reference) == image.manifest


# --- ping, tags, mirrors


def test_ping(registry, client):
    client.ping(registry.address)
    registry.gate = wants_basic
    with pytest.raises(Unauthorized):
        client.ping(registry.address)
    with pytest.raises(Unavailable):
        client.ping("127.0.0.1:9")


def pages(*answers):
    remaining = list(answers)

    def answer(handler):
        tags, link = remaining.pop(0)
        headers = {"Link": f'<{link}>; rel="next"'} if link else {}
        handler.reply(200, json.dumps({"name": "lab/tool", "tags": tags}).encode(), **headers)

    return answer


def test_tags_go_on_over_pages(registry, client):
    answer = pages((["a", "b"], "/v2/lab/tool/tags/list?last=b&n=2"), (["c"], ""))
    registry.on("GET", "/tags/list", answer, times=9)
    assert client.tags(parse(f"{registry.address}/lab/tool")) == ["a", "b", "c"]
    assert registry.seen[-1].path == "/v2/lab/tool/tags/list?last=b&n=2"


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:9/v2/lab/tool/tags/list?last=b", "/v2/other/tags/list?x", "file:///"]
)
def test_pages_of_tags_elsewhere_are_refused(registry, client, link):
    registry.on("GET", "/tags/list", pages((["a"], link)))
    with pytest.raises(Unavailable):
        client.tags(parse(f"{registry.address}/lab/tool"))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": [1]}', b'{"tags": ["../x"]}'])
def test_a_list_of_tags_that_cannot_be_read(registry, client, behave, body):
    registry.on("GET", "/tags/list", behave.status(200, body))
    with pytest.raises(Unavailable, match="list of tags that cannot be read"):
        client.tags(parse(f"{registry.address}/lab/tool"))


def test_a_repository_without_tags(registry, client, behave):
    registry.on("GET", "/tags/list", behave.status(200, b'{"tags": null}'))
    assert client.tags(parse(f"{registry.address}/lab/tool")) == []


def test_mirrors_are_asked_in_order(registry, other_host, make_client):
    image = other_host.put_image()
    mirrors = (f"http://{registry.address}", f"http://{other_host.address}")
    client = make_client(Settings(mirrors=mirrors))
    assert client.resolve(parse("lab/tool")) == image.manifest
    assert len(registry.seen) == 1


def test_when_nobody_answers_all_failures_are_told(registry, make_client, behave):
    """A hub that cannot be reached must not hide what the mirror said."""
    registry.on("HEAD", "/manifests/", behave.status(503))
    client = make_client(Settings(mirrors=(f"http://{registry.address}",)))

    def ask(repository):
        if repository.host == registry.address:
            return repository.resolve()
        raise Unavailable("the hub: no answer")

    with pytest.raises(Unavailable) as caught:
        client.first(parse("lab/tool"), ask)
    mirror = f"mirror {registry.address}: {registry.address} answers 503"
    assert str(caught.value) == f"the hub: no answer; {mirror}"


def test_a_mirror_does_not_get_the_hubs_credentials(registry, make_client):
    hosts = []
    registry.put_image()
    registry.gate = wants_basic
    client = make_client(
        Settings(mirrors=(f"http://{registry.address}",)), lambda host: hosts.append(host)
    )
    (mirror, _) = client.repositories(parse("lab/tool"))
    with pytest.raises(Unauthorized):
        mirror.resolve()
    assert hosts == [registry.address]
