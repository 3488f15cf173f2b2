"""Pulling whole images: what is fetched, what is told, what is refused, how it is called off."""

import json
import multiprocessing
import os
import signal
import threading
import time

import pytest

from cellbox import faults
from cellbox.errors import (
    IntegrityError,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unauthorized,
)
from cellbox.images.content import ContentStore
from cellbox.model.image import OCI_INDEX, OCI_MANIFEST, Platform
from cellbox.model.reference import parse
from cellbox.registry.config import Settings
from cellbox.registry.retry import Stopped
from cellbox.registry.transfer import pull

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


# --- the straight way


def test_a_whole_image(registry, bring, store, layers):
    image = registry.put_image(layers=4)
    pulled = bring(image)
    assert layers.complete(pulled, image, store)
    assert pulled.resolved == pulled.manifest == image.manifest
    assert pulled.status == f"Downloaded newer image for {registry.address}/lab/tool:latest"
    assert [facts["size"] for _, _, facts in pulled.layers] == [len(tar) for tar in image.tars]
    assert store.has(image.manifest.digest)


def test_a_second_pull_asks_once(hashed, registry, bring, layers, store):
    image = registry.put_image()
    bring(image)
    registry.seen.clear()
    again = bring(image, current=hashed(image.config))
    assert [(one.method, one.path) for one in registry.seen] == [
        ("HEAD", "/v2/lab/tool/manifests/latest")
    ]
    assert again.status.startswith("Image is up to date for ")
    assert [facts for _, _, facts in again.layers] == [None] * 3


def test_a_layer_that_is_in_the_image_thrice_is_fetched_once(hashed, registry, bring, layers):
    image = registry.put_image(layers=1)
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] *= 3
    data = json.dumps(config).encode()
    registry.put_blob(data)
    entry = image.document["config"] | {"digest": hashed(data), "size": len(data)}
    document = image.document | {"config": entry, "layers": image.document["layers"] * 3}
    registry.put_manifest(document, OCI_MANIFEST, "latest")
    assert len(bring(image).layers) == 3
    assert len(registry.requests("GET", image.digests[0])) == 1


def test_a_layer_that_is_here_is_not_fetched(registry, bring, layers):
    image = registry.put_image()
    layers.kept[image.diff_ids[1]] = b"here"
    said = []
    pulled = bring(image, watch=said.append)
    assert registry.requests("GET", image.digests[1]) == []
    assert pulled.layers[1][2] is None
    assert (image.digests[1][7:19], "Already exists") in [(one.id, one.action) for one in said]


def test_progress_is_told_in_dockers_words(registry, bring):
    image = registry.put_image(layers=1)
    said = []
    bring(image, watch=said.append)
    layer = image.digests[0][7:19]
    assert [one.action for one in said if one.id == layer] == [
        "Pulling fs layer",
        "Downloading",
        "Download complete",
        "Extracting",
        "Pull complete",
    ]
    assert (said[0].id, said[0].action) == ("latest", "Pulling from lab/tool")
    assert [one.action for one in said if not one.id] == [
        f"Digest: {image.manifest.digest}",
        f"Status: Downloaded newer image for {registry.address}/lab/tool:latest",
    ]


def test_a_blob_that_is_here_is_unpacked_from_here(registry, bring, store, layers):
    image = registry.put_image()
    bring(image)
    layers.kept.clear()
    registry.seen.clear()
    assert layers.complete(bring(image), image, store)
    assert registry.requests("GET", "/blobs/") == []


def test_a_blob_that_is_here_and_damaged_is_fetched_again(registry, bring, store, layers):
    image = registry.put_image()
    bring(image)
    layers.kept.clear()
    store.path(image.digests[0]).write_bytes(b"rotten")
    assert layers.complete(bring(image), image, store)


# --- indexes and platforms


def test_an_index_gives_the_image_of_the_platform(registry, bring, store, layers):
    here = registry.put_image(tag="here")
    there = registry.put_image(tag="there", platform=ARM64)
    index = registry.put_index([(there, ARM64), (here, AMD64)])
    pulled = bring(parse(f"{registry.address}/lab/tool"))
    assert layers.complete(pulled, here, store)
    assert (pulled.resolved, pulled.manifest.digest) == (index, here.manifest.digest)


def test_a_platform_that_the_index_lacks(registry, bring):
    image = registry.put_image(tag="there", platform=ARM64)
    registry.put_index([(image, ARM64)])
    with pytest.raises(NotSupported, match="linux/arm64"):
        bring(parse(f"{registry.address}/lab/tool"))


def test_a_lone_image_of_another_platform(registry, bring):
    image = registry.put_image(platform=ARM64)
    with pytest.raises(NotSupported, match="is for linux/arm64 only, and linux/amd64 is wanted"):
        bring(image)
    assert complete_on(bring(image, platform=ARM64), ARM64)


def complete_on(pulled, platform):
    return json.loads(pulled.config)["architecture"] == platform.architecture


# --- documents that are not what they should be


