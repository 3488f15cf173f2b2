"""The image ``host`` as one real layer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from cellbox.images.host import HostImage
from cellbox.images.materialise import chosen_files, materialise

pytestmark = pytest.mark.root


@pytest.fixture
def tree(root, layers):
    staged = materialise(HostImage(root), layers)
    layers.commit([staged])
    return layers.path(staged.facts.diff_id)


def run(tree, *argv: str) -> str:
    command = [shutil.which("chroot") or "/usr/sbin/chroot", str(tree), *argv]
    done = subprocess.run(command, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_shell_and_its_python_run(tree):
    assert run(tree, "/bin/sh", "-c", "echo one | sed s/one/two/ | cat") == "two\n"
    code = "import ctypes, json, ssl, sys; print(sys.prefix, sys.version_info[:2])"
    told = run(tree, sys.executable, "-c", code)
    assert told == f"{sys.prefix} {sys.version_info[:2]}\n"


def test_what_is_not_in_it(tree):
    assert not (tree / "etc/shadow").exists()
    assert not list(tree.rglob("site-packages/numpy"))
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in tree.rglob("*")}
    assert owners == {(0, 0)}


def test_two_are_the_same(root, layers):
    image = HostImage(root)
    first, second = materialise(image, layers), materialise(image, layers)
    assert first.facts.diff_id == second.facts.diff_id
    layers.discard([first, second])
    assert all(not name.startswith("tmp") for name in os.listdir(root / "host"))


def test_nothing_chosen_is_private():
    chosen = chosen_files()
    assert any(path.endswith("/sh") for path in chosen)
    private = [path for path in chosen if path.startswith(("/etc/", "/home/", "/root/"))]
    inside = (sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix))
    assert all(path.startswith(inside) for path in private)
