"""Pushing from a store: in what encoding, under what digest, and who can read it."""

import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
from tests.contracts import daemons
from tests.registry import debian

from cellbox.connecting import connect
from cellbox.errors import InvalidArgument, NotSupported, Unauthorized
from cellbox.model.image import DOCKER_MANIFEST, OCI_MANIFEST
from cellbox.model.registry import Credential

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None or shutil.which("htpasswd") is None,
    reason="needs docker-registry and htpasswd to be installed",
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    with debian.serving(tmp_path_factory.mktemp("shelf"), auth=False) as address:
        yield address


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with debian.serving(tmp_path_factory.mktemp("locked"), auth=True) as address:
        yield address


@pytest.fixture
def engine(quick_engine):
    return quick_engine


@pytest.fixture
def name(shelf):
    return f"{shelf}/lab/x-{os.urandom(4).hex()}:1"


def tar_of(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


@pytest.fixture
def made(engine, name):
    return engine.images.import_(tar_of(os.urandom(1 << 20)), name=name)


def skopeo(*arguments):
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo to be installed")
    return subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], check=True, capture_output=True, timeout=60
    ).stdout


def manifest_of(name):
    return json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))


@pytest.mark.parametrize(
    ("compression", "kind", "suffix"),
    [("", DOCKER_MANIFEST, ".gzip"), ("gzip", DOCKER_MANIFEST, ".gzip")]
    + [("zstd", OCI_MANIFEST, "+zstd")],
)
def test_skopeo_reads_it(engine, made, name, tmp_path, compression, kind, suffix):
    engine.images.push(name, compression=compression)
    found = manifest_of(name)
    assert found["mediaType"] == kind
    assert [one["mediaType"].endswith(suffix) for one in found["layers"]] == [True]
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path / 'out'}")
    assert found["config"]["digest"] == made.id


def test_the_same_image_is_the_same_digest_in_every_store(engine, name, tmp_path):
    data = os.urandom(1 << 20)
    engine.images.import_(tar_of(data), name=name)
    pushed = engine.images.push(name)
    assert engine.images.push(name) == pushed
    other = connect(f"local:{tmp_path / 'other'}")
    pulled = other.images.pull(name)
    assert pulled.id == engine.images.get(name).id
    assert other.images.push(name) == pushed
    other.images.tag(name, f"{name}-again")
    assert other.images.push(f"{name}-again").digest == pushed.digest
    other.close()


def test_what_came_in_zstd_stays_so_unless_asked(engine, made, name, tmp_path):
    pushed = engine.images.push(name, compression="zstd")
    other = connect(f"local:{tmp_path / 'other'}")
    other.images.pull(name)
    other.images.tag(name, f"{name}-b")
    assert other.images.push(f"{name}-b").digest == pushed.digest
    assert other.images.push(f"{name}-b", compression="gzip").digest != pushed.digest
    assert manifest_of(f"{name}-b")["mediaType"] == DOCKER_MANIFEST
    other.close()
    engine.images.push(name)  # ours was only sent so
    assert manifest_of(name)["mediaType"] == DOCKER_MANIFEST


def test_a_layer_of_another_repository_is_mounted(engine, made, name, shelf):
    engine.images.push(name)
    repository = name.partition("/")[2].rpartition(":")[0]
    engine.images.tag(name, f"{shelf}/lab/second-{os.urandom(4).hex()}:1")
    second = next(one for one in engine.images.get(made.id).tags if "/second" in one)
    told = []
    engine.images.push(second, watch=told.append)
    assert f"Mounted from {repository}" in [one.action for one in told]


def test_a_registry_with_passwords(engine, locked, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    name = f"{locked}/lab/x:1"
    engine.images.import_(tar_of(b"x"), name=name)
    for auth in (None, Credential("ada", "wrong-word")):
        with pytest.raises(Unauthorized, match=r"push access denied for .*lab/x.*login") as caught:
            engine.images.push(name, auth=auth)
        assert "wrong-word" not in str(caught.value)
    ada = Credential(*debian.USER.split(":"))
    assert engine.images.push(name, auth=ada).name == name


def test_an_image_keeps_its_names(engine, made, name, inner):
    engine.images.tag(name, "other:1")
    pushed = engine.images.push(name)
    found = engine.images.get(made.id)
    assert found.tags == tuple(sorted((name, "other:1")))
    assert found.digests == (f"{name.removesuffix(':1')}@{pushed.digest}",)
    assert inner.content.verify(pushed.digest)


def test_what_cannot_be_pushed(engine, made, name):
    with pytest.raises(InvalidArgument, match="digest reference"):
        engine.images.push(f"a@sha256:{'1' * 64}")
    with pytest.raises(InvalidArgument, match="'xz' is no compression"):
        engine.images.push(name, compression="xz")
    with pytest.raises(NotSupported, match="cannot be pushed"):
        engine.images.push("host")


@pytest.mark.root
def test_docker_and_this_engine_read_each_other(
    engine, busybox_tar, name, tmp_path, tmp_path_factory
):
    with busybox_tar.open("rb") as source:
        ours = engine.images.import_(source, name=name, changes=['CMD ["echo", "hi"]'])
    engine.images.push(name)
    folder = tmp_path_factory.mktemp("d")  # short: its socket lies there
    with daemons.dockerd(folder) as url:
        docker = connect(url)
        pulled = docker.images.pull(name)
        assert pulled.id == ours.id
        docker.images.tag(name, f"{name}-docker")
        pushed = docker.images.push(f"{name}-docker")
        docker.close()
    again = connect(f"local:{tmp_path / 'again'}")
    assert again.images.pull(f"{name}-docker").id == ours.id
    assert again.images.get(ours.id).digests[0].endswith(pushed.digest)
    again.close()
