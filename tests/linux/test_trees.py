"""Deleting trees of every shape, and nothing beside them."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.linux import syscalls
from cellbox.linux.trees import remove_tree

ANN = 12345


def test_a_tree_goes_with_all_that_is_in_it(tmp_path):
    for path in ("t/a/b/c", "t/a/d", "t/e"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "file").write_text("x")
    os.mkfifo(tmp_path / "t/fifo")
    remove_tree(tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_a_file_a_fifo_and_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "fifo", "missing", "missing/too"):
        remove_tree(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["t", b"t", "t/", "t///"])
def test_ways_to_name_it(tmp_path, name):
    (tmp_path / "t/a").mkdir(parents=True)
    top = os.open(tmp_path, os.O_RDONLY)
    remove_tree(name, dir_fd=top)
    os.close(top)
    assert not list(tmp_path.iterdir())


def test_symbolic_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    (tmp_path / "t/a").mkdir(parents=True)
    for place in ("t/dir", "t/a/dir"):
        (tmp_path / place).symlink_to(outside)
    (tmp_path / "t/a/file").symlink_to(outside / "keep")
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "t")
    remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "keep").read_text() == "x"


def test_a_tree_that_is_deeper_than_any_path(tmp_path):
    (tmp_path / "t").mkdir()
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    for level in range(3000):
        name = "d" * 20 if level % 2 else "e"
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        if level % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_few_descriptors_are_enough(tmp_path, in_child):
    (tmp_path / "t" / "/".join(["d"] * 100)).mkdir(parents=True)

    def action():
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, used + 8))
        remove_tree(tmp_path / "t")

    in_child(action)
    assert not list(tmp_path.iterdir())


def test_ten_thousand_names(tmp_path):
    top = tmp_path / "t"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for number in range(10_000):
        if number % 10:
            os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        else:
            os.mkdir(f"d{number}", dir_fd=fd)
    os.close(fd)
    remove_tree(top)
    assert not top.exists()


def test_names_that_are_no_text_or_as_long_as_can_be(tmp_path):
    top = os.fsencode(tmp_path)
    for name in (b"\xff\xfe", b"\n", b"x" * 255, b"-rf", b".removing-1"):
        os.makedirs(top + b"/t/" + name + b"/" + name + b"/a")
    os.makedirs(top + b"/" + b"y" * 255 + b"/a/b")
    remove_tree(top + b"/t")
    remove_tree(top + b"/" + b"y" * 255)
    assert not os.listdir(top)


def _closed(tmp_path):
    """A tree of directories that their owner has closed, each in another way."""
    top = tmp_path / "t"
    for mode in (0o000, 0o100, 0o200, 0o400, 0o500, 0o600):
        below = top / f"m{mode:o}" / "a"
        below.mkdir(parents=True)
        (below / "file").write_text("x")
        below.chmod(mode)
        below.parent.chmod(mode)
    top.chmod(0o000)
    return top


def test_closed_directories(tmp_path):
    top = _closed(tmp_path)
    remove_tree(top)
    assert not list(tmp_path.iterdir())


def test_closed_directories_of_an_ordinary_user(tmp_path, in_child):
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user; as an ordinary one the test before is this")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    os.chown(tmp_path, ANN, ANN)

    def action():
        os.setgroups([])
        os.setresgid(ANN, ANN, ANN)
        os.setresuid(ANN, ANN, ANN)
        remove_tree(_closed(tmp_path))

    in_child(action)
    assert not list(tmp_path.iterdir())


def test_processes_that_delete_the_same_tree(tmp_path):
    for _ in range(5):
        for number in range(30):
            (tmp_path / f"t/{number}/a/b/c").mkdir(parents=True)
            (tmp_path / f"t/{number}/a/file").write_text("x")
        assert _at_once(tmp_path / "t") == [0, 0, 0]
        assert not list(tmp_path.iterdir())


def _at_once(path) -> list[int]:
    """The exit codes of three processes that delete ``path`` at once."""
    ready, go = os.pipe()
    pids = []
    for _ in range(3):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(go)
            os.read(ready, 1)
            try:
                remove_tree(path)
                os._exit(0)
            except OSError:
                os._exit(1)
    os.close(go)
    os.close(ready)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


@pytest.fixture
def on_overlay(in_namespace, tmp_path):
    """Run a function on ``t``, made by ``fill`` in a lower layer, as an overlay shows it."""

    def run(fill, action):
        def inside():
            syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
            lower, upper, work, merged = (tmp_path / name for name in ("l", "u", "w", "m"))
            for path in (lower, upper, work, merged):
                path.mkdir()
            fill(lower / "t")
            options = f"userxattr,lowerdir={lower},upperdir={upper},workdir={work}"
            syscalls.mount("overlay", str(merged), "overlay", 0, options)
            action(merged / "t")
            assert not os.listdir(merged)
            syscalls.umount(str(merged))

        in_namespace(inside)

    return run


def _bushy(top):
    for path in ("a/b/c/d", "a/b/e", "a/f/g/h", "i/j"):
        (top / path).mkdir(parents=True)
        (top / path / "file").write_text("x")
    (top / "a/b/link").symlink_to(top)
    for number in range(200):
        (top / f"wide/x/{number}/y/z").mkdir(parents=True)


def test_what_an_overlay_will_not_rename(on_overlay):
    """A directory of a lower layer cannot be moved up (EXDEV); this is ``cp`` over one."""

    def action(top):
        with pytest.raises(OSError) as caught:
            os.rename(top / "a/b", top / "b")
        assert caught.value.errno == errno.EXDEV
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, used + 8))
        remove_tree(top)

    on_overlay(_bushy, action)


def test_a_deep_lower_layer(on_overlay):
    def fill(top):
        top.mkdir()
        fd = os.open(top, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)

    on_overlay(fill, remove_tree)


def test_processes_that_delete_the_same_lower_layer(on_overlay):
    def action(top):
        assert _at_once(top) == [0, 0, 0]

    on_overlay(_bushy, action)


def test_modes_outside_stay_as_they_are(tmp_path, in_child):
    """What cannot be unlinked is not taken for a directory and chmod'ed through its link."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, ANN, ANN)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    tree = tmp_path / "t"
    tree.mkdir()
    (tree / "link").symlink_to(secret)  # in a directory that is not ours to change

    def action():
        os.setgroups([])
        os.setresgid(ANN, ANN, ANN)
        os.setresuid(ANN, ANN, ANN)
        with pytest.raises(PermissionError):
            remove_tree(tree)

    in_child(action)
    assert secret.stat().st_mode & 0o777 == 0o600


