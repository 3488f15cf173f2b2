"""Mounts in a namespace of our own, and the ways in which an image leads them astray.

Every attack is the concrete one: an image is a directory with a symbolic link in it that points to
``outside``, and what must not happen is that something is made or mounted there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cellbox.linux import idmap, mounts, syscalls
from cellbox.linux.mounts import Mount


@pytest.fixture
def image(tmp_path):
    """A root file system with an ordinary shape."""
    root = tmp_path / "image"
    for name in ("proc", "sys", "dev", "etc", "data"):
        (root / name).mkdir(parents=True)
    (root / "etc/file").write_text("image\n")
    return root


@pytest.fixture
def outside(tmp_path):
    """What an image has no business with."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("outside\n")
    return path


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    (path / "inner").write_text("source\n")
    return path


@pytest.fixture
def scratch_place(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def opened(path):
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def attach(root, *wanted, scratch=-1, userns=-1):
    fd = opened(root)
    sources = iter(mounts.open_sources(wanted, userns))
    for mount in wanted:
        mounts.attach(fd, mount, sources, scratch)
    return fd


def device(name="null"):
    return os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC)


# --- as data -------------------------------------------------------------------------------------


def test_the_sources_of_a_mount():
    overlay = Mount("overlay", "/", lowers=("/b", "/a"), upper="/l/upper", work="/l/work")
    assert mounts.source_paths(overlay) == ["/b", "/a", "/l"]
    assert mounts.source_paths(Mount("overlay", "/", lowers=("/b",))) == ["/b"]
    assert mounts.source_paths(Mount("bind", "/d", source="/s")) == ["/s"]
    assert mounts.source_paths(Mount("tmpfs", "/d")) == []


def test_a_source_that_is_not_there_leaves_nothing_open(in_namespace, source):
    def action():
        before = os.listdir("/proc/self/fd")
        wanted = [Mount("bind", "/a", source=str(source)), Mount("bind", "/b", source="/no/such")]
        with pytest.raises(FileNotFoundError) as caught:
            mounts.open_sources(wanted, -1)
        assert caught.value.filename == "open_tree /no/such"
        assert os.listdir("/proc/self/fd") == before

    in_namespace(action)


# --- binds and file systems ----------------------------------------------------------------------


def test_a_bind_shows_its_source(in_namespace, image, source):
    def action():
        attach(image, Mount("bind", "/data", source=str(source)))
        assert (image / "data/inner").read_text() == "source\n"
        (image / "data/new").write_text("x")
        assert (source / "new").exists()

    in_namespace(action)


def test_the_flags_of_a_bind(in_namespace, image, source):
    def action():
        flags = ("ro", "nosuid", "nodev", "noexec")
        attach(image, Mount("bind", "/data", source=str(source), flags=flags))
        with pytest.raises(OSError) as caught:
            (image / "data/new").write_text("x")
        assert caught.value.errno == errno.EROFS
        found = os.statvfs(image / "data").f_flag
        wanted = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
        assert found & wanted == wanted
        (source / "new").write_text("x")  # the source itself is as it was

    in_namespace(action)


def test_a_file_on_a_file_that_is_made(in_namespace, image, source):
    def action():
        attach(image, Mount("bind", "/new/dir/file", source=str(source / "inner")))
        assert (image / "new/dir/file").read_text() == "source\n"

    in_namespace(action)
    assert stat.S_IMODE((image / "new/dir").stat().st_mode) == 0o755
    assert stat.S_IMODE((image / "new/dir/file").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("target", "wanted", "number"),
    [
        ("/etc/file", "directory", errno.ENOTDIR),
        ("/etc", "file", errno.EISDIR),
        ("/etc/file/below", "directory", errno.ENOTDIR),
    ],
)
def test_a_file_and_a_directory_do_not_meet(image, target, wanted, number):
    root = opened(image)
    with pytest.raises(OSError) as caught:
        mounts.make_target(root, target, wanted == "directory")
    os.close(root)
    assert caught.value.errno == number


def test_submounts_come_along_where_that_was_asked_for(in_namespace, image, source):
    def action():
        (source / "sub").mkdir()
        syscalls.mount("tmpfs", str(source / "sub"), "tmpfs")
        (source / "sub/deep").write_text("x")
        (image / "alone").mkdir()
        attach(
            image,
            Mount("bind", "/data", source=str(source), recursive=True, flags=("ro",)),
        )
        assert (image / "data/sub/deep").exists()
        with pytest.raises(OSError):
            (image / "data/sub/deep").write_text("y")

    in_namespace(action)


