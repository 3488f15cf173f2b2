"""Roots and run directories, and who may have made them."""

import os

import pytest

from cellbox.errors import NotSupported, PermissionDenied
from cellbox.local import places
from cellbox.local.places import make_private, root_directory, run_directory, socket_path


@pytest.fixture
def be(monkeypatch):
    """``be(uid)``: seem to be that user."""
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.fixture
def mounted(monkeypatch):
    """``mounted("/run")``: these are the file systems in memory, each a mount of its own."""

    def mount(*points):
        monkeypatch.setattr(places, "_tmpfs_mounts", lambda: set(points))
        monkeypatch.setattr(os.path, "ismount", lambda path: path in ("/", *points))
        monkeypatch.setattr(os, "access", lambda path, mode: True)

    return mount


# The root ---------------------------------------------------------------------------------------


def test_the_root_is_the_users_own(be, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    be(0)
    assert str(root_directory({})) == "/var/lib/cellbox"
    be(1000)
    assert str(root_directory({})) == "/home/ann/data/cellbox"


def test_the_root_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert root_directory({"CELLBOX_ROOT": "/srv/boxes"}).as_posix() == "/srv/boxes"
    assert root_directory({"CELLBOX_ROOT": "boxes"}) == tmp_path / "boxes"
    assert root_directory({"CELLBOX_ROOT": ""}) == root_directory({})


# The socket -------------------------------------------------------------------------------------


def test_roots_socket_is_where_a_group_can_reach_it(be, mounted, tmp_path):
    mounted("/run", "/run/user/1000")
    be(0)
    assert str(socket_path(root_directory({}), {})) == "/run/cellbox.sock"
    other = socket_path(tmp_path, {})
    assert other.parent.as_posix() == "/run"
    assert other.name.startswith("cellbox-") and other != socket_path(tmp_path / "x", {})


def test_anybody_elses_is_their_own(be, mounted, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    mounted("/run/user/1000")
    be(1000)
    environ = {"XDG_RUNTIME_DIR": "/run/user/1000"}
    assert str(socket_path(root_directory({}), environ)) == "/run/user/1000/cellbox/cellbox.sock"


def test_where_run_cannot_be_written_roots_is_in_the_run_directory(be, mounted, monkeypatch):
    mounted("/dev/shm")
    be(0)
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/run")
    assert str(socket_path(root_directory({}), {})) == "/dev/shm/cellbox-0/cellbox.sock"


# The run directory ------------------------------------------------------------------------------


def test_the_usual_store_has_the_plain_name(be, mounted, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    mounted("/run", "/run/user/1000", "/dev/shm")
    be(0)
    assert str(run_directory(root_directory({}), {})) == "/run/cellbox"
    be(1000)
    environ = {"XDG_RUNTIME_DIR": "/run/user/1000"}
    assert str(run_directory(root_directory({}), environ)) == "/run/user/1000/cellbox"


def test_each_other_store_has_a_name_of_its_own(tmp_path, be, mounted):
    mounted("/run")
    be(0)
    first, again, second = (run_directory(tmp_path / name, {}) for name in ("a", "a", "b"))
    assert first == again != second
    assert first.parent.as_posix() == "/run" and first.name.startswith("cellbox-")


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/home/ann/run"}])
def test_where_the_usual_place_is_on_a_disk_it_is_in_shared_memory(be, mounted, environ):
    mounted("/dev/shm")
    be(1000)
    run = run_directory(root_directory({}), environ)
    assert str(run) == "/dev/shm/cellbox-1000"


def test_with_nothing_in_memory_it_is_in_the_root(tmp_path, be, mounted):
    mounted()
    be(0)
    assert run_directory(tmp_path, {}) == tmp_path / "run"


def test_where_nobody_may_write_it_is_not(tmp_path, be, mounted, monkeypatch):
    mounted("/run", "/dev/shm")
    be(0)
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/run")
    assert str(run_directory(tmp_path, {})).startswith("/dev/shm/cellbox-")


def test_this_machines_mounts_are_read_from_the_kernel(tmp_path):
    points = places._tmpfs_mounts()
    assert all(os.path.ismount(point) or not os.path.exists(point) for point in points)
    assert places._mount_of(str(tmp_path / "not" / "there")) in ("/", *map(str, tmp_path.parents))


# Private directories ----------------------------------------------------------------------------


def mode(path):
    return path.stat().st_mode & 0o7777


def test_a_private_directory_is_made(tmp_path):
    path = tmp_path / "a" / "b"
    for _ in range(2):
        make_private(path)
        assert (path.is_dir(), mode(path)) == (True, 0o700)


def test_one_that_others_may_enter_is_closed_to_them(tmp_path):
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o777)
    make_private(path)
    assert mode(path) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
def test_one_that_somebody_else_has_made_is_refused(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir(mode=0o755)
    os.chown(path, 12345, 12345)
    with pytest.raises(PermissionDenied, match="belongs to somebody else: set CELLBOX_ROOT"):
        make_private(path)
    assert mode(path) == 0o755


def test_a_link_is_refused_wherever_it_leads(tmp_path):
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(PermissionDenied, match="belongs to somebody else"):
        make_private(tmp_path / "link")
    assert mode(target) == 0o755


def test_what_cannot_be_made_is_told_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotSupported, match="cannot make .*: set CELLBOX_ROOT"):
            make_private(path)
