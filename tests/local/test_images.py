"""Images of a store: names and ids, what is refused, and what bad archives leave behind."""

import dataclasses
import gzip
import io
import json
import os
import tarfile
import time

import pytest
import zstandard

from cellbox.errors import (
    CellboxError,
    IntegrityError,
    InUse,
    InvalidArgument,
    InvalidReference,
    NotFound,
    NotSupported,
    Unauthorized,
)
from cellbox.images.content import digest_of
from cellbox.local import images
from cellbox.model.container import RunSpec
from cellbox.model.image import DOCKER_MANIFEST, HistoryEntry, ImageConfig, Layer
from cellbox.model.registry import Credential
from cellbox.registry.auth import basic

DIGEST = "sha256:" + "1" * 64


def tar_of(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def engine(quick_engine):
    return quick_engine


@pytest.fixture
def small(engine):
    """``small("a")``: an image with one file, named as said."""

    def make(name, data=b"x", **more):
        return engine.images.import_(io.BytesIO(tar_of(file=data)), name=name, **more)

    return make


def test_what_happens_to_an_image_is_told_by_its_id(engine, small):
    image = small("a:1")
    engine.images.tag("a:1", "docker.io/library/b:2")
    engine.images.remove(image.id, force=True)
    now = time.time()
    told = [
        (one.action, one.id, one.attributes["name"]) for one in engine.events(since=0, until=now)
    ]
    assert told == [
        ("import", image.id, "a:1"),
        ("tag", image.id, "b:2"),
        ("untag", image.id, "a:1"),
        ("untag", image.id, "b:2"),
        ("delete", image.id, image.id),
    ]


@pytest.fixture
def named(inner):
    """Give an image a name with a digest, as a pull does."""

    def give(image, *digests):
        given = dataclasses.replace(image, digests=digests)
        return inner.state.images.add(given)

    return give


def removed(engine, ref, **more):
    return [one.untagged or one.deleted for one in engine.images.remove(ref, **more)]


# Names and ids ----------------------------------------------------------------------------------


def test_a_name_that_moves_leaves_a_dangling_image(engine, small):
    first, second = small("a", b"1"), small("a", b"2")
    assert engine.images.get("a").id == second.id
    assert [one.id for one in engine.images.list(filters={"dangling": ["true"]})] == [first.id]
    assert removed(engine, first.short_id) == [first.id, first.layers[0].diff_id]
    assert engine.images.list() == [second]


def test_an_id_of_one_name_is_removed_with_it(engine, small):
    image = small("a")
    assert removed(engine, image.id) == ["a:latest", image.id, image.layers[0].diff_id]


def test_an_id_of_several_names_is_refused_in_dockers_words(engine, small):
    image = small("a")
    engine.images.tag("a", "b:1")
    sentence = (
        rf"^conflict: unable to delete {image.short_id} \(must be forced\) - image is referenced "
        "in multiple repositories$"
    )
    for ref in (image.id, image.short_id, image.id[7:]):
        with pytest.raises(InUse, match=sentence):
            engine.images.remove(ref)
    assert engine.images.get("a").tags == ("a:latest", "b:1")


def test_a_name_that_looks_like_an_id_is_a_name(engine, small):
    image = small("a")
    name = image.short_id[:4]
    engine.images.tag("a", name)
    assert removed(engine, name) == [f"{name}:latest"]
    assert engine.images.get("a").id == image.id


def test_all_that_was_removed_is_told_names_first_and_noted(engine, small):
    image = small("a")
    engine.images.tag("a", "b")
    assert removed(engine, "b") == ["b:latest"]
    assert removed(engine, "a") == ["a:latest", image.id, image.layers[0].diff_id]
    events = engine.events(since=0.0, until=time.time(), filters={"type": ["image"]})
    assert [event.action for event in events] == [
        "import",
        "tag",
        "untag",
        "untag",
        "delete",
    ]


def test_a_layer_of_another_image_is_not_told_as_deleted(engine, small):
    first = small("a", message="one")
    second = small("b", message="two")
    assert first.layers == second.layers
    assert removed(engine, "a") == ["a:latest", first.id]


@pytest.mark.parametrize("ref", [f"a@{DIGEST}", f"a:9@{DIGEST}", f"docker.io/library/a@{DIGEST}"])
def test_a_name_with_a_digest_goes_alone_while_there_is_a_tag(engine, small, named, ref):
    image = named(small("a"), f"a@{DIGEST}")
    assert removed(engine, ref) == [f"a@{DIGEST}"]
    assert engine.images.get("a").id == image.id
    with pytest.raises(NotFound):
        engine.images.get(ref)


def test_the_last_tag_takes_the_digest_with_it(engine, small, named):
    image = named(small("a"), f"a@{DIGEST}")
    assert removed(engine, "a")[:3] == ["a:latest", f"a@{DIGEST}", image.id]


def test_the_last_name_with_a_digest_takes_the_image_with_it(engine, small, named):
    image = named(small(""), f"a@{DIGEST}")
    assert removed(engine, f"a:1@{DIGEST}")[:2] == [f"a@{DIGEST}", image.id]


def test_what_stands_in_the_way_is_told_in_dockers_words(engine, busybox, launcher):
    spec = RunSpec("busybox", ("sleep", "1000"), detach=True)
    id = engine.containers.create(spec).id
    told = f"container {id[:12]} is using its referenced image {busybox.short_id}"
    unable = 'conflict: unable to remove repository reference "busybox"'
    with pytest.raises(InUse, match=rf"^{unable} \(must force\) - {told}$"):
        engine.images.remove("busybox")
    with pytest.raises(InUse, match=f"stopped container {id[:12]} still needs it"):
        engine.images.remove("busybox", force=True)
    engine.containers.start(id)
    for force in (False, True):
        with pytest.raises(InUse, match=rf"^{unable} \(cannot be forced\) - running {told}$"):
            engine.images.remove("busybox", force=force)
    engine.images.tag("busybox", "other")
    assert removed(engine, "busybox") == ["busybox:latest"]


def test_images_from_before_a_moment(engine, small):
    made = small("a:1").created
    assert engine.images.list(filters={"until": [str(made)]}) == []
    assert len(engine.images.list(filters={"until": [str(made + 1)]})) == 1
    with pytest.raises(InvalidArgument, match="until=yesterday"):
        engine.images.list(filters={"until": ["yesterday"]})


# Registries -------------------------------------------------------------------------------------

ADA = Credential("ada", "engine")


@pytest.fixture
def guarded(registry, monkeypatch, tmp_path):
    """A registry that only ada may enter; the user of this engine is nobody to it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    class Guarded(registry.RequestHandlerClass):
        def do_GET(self):
            if self.headers.get("Authorization") == basic(ADA.username, ADA.password):
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="r"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

    registry.RequestHandlerClass = Guarded
    return registry


@pytest.mark.parametrize("auth", [None, Credential(), Credential("ada", "wrong")])
def test_a_registry_is_entered_with_the_right_credentials_only(engine, guarded, auth):
    with pytest.raises(Unauthorized):
        engine.images.pull(guarded.name, auth=auth)
    with pytest.raises(Unauthorized):
        engine.images.distribution(guarded.name, auth=auth)


def test_credentials_are_for_one_request(engine, guarded):
    assert engine.images.pull(guarded.name, auth=ADA).tags == (guarded.name,)
    found = engine.images.distribution(guarded.name, auth=ADA)
    assert found.descriptor.media_type == DOCKER_MANIFEST
    assert [one.os for one in found.platforms] == ["linux"]
    with pytest.raises(Unauthorized):
        engine.images.distribution(guarded.name)


def test_login_asks_the_registry(engine, guarded):
    address = guarded.name.partition("/")[0]
    for server in (address, f"http://{address}/v2/"):
        engine.images.login(server, ADA)
    with pytest.raises(Unauthorized, match=f"login attempt to {address} failed"):
        engine.images.login(address, Credential("ada", "wrong"))


# Import and save --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compress",
    [lambda data: data, gzip.compress, zstandard.compress],
    ids=["plain", "gzip", "zstd"],
)
def test_a_compressed_tar_is_the_same_layer(engine, compress):
    data = tar_of(file=b"x", other=b"y" * 5000)
    made = engine.images.import_(io.BytesIO(compress(data)), name="a")
    assert made.layers[0].diff_id == digest_of(data)
    assert made.size == 5001


def test_a_strangers_tar_keeps_its_digest_through_save_and_load(engine, small):
    """Our own tar of the same files would be other bytes, and so another layer."""
    made, out = small("a:1"), io.BytesIO()
    engine.images.save(["a:1"], out)
    engine.images.remove("a:1")
    assert engine.images.list() == []
    out.seek(0)
    (loaded,) = engine.images.load(out)
    assert (loaded.id, loaded.tags) == (made.id, ("a:1",))
    assert loaded.layers[0].diff_id == made.layers[0].diff_id


def test_what_is_no_tar_leaves_nothing(engine, inner):
    for data in (b"no tar at all " * 100, gzip.compress(tar_of(file=b"x"))[:-20]):
        with pytest.raises(CellboxError):
            engine.images.import_(io.BytesIO(data), name="a")
    assert engine.images.list() == [] and list(inner.layers.walk()) == []
    inner.collect()
    assert list(inner.content.walk()) == []
    assert os.listdir(inner.root / "layers" / "staging") == []


@pytest.mark.parametrize(
    ("name", "error"), [(f"a@{DIGEST}", InvalidArgument), ("Bad Name", InvalidReference)]
)
def test_a_bad_name_is_refused_before_anything_is_read(engine, name, error):
    source = io.BytesIO(tar_of(file=b"x"))
    with pytest.raises(error):
        engine.images.import_(source, name=name)
    assert source.tell() == 0


def test_the_image_host_can_neither_be_saved_nor_pulled(engine):
    assert engine.images.pull("host") == engine.images.get("host:latest")
    with pytest.raises(NotSupported, match="this machine itself and cannot be saved"):
        engine.images.save(["host"], io.BytesIO())


def test_an_image_is_saved_with_the_name_it_was_asked_by(engine, small):
    image = small("a:1")
    engine.images.tag("a:1", "b:2")
    for ref, names in (("a:1", ["a:1"]), (image.short_id, ["a:1", "b:2"])):
        out = io.BytesIO()
        engine.images.save([ref], out)
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
            (entry,) = json.load(archive.extractfile("manifest.json"))
        assert entry["RepoTags"] == names


def test_an_image_that_is_asked_for_by_two_names_is_saved_once(engine, small):
    small("a:1")
    engine.images.tag("a:1", "b:2")
    out = io.BytesIO()
    engine.images.save(["b:2", "a:1", "b:2"], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))
    assert entry["RepoTags"] == ["b:2", "a:1"]


def test_a_strangers_layer_whose_blob_is_gone_is_not_saved_as_another_one(engine, small, inner):
    image, out = small("a"), io.BytesIO()
    inner.content.delete(image.layers[0].blob.digest)
    with pytest.raises(IntegrityError, match="the packed layer"):
        engine.images.save(["a"], out)
    assert out.getvalue() == b""


def test_a_layer_that_was_here_before_it_was_pulled_can_still_be_saved(
    engine, busybox_tar, registry
):
    with busybox_tar.open("rb") as source:
        engine.images.import_(source, name="imported")
    pulled = engine.images.pull(registry.name)
    engine.images.remove("imported")
    assert registry.blobs_sent == 1  # the config
    out = io.BytesIO()
    engine.images.save([registry.name], out)
    engine.images.remove(registry.name)
    assert engine.images.load(io.BytesIO(out.getvalue()))[0].id == pulled.id


def test_a_layer_of_our_own_is_saved_without_a_blob(engine, busybox):
    made = engine.images.commit(engine.containers.create(RunSpec("busybox")).id, name="own")
    assert made.layers[-1].blob is None
    out = io.BytesIO()
    engine.images.save(["own"], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert f"blobs/{made.layers[-1].diff_id.replace(':', '/')}" in archive.getnames()


# Load -------------------------------------------------------------------------------------------


@pytest.fixture
def archive(engine, small):
    """The members of a saved archive of two images, which are no longer in the store."""
    small("a:1", b"1" * 3000)
    small("b:1", b"2" * 3000)
    out = io.BytesIO()
    engine.images.save(["a:1", "b:1"], out)
    for name in ("a:1", "b:1"):
        engine.images.remove(name)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as file:
        return {one.name: file.extractfile(one).read() for one in file.getmembers() if one.isfile()}


def refused(engine, inner, data, error=CellboxError):
    with pytest.raises(error):
        engine.images.load(io.BytesIO(data))
    assert engine.images.list() == []
    inner.collect()
    assert list(inner.layers.walk()) == list(inner.content.walk()) == []
    assert os.listdir(inner.root / "layers" / "staging") == []


def test_both_images_are_loaded(engine, archive):
    assert [one.tags for one in engine.images.load(io.BytesIO(tar_of(**archive)))] == [
        ("a:1",),
        ("b:1",),
    ]


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7])
def test_a_cut_archive_leaves_nothing(engine, inner, archive, part):
    data = tar_of(**archive)
    refused(engine, inner, data[: int(len(data) * part)])


@pytest.mark.parametrize("member", ["Config", "Layers"])
def test_damage_in_the_second_image_leaves_nothing_of_the_first(engine, inner, archive, member):
    entry = json.loads(archive["manifest.json"])[1]
    name = entry[member] if member == "Config" else entry[member][0]
    archive[name] = archive[name].replace(b"2", b"3")
    refused(engine, inner, tar_of(**archive))


@pytest.mark.parametrize("name", ["Bad Name", f"b@{DIGEST}", f"b:1@{DIGEST}", ""])
def test_a_bad_name_of_the_second_image_leaves_nothing_of_the_first(engine, inner, archive, name):
    manifest = json.loads(archive["manifest.json"])
    manifest[1]["RepoTags"] = [name]
    archive["manifest.json"] = json.dumps(manifest).encode()
    refused(engine, inner, tar_of(**archive), InvalidArgument)


def test_a_lost_member_leaves_nothing(engine, inner, archive):
    del archive[json.loads(archive["manifest.json"])[1]["Layers"][0]]
    refused(engine, inner, tar_of(**archive))


# Commit -----------------------------------------------------------------------------------------


def test_a_commit_takes_over_what_the_container_was_run_with(engine, busybox):
    spec = RunSpec(
        "busybox",
        ("echo", "hi"),
        env=("A=1", "PATH=/bin"),
        workdir="/srv",
        labels={"a": "b"},
        entrypoint=(),
        user="guest",
    )
    id = engine.containers.create(spec).id
    made = engine.images.commit(id, changes=["ENV B=2 A=3", "LABEL c=d", 'ENTRYPOINT ["sh"]'])
    config = made.config
    # The command was for another entry point.
    assert (config.command, config.workdir, config.user) == ((), "/srv", "guest")
    assert dict(entry.split("=") for entry in config.env) == {"A": "3", "PATH": "/bin", "B": "2"}
    assert (config.labels, config.entrypoint) == ({"a": "b", "c": "d"}, ("sh",))
    assert (made.tags, made.history[-1].created_by) == ((), "echo hi")


def test_what_was_not_asked_for_is_the_images(engine, small):
    small("a", changes=['CMD ["x"]', 'ENTRYPOINT ["y"]', "ENV A=1", "USER 7", "WORKDIR /w"])
    made = engine.images.commit(engine.containers.create(RunSpec("a")).id)
    assert made.config == engine.images.get("a").config


def test_a_bad_change_is_refused_before_anything_is_made(engine, busybox, inner):
    id = engine.containers.create(RunSpec("busybox")).id
    layers = list(inner.layers.walk())
    with pytest.raises(InvalidArgument):
        engine.images.commit(id, changes=["RUN x"])
    assert engine.images.list() == [busybox] and list(inner.layers.walk()) == layers


def test_a_commit_that_fails_lets_the_container_go_on(engine, busybox, launcher, monkeypatch):
    spec = RunSpec("busybox", ("sleep", "1000"), detach=True)
    id = engine.containers.create(spec).id
    engine.containers.start(id)

    def fail(*_):
        assert engine.containers.get(id).status == "paused"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(engine.images), "_packed", fail)
    with pytest.raises(CellboxError, match="commit: .*No space left"):
        engine.images.commit(id)
    assert engine.containers.get(id).status == "running"
    assert engine.images.list() == [busybox]


def test_sizes_of_steps_are_those_of_their_layers():
    steps = [HistoryEntry(created_by=name, empty_layer=name == "env") for name in ("a", "env", "b")]
    found = images._sized([*steps, HistoryEntry()], [Layer("a", 10), Layer("b", 20)])
    assert [step.size for step in found] == [10, 0, 20, 0]
    assert images._as_run(ImageConfig(command=("x",)), RunSpec("a")).command == ("x",)
