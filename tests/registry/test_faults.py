"""Every way in which a registry or the network can spoil a pull, and what becomes of it.

The numbers are the rows of the fault matrix. More of N7 (tokens) is in test_auth.py and
test_client.py, of N8 (redirects) and N11 (names, clocks, proxies) in test_transport.py.
"""

import json
import threading
from email.utils import formatdate

import pytest

from cellbox.errors import IntegrityError, NotFound, Unavailable
from cellbox.model.image import OCI_MANIFEST
from cellbox.model.reference import parse
from cellbox.model.registry import Credential
from cellbox.registry.retry import Policy

# --- N1: 5xx, reset, refused


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_n1_a_server_that_recovers(registry, bring, behave, store, layers, waits, code):
    image = registry.put_image()
    registry.on("GET", image.digests[0], behave.status(code), times=3)
    registry.on("GET", "/manifests/", behave.status(code), times=3)
    assert layers.complete(bring(image), image, store)
    assert len(registry.requests("GET", image.digests[0])) == 4


def test_n1_a_server_that_does_not_recover_is_asked_five_times(registry, bring, behave, waits):
    image = registry.put_image()
    registry.on("GET", image.digests[0], behave.status(503), times=99)
    with pytest.raises(Unavailable, match=f"{registry.address} answers 503"):
        bring(image)
    assert len(registry.requests("GET", image.digests[0])) == 5
    assert len(waits) == 4


def test_n1_connections_that_are_reset(registry, bring, behave, store, layers):
    image = registry.put_image()
    registry.on("GET", "/blobs/", behave.reset, times=3)
    assert layers.complete(bring(image), image, store)


def test_n1_nobody_listens(registry, bring):
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9: no connection: Connection refused"):
        bring(parse("127.0.0.1:9/lab/tool"))


# --- N2: 429


@pytest.mark.parametrize(
    ("header", "waited"),
    [("7", 7.0), (formatdate(0, usegmt=True), 0.0), ("99999999999", None), ("soon", None)],
)
def test_n2_retry_after_is_heard_within_reason(
    registry, bring, behave, store, layers, waits, header, waited
):
    image = registry.put_image(layers=1)
    registry.on("HEAD", "/manifests/", behave.status(429, Retry_After=header))
    assert layers.complete(bring(image), image, store)
    assert len(waits) == 1
    assert waits[0] == waited if waited is not None else waits[0] < 1


def test_n2_the_message_says_when_to_come_back(registry, bring, behave):
    image = registry.put_image(layers=1)
    registry.on("GET", "/blobs/", behave.status(429, Retry_After="3600"), times=99)
    with pytest.raises(Unavailable, match="toomanyrequests.*try again in 3600 seconds"):
        bring(image)


def test_n2_the_wait_is_told_second_by_second(registry, bring, behave):
    image = registry.put_image(layers=1)
    registry.on("GET", image.digests[0], behave.status(429, Retry_After="3"))
    said = []
    bring(image, watch=said.append)
    told = [one.action for one in said if one.action.startswith("Retrying")]
    assert told == ["Retrying in 3 seconds", "Retrying in 2 seconds", "Retrying in 1 second"]


# --- N3: truncated bodies, and going on


def test_n3_a_cut_body_goes_on_where_it_ended(registry, bring, behave, store, layers):
    image = registry.put_image(layers=1)
    blob, digest = image.blobs[0], image.digests[0]
    registry.on("GET", digest, behave.body(blob[:1000], length=len(blob)))
    assert layers.complete(bring(image), image, store)
    assert [one.headers.get("Range") for one in registry.requests("GET", digest)] == [
        None,
        "bytes=1000-",
    ]
    assert layers.runs == image.diff_ids  # one run of the unpacker saw both halves


def test_n3_a_chunked_body_that_is_cut(registry, bring, behave, store, layers):
    image = registry.put_image(layers=1)
    registry.on("GET", image.digests[0], behave.chunked(image.blobs[0], cut=True))
    assert layers.complete(bring(image), image, store)
    assert len(registry.requests("GET", image.digests[0])) == 2


