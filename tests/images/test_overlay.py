"""The overlay snapshotter: mounts as data, and that the kernel agrees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellbox.errors import NotSupported
from cellbox.images.overlay import MAX_LAYERS, OverlaySnapshotter
from cellbox.linux.mounts import Mount

A, B = Path("/layers/a/fs"), Path("/layers/b/fs")


@pytest.fixture
def overlay(work) -> OverlaySnapshotter:
    return OverlaySnapshotter(work)


def test_mounts(overlay):
    assert overlay.mounts([A, B], Path("/w")) == (
        Mount(
            "overlay",
            "/",
            lowers=("/layers/b/fs", "/layers/a/fs"),
            upper="/w/upper",
            work="/w/work",
            idmap=True,
        ),
    )


def test_without_a_writable_directory(overlay):
    (mount,) = overlay.mounts([A, B], None)
    assert (mount.kind, mount.flags, mount.upper) == ("overlay", ("ro",), "")
    (mount,) = overlay.mounts([A], None)
    assert (mount.kind, mount.source, mount.flags) == ("bind", str(A), ("ro",))


def test_an_image_without_layers(overlay, tmp_path):
    overlay.prepare([], tmp_path)
    (mount,) = overlay.mounts([], tmp_path)
    assert mount.lowers == (str(tmp_path / "none"),)
    assert all(Path(path).is_dir() for path in (*mount.lowers, mount.upper, mount.work))


def test_too_many_layers(overlay):
    layers = [Path(f"/layers/{number}/fs") for number in range(MAX_LAYERS + 1)]
    overlay.mounts(layers[1:], Path("/w"))
    with pytest.raises(NotSupported, match="121 layers"):
        overlay.mounts(layers, Path("/w"))


def test_a_layer_that_is_there_twice_counts_at_its_upper_place(overlay):
    (mount,) = overlay.mounts([A, B, A], Path("/w"))
    assert mount.lowers == (str(A), str(B))
    (mount,) = overlay.mounts([A, A], None)
    assert (mount.kind, mount.source) == ("bind", str(A))


@pytest.mark.root
def test_it_knows_whether_it_works(overlay, tmp_path):
    before = os.listdir(tmp_path)
    answer = overlay.usable(tmp_path)
    assert answer == "" or "overlay" in answer
    assert os.listdir(tmp_path) == before
    assert "does not work" in overlay.usable(Path("/proc"))


MOUNT = """
import os, sys
from cellbox.linux import syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
lower, upper, work, target = sys.argv[1:5]
syscalls.mount("overlay", target, "overlay", 0,
               f"lowerdir={lower},upperdir={upper},workdir={work},userxattr")
os.chdir(target)
exec(sys.argv[5])
"""


@pytest.mark.root
def test_the_kernel_sees_the_same_layers(overlay, apply, layers, make_tar, tmp_path):
    if overlay.usable(tmp_path):
        pytest.skip("overlayfs does not work on this file system")
    low = apply(make_tar(("a", b"1"), ("d/b", b"2"), ("d/c", b"3"), ("e/f", b"4")))
    high = apply(make_tar((".wh.a", b""), ("d/.wh.b", b""), ("e/.wh..wh..opq", b""), ("e/g", b"5")))
    layers.commit([low, high])
    writable, target = tmp_path / "w", tmp_path / "target"
    writable.mkdir()
    target.mkdir()
    stack = [layers.path(item.facts.diff_id) for item in (low, high)]
    overlay.prepare(stack, writable)
    (mount,) = overlay.mounts(stack, writable)
    code = "print(sorted(os.path.join(d, f) for d, _, fs in os.walk('.') for f in fs))"
    command = [sys.executable, "-c", MOUNT, ":".join(mount.lowers), mount.upper, mount.work]
    source = Path(__file__).parents[2] / "runtime"
    done = subprocess.run(
        [*command, str(target), code],
        env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "['./d/c', './e/g']", done.stderr
