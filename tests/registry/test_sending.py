"""Pushing: what is sent and what is not, and every way in which a registry can spoil it."""

import base64
import json
import os

import pytest

from cellbox.errors import NotSupported, Unauthorized, Unavailable
from cellbox.images.content import digest_of
from cellbox.model.image import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)
from cellbox.model.reference import parse
from cellbox.model.registry import Credential
from cellbox.registry.sending import Image, Outgoing, push

SIZE = 3 << 20


@pytest.fixture
def blob(store):
    """``blob(b"...")``: keep it as a layer's blob."""

    def make(data, suffix="+gzip"):
        return Descriptor(OCI_LAYER + suffix, store.put(data), len(data))

    return make


@pytest.fixture
def image(store, blob):
    """``image(b"...", ...)``: an image of these blobs, and how often each was made."""

    def make(*datas, suffix="+gzip", known=()):
        config = b'{"os": "linux"}'
        made = []

        def layer(number, data):
            def encode():
                made.append(number)
                return blob(data, suffix)

            found = blob(data, suffix) if number in known else None
            return Outgoing(f"sha256:{number:012}{0:052}", found, encode)

        layers = [layer(number, data) for number, data in enumerate(datas)]
        return Image(Descriptor(OCI_CONFIG, store.put(config), len(config)), layers), made

    return make


@pytest.fixture
def send(registry, client, store, new_stop):
    """``send(image)``: push it as lab/tool:1; what was told."""

    def run(image, name="lab/tool:1", **more):
        told = []
        options = {"client": client, "store": store, "new_stop": new_stop} | more
        reference = parse(f"{registry.address}/{name}")
        return push(reference, image, watch=told.append, **options), told

    return run


def actions(told, number):
    id = f"{number:012}"
    return [one.action for one in told if one.id == id]


