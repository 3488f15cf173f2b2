"""Images: their names, how they come in and go out, and what holds them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile

import pytest
from tests.registry import debian

from cellbox import handles
from cellbox.errors import (
    CellboxError,
    InUse,
    InvalidArgument,
    InvalidReference,
    NotFound,
    NotSupported,
)
from cellbox.model.container import RunSpec


@pytest.fixture
def small(engine, tar_of):
    """``small("a")``: an image with one file, named as said."""

    def make(name, data=b"x", **more):
        return engine.images.import_(tar_of(file=data), name=name, **more)

    return make


def tags(engine, **filters):
    found = engine.images.list(filters=filters or None)
    return [image.tags[0] if image.tags else None for image in found]


# Names ------------------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="of an id that is not there it tells more")
def test_an_image_is_found_by_name_id_and_prefix(engine, small):
    image = small("zz:1")
    for ref in ("zz:1", "docker.io/library/zz:1", image.id, image.short_id, image.id[7:40]):
        assert engine.images.get(ref) == image
    for ref, told in (("zz", "zz:latest"), ("yy:1", "yy:1"), ("f" * 64, "f" * 64)):
        with pytest.raises(NotFound, match=f"No such image: {told}"):
            engine.images.get(ref)
    with pytest.raises(InvalidReference, match="invalid reference format"):
        engine.images.get("Bad Name")


def test_a_tag_is_one_more_name_and_moves(engine, small):
    first, second = small("a"), small("b", b"y")
    engine.images.tag("a", "c:1")
    assert engine.images.get("c:1").tags == ("a:latest", "c:1")
    engine.images.tag("b", "c:1")
    assert engine.images.get("c:1").id == second.id
    assert engine.images.get(first.id).tags == ("a:latest",)
    with pytest.raises(NotFound):
        engine.images.tag("nosuch", "d")
    with pytest.raises(InvalidReference):
        engine.images.tag("a", "Bad Name")


def test_removing_one_of_several_names_leaves_the_image(engine, small):
    image = small("one")  # no name that might begin an id
    engine.images.tag("one", "other")
    assert [vars(one) for one in engine.images.remove("one")] == [
        {"untagged": "one:latest", "deleted": ""}
    ]
    assert engine.images.get("other").id == image.id


def test_removing_the_last_name_removes_the_image(engine, small):
    image = small("one")
    removed = engine.images.remove("one")
    assert removed[0].untagged == "one:latest"
    assert image.id in [one.deleted for one in removed]
    assert engine.images.list() == []
    assert all(one.size == 0 for one in engine.disk_usage() if one.kind == "Images")


def test_an_id_of_several_names_must_be_forced(engine, small):
    image = small("a")
    engine.images.tag("a", "b")
    with pytest.raises(InUse, match=r"conflict: unable to delete .* \(must be forced\)"):
        engine.images.remove(image.short_id)
    removed = engine.images.remove(image.short_id, force=True)
    assert {one.untagged for one in removed} - {""} == {"a:latest", "b:latest"}
    assert engine.images.list() == []


def test_layers_that_another_image_has_stay(engine, busybox, run):
    ran = run("touch", "/x")
    engine.images.commit(ran.id, name="more")
    engine.containers.remove(ran.id)
    engine.images.remove("busybox")
    assert run("ls", "/x", image="more").out == "/x\n"


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.differs(dockerd="a forced removal takes the name away")
def test_a_container_holds_its_image(engine, start, busybox, running):
    id = start().id
    if not running:
        engine.containers.kill(id)
        engine.containers.wait(id)
    for force in (False, True) if running else (False,):
        with pytest.raises(InUse, match="conflict: unable to .* is using its referenced image"):
            engine.images.remove("busybox", force=force)
    assert engine.images.get("busybox") == busybox


# Lists ------------------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="it orders by whole seconds")
def test_lists_are_newest_first_and_filtered(engine, small):
    small("one", b"1")
    small("two:v1", b"2", changes=["LABEL tier=a"])
    small("", b"3")
    assert tags(engine) == [None, "two:v1", "one:latest"]
    assert tags(engine, dangling=["true"]) == [None]
    assert tags(engine, dangling=["false"]) == ["two:v1", "one:latest"]
    assert tags(engine, label=["tier"]) == ["two:v1"]
    assert tags(engine, label=["tier=b"]) == []
    assert tags(engine, reference=["two"]) == ["two:v1"]
    assert tags(engine, reference=["t*", "one:latest"]) == ["two:v1", "one:latest"]
    assert tags(engine, reference=["*:v2"]) == []
    assert tags(engine, before=["two:v1"]) == ["one:latest"]
    assert tags(engine, since=["one"]) == [None, "two:v1"]
    with pytest.raises(InvalidArgument, match="(?i)invalid filter"):
        tags(engine, nosuch=["x"])


# In and out -------------------------------------------------------------------------------------


def test_import_makes_one_layer(engine, small):
    image = small("a", message="mine", changes=['CMD ["x"]', "ENV A=1", "WORKDIR /w"])
    assert (len(image.layers), image.size, image.tags) == (1, 1, ("a:latest",))
    assert image.history[0].comment == "mine"
    config = image.config
    assert (config.command, config.env, config.workdir) == (("x",), ("A=1",), "/w")


@pytest.mark.parametrize("changes", [["RUN x"], ["NOSUCH"], ["ENV"]])
def test_a_change_that_cannot_be_is_refused(engine, small, changes):
    with pytest.raises(InvalidArgument):
        small("a", changes=changes)
    assert engine.images.list() == []


@pytest.mark.parametrize("what", [b"", b"no tar at all " * 100])
def test_what_is_no_archive_is_refused_and_leaves_nothing(engine, what):
    with pytest.raises(CellboxError):
        engine.images.load(io.BytesIO(what))
    assert engine.images.list() == []
    with contextlib.suppress(NotSupported):  # behind Docker's API
        assert [one for one in engine.check() if one.kind != "cgroup"] == []  # others share those


@pytest.mark.parametrize("format", ["docker", "oci"])
@pytest.mark.differs(dockerd="before API 1.44 it saves no OCI layout, nor image ids that last")
def test_what_was_saved_is_loaded_as_it_was(engine, busybox, run, format):
    ran = run("sh", "-c", "echo hi > /new; rm /bin/cat; ln /new /other; chmod 4755 /new")
    saved = engine.images.commit(ran.id, name="made:1", changes=["LABEL a=b"])
    engine.images.tag("made:1", "also/made:2")
    archive = io.BytesIO()
    engine.images.save(["made:1", "also/made:2"], archive, format=format)
    engine.containers.remove(ran.id)
    engine.images.remove(saved.id, force=True)
    engine.images.remove("busybox")

    archive.seek(0)
    (loaded,) = {image.id: image for image in engine.images.load(archive)}.values()

    found = engine.images.get("made:1")
    assert loaded.id == found.id == saved.id
    assert found.tags == ("also/made:2", "made:1")
    assert (found.config, found.size) == (saved.config, saved.size)
    assert [layer.diff_id for layer in found.layers] == [one.diff_id for one in saved.layers]
    ran = run("sh", "-c", "ls /bin/cat; stat -c '%a %h' /other", image="made:1")
    assert "No such file" in ran.err and ran.out == "4755 2\n"


@pytest.mark.differs(dockerd="before API 1.44 it saves no OCI layout")
def test_an_archive_is_an_oci_layout_and_dockers_at_once(engine, small):
    small("a:1")
    out = io.BytesIO()
    engine.images.save(["a:1"], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = set(archive.getnames())
        manifest = json.load(archive.extractfile("manifest.json"))
    assert {"oci-layout", "index.json", "manifest.json", "repositories"} <= names
    assert manifest[0]["RepoTags"] == ["a:1"]
    assert {manifest[0]["Config"], *manifest[0]["Layers"]} <= names


def test_the_same_image_is_the_same_archive(engine, small):
    small("a:1")
    archives = [io.BytesIO(), io.BytesIO()]
    for out in archives:
        engine.images.save(["a:1"], out)
    assert archives[0].getvalue() == archives[1].getvalue()


def test_what_cannot_be_saved(engine, small):
    small("a")
    with pytest.raises(NotFound):
        engine.images.save(["nosuch"], io.BytesIO())
    with pytest.raises(InvalidArgument, match="format"):
        engine.images.save(["a"], io.BytesIO(), format="zip")


# Commit -----------------------------------------------------------------------------------------


def test_commit_adds_one_layer_and_what_was_asked_for(engine, busybox, run):
    ran = run("sh", "-c", "echo hi > /etc/new", env=("A=1",))
    made = engine.images.commit(
        ran.id, name="mine", message="why", author="me", changes=["CMD cat /etc/new", "USER guest"]
    )
    assert made.parent == busybox.id
    assert (made.tags, made.comment, made.author) == (("mine:latest",), "why", "me")
    assert [layer.diff_id for layer in made.layers[:-1]] == [busybox.layers[0].diff_id]
    assert made.config.env[-1] == "A=1" and made.config.user == "guest"
    assert made.history[-1].comment == "why"
    assert run(image="mine").out == "hi\n"


@pytest.mark.differs(dockerd="it has those places in it")
def test_commit_leaves_out_what_the_engine_made(engine, run):
    """/etc/hostname and its like are mounted; the names they are mounted on are no change."""
    made = engine.images.commit(run("true").id, name="same")
    assert made.layers[-1].size == 0
    out = io.BytesIO()
    engine.containers.create(RunSpec("same", ("true",)), name="bare")
    engine.files.export("bare", out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert "etc/hostname" not in archive.getnames()


@pytest.mark.parametrize("pause", [True, False])
def test_commit_of_a_running_one_leaves_it_running(engine, start, pause):
    id = start("sh", "-c", "echo a > /f; exec sleep 1000").id
    engine.images.commit(id, name="snap", pause=pause)
    assert engine.containers.get(id).status == "running"


def test_commit_under_a_bad_name_makes_nothing(engine, run, busybox):
    with pytest.raises(InvalidReference):
        engine.images.commit(run("true").id, name="Bad Name")
    with pytest.raises(NotFound):
        engine.images.commit("nosuch")
    assert engine.images.list() == [busybox]


def test_export_and_import_flatten_an_image(engine, run):
    ran = run("sh", "-c", "echo hi > /new; rm /bin/cat")
    out = io.BytesIO()
    engine.files.export(ran.id, out)
    out.seek(0)
    flat = engine.images.import_(out, name="flat")
    assert len(flat.layers) == 1
    again = run("sh", "-c", "head -1 /new; ls /bin/cat", image="flat")
    assert again.out == "hi\n" and "No such file" in again.err


# Pull -------------------------------------------------------------------------------------------


@pytest.mark.differs(dockerd="it asks for the config again")
def test_pull_brings_an_image_once(engine, registry):
    steps = []
    pulled = engine.images.pull(registry.name, watch=steps.append)
    assert pulled.tags == (registry.name,)
    assert pulled.digests[0].startswith(registry.name.rpartition(":")[0] + "@sha256:")
    assert handles.run(engine, RunSpec(registry.name, ("echo", "hi"))).output == "hi\n"
    assert {"Pulling fs layer", "Pull complete"} <= {step.action for step in steps}

    before = registry.blobs_sent
    assert engine.images.pull(registry.name) == pulled
    assert registry.blobs_sent == before


@pytest.mark.differs(dockerd="it does not understand the error of this registry")
def test_pull_of_what_is_not_there(engine, registry):
    with pytest.raises(NotFound):
        engine.images.pull(registry.name + "-nosuch")
    assert engine.images.list() == []


# Push -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """The address of a registry that takes images."""
    if shutil.which("docker-registry") is None:
        pytest.skip("needs Debian's docker-registry to be installed")
    with debian.serving(tmp_path_factory.mktemp("shelf"), auth=False) as address:
        yield address


def test_what_is_pushed_can_be_pulled_again(engine, shelf, busybox):
    name = f"{shelf}/lab/box-{os.urandom(4).hex()}:1"
    engine.images.tag("busybox", name)
    steps = []
    pushed = engine.images.push(name, watch=steps.append)
    assert (pushed.name, pushed.size > 100) == (name, True)
    told = [step.action for step in steps if step.action != "Waiting"]
    assert told[0] == f"The push refers to repository [{name.removesuffix(':1')}]"
    assert told[1] == "Preparing" and told[-2] == "Pushed"
    assert told[-1] == f"1: digest: {pushed.digest} size: {pushed.size}"

    by_digest = f"{name.removesuffix(':1')}@{pushed.digest}"
    assert by_digest in engine.images.get("busybox").digests
    assert engine.images.distribution(name).descriptor.digest == pushed.digest
    steps.clear()
    assert engine.images.push(name, watch=steps.append) == pushed
    assert [step.action for step in steps][-2] == "Layer already exists"

    engine.images.remove(busybox.id, force=True)
    assert engine.images.pull(by_digest).id == busybox.id
    assert handles.run(engine, RunSpec(by_digest, ("echo", "hi"))).output == "hi\n"


@pytest.mark.differs(dockerd="it tells another sentence")
def test_push_of_what_is_not_here(engine, shelf):
    with pytest.raises(NotFound, match="No such image"):
        engine.images.push(f"{shelf}/lab/nosuch:1")


def test_nothing_is_pushed_by_a_digest(engine, shelf):
    with pytest.raises(InvalidArgument, match="digest"):
        engine.images.push(f"{shelf}/lab/box@sha256:{'1' * 64}")