def confused(image):
    return {**image.document, "manifests": []}


def nested(image):
    return b'{"schemaVersion": 2, "x": ' + b"[" * 10000 + b"]" * 10000 + b"}"


def doubled(image):
    return json.dumps(image.document).encode()[:-1] + b', "layers": []}'


def mislabelled(image):
    return {**image.document, "mediaType": OCI_INDEX}


@pytest.mark.parametrize("spoil", [confused, nested, doubled, mislabelled])
def test_ambiguous_and_hostile_manifests_are_refused(registry, bring, layers, spoil):
    image = registry.put_image()
    registry.put_manifest(spoil(image), OCI_MANIFEST, "latest")
    with pytest.raises(InvalidArgument):
        bring(image)
    assert layers.kept == {}


def test_a_manifest_that_is_larger_than_any_is_not_read(registry, bring):
    image = registry.put_image()
    registry.put_manifest(b" " * (5 << 20), OCI_MANIFEST, "latest")
    with pytest.raises(InvalidArgument, match="too large"):
        bring(image)


def test_more_layers_than_diff_ids(registry, bring):
    image = registry.put_image(layers=2)
    document = {**image.document, "layers": image.document["layers"][:1]}
    registry.put_manifest(document, OCI_MANIFEST, "latest")
    with pytest.raises(InvalidArgument, match="1 layers and 2 diff ids"):
        bring(image)


def test_a_layer_with_a_wrong_diff_id_is_refused(hashed, registry, bring, layers):
    image = registry.put_image(layers=1)
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    data = json.dumps(config).encode()
    registry.put_blob(data)
    entry = image.document["config"] | {"digest": hashed(data), "size": len(data)}
    registry.put_manifest({**image.document, "config": entry}, OCI_MANIFEST, "latest")
    with pytest.raises(IntegrityError):
        bring(image)
    assert layers.kept == {}


def test_foreign_layers_are_not_fetched_from_anywhere(registry, other_host, bring):
    image = registry.put_image(layers=1)
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    url = f"http://{other_host.address}/layer"
    layer = image.document["layers"][0] | {"mediaType": foreign, "urls": [url]}
    registry.put_manifest({**image.document, "layers": [layer]}, OCI_MANIFEST, "latest")
    with pytest.raises(NotSupported, match="foreign layer"):
        bring(image)
    assert other_host.seen == []


def test_an_artifact_is_not_an_image(registry, bring):
    image = registry.put_image()
    config = image.document["config"] | {"mediaType": "application/vnd.example.chart+json"}
    registry.put_manifest({**image.document, "config": config}, OCI_MANIFEST, "latest")
    with pytest.raises(NotSupported, match="is not a container image"):
        bring(image)


# --- mirrors


def mirrored(registry, more=()):
    return Settings(mirrors=(f"http://{registry.address}", *more))


def test_a_mirror_stands_for_the_hub(registry, bring, make_client, store, layers):
    image = registry.put_image()
    reference = parse("lab/tool")
    pulled = bring(reference, client=make_client(mirrored(registry)))
    assert layers.complete(pulled, image, store)
    assert pulled.status == "Downloaded newer image for lab/tool:latest"


def test_the_next_mirror_is_asked_where_one_fails(
    registry, other_host, bring, make_client, store, layers, behave, waits
):
    image = other_host.put_image()
    registry.on("HEAD", "/", behave.status(500), times=99)
    client = make_client(mirrored(registry, [f"http://{other_host.address}"]))
    assert layers.complete(bring(parse("lab/tool"), client=client), image, store)
    assert (len(registry.seen), waits) == (1, [])  # nobody waits while there is another to ask


def test_a_mirror_that_loses_a_layer_is_passed_over(
    registry, other_host, bring, make_client, store, layers
):
    image = other_host.put_image()
    registry.put_image()
    del registry.blobs[image.digests[1]]
    client = make_client(mirrored(registry, [f"http://{other_host.address}"]))
    assert layers.complete(bring(parse("lab/tool"), client=client), image, store)


# --- cancelling, failing unpackers, several processes


def test_an_unpacker_that_fails_ends_the_pull_and_keeps_what_came(registry, bring, store):
    image = registry.put_image(layers=5, size=200_000)
    unpacked = []

    def unpack(diff_id, media_type, fd):
        unpacked.append(diff_id)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        bring(image, unpack=unpack)
    assert len(unpacked) <= 3


def test_what_a_failed_pull_has_unpacked_is_discarded(registry, bring, behave, layers):
    image = registry.put_image(layers=3)
    unpacked = threading.Event()

    def unpack(diff_id, media_type, fd):
        facts = layers.unpack(diff_id, media_type, fd)
        unpacked.set()
        return facts

    def fail_later(handler):
        unpacked.wait(20)
        handler.reply(404)

    registry.on("GET", image.digests[2], fail_later)
    gone = []
    with pytest.raises(NotFound):
        bring(image, unpack=unpack, discard=gone.append)
    assert [facts["size"] for facts in gone] == [len(tar) for tar in image.tars[: len(gone)]]
    assert 1 <= len(gone) <= 2