def test_an_image_is_sent_and_named(registry, send, image):
    sent, _ = image(b"a" * SIZE, b"b")
    (manifest, data), told = send(sent)
    assert registry.manifests["1"] == (DOCKER_MANIFEST, data)
    document = json.loads(data)
    assert [registry.blobs[one["digest"]] for one in document["layers"]] == [b"a" * SIZE, b"b"]
    assert {one["mediaType"] for one in document["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert registry.blobs[document["config"]["digest"]] == b'{"os": "linux"}'
    assert manifest == Descriptor(DOCKER_MANIFEST, digest_of(data), len(data))
    assert told[0].action == f"The push refers to repository [{registry.address}/lab/tool]"
    assert told[-1].action == f"1: digest: {manifest.digest} size: {len(data)}"
    pushing = [one for one in told if one.action == "Pushing"]
    assert pushing and all(one.total in (SIZE, 1) for one in pushing)


def test_zstd_is_said_in_ocis_words(registry, send, image):
    (manifest, data), _ = send(image(b"a", suffix="+zstd")[0])
    assert manifest.media_type == OCI_MANIFEST
    assert json.loads(data)["layers"][0]["mediaType"] == f"{OCI_LAYER}+zstd"


def test_what_is_there_is_neither_made_nor_sent_again(registry, send, image):
    first, made = image(b"a", b"b")
    (manifest, _), _ = send(first)
    again, _ = image(b"a", b"b", known=(0,))
    remade = [again.layers[0], first.layers[1]]
    (second, _), told = send(Image(again.config, remade))
    assert second == manifest
    assert made == [0, 1, 1] or made == [1, 0, 1]
    assert actions(told, 0) == ["Preparing", "Layer already exists"]
    assert len(registry.requests("PATCH", "")) == 3  # two layers and the config


def test_a_layer_that_an_image_has_twice_is_sent_once(registry, send, image):
    sent, made = image(b"a")
    (_, data), _ = send(Image(sent.config, [*sent.layers, *sent.layers]))
    assert made == [0]
    assert len(json.loads(data)["layers"]) == 2


def test_the_manifest_of_earlier_stays_as_it_was(registry, send, image):
    sent, _ = image(b"a", known=(0,))
    earlier = b'{"any":"bytes"}'
    (manifest, data), _ = send(Image(sent.config, sent.layers, earlier, OCI_MANIFEST))
    assert (data, manifest.media_type) == (earlier, OCI_MANIFEST)


@pytest.mark.parametrize("does", [True, False])
def test_a_blob_of_another_repository_is_mounted(registry, send, image, does):
    registry.mounts = does
    registry.put_blob(b"a")
    registry.on("HEAD", "/blobs/", lambda handler: handler.reply(404), times=2)
    sent, _ = image(b"a")
    _, told = send(sent, mounts={digest_of(b"a"): "lab/other"})
    (asked,) = registry.requests("POST", "mount=")
    assert asked.path.endswith("&from=lab%2Fother")
    assert actions(told, 0)[-1] == ("Mounted from lab/other" if does else "Pushed")
    assert len(registry.requests("PATCH", "")) == (1 if does else 2)


def test_a_repository_that_may_not_be_read_is_no_source(registry, send, image, behave):
    registry.on("POST", "mount=", behave.status(403))
    _, told = send(image(b"a")[0], mounts={digest_of(b"a"): "secret/other"})
    assert actions(told, 0)[-1] == "Pushed"


# Faults -----------------------------------------------------------------------------------------


def test_a_cut_upload_goes_on_where_it_ended(registry, send, image, behave):
    data = os.urandom(SIZE)
    registry.on("PATCH", "", behave.cut_upload(registry, 1 << 20))
    _, told = send(image(data)[0])
    assert registry.blobs[digest_of(data)] == data
    ranges = [one.headers.get("Content-Range") for one in registry.requests("PATCH", "")]
    assert f"{1 << 20}-{SIZE - 1}" in ranges
    assert actions(told, 0)[-1] == "Pushed"


def test_an_upload_that_the_registry_forgot_begins_anew(registry, send, image, behave):
    data = os.urandom(SIZE)
    registry.on("PATCH", "", behave.cut_upload(registry, 1 << 20))
    registry.on("GET", "/uploads/", behave.status(404))
    send(image(data)[0])
    assert registry.blobs[digest_of(data)] == data
    assert len(registry.requests("POST", "")) == 3


def test_an_upload_whose_answer_was_lost_is_done(registry, send, image):
    def lose(handler):
        number = handler.path.partition("?")[0].rpartition("/")[2]
        registry.put_blob(registry.uploads[number])
        registry.uploads[number] = None
        handler.close_connection = True

    registry.on("PUT", "/uploads/", lose)
    send(image(b"a")[0])
    assert len(registry.requests("PATCH", "")) == 2


def test_bytes_that_arrive_wrong_are_sent_again_but_not_for_ever(registry, send, image, behave):
    wrong = b'{"errors":[{"code":"DIGEST_INVALID","message":"wrong bytes"}]}'
    registry.on("PUT", "/uploads/", behave.status(400, wrong))
    send(image(b"a")[0])
    registry.on("PUT", "/uploads/", behave.status(400, wrong), times=99)
    with pytest.raises(Unavailable, match="answers 400: digest_invalid: wrong bytes"):
        send(image(b"b" * SIZE)[0])
    assert len(registry.requests("PATCH", "")) == 2 + 1 + 5


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", ""), ("POST", ""), ("PATCH", ""), ("PUT", "")]
)
@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_registry_that_recovers(registry, send, image, behave, method, path, code, waits):
    registry.on(method, path, behave.status(code, Retry_After="7"), times=2)
    send(image(b"a")[0])
    assert sum(waits) >= 7
    assert "1" in registry.manifests


def test_a_manifest_that_cannot_be_put(registry, send, image, behave, waits):
    registry.on("PUT", "/manifests/", behave.status(502), times=99)
    with pytest.raises(Unavailable, match="answers 502"):
        send(image(b"a")[0])
    assert len(registry.requests("PUT", "/manifests/")) == 5
    bad = b'{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}'
    registry.rules.clear()
    registry.on("PUT", "/manifests/", behave.status(400, bad))
    with pytest.raises(Unavailable, match="answers 400: manifest_invalid: no"):
        send(image(b"a")[0])
    registry.on("PUT", "/manifests/", behave.status(201, Docker_Content_Digest=digest_of(b"x")))
    with pytest.raises(Unavailable, match="has another manifest than was sent"):
        send(image(b"a")[0])


def test_the_first_failure_ends_all(registry, send, image, behave):
    registry.on("POST", "", behave.status(403), times=99)
    with pytest.raises(Unauthorized, match="push access denied for .*lab/tool.*docker login"):
        send(image(*(bytes((number,)) for number in range(9)))[0])
    assert len(registry.requests("POST", "")) <= 3
    assert registry.manifests == {}


def test_a_registry_that_only_gives(registry, send, image, behave):
    told = b'{"errors":[{"code":"UNSUPPORTED","message":"read only"}]}'
    registry.on("POST", "", behave.status(405, told), times=99)
    with pytest.raises(NotSupported, match="takes no images: unsupported: read only"):
        send(image(b"a")[0])


def test_an_upload_is_not_redirected(registry, send, image, behave, other_host):
    registry.on("PATCH", "", behave.redirect(f"http://{other_host.address}/x"), times=99)
    with pytest.raises(Unavailable, match="redirects an upload; refused"):
        send(image(b"a")[0])
    assert other_host.seen == []


# Credentials ------------------------------------------------------------------------------------

ADA = "Basic " + base64.b64encode(b"ada:engine").decode()


@pytest.fixture
def guarded(registry):
    """The registry lets nobody in without ada's token."""

    def gate(handler):
        if handler.path.startswith("/token"):
            known = handler.headers.get("Authorization") == ADA
            handler.reply(200 if known else 401, b'{"token": "t0k"}')
            return False
        if handler.headers.get("Authorization") == "Bearer t0k":
            return True
        realm = f'Bearer realm="http://{registry.address}/token",service="s"'
        handler.reply(401, WWW_Authenticate=realm)
        return False

    registry.gate = gate
    return registry


def test_a_token_is_asked_to_push_and_to_mount(guarded, make_client, send, image):
    client = make_client(credential=lambda host: Credential("ada", "engine"))
    send(image(b"a")[0], client=client, mounts={digest_of(b"a"): "lab/other"})
    asked = [one.path for one in guarded.requests("GET", "/token")]
    tool = "scope=repository%3Alab%2Ftool%3Apull%2Cpush"
    assert tool in asked[0]
    assert any(f"{tool}&scope=repository%3Alab%2Fother%3Apull" in one for one in asked)


def test_credentials_stay_at_the_registry(guarded, make_client, send, image, other_host, behave):
    """An upload may be led to another host, which is told nothing of us."""
    place = f"http://{other_host.address}/v2/lab/tool/blobs/uploads/1"
    guarded.on("POST", "", behave.status(202, Location=place), times=99)
    other_host.uploads["1"] = b""
    client = make_client(credential=lambda host: Credential("ada", "engine"))
    send(Image(image(b"a")[0].config, []), client=client)
    assert [one.method for one in other_host.seen] == ["PATCH", "PUT"]
    assert all("Authorization" not in one.headers for one in other_host.seen)


def test_nobody_is_told_to_log_in(guarded, send, image):
    with pytest.raises(Unauthorized, match="push access denied .*unauthorized") as caught:
        send(image(b"a")[0])
    assert "t0k" not in str(caught.value)
