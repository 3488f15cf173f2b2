"""The root file systems of plugins, as they come in tars."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from cellbox.errors import InvalidArgument
from cellbox.local.plugin_images import PluginImages

CONFIG = json.dumps({"interface": {"socket": "it.sock"}}).encode()


@pytest.fixture
def images(quick_engine):
    return PluginImages(quick_engine._store, quick_engine._containers)


def packed(*members, prefix="", mode="w"):
    """A tar of (name, data or link, type)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, what, kind in members:
            member = tarfile.TarInfo(prefix + name)
            member.type = kind
            member.linkname = what if isinstance(what, str) else ""
            member.size = len(what) if isinstance(what, bytes) else 0
            tar.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
    out.seek(0)
    return out


FILES = (
    ("config.json", CONFIG, tarfile.REGTYPE),
    ("rootfs/bin", "", tarfile.DIRTYPE),
    ("rootfs/bin/it", b"program", tarfile.REGTYPE),
    ("rootfs/bin/same", "rootfs/bin/it", tarfile.LNKTYPE),
    ("rootfs/it", "bin/it", tarfile.SYMTYPE),
    ("other/file", b"not ours", tarfile.REGTYPE),
)


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_what_is_in_rootfs_is_the_image(images, quick_engine, prefix, mode):
    members = [
        (name, f"{prefix}{what}" if kind == tarfile.LNKTYPE else what, kind)
        for name, what, kind in FILES
    ]
    image, config = images.unpacked(packed(*members, prefix=prefix, mode=mode))
    assert config.socket == "it.sock"
    (layer,) = quick_engine._store.layers.paths([one.diff_id for one in image.layers])
    assert sorted(path.name for path in layer.rglob("*")) == ["bin", "it", "it", "same"]
    assert (layer / "bin" / "same").samefile(layer / "bin" / "it")
    assert (layer / "it").readlink().as_posix() == "bin/it"


@pytest.mark.parametrize(
    "members",
    [
        [("rootfs/it", b"x", tarfile.REGTYPE)],
        [("config.json", "rootfs/it", tarfile.SYMTYPE)],
        [("config.json", b'{"env": 5}', tarfile.REGTYPE)],
        [("config.json", b"\xff", tarfile.REGTYPE)],
        [("config.json", b"[" * 1000, tarfile.REGTYPE)],
    ],
)
def test_without_a_config_there_is_no_plugin(images, members):
    with pytest.raises(InvalidArgument):
        images.unpacked(packed(*members))
    assert images.list() == []


def test_nothing_gets_out(images, quick_engine):
    """What names a place above the root file system is in that, as for any layer."""
    out = ("rootfs/../../../../../../../../escaped", b"x", tarfile.REGTYPE)
    image, _ = images.unpacked(packed(FILES[0], out))
    (layer,) = quick_engine._store.layers.paths([one.diff_id for one in image.layers])
    assert [path.name for path in layer.iterdir()] == ["escaped"]