def test_a_shallow_bind_is_read_only_but_not_below(in_namespace, image, source):
    def action():
        (source / "sub").mkdir()
        syscalls.mount("tmpfs", str(source / "sub"), "tmpfs")
        wanted = Mount(
            "bind", "/data", str(source), recursive=True, flags=("ro", "nodev"), shallow=True
        )
        attach(image, wanted)
        with pytest.raises(OSError):
            (image / "data/new").touch()
        (image / "data/sub/new").touch()
        below = os.statvfs(image / "data/sub").f_flag
        assert below & os.ST_NODEV and not below & os.ST_RDONLY

    in_namespace(action)


@pytest.mark.parametrize(
    ("mode", "arrives"),
    [("", True), ("rprivate", False), ("private", False), ("slave", True), ("rslave", True)],
)
def test_what_is_mounted_later_arrives_where_that_was_asked_for(
    in_namespace, image, source, mode, arrives
):
    shared = 1 << 20

    def action():
        syscalls.mount(str(source), str(source), "", 4096)  # MS_BIND
        syscalls.mount("", str(source), "", shared)
        (source / "sub").mkdir()
        attach(image, Mount("bind", "/data", str(source), recursive=True, propagation=mode))
        syscalls.mount("tmpfs", str(source / "sub"), "tmpfs")
        (source / "sub/late").touch()
        assert (image / "data/sub/late").exists() is arrives
        if mode:  # what is mounted inside never comes out
            (image / "data/own").mkdir()
            syscalls.mount("tmpfs", str(image / "data/own"), "tmpfs")
            assert not os.path.ismount(source / "own")

    in_namespace(action)


def test_a_subpath_is_below_the_source_whatever_is_a_link_there(in_namespace, image, source):
    def action():
        (source / "a/b").mkdir(parents=True)
        (source / "a/b/deep").write_text("x")
        os.symlink("/a/b", source / "in")
        os.symlink("/etc", source / "out")
        os.symlink("../../../../../etc", source / "up")
        for number, path in enumerate(("a/b", "in")):
            attach(image, Mount("bind", f"/{number}", str(source), subpath=path, flags=("ro",)))
            assert os.listdir(image / str(number)) == ["deep"]
        for path in ("out", "up", "none"):
            with pytest.raises(FileNotFoundError):
                attach(image, Mount("bind", "/data", str(source), subpath=path))

    in_namespace(action)


def test_a_new_file_system_with_its_options(in_namespace, image):
    def action():
        attach(image, Mount("tmpfs", "/data", data="size=64k,mode=1777", flags=("noexec",)))
        status = os.statvfs(image / "data")
        assert status.f_blocks * status.f_frsize == 65536
        assert stat.S_IMODE((image / "data").stat().st_mode) == 0o1777
        assert status.f_flag & os.ST_NOEXEC

    in_namespace(action)


def test_an_option_that_a_file_system_does_not_know(in_namespace):
    def action():
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError):
            mounts.make_filesystem("tmpfs", "nonsense=1")
        with pytest.raises(OSError):
            mounts.make_filesystem("no-such-filesystem")
        assert os.listdir("/proc/self/fd") == before

    in_namespace(action)


def test_ids_are_mapped(in_namespace, image, source):
    if os.geteuid() != 0:
        pytest.skip("needs root: only the owner of a file system may map its ids")

    def action():
        pid, _ = syscalls.clone3(syscalls.CLONE_NEWUSER)
        if pid == 0:
            os.read(os.pipe()[0], 1)
            os._exit(0)
        idmap.write_maps(pid, [(0, 100_000, 10)], [(0, 100_000, 10)])
        userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        try:
            attach(image, Mount("bind", "/data", source=str(source), idmap=True), userns=userns)
            return (image / "data/inner").stat().st_uid
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    found = in_namespace(action)
    if found == 0:
        pytest.skip("the file system of the temporary directory cannot map ids")
    assert found == 100_000


# --- the root ------------------------------------------------------------------------------------


def overlay(image, tmp_path, **how):
    for name in ("upper", "work"):
        (tmp_path / "layer" / name).mkdir(parents=True, exist_ok=True)
    layer = tmp_path / "layer"
    return Mount(
        "overlay", "/", lowers=(str(image),), upper=f"{layer}/upper", work=f"{layer}/work", **how
    )


def build(mount, scratch_place):
    os.chdir(scratch_place)
    scratch = mounts.make_scratch()
    sources = iter(mounts.open_sources([mount], -1))
    return mounts.build_root(mount, sources, scratch), scratch


def test_an_overlay_takes_writes_in_its_upper_directory(
    in_namespace, image, tmp_path, scratch_place
):
    def action():
        root, _ = build(overlay(image, tmp_path), scratch_place)
        os.fchdir(root)
        Path("etc/file").write_text("changed\n")
        Path("new").write_text("x")

    in_namespace(action)
    assert (image / "etc/file").read_text() == "image\n"
    assert (tmp_path / "layer/upper/etc/file").read_text() == "changed\n"
    assert (tmp_path / "layer/upper/new").exists()


