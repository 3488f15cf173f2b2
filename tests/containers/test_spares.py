"""Writable directories that are prepared for nobody, and containers that get one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cellbox.containers import records, spares, starter
from cellbox.containers.messages import Preparation
from cellbox.errors import StartError
from cellbox.linux import syscalls
from cellbox.linux.mounts import Mount


def make_root(folder: Path, lower: Path, mode: int = 0o755) -> Mount:
    """The root of a container that was just made."""
    for name in ("upper", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "upper").chmod(mode)
    lower.mkdir(exist_ok=True)
    at = {"upper": f"{folder}/upper", "work": f"{folder}/work"}
    return Mount("overlay", "/", lowers=(str(lower),), **at)


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "one", tmp_path / "lower")


@pytest.fixture
def pool(tmp_path):
    return spares.Spares(str(tmp_path / "spare"))


def make(pool, root):
    found = spares.wanted([root])
    assert found is not None
    spare = pool.make(found)
    assert spare is not None
    return spare


# --- alone ---------------------------------------------------------------------------------------


def test_two_new_containers_of_an_image_want_the_same(tmp_path, root):
    other = make_root(tmp_path / "two", tmp_path / "lower")
    assert spares.wanted([root]) == spares.wanted([other, Mount("proc", "/proc")])


def test_the_places_of_the_engine_s_files_are_wanted_too(tmp_path):
    folder, lower = tmp_path / "one" / "layer", tmp_path / "lower"
    root = make_root(folder, lower)
    hosts = Mount("bind", "/etc/hosts", source=str(folder.parent / "hosts"))
    users_own = Mount("bind", "/etc/hostname", source="/some/directory")
    found = spares.wanted([root, hosts, users_own])
    assert found is not None and found.places == ("/etc/hosts",)
    assert found != spares.wanted([root, users_own])
    below = Mount("bind", "/etc", source="/some/directory")
    assert spares.wanted([root, below, hosts]) == spares.wanted([root])


@pytest.mark.parametrize("name", ["upper", "work", "third"])
def test_one_that_was_written_to_wants_its_own(root, name):
    folder = Path(root.upper).parent / name
    folder.mkdir(exist_ok=True)
    (folder / "file").touch()
    assert spares.wanted([root]) is None


@pytest.mark.parametrize(
    "mounts",
    [
        [Mount("bind", "/", source="/tree")],
        [Mount("overlay", "/", lowers=("/lower",))],
        [Mount("overlay", "/", lowers=("/lower",), upper="/no/such/upper", work="/no/such/work")],
    ],
)
def test_what_has_no_writable_directory_wants_none(mounts):
    assert spares.wanted(mounts) is None


def test_several_writable_parts_are_left_alone(root):
    assert spares.wanted([root, Mount("overlay", "/usr", lowers=("/usr",))]) is None


def test_a_spare_is_as_the_containers_own(tmp_path, pool):
    root = make_root(tmp_path / "one", tmp_path / "lower", 0o1777)
    os.setxattr(root.upper, "user.mark", b"value")
    spare = make(pool, root)
    assert os.stat(spare.mount.upper).st_mode == os.stat(root.upper).st_mode
    assert os.getxattr(spare.mount.upper, "user.mark") == b"value"
    assert spares.wanted([spare.mount]) == spare.prepared


def test_they_change_places(pool, root):
    spare = make(pool, root)
    inodes = [os.stat(path).st_ino for path in (root.upper, spare.mount.upper)]
    assert spare.give(root, spares.wanted([root]))
    assert [os.stat(path).st_ino for path in (spare.mount.upper, root.upper)] == inodes
    spare.change_places(root)
    assert [os.stat(path).st_ino for path in (root.upper, spare.mount.upper)] == inodes


def test_what_comes_back_is_the_next_spare(pool, root):
    spare = make(pool, root)
    assert spare.give(root, spare.prepared)
    pool.back(spare)
    assert make(pool, root).folder == spare.folder
    assert make(pool, root).folder != spare.folder


def test_another_container_gets_nothing(tmp_path, pool, root):
    spare = make(pool, root)
    volatile = replace(root, data="volatile")
    other = make_root(tmp_path / "two", tmp_path / "another")
    Path(root.upper, "file").touch()
    for one in (root, volatile, other):
        assert not spare.give(one, spares.wanted([one]))
    assert Path(root.upper, "file").exists()


def test_neither_does_one_whose_layer_is_another_by_now(tmp_path, pool, root):
    spare = make(pool, root)
    (tmp_path / "lower").rename(tmp_path / "kept")
    (tmp_path / "lower").mkdir()
    assert not spare.give(root, spares.wanted([root]))


def test_nor_where_the_file_system_has_no_exchange(pool, root, monkeypatch):
    spare = make(pool, root)

    def refuse(one, other):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(syscalls, "exchange", refuse)
    assert not spare.give(root, spares.wanted([root]))


def test_none_where_none_can_be_made(tmp_path, pool, root):
    (tmp_path / "spare").touch()
    assert pool.make(spares.wanted([root])) is None


def test_nothing_stays(tmp_path, pool, root):
    one, other = make(pool, root), make(pool, root)
    pool.discard(one)
    pool.discard(None)
    assert os.listdir(tmp_path / "spare") == [os.path.basename(other.folder)]
    pool.sweep()
    pool.sweep()
    assert not (tmp_path / "spare").exists()


@pytest.mark.parametrize(("targets", "possible"), [(("/proc", "/sys", "/dev"), True), ((), False)])
def test_what_a_second_root_may_need_must_be_there(targets, possible):
    prepared = Preparation(mounts=tuple(Mount("any", target) for target in targets))
    assert spares.possible(prepared) == possible


# --- with real containers ------------------------------------------------------------------------


class Guess:
    """Containers of one image, started until one has the root that was prepared for it."""

    def __init__(self, store, until):
        self.store, self._until = store, until
        self._kept = {}

    def _spares(self):
        found = set()
        for folder in (self.store.root / spares.FOLDER).glob("*"):
            found.add(folder.stat().st_ino)
        return found

    def prepare(self):
        """Until whoever comes next is awaited with a root of this image."""
        for _ in range(4):
            assert self.store.result("true") == (b"", 0)
        self._until(lambda: len(self._spares()) >= 2)

    def begin(self, *argv, before=lambda bundle: None, **how):
        """(the container, did it get a spare?)"""
        bundle = self.store.make(*argv, **how)
        before(bundle)
        known = self._spares()
        box = self.store.start(bundle)
        return box, (box.directory / "layer").stat().st_ino in known


@pytest.fixture
def guess(lone, until):
    made = Guess(lone, until)
    made.prepare()
    return made


def test_the_third_of_an_image_has_what_was_prepared(guess):
    box, used = guess.begin("sh", "-c", "echo x > /file; cat /file /proc/1/comm; ls /dev/null")
    assert (box.output()[0], used) == (b"x\nsh\n/dev/null\n", True)
    assert (box.directory / "layer/upper/file").read_text() == "x\n"
    assert records.read_exit(str(box.directory)).exit_code == 0


def test_each_has_its_own(guess):
    script = "ls /tmp/mark; echo > /tmp/mark"
    for _ in range(4):
        box, _used = guess.begin("sh", "-c", script)
        assert box.output() == (b"", b"ls: /tmp/mark: No such file or directory\n")


def test_nothing_of_the_host_is_behind_it(guess):
    box, used = guess.begin("sh", "-c", "cat /proc/self/mountinfo; ls -a / /..")
    out = box.output()[0].decode()
    assert used
    assert not any(str(guess.store.root) in line.split(" - ")[0] for line in out.splitlines())
    assert "launcher.sock" not in out


def test_one_of_another_image_has_its_own_root(guess, tmp_path, rootfs):
    other = tmp_path / "other"
    shutil.copytree(rootfs, other, symlinks=True)
    (other / "mark").write_text("other\n")
    box, used = guess.begin("cat", "/mark", root={"lowers": (str(other),)})
    assert (box.output(), used) == ((b"other\n", b""), False)


def test_one_that_was_written_to_before_keeps_it(guess):
    def write(bundle):
        Path(bundle.directory, "layer/upper/mark").write_text("mine\n")

    box, used = guess.begin("cat", "/mark", before=write)
    assert (box.output(), used) == ((b"mine\n", b""), False)


def test_one_that_wants_other_mounts_gets_them(guess):
    box, used = guess.begin("ls", "/dev/shm", "/sys", without=("/dev/shm", "/sys"))
    assert not used
    assert b"/dev/shm" in box.output()[1]


@pytest.mark.parametrize("how", [{}, {"masked": ()}])
def test_sysctls_are_written_either_way(guess, how):
    wanted = {"net.ipv4.ip_default_ttl": "42"}
    box, used = guess.begin("cat", "/proc/sys/net/ipv4/ip_default_ttl", sysctls=wanted, **how)
    assert (box.output(), used) == ((b"42\n", b""), not how)


def test_an_image_that_cannot_be_mounted_spoils_it_for_no_other(lone, rootfs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(rootfs, other, symlinks=True)
    (other / "proc").rmdir()
    (other / "proc").symlink_to("/tmp")
    for _ in range(4):
        with pytest.raises(StartError) as caught:
            lone.begin("true", root={"lowers": (str(other),)})
        assert caught.value.errno == errno.ELOOP
    for _ in range(3):
        assert lone.result("echo", "x") == (b"x\n", 0)


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_that_need_not_last_is_mounted_again(guess, first):
    bundle = guess.store.make("echo", "x", root={"data": "volatile"})
    if first:
        bad = replace(bundle, mounts=(*bundle.mounts, Mount("bind", "/d", source="/no/such/place")))
        records.write(f"{bundle.directory}/{records.BUNDLE}", bad)
        with pytest.raises(StartError):
            guess.store.start(bad)
        records.write(f"{bundle.directory}/{records.BUNDLE}", bundle)
    for _ in range(3):
        assert guess.store.start(bundle).output() == (b"x\n", b"")


def test_a_second_run_of_a_container_finds_what_the_first_wrote(guess):
    box, used = guess.begin("sh", "-c", "cat /mark; echo first > /mark")
    assert box.output()[0] == b"" and used
    box.stream.wait()
    assert guess.store.start(box.bundle).output()[0] == b"first\n"


def test_the_directory_of_one_in_reserve_goes_with_it(guess, until):
    folder = guess.store.root / spares.FOLDER
    before = set(os.listdir(folder))
    for pid in until(lambda: len(found := guess.store.shims()) >= starter.RESERVE and found):
        os.kill(pid, signal.SIGKILL)
    until(lambda: before - set(os.listdir(folder)))
    assert guess.begin("true")[0].stream.wait() == 0


def test_the_next_launcher_tidies_up(guess, until):
    mark = guess.store.root / spares.FOLDER / "mark"
    mark.mkdir()
    pid = guess.store.launcher_pid()
    for one in (pid, *guess.store.children(pid)):
        with suppress(ProcessLookupError):  # some end by themselves when it has gone
            os.kill(one, signal.SIGKILL)
    until(lambda: not guess.store.launcher_pid())
    assert guess.store.result("echo", "x") == (b"x\n", 0)
    assert not mark.exists()
