"""What only the store can do for a build."""

from __future__ import annotations

import io
import tarfile

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local.building import LocalWorkshop
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
