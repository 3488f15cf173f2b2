"""The copying snapshotter."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellbox.errors import NotSupported
from cellbox.images.copying import CopyingSnapshotter
from cellbox.images.jobs import JOBS
from cellbox.linux.mounts import Mount

pytestmark = pytest.mark.root


@pytest.fixture
def copying(work) -> CopyingSnapshotter:
    return CopyingSnapshotter(work)


def test_a_copy_of_all_layers_and_what_changed_in_it(copying, apply, layers, make_tar, tmp_path):
    low = apply(make_tar(("a", b"1"), ("d/b", b"2")))
    high = apply(make_tar((".wh.a", b""), ("d/c", b"3")))
    layers.commit([low, high])
    stack = [layers.path(item.facts.diff_id) for item in (low, high)]
    copying.prepare(stack, tmp_path)
    tree = tmp_path / copying.upper
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["d", "d/b", "d/c"]

    (tree / "d/b").write_bytes(b"22")
    args = {"upper": str(tree), "lowers": [str(path) for path in stack[::-1]], "copied": True}
    changes = JOBS["diff"](args, [])["changes"]
    assert ["C", "/d/b"] in changes and ["C", "/d"] in changes and len(changes) == 2


def test_mounts(copying):
    (mount,) = copying.mounts([Path("/a"), Path("/b")], Path("/w"))
    assert mount == Mount("bind", "/", source="/w/rootfs", idmap=True)
    (mount,) = copying.mounts([Path("/a")], None)
    assert (mount.source, mount.flags) == ("/a", ("ro",))
    with pytest.raises(NotSupported):
        copying.mounts([Path("/a"), Path("/b")], None)


def test_it_works_everywhere(copying, tmp_path):
    assert copying.usable(tmp_path) == ""