def test_an_error_is_told(tmp_path):
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").write_text("x")
        remove_tree(tmp_path / "file/below")


def test_a_mount_in_the_tree_is_told_and_kept(tmp_path, in_namespace):
    (tmp_path / "t/mnt").mkdir(parents=True)

    def action():
        syscalls.mount("tmpfs", str(tmp_path / "t/mnt"), "tmpfs")
        (tmp_path / "t/mnt/data").mkdir()
        with pytest.raises(OSError):
            remove_tree(tmp_path / "t")

    in_namespace(action)


trees = st.recursive(
    st.sampled_from(["file", "link", "fifo"]),
    lambda below: st.dictionaries(st.sampled_from(list("abcd")), below, max_size=4),
    max_leaves=25,
)


@settings(max_examples=50, deadline=None)
@given(tree=trees)
def test_any_shape(tree, tmp_path_factory):
    base = tmp_path_factory.mktemp("shape")
    keep = base / "keep"
    keep.write_text("x")
    _make(base / "t", tree, keep)
    remove_tree(base / "t")
    assert os.listdir(base) == ["keep"]


def _make(path: Path, tree, keep: Path) -> None:
    if tree == "file":
        path.write_text("x")
    elif tree == "link":
        path.symlink_to(keep)
    elif tree == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
        for name, below in tree.items():
            _make(path / name, below, keep)
