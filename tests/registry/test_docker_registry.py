"""Pulling from a real registry: Debian's docker-registry, filled by skopeo."""

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
import zstandard
from tests.registry.debian import USER, serving

from cellbox.errors import NotFound, Unauthorized, Unavailable
from cellbox.images.content import ContentStore
from cellbox.images.jobs import JOBS
from cellbox.images.snapshots import LayerStore
from cellbox.model.image import DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform
from cellbox.model.reference import parse
from cellbox.registry.client import Client
from cellbox.registry.config import Settings
from cellbox.registry.credentials import Credentials
from cellbox.registry.transfer import pull

PROGRAMS = ("docker-registry", "skopeo", "htpasswd", "busybox")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)} to be installed")
AMD64 = Platform("linux", "amd64")


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("open"), auth=False) as address:
        yield address


@pytest.fixture(scope="module")
def closed_registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("closed"), auth=True) as address:
        yield address


def layer_tar(name, data, mode=0o755):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def gzipped(tar):
    return gzip.compress(tar, mtime=0)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An OCI layout of an image of two layers: busybox, and a large file."""
    return make_layout(tmp_path_factory.mktemp("layout"), gzipped, "gzip")


@pytest.fixture(scope="module")
def zstd_layout(tmp_path_factory):
    """The same, with layers compressed by zstd."""
    return make_layout(tmp_path_factory.mktemp("zstd"), zstandard.ZstdCompressor().compress, "zstd")


def make_layout(folder, encode, suffix):
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def put(media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    with open(shutil.which("busybox"), "rb") as file:
        busybox = file.read()
    tars = [layer_tar("bin/busybox", busybox), layer_tar("data", os.urandom(3 << 20), 0o644)]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/busybox", "sh"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(OCI_CONFIG, json.dumps(config).encode()),
        "layers": [put(f"{OCI_LAYER}+{suffix}", encode(tar)) for tar in tars],
    }
    entry = put(OCI_MANIFEST, json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def push(layout, reference, *options):
    """Copy the layout's image there with skopeo."""
    source, target = f"oci:{layout}:1", f"docker://{reference}"
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options]
    subprocess.run([*command, source, target], check=True, capture_output=True)


def unpack(diff_id, media_type, fd):
    """Verify the layer, whatever its compression; the bytes of its tar."""
    with open(fd, "rb", closefd=False) as file:
        data = file.read()
    if media_type.endswith("zstd"):
        tar = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    else:
        tar = gzip.decompress(data)
    assert "sha256:" + hashlib.sha256(tar).hexdigest() == diff_id
    return len(tar)


def bring(reference, store, client):
    return pull(
        parse(reference),
        client=client,
        store=store,
        unpack=unpack,
        have_layer=lambda diff_id: False,
        platform=AMD64,
    )


@pytest.mark.parametrize(
    ("name", "options", "manifest_type", "layer_suffix"),
    [
        ("oci", (), OCI_MANIFEST, "tar+gzip"),
        ("docker", ("--format", "v2s2"), DOCKER_MANIFEST, "tar.gzip"),
        ("zstd", (), OCI_MANIFEST, "tar+zstd"),
    ],
)
def test_what_skopeo_pushed_is_pulled(
    open_registry, layout, zstd_layout, store, name, options, manifest_type, layer_suffix
):
    reference = f"{open_registry}/lab/{name}:1"
    push(zstd_layout if name == "zstd" else layout, reference, *options)
    client = Client(Settings(), lambda host: None)
    pulled = bring(reference, store, client)
    assert pulled.manifest.media_type == manifest_type
    assert json.loads(pulled.config)["config"]["Cmd"] == ["/bin/busybox", "sh"]
    assert [facts > 0 for _, _, facts in pulled.layers] == [True, True]
    assert all(store.verify(blob.digest) for blob, _, _ in pulled.layers)
    assert all(blob.media_type.endswith(layer_suffix) for blob, _, _ in pulled.layers)
    assert client.tags(parse(reference)) == ["1"]


def test_an_image_is_unpacked_into_the_layer_store_as_it_arrives(
    open_registry, layout, store, tmp_path
):
    reference = f"{open_registry}/lab/unpacked:1"
    push(layout, reference)
    layer_store = LayerStore(tmp_path / "store", lambda name, args, fds: JOBS[name](args, fds))
    pulled = pull(
        parse(reference),
        client=Client(Settings(), lambda host: None),
        store=store,
        unpack=layer_store.apply,
        have_layer=layer_store.has,
        discard=lambda staged: layer_store.discard([staged]),
        platform=AMD64,
    )
    layer_store.commit([staged for _, _, staged in pulled.layers])
    busybox = layer_store.path(pulled.layers[0][1]) / "bin" / "busybox"
    assert subprocess.run([busybox, "echo", "hello"], capture_output=True).stdout == b"hello\n"


def test_a_cut_download_is_resumed(open_registry, layout, store):
    reference = f"{open_registry}/lab/resumed:1"
    push(layout, reference)
    client = Client(Settings(), lambda host: None)
    whole = bring(reference, store, client)
    blob = whole.layers[1][0]
    data = store.read(blob.digest, blob.size)
    store.delete(blob.digest)
    with store.ingest(blob.digest, blob.size) as ingest:
        ingest.write(data[: 1 << 20])
    with client.repositories(parse(reference))[0].blob(blob, 1 << 20) as stream:
        assert stream.start == 1 << 20
    assert bring(reference, store, client).layers[1][2] == whole.layers[1][2]
    assert store.verify(blob.digest)


def test_names_that_are_not_there(open_registry, layout, store):
    push(layout, f"{open_registry}/lab/there:1")
    client = Client(Settings(), lambda host: None)
    for name in ("lab/there:2", "lab/nowhere:1"):
        with pytest.raises(NotFound, match=f"manifest for {open_registry}/{name} not found"):
            bring(f"{open_registry}/{name}", store, client)


@pytest.fixture
def logged_in(closed_registry, tmp_path):
    """``logged_in(user)``: a client whose user has logged in as docker does."""

    def make(user):
        auths = {closed_registry: {"auth": base64.b64encode(user.encode()).decode()}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        return Client(Settings(), Credentials.of_user({"DOCKER_CONFIG": str(tmp_path)}).get)

    return make


def test_a_registry_with_passwords(closed_registry, layout, store, logged_in, tmp_path):
    reference = f"{closed_registry}/lab/private:1"
    push(layout, reference, "--dest-creds", USER)
    assert len(bring(reference, store, logged_in(USER)).layers) == 2
    strangers = ContentStore(tmp_path / "stranger")
    for client in (logged_in("ada:wrong-word"), Client(Settings(), lambda host: None)):
        with pytest.raises(Unauthorized, match="pull access denied") as caught:
            bring(reference, strangers, client)
        assert "wrong-word" not in str(caught.value)


def test_a_registry_that_is_gone(tmp_path, layout, store, waits):
    with serving(tmp_path, auth=False) as address:
        pass
    with pytest.raises(Unavailable, match=f"{address}: no connection: Connection refused"):
        bring(f"{address}/lab/gone:1", store, Client(Settings(), lambda _: None, wait=waits.append))