def wrong_start(blob):
    return 206, blob[900:], f"bytes 900-{len(blob) - 1}/{len(blob)}"


def wrong_total(blob):
    return 206, blob[1000:], f"bytes 1000-{len(blob) - 1}/{len(blob) + 5}"


def no_range(blob):
    return 206, blob[1000:], ""


def whole(blob):
    return 200, blob, ""


def unsatisfiable(blob):
    return 416, b"", ""


@pytest.mark.parametrize("lie", [wrong_start, wrong_total, no_range, whole, unsatisfiable])
def test_n3_an_answer_to_another_range_starts_again(registry, bring, behave, store, layers, lie):
    image = registry.put_image(layers=1)
    blob, digest = image.blobs[0], image.digests[0]
    status, body, content_range = lie(blob)
    registry.on("GET", digest, behave.body(blob[:1000], length=len(blob)))
    headers = {"Content_Range": content_range} if content_range else {}
    registry.on("GET", digest, behave.status(status, body, **headers))
    assert layers.complete(bring(image), image, store)
    assert layers.runs == image.diff_ids * 2  # a fresh pipe


def test_n3_a_pull_that_died_is_continued_by_the_next(registry, bring, behave, store, layers):
    image = registry.put_image(layers=1)
    blob, digest = image.blobs[0], image.digests[0]
    registry.on("GET", digest, behave.body(blob[:1500], length=len(blob)))
    registry.on("GET", digest, behave.status(404), times=1)
    with pytest.raises(NotFound):
        bring(image)
    assert store.partial() == 1500
    assert layers.complete(bring(image), image, store)
    assert registry.requests("GET", digest)[-1].headers["Range"] == "bytes=1500-"


def test_n3_a_download_that_died_before_its_rename_is_not_fetched_again(
    registry, bring, store, layers
):
    image = registry.put_image(layers=1)
    with store.ingest(image.digests[0], len(image.blobs[0])) as ingest:
        ingest.write(image.blobs[0])
    assert layers.complete(bring(image), image, store)
    assert registry.requests("GET", image.digests[0]) == []


def test_n3_what_rotted_on_disk_is_noticed(registry, bring, store, layers):
    image = registry.put_image(layers=1)
    with store.ingest(image.digests[0], len(image.blobs[0])) as ingest:
        ingest.write(b"rotten bytes")
    assert layers.complete(bring(image), image, store)
    ranges = [one.headers.get("Range") for one in registry.requests("GET", image.digests[0])]
    assert ranges == ["bytes=12-", None]


# --- N4: slow, stalled


def test_n4_a_body_that_stalls_is_asked_for_again(
    registry, make_client, bring, behave, store, layers
):
    image = registry.put_image(layers=1)
    over = threading.Event()
    registry.on("GET", image.digests[0], behave.drip(image.blobs[0], lambda: over.wait(20)))
    patience = Policy(connect=2.0, stall=0.2, first_wait=0.001)
    assert layers.complete(bring(image, client=make_client(policy=patience)), image, store)
    over.set()


def test_n4_a_body_that_crawls_is_asked_for_again(
    registry, make_client, bring, behave, store, layers
):
    image = registry.put_image(layers=1)
    over = threading.Event()
    registry.on("GET", image.digests[0], behave.drip(image.blobs[0], lambda: over.wait(0.005)))
    patience = Policy(connect=2.0, stall=0.2, min_speed=1 << 20, first_wait=0.001)
    assert layers.complete(bring(image, client=make_client(policy=patience)), image, store)
    over.set()
    assert len(registry.requests("GET", image.digests[0])) >= 2


# --- N5: wrong bytes


def test_n5_wrong_bytes_are_fetched_once_more(registry, bring, behave, store, layers):
    image = registry.put_image(layers=1)
    blob = image.blobs[0]
    wrong = blob[:-20] + bytes(20)
    registry.on("GET", image.digests[0], behave.status(200, wrong))
    assert layers.complete(bring(image), image, store)
    assert len(registry.requests("GET", image.digests[0])) == 2