def test_layers_cover_one_another(in_namespace, tmp_path, scratch_place):
    layers = []
    for number in range(mounts.MAX_LAYERS):
        layer = tmp_path / ("layer-with-a-long-name-" * 4 + str(number))
        layer.mkdir()
        (layer / "all").write_text(str(number))
        (layer / f"only{number}").write_text("x")
        layers.append(str(layer))

    def action():
        root, _ = build(Mount("overlay", "/", lowers=tuple(layers)), scratch_place)
        os.fchdir(root)
        assert Path("all").read_text() == "0"  # topmost first
        assert len(os.listdir(".")) == mounts.MAX_LAYERS + 1

    in_namespace(action)


def test_a_bound_directory_as_the_root(in_namespace, image, scratch_place):
    def action():
        root, _ = build(Mount("bind", "/", source=str(image)), scratch_place)
        os.fchdir(root)
        assert Path("etc/file").read_text() == "image\n"

    in_namespace(action)


def test_an_overlay_below_the_root(in_namespace, image, source, tmp_path, scratch_place):
    def action():
        root, scratch = build(overlay(image, tmp_path), scratch_place)
        inner = Mount("overlay", "/data", lowers=(str(source),))
        mounts.attach(root, inner, iter(mounts.open_sources([inner], -1)), scratch)
        os.fchdir(root)
        assert Path("data/inner").read_text() == "source\n"

    in_namespace(action)


def test_the_sealed_root_still_has_what_was_mounted_in_it(
    in_namespace, image, tmp_path, scratch_place
):
    def action():
        root, scratch = build(overlay(image, tmp_path), scratch_place)
        mounts.attach(root, Mount("tmpfs", "/made/here"), iter(()), scratch)
        mounts.seal(root)
        os.fchdir(root)
        Path("made/here/x").write_text("x")
        with pytest.raises(OSError) as caught:
            Path("new").write_text("x")
        assert caught.value.errno == errno.EROFS

    in_namespace(action)


def test_after_the_pivot_the_old_root_is_gone(in_namespace, image, tmp_path, scratch_place):
    def action():
        root, _ = build(overlay(image, tmp_path), scratch_place)
        before = Path("/proc/self/mountinfo").read_text()
        mounts.attach(root, Mount("tmpfs", "/data"), iter(()), -1)
        mounts.pivot(root)
        assert sorted(os.listdir("/")) == ["data", "dev", "etc", "proc", "sys"]
        assert not os.path.exists(str(tmp_path)) and before
        for _ in range(5):
            os.chdir("..")
        assert sorted(os.listdir(".")) == ["data", "dev", "etc", "proc", "sys"]

    in_namespace(action)


def test_what_was_built_elsewhere_is_moved_in_with_all_below_it(in_namespace, image, tmp_path):
    (tmp_path / "elsewhere").mkdir()

    def action():
        syscalls.mount("tmpfs", str(tmp_path / "elsewhere"), "tmpfs")
        (tmp_path / "elsewhere/sub").mkdir()
        syscalls.mount("tmpfs", str(tmp_path / "elsewhere/sub"), "tmpfs")
        (tmp_path / "elsewhere/sub/x").write_text("x")
        mounts.move(opened(tmp_path), "elsewhere", opened(image), "/dev")
        assert (image / "dev/sub/x").exists()
        assert not list((tmp_path / "elsewhere").iterdir())

    in_namespace(action)


# --- images that lead astray ---------------------------------------------------------------------


@pytest.mark.parametrize("link", ["absolute", "relative", "chain"])
def test_a_link_in_the_target_stays_inside(in_namespace, image, outside, source, link):
    """CVE-2021-30465: the look-up is the container's own, so the link leads to a place in it."""
    depth = "../" * 40
    if link == "absolute":
        (image / "vol").symlink_to(outside)
    elif link == "relative":
        (image / "vol").symlink_to(depth + str(outside).lstrip("/"))
    else:
        (image / "one").symlink_to(outside.parent)
        (image / "vol").symlink_to("one/outside")
    inside = image / str(outside).lstrip("/")
    inside.mkdir(parents=True)

    def action():
        attach(image, Mount("bind", "/vol", source=str(source)))
        assert (inside / "inner").exists()
        assert sorted(os.listdir(outside)) == ["file"]

    in_namespace(action)


def test_a_link_that_dangles_makes_nothing_outside(in_namespace, image, outside, source):
    """CVE-2024-45310: no directory is made where the link points."""
    (image / "vol").symlink_to(outside / "new")

    def action():
        for target in ("/vol", "/vol/below"):
            with pytest.raises(FileNotFoundError):
                attach(image, Mount("bind", target, source=str(source)))

    in_namespace(action)
    assert sorted(os.listdir(outside)) == ["file"]


