"""What only the store can do for a build."""

from __future__ import annotations

import io
import tarfile

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local.building import LocalWorkshop
from cellbox.model.build import BuildSecret, BuildSpec
from cellbox.model.container import RunSpec
from cellbox.model.image import ImageConfig, Platform


@pytest.fixture
def shop(engine, busybox) -> LocalWorkshop:
    return LocalWorkshop(engine._store, engine.images, engine.containers)


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("guest", (405, 100)),
        ("guest:root", (405, 0)),
        ("7", (7, 7)),
        ("7:8", (7, 8)),
        ("7:users", (7, 100)),
        ("0", (0, 0)),
    ],
)
def test_owners_are_looked_up_in_the_container(shop, engine, user, owner):
    container = engine.containers.create(RunSpec("busybox", ("true",), network="none"))
    assert shop.owner(container.id, user) == owner


def test_an_owner_that_is_not_there(shop, engine, tar_of):
    engine.images.import_(tar_of(f=b""), name="bare")
    container = engine.containers.create(RunSpec("bare", ("true",), network="none"))
    assert shop.owner(container.id, "5:6") == (5, 6)
    for user in ("nobody9", "5:nogroup9"):
        with pytest.raises(InvalidArgument, match="unable to find"):
            shop.owner(container.id, user)


def test_platforms(shop):
    assert shop.platform("linux/arm64/v8") == Platform("linux", "arm64", "v8")
    assert shop.platform().os == "linux"


def test_images_are_made_of_configs_and_containers(shop, engine):
    bare = shop.make("", ImageConfig(user="u"), created_by="USER u", author="Ada")
    assert (bare.layers, bare.parent, bare.author, bare.config.user) == ((), "", "Ada", "u")
    assert [(one.created_by, one.empty_layer) for one in bare.history] == [("USER u", True)]
    container = engine.containers.create(RunSpec(bare.id, ("x",), network="none"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("f")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    out.seek(0)
    engine.files.put(container.id, "/", out)
    made = shop.make(bare.id, ImageConfig(), created_by="COPY f /", container=container.id)
    assert (len(made.layers), made.size, made.parent) == (1, 3, bare.id)
    assert [one.empty_layer for one in made.history] == [True, False]
    assert made.config == ImageConfig()


KILLED = """
import sys
from pathlib import Path
from cellbox.connecting import connect
from cellbox.model.build import BuildSecret, BuildSpec
spec = BuildSpec(secrets={"key": BuildSecret(variable="KEY")})
connect().images.build(Path(sys.argv[1]), spec)
"""


def test_what_a_killed_build_leaves_goes_with_the_next_one(
    engine, busybox, python, tmp_path, monkeypatch, until
):
    """Its container, and with it a secret that was in its environment."""
    context = tmp_path / "context"
    context.mkdir()
    step = "RUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY sleep 1000"
    (context / "Dockerfile").write_text(f"FROM busybox\n{step}\n")
    monkeypatch.setenv("KEY", "v3ry-s3cret")
    process = python(KILLED, context)
    until(lambda: [one for one in engine.containers.list() if one.status == "running"])
    process.kill()
    process.wait()
    kept = engine.containers.create(RunSpec("busybox", ("true",), network="none")).id
    (context / "Dockerfile").write_text(f"FROM busybox\n{step.replace('sleep 1000', 'true')}\n")
    spec = BuildSpec(secrets={"key": BuildSecret(variable="KEY")})
    engine.images.build(context, spec)
    assert [one.id for one in engine.containers.list(all=True)] == [kept]
    store = engine._store
    for folder in (store.root, store.run):
        for path in (one for one in folder.rglob("*") if one.is_file()):
            assert b"v3ry-s3cret" not in path.read_bytes(), path