def test_n5_bytes_that_stay_wrong_are_refused(hashed, registry, bring, behave, store, layers):
    image = registry.put_image(layers=1)
    wrong = bytes(len(image.blobs[0]))
    registry.on("GET", image.digests[0], behave.status(200, wrong), times=99)
    with pytest.raises(IntegrityError) as caught:
        bring(image)
    assert caught.value.expected == image.digests[0]
    assert caught.value.got in hashed(wrong)
    assert len(registry.requests("GET", image.digests[0])) == 2
    assert (layers.kept, store.partial()) == ({}, 0)


def extra(behave, blob):
    return behave.chunked(blob + b"more")


def lying_length(behave, blob):
    return behave.body(blob, length=len(blob) + 10)


def short(behave, blob):
    return behave.body(blob[:-5])


@pytest.mark.parametrize("lie", [extra, lying_length, short])
def test_n5_a_wrong_size_is_refused(registry, bring, behave, store, layers, lie):
    image = registry.put_image(layers=1)
    answer = lie(behave, image.blobs[0])
    registry.on("GET", image.digests[0], answer, times=99)
    with pytest.raises(IntegrityError, match="size"):
        bring(image)
    assert len(registry.requests("GET", image.digests[0])) == 2
    assert not store.has(image.digests[0])


def test_n5_a_manifest_that_is_not_what_its_digest_says(registry, bring):
    image = registry.put_image()
    data = registry.manifests[image.manifest.digest][1].replace(b"sha256", b"sha512")
    registry.manifests[image.manifest.digest] = (OCI_MANIFEST, data)
    with pytest.raises(IntegrityError, match=image.manifest.digest):
        bring(image)


# --- N6: a tag that moves


def test_n6_a_tag_that_moves_meanwhile_changes_nothing(registry, bring, store, layers):
    image = registry.put_image()
    moved = []

    def move(handler):
        if not moved:
            moved.append(registry.put_image(tag="other"))
            registry.manifests["latest"] = registry.manifests["other"]
        return True

    def answer(handler):
        registry.serve(handler)
        move(handler)

    registry.on("HEAD", "/manifests/latest", answer)
    assert layers.complete(bring(image), image, store)
    assert moved


# --- N7: tokens


def test_n7_a_token_that_expires_in_mid_pull_is_renewed(
    registry, bring, make_client, store, layers
):
    image = registry.put_image(layers=6)
    issued = []
    uses = []

    def gate(handler):
        if handler.path.startswith("/token"):
            issued.append(handler.headers.get("Authorization"))
            handler.reply(200, json.dumps({"token": f"t{len(issued)}"}).encode())
            return False
        good = handler.headers.get("Authorization") == f"Bearer t{len(issued)}"
        uses.append(good)
        if issued and good and sum(uses) % 4:
            return True
        realm = f'Bearer realm="http://{registry.address}/token",service="s"'
        handler.reply(401, WWW_Authenticate=realm)
        return False

    registry.gate = gate
    client = make_client(credential=lambda host: Credential("ada", "engine"))
    assert layers.complete(bring(image, client=client), image, store)
    assert 2 <= len(issued) <= 12


# --- N8 and the rest of redirects: test_transport.py


def test_n8_a_blob_elsewhere_is_fetched_without_credentials(
    registry, other_host, bring, make_client, store, layers, behave
):
    image = registry.put_image(layers=1)
    blob, digest = image.blobs[0], image.digests[0]
    other_host.put_blob(blob)

    def gate(handler):
        if handler.headers.get("Authorization"):
            return True
        handler.reply(401, WWW_Authenticate='Basic realm="r"')
        return False

    registry.gate = gate
    target = f"http://{other_host.address}/v2/x/blobs/{digest}?signature=secret"
    registry.on("GET", digest, behave.redirect(target), times=9)
    other_host.on("GET", digest, behave.body(blob[:700], length=len(blob)))
    client = make_client(credential=lambda host: Credential("ada", "engine"))
    assert layers.complete(bring(image, client=client), image, store)
    assert [one.headers.get("Authorization") for one in other_host.seen] == [None, None]
    assert [one.headers.get("Range") for one in other_host.seen] == [None, "bytes=700-"]