def test_dots_do_not_climb_out(in_namespace, image, outside, source):
    def action():
        attach(image, Mount("bind", "/../../.." + str(outside), source=str(source)))
        assert sorted(os.listdir(outside)) == ["file"]
        assert (image / str(outside).lstrip("/") / "inner").exists()

    in_namespace(action)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["/{}", "/{}/below", "//{}", "/./{}", "/etc/../{}"])
def test_a_link_in_place_of_what_the_kernel_owns_is_refused(
    in_namespace, image, outside, name, target
):
    """CVE-2019-19921 (/proc), CVE-2026-41579 (/dev): not even a link that stays inside."""
    (image / name).rmdir()
    (image / name).symlink_to("etc")

    def action():
        with pytest.raises(OSError) as caught:
            attach(image, Mount("tmpfs", target.format(name)))
        assert caught.value.errno == errno.ELOOP

    in_namespace(action)
    assert os.listdir(image / "etc") == ["file"]


def test_names_that_only_begin_like_those_may_be_links(in_namespace, image):
    (image / "devices").symlink_to("data")

    def action():
        attach(image, Mount("tmpfs", "/devices/here"))

    in_namespace(action)
    assert (image / "data/here").is_dir()


def test_magic_links_are_refused(in_namespace, image, source):
    """``/proc/self/root`` and ``/proc/self/fd/N`` lead anywhere at all."""
    (image / "vol").symlink_to("/proc/self/root/tmp")

    def action():
        attach(image, Mount("bind", "/proc", source="/proc", recursive=True))
        with pytest.raises(OSError) as caught:
            attach(image, Mount("bind", "/vol", source=str(source)))
        assert caught.value.errno == errno.ELOOP

    in_namespace(action)


def test_a_target_without_a_leading_slash_ends(image):
    root = opened(image)
    os.close(mounts.make_target(root, "made/here", True))
    with pytest.raises(FileNotFoundError):
        mounts.make_target(root, "", True)
    os.close(root)
    assert (image / "made/here").is_dir()


# --- masks ---------------------------------------------------------------------------------------


def test_masks_hide_files_and_directories(in_namespace, image):
    (image / "data/secret").write_text("x")

    def action():
        root = opened(image)
        paths = ["/etc/file", "/data", "/sys", "/no/such", "/etc/file/below"]
        before = len(os.listdir("/proc/self/fd"))
        mounts.mask(root, paths, null := device())
        assert len(os.listdir("/proc/self/fd")) == before + 1
        os.close(null)
        assert (image / "etc/file").read_bytes() == b""
        assert stat.S_ISCHR((image / "etc/file").stat().st_mode)
        assert os.listdir(image / "data") == os.listdir(image / "sys") == []
        with pytest.raises(OSError):
            (image / "data/new").write_text("x")

    in_namespace(action)


def test_a_mask_is_made_of_the_device_that_was_checked(in_namespace, image):
    """CVE-2025-31133: what the image calls /dev/null is not looked at."""
    (image / "dev/null").symlink_to("/etc/file")

    def action():
        root = opened(image)
        mounts.mask(root, ["/etc/file"], device())
        status = (image / "etc/file").stat()
        assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (1, 3)

    in_namespace(action)


def test_a_mask_behind_a_link_stays_inside(in_namespace, image, outside):
    (image / "secret").symlink_to(outside / "file")
    (image / str(outside).lstrip("/")).mkdir(parents=True)

    def action():
        mounts.mask(opened(image), ["/secret"], device())
        assert (outside / "file").read_text() == "outside\n"

    in_namespace(action)


def test_a_mask_below_a_link_in_place_of_proc_is_refused(in_namespace, image, outside):
    (image / "proc").rmdir()
    (image / "proc").symlink_to("etc")

    def action():
        for call in (
            lambda root: mounts.mask(root, ["/proc/file"], device()),
            lambda root: mounts.make_read_only(root, ["/proc/file"]),
        ):
            with pytest.raises(OSError) as caught:
                call(opened(image))
            assert caught.value.errno == errno.ELOOP

    in_namespace(action)


def test_read_only_with_all_below(in_namespace, image):
    def action():
        root = opened(image)
        attach(image, Mount("tmpfs", "/data/sub"))
        before = os.listdir("/proc/self/fd")
        mounts.make_read_only(root, ["/data", "/etc/file", "/no/such"])
        assert os.listdir("/proc/self/fd") == before
        for path in ("data/new", "data/sub/new", "etc/file"):
            with pytest.raises(OSError) as caught:
                (image / path).write_text("x")
            assert caught.value.errno == errno.EROFS
        (image / "etc/other").write_text("x")

    in_namespace(action)
