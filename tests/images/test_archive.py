"""save and load: round trips, the forms that others write, and archives that mean harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field

import pytest

from cellbox.errors import CellboxError, IntegrityError, InvalidArgument, NotSupported
from cellbox.images import archive
from cellbox.images.config import ParsedConfig, host_platform, write_config
from cellbox.images.content import ContentStore
from cellbox.images.encode import encode
from cellbox.images.snapshots import LayerStore
from cellbox.model.image import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
)

pytestmark = pytest.mark.root


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Parts:
    """An image in memory."""

    layers: list[bytes]
    names: list[str] = field(default_factory=lambda: ["a:1"])

    @property
    def config(self) -> bytes:
        ids = tuple(digest(layer) for layer in self.layers)
        return write_config(ParsedConfig(ImageConfig(user="u"), host_platform(), ids))


@pytest.fixture
def parts(make_tar) -> Parts:
    return Parts([make_tar(("a", b"1")), make_tar(("b", b"2"), (".wh.a", b""))])


def docker_archive(make_tar, parts: Parts, **changes) -> bytes:
    members = {
        "abc.json": parts.config,
        **{f"{number}/layer.tar": layer for number, layer in enumerate(parts.layers)},
    }
    entry = {
        "Config": "abc.json",
        "RepoTags": parts.names,
        "Layers": [f"{number}/layer.tar" for number in range(len(parts.layers))],
    }
    members["manifest.json"] = json.dumps([entry | changes]).encode()
    return make_tar(*members.items())


def oci_archive(make_tar, parts: Parts, *, spoil: str = "", gz: bool = True) -> bytes:
    blobs, listed = {}, []
    for layer in parts.layers:
        data = gzip.compress(layer, mtime=0) if gz else layer
        blobs[digest(data)] = data
        suffix = "+gzip" if gz else ""
        listed.append({"mediaType": OCI_LAYER + suffix, "digest": digest(data), "size": len(data)})
    config = {"mediaType": "c", "digest": digest(parts.config), "size": len(parts.config)}
    blobs[config["digest"]] = parts.config
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": listed}
    ).encode()
    blobs[digest(manifest)] = manifest
    if spoil:
        chosen = config["digest"] if spoil == "config" else digest(manifest)
        blobs[chosen] = blobs[chosen].replace(b'"u"', b'"r"').replace(b"schema", b"sCHema")
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest(manifest),
            "size": len(manifest),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }
        for name in parts.names
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    members = [("blobs/sha256/" + name[7:], data) for name, data in blobs.items()]
    members.append(("index.json", json.dumps(index).encode()))
    return make_tar(*members, ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'))


def load(data: bytes, content: ContentStore, layers: LayerStore, **how):
    return archive.load(io.BytesIO(data), content, layers, **how)


@pytest.mark.parametrize("make", [docker_archive, oci_archive])
@pytest.mark.parametrize("outer", [bytes, gzip.compress])
def test_both_forms(make_tar, parts, content, layers, make, outer, root):
    seen = []
    (loaded,) = load(outer(make(make_tar, parts)), content, layers, watch=seen.append)
    assert loaded.id == digest(parts.config)
    assert loaded.names == ("a:1",)
    assert loaded.config.config.user == "u"
    assert [layer.diff_id for layer in loaded.layers] == [digest(item) for item in parts.layers]
    assert content.read(loaded.id, 10_000) == parts.config
    assert (layers.path(digest(parts.layers[0])) / "a").read_bytes() == b"1"
    assert all(content.verify(layer.blob.digest) for layer in loaded.layers)
    assert [item.action for item in seen] == ["Loading layer"] * 2
    assert os.listdir(root / "content/ingest") == os.listdir(root / "layers/staging") == []


def test_saved_and_loaded(parts, make_tar, content, layers, tmp_path, work):
    (first,) = load(docker_archive(make_tar, parts), content, layers)
    saved = archive.Saved(
        parts.config,
        tuple(layer.blob for layer in first.layers),
        (("docker.io/library/a:1", "a:1"), ("docker.io/library/b:2", "b:2")),
    )
    out = io.BytesIO()
    archive.save([saved], content, out)
    again = io.BytesIO()
    archive.save([saved], content, again)
    assert out.getvalue() == again.getvalue()

    other = tmp_path / "other"
    store = LayerStore(other, work)
    (loaded,) = load(out.getvalue(), ContentStore(other), store)
    assert (loaded.id, loaded.layers) == (first.id, first.layers)
    assert loaded.names == ("a:1", "b:2")


def test_what_was_saved_is_an_oci_layout_too(parts, make_tar, content, layers, tmp_path, work):
    (first,) = load(docker_archive(make_tar, parts), content, layers)
    blobs = tuple(layer.blob for layer in first.layers)
    out = io.BytesIO()
    archive.save([archive.Saved(parts.config, blobs, (("r.io/a:1", "r.io/a:1"),))], content, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as judge:
        members = [
            (member.name, judge.extractfile(member).read())
            for member in judge.getmembers()
            if member.isfile() and member.name != "manifest.json"
        ]
    other = tmp_path / "other"
    (loaded,) = load(make_tar(*members), ContentStore(other), LayerStore(other, work))
    assert (loaded.id, loaded.names) == (first.id, ("r.io/a:1",))


def test_our_own_layers_are_saved_from_their_directory(layers, content, tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "f").write_bytes(b"1")
    staged = layers.from_upper(upper)
    layers.commit([staged])
    blob = encode(layers, content, staged.facts.diff_id, "gzip")
    config = write_config(ParsedConfig(ImageConfig(), host_platform(), (staged.facts.diff_id,)))
    out = io.BytesIO()
    archive.save([archive.Saved(config, (blob,))], content, out)
    (loaded,) = load(out.getvalue(), content, layers)
    assert loaded.id == digest(config)
    assert loaded.names == ()


def test_links_between_members_are_followed(make_tar, parts, content, layers):
    data = make_tar(
        ("c.json", parts.config),
        ("x/layer.tar", parts.layers[0]),
        ("y/layer.tar", {"type": tarfile.SYMTYPE, "linkname": "../x/layer.tar"}),
        ("z.tar", {"type": tarfile.LNKTYPE, "linkname": "y/layer.tar"}),
        ("w.tar", parts.layers[1]),
        (
            "manifest.json",
            json.dumps([{"Config": "c.json", "Layers": ["z.tar", "w.tar"]}]).encode(),
        ),
    )
    (loaded,) = load(data, content, layers)
    assert len(loaded.layers) == 2


SECRET = "/etc/passwd"


@pytest.mark.parametrize(
    "changes",
    [
        {"Config": "../../../../../../../.." + SECRET},
        {"Config": SECRET},
        {"Config": None},
        {"Config": ["abc.json"]},
        {"Layers": ["../../../../.." + SECRET, "1/layer.tar"]},
        {"Layers": [SECRET, SECRET]},
        {"Layers": ["0/layer.tar"]},
        {"Layers": ["1/layer.tar", "0/layer.tar"]},
        {"Layers": ["abc.json", "abc.json"]},
        {"Layers": "0/layer.tar"},
        {"Layers": [0, 1]},
        {"Layers": ["0/layer.tar"] * 2000},
        {"RepoTags": {"a": "b"}},
    ],
)
def test_hostile_docker_archives(make_tar, parts, content, layers, root, changes):
    with pytest.raises(CellboxError):
        load(docker_archive(make_tar, parts, **changes), content, layers)
    assert list(layers.walk()) == []
    assert os.listdir(root / "layers/staging") == os.listdir(root / "trash") == []


@pytest.mark.parametrize(
    "member",
    [
        {"type": tarfile.SYMTYPE, "linkname": SECRET},
        {"type": tarfile.SYMTYPE, "linkname": "../../../../.." + SECRET},
        {"type": tarfile.LNKTYPE, "linkname": SECRET},
        {"type": tarfile.SYMTYPE, "linkname": "0/layer.tar"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
        {"type": tarfile.DIRTYPE},
    ],
)
@pytest.mark.parametrize("name", ["0/layer.tar", "abc.json", "manifest.json"])
def test_members_that_are_no_files(make_tar, parts, content, layers, name, member):
    data = docker_archive(make_tar, parts)
    with tarfile.open(fileobj=io.BytesIO(data)) as original:
        members = [
            (item.name, original.extractfile(item).read())
            for item in original.getmembers()
            if item.name != name
        ]
    with pytest.raises(InvalidArgument):
        load(make_tar(*members, (name, member)), content, layers)


@pytest.mark.parametrize("spoil", ["config", "manifest"])
def test_spoilt_blobs(make_tar, parts, content, layers, spoil):
    with pytest.raises(IntegrityError):
        load(oci_archive(make_tar, parts, spoil=spoil), content, layers)


def test_a_layer_that_is_not_its_diff_id(make_tar, parts, content, layers, root):
    swapped = Parts(parts.layers[::-1])
    data = docker_archive(make_tar, parts, Config="other.json")
    with tarfile.open(fileobj=io.BytesIO(data)) as original:
        members = [(item.name, original.extractfile(item).read()) for item in original]
    with pytest.raises(IntegrityError):
        load(make_tar(*members, ("other.json", swapped.config)), content, layers)
    assert list(layers.walk()) == []
    assert os.listdir(root / "layers/staging") == []


@pytest.mark.parametrize("data", [b"", b"garbage" * 500, bytes(2048)])
def test_no_archive_at_all(content, layers, data):
    with pytest.raises(InvalidArgument):
        load(data, content, layers)


def test_an_archive_cut_anywhere(make_tar, parts, content, layers):
    data = docker_archive(make_tar, parts)
    for size in range(100, data.rindex(b'"RepoTags"'), 1777):
        with pytest.raises(InvalidArgument):
            load(data[:size], content, layers)


def nested(make_tar, manifests) -> bytes:
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return json.dumps(index).encode()


def test_an_index_in_an_index_without_end(make_tar, content, layers):
    blobs = {}
    data = nested(make_tar, [])
    for _ in range(5):
        blobs["blobs/sha256/" + digest(data)[7:]] = data
        platform = {"os": "linux", "architecture": host_platform().architecture}
        entry = {
            "mediaType": OCI_INDEX,
            "digest": digest(data),
            "size": len(data),
            "platform": platform,
        }
        data = nested(make_tar, [entry])
    with pytest.raises(InvalidArgument, match="nested"):
        load(make_tar(*blobs.items(), ("index.json", data)), content, layers)


def test_an_image_of_another_machine(make_tar, content, layers):
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": digest(b""),
        "size": 0,
        "platform": {"os": "plan9", "architecture": "mips"},
    }
    with pytest.raises(NotSupported, match="plan9/mips"):
        load(make_tar(("index.json", nested(make_tar, [entry]))), content, layers)


def test_a_blob_that_is_not_there_cannot_be_saved(content):
    missing = Descriptor(OCI_LAYER, digest(b"missing"), 1)
    with pytest.raises(CellboxError):
        archive.save([archive.Saved(b"{}", (missing,))], content, io.BytesIO())


@pytest.mark.skipif(not shutil.which("skopeo"), reason="there is no skopeo to judge by")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_ours_and_we_read_its(parts, make_tar, content, layers, tmp_path, work, form):
    (first,) = load(docker_archive(make_tar, parts), content, layers)
    blobs = tuple(layer.blob for layer in first.layers)
    names = (("docker.io/library/a:1", "a:1"),)
    with (tmp_path / "ours.tar").open("wb") as out:
        archive.save([archive.Saved(parts.config, blobs, names)], content, out)
    command = [
        "skopeo",
        "--insecure-policy",
        "copy",
        f"{form}:{tmp_path}/ours.tar",
        f"{form}:{tmp_path}/its.tar:" + ("docker.io/library/a:1" if form[0] == "d" else "a:1"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    other = tmp_path / "other"
    with (tmp_path / "its.tar").open("rb") as source:
        (loaded,) = archive.load(source, ContentStore(other), LayerStore(other, work))
    assert loaded.config == first.config
    assert [layer.diff_id for layer in loaded.layers] == [layer.diff_id for layer in first.layers]
    assert [name.removeprefix("docker.io/library/") for name in loaded.names] == ["a:1"]