def test_what_was_unpacked_twice_is_discarded_once(registry, bring, behave, layers, store):
    image = registry.put_image(layers=1)
    answer = behave.status(200, image.blobs[0][:-8] + bytes(8))
    registry.on("GET", image.digests[0], answer)
    made, gone = [], []

    def unpack(diff_id, media_type, fd):
        with open(fd, "rb", closefd=False) as file:
            made.append({"bytes": file.read()})
        return made[-1]

    pulled = bring(image, unpack=unpack, discard=gone.append)
    assert (len(made), gone) == (2, [made[0]])
    assert pulled.layers[0][2] is made[1]


def assert_no_thread_is_left():
    """Their work is done when the pull returns; each may need a moment to end."""
    deadline = time.monotonic() + 5
    while any(one.name.startswith(("pull", "unpack")) for one in threading.enumerate()):
        assert time.monotonic() < deadline, "threads of a pull that was called off live on"
        time.sleep(0.005)


def test_an_interrupt_stops_all_threads_and_keeps_the_partial_blobs(
    registry, bring, behave, store, layers, new_stop
):
    image = registry.put_image(layers=3)
    over, stops = threading.Event(), []
    for blob, digest in zip(image.blobs, image.digests, strict=True):
        registry.on("GET", digest, behave.drip(blob, lambda: over.wait(20)))

    def remember():
        stops.append(new_stop())
        return stops[0]

    def watch(progress):
        if progress.action == "Downloading":
            stops[0].set()

    with pytest.raises(Stopped):
        bring(image, watch=watch, new_stop=remember)
    assert_no_thread_is_left()
    assert store.partial() > 0
    over.set()
    assert layers.complete(bring(image), image, store)


def test_ctrl_c_ends_the_pull_and_keeps_the_partial_blobs(registry, bring, behave, store, layers):
    image = registry.put_image(layers=3)
    over, struck = threading.Event(), []
    for blob, digest in zip(image.blobs, image.digests, strict=True):
        registry.on("GET", digest, behave.drip(blob, lambda: over.wait(20)))

    def watch(progress):
        if progress.action == "Downloading" and progress.current and not struck:
            struck.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        bring(image, watch=watch)
    assert_no_thread_is_left()
    assert store.partial() > 0
    over.set()
    assert layers.complete(bring(image), image, store)


def test_a_failure_of_one_layer_stops_the_others(registry, bring, behave, store):
    image = registry.put_image(layers=3)
    over = threading.Event()
    for blob, digest in zip(image.blobs[1:], image.digests[1:], strict=True):
        registry.on("GET", digest, behave.drip(blob, lambda: over.wait(20)))
    registry.on("GET", image.digests[0], behave.status(404))
    with pytest.raises(NotFound, match="not found"):
        bring(image)
    over.set()


def _pull_in_process(root, reference, barrier, results):
    from cellbox.registry.client import Client

    def unpack(diff_id, media_type, fd):
        with open(fd, "rb", closefd=False) as file:
            return len(file.read())

    store = ContentStore(root)
    client = Client(Settings(), lambda host: None)
    barrier.wait(20)
    pulled = pull(
        parse(reference),
        client=client,
        store=store,
        unpack=unpack,
        have_layer=lambda diff_id: False,
        platform=AMD64,
    )
    results.put([facts for _, _, facts in pulled.layers])


def test_two_processes_download_each_blob_once(registry, tmp_path):
    image = registry.put_image(layers=4, size=500_000)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "shared", str(image.reference), barrier, results)
    processes = [context.Process(target=_pull_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    sizes = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sizes == [[len(blob) for blob in image.blobs]] * 2
    for digest in image.digests:
        assert len(registry.requests("GET", digest)) == 1


@pytest.mark.parametrize("point", sorted(name for name in faults.POINTS if name[:5] == "pull."))
def test_a_process_that_is_killed_at_any_point_leaves_nothing_that_the_next_minds(
    registry, bring, store, layers, tmp_path, monkeypatch, point
):
    image = registry.put_image(layers=2)
    monkeypatch.setenv("CELLBOX_FAULT", f"{point}:kill")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(1), context.Queue()
    arguments = (tmp_path / "store", str(image.reference), barrier, results)
    process = context.Process(target=_pull_in_process, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert layers.complete(bring(image), image, store)


# --- refusals


def test_no_such_tag(registry, bring):
    registry.put_image()
    name = f"{registry.address}/lab/tool:nope"
    with pytest.raises(NotFound, match=f"^manifest for {name} not found: "):
        bring(parse(name))


def test_a_private_image_without_a_login(registry, bring):
    image = registry.put_image()
    registry.gate = lambda handler: handler.reply(401, WWW_Authenticate='Basic realm="r"')
    with pytest.raises(Unauthorized, match="pull access denied for .*may require 'docker login'"):
        bring(image)
