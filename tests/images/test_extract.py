"""Extraction: nothing leaves the root, whatever the names say; and what lawful entries become."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox.images import tar, tarwrite
from cellbox.images.extract import Extractor, Outcome, Whiteouts, allowed_attribute, clean
from cellbox.linux.trees import remove_tree


def file(name: str, data: bytes = b"inside") -> tuple[bytes, bytes]:
    return tarwrite.header(name.encode(), size=len(data)), data


def directory(name: str, mode: int = 0o755) -> tuple[bytes, bytes]:
    return tarwrite.header(name.encode(), tar.DIRECTORY, mode=mode, mtime=1000), b""


def symlink(name: str, target: str) -> tuple[bytes, bytes]:
    return tarwrite.header(name.encode(), tar.SYMLINK, link=target.encode()), b""


def hard(name: str, target: str) -> tuple[bytes, bytes]:
    return tarwrite.header(name.encode(), tar.LINK, link=target.encode(), mode=0o666), b""


def extract(target: Path, *members: tuple[bytes, bytes], **how) -> Outcome:
    data = b"".join(head + body + tarwrite.padding(len(body)) for head, body in members)
    stream = tar.Stream(iter([data + tarwrite.END]))
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Extractor(fd, **how) as extractor:
            for entry in tar.read(stream):
                extractor.add(entry, stream)
            return extractor.finish()
    finally:
        os.close(fd)


def picture(folder: Path) -> list[tuple]:
    """Everything about a tree that an attack could change."""
    found = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
        found.append((str(path), facts.st_mode, facts.st_nlink, facts.st_mtime_ns, data))
    return found


@pytest.fixture
def prison(tmp_path: Path) -> Path:
    """A directory to extract into; ``../outside`` is what must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"secret")
    (outside / "folder").mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    return inside


OUT = "../outside"
BREAKOUTS = {
    "SymlinkAbsolute": [symlink("l", "/outside"), file("l/victim")],
    "SymlinkUpAndOut": [symlink("l", OUT), file("l/victim")],
    "SymlinkMultipleUpAndOut": [symlink("l", "../../../.." + OUT), file("l/victim")],
    "SymlinkAbsoluteUpAndOut": [symlink("l", "/../outside"), file("l/victim")],
    "SymlinkDownAndOut": [directory("d"), symlink("d/l", "../" + OUT), file("d/l/victim")],
    "SymlinkMultipleDownAndOut": [
        directory("d"),
        directory("d/e"),
        symlink("d/e/l", "../../" + OUT),
        file("d/e/l/victim"),
    ],
    "SymlinkChain": [symlink("a", "b"), symlink("b", "c"), symlink("c", OUT), file("a/victim")],
    "SymlinkParentDirectory": [symlink("up", ".."), file("up/outside/victim")],
    "SymlinkParentDirectoryTwice": [symlink("up", ".."), file("up/up/outside/victim")],
    "SymlinkEmptyParts": [symlink("l", ".." + "//outside//"), file("l//./victim")],
    "SymlinkSlashEnded": [symlink("l/", OUT), file("l/victim")],
    "SymlinkReplacedByFile": [symlink("l", OUT + "/victim"), file("l")],
    "SymlinkOverrideDirectory": [directory("d"), symlink("d", OUT), file("d/victim")],
    "SymlinkOverrideDirectoryRelative": [
        directory("d"),
        symlink("d", "./d/../" + OUT),
        directory("x"),
    ],
    "SymlinkToSelf": [symlink("l", "l"), directory("d")],
    "SymlinkRoot": [symlink("/", OUT), file("victim")],
    "SymlinkDot": [symlink(".", OUT), file("victim")],
    "SymlinkDotDot": [symlink("..", OUT), file("../victim")],
    "SymlinkThenChmod": [symlink("l", OUT + "/victim"), directory("l", 0o777)],
    "SymlinkThenDirectoryMode": [symlink("l", OUT), directory("l", 0o777)],
    "DirectoryOverrideSymlink": [symlink("l", OUT), directory("l"), file("l/victim")],
    "DirectoryOverrideRelativeSymlink": [
        directory("d"),
        symlink("d/l", "../" + OUT),
        directory("d/l"),
        file("d/l/victim"),
    ],
    "DirectoryOverrideSymlinkAndHardlink": [
        symlink("l", OUT),
        directory("l"),
        file("l/victim"),
        hard("h", "l/victim"),
    ],
    "NameUpAndOut": [file(OUT + "/victim")],
    "NameMultipleUpAndOut": [file("../../../../../.." + OUT + "/victim")],
    "NameDownAndOut": [file("d/../../outside/victim")],
    "NameAbsolute": [file("/outside/victim")],
    "DirectoryUpAndOut": [directory(OUT, 0o777), directory(OUT + "/folder", 0o777)],
    "FifoUpAndOut": [(tarwrite.header(b"../outside/victim", tar.FIFO), b"")],
    "FifoThroughSymlink": [
        symlink("l", OUT),
        (tarwrite.header(b"l/victim", tar.FIFO), b""),
    ],
    "HardlinkSymlinkBeforeCreateTarget": [
        symlink("l", OUT + "/victim"),
        hard("h", "l"),
        file("h"),
    ],
    "HardlinkSymlinkRelative": [symlink("l", OUT + "/victim"), hard("h", "l"), file("l")],
    "HardlinkSymlinkAbsolute": [symlink("l", "/outside/victim"), hard("h", "/l"), file("h")],
    "HardlinkSymlinkChmod": [symlink("l", OUT + "/victim"), hard("h", "l")],
    "HardlinkToItself": [file("f"), hard("f", "f")],
    "WhiteoutOfSymlink": [symlink("l", OUT + "/victim"), file(".wh.l", b"")],
    "WhiteoutSymlinkPath": [symlink("l", OUT), file("l/.wh.victim", b"")],
    "WhiteoutUpAndOut": [file(OUT + "/.wh.victim", b"")],
    "WhiteoutAbsolute": [file("/../outside/.wh.victim", b"")],
    "WhiteoutAufsLinks": [file(".wh..wh.plnk/../../outside/victim"), file(".wh..wh.aufs", b"")],
    "OpaqueThroughSymlink": [symlink("l", OUT), file("l/.wh..wh..opq", b"")],
    "OpaqueUpAndOut": [file(OUT + "/.wh..wh..opq", b"")],
    "MagicLink": [symlink("l", "/proc/self/cwd/outside"), file("l/victim")],
}
REFUSED = {
    "HardlinkAbsolute": [hard("h", "/outside/victim"), file("h")],
    "HardlinkUpAndOut": [hard("h", OUT + "/victim"), file("h")],
    "HardlinkDownAndOut": [directory("d"), hard("d/h", "../../outside/victim")],
    "HardlinkAbsoluteDownAndOut": [directory("d"), hard("h", "/d/../../outside/victim")],
    "HardlinkThroughSymlink": [symlink("l", OUT), hard("h", "l/victim")],
    "HardlinkToDirectory": [directory("d"), hard("h", "d")],
    "HardlinkToRoot": [hard("h", "/")],
    "WhiteoutRootParent": [file(".wh...", b"")],
    "WhiteoutRoot": [file(".wh..", b"")],
    "WhiteoutParent": [directory("d"), file("d/.wh...", b"")],
    "WhiteoutCurrentDirectory": [directory("d"), file("d/.wh..", b"")],
    "WhiteoutNothing": [file(".wh.", b"")],
    "FileAsDirectory": [file("f"), file("f/victim")],
    "SymlinkLoop": [symlink("a", "b"), symlink("b", "a"), file("a/victim")],
    "SymlinkEmpty": [symlink("l", "")],
    "NameTooLong": [file("a/" * 2500 + "b")],
}


@pytest.mark.parametrize("whiteouts", list(Whiteouts))
@pytest.mark.parametrize("name", BREAKOUTS)
@pytest.mark.root
def test_breakouts_stay_inside(prison, name, whiteouts):
    before = picture(prison.parent / "outside")
    try:
        extract(prison, *BREAKOUTS[name], whiteouts=whiteouts)
    except (InvalidArgument, OSError):
        pass
    assert picture(prison.parent / "outside") == before
    assert sorted(os.listdir(prison.parent)) == ["inside", "outside"]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.root
def test_breakouts_that_are_refused(prison, name):
    before = picture(prison.parent / "outside")
    with pytest.raises((InvalidArgument, OSError)):
        extract(prison, *REFUSED[name])
    assert picture(prison.parent / "outside") == before


def test_links_to_directories_are_followed_inside(prison):
    extract(
        prison,
        directory("usr"),
        directory("usr/bin"),
        symlink("bin", "/usr/bin"),
        file("bin/a"),
        symlink("sbin", "usr/bin"),
        file("sbin/b"),
    )
    assert sorted(os.listdir(prison / "usr/bin")) == ["a", "b"]
    assert os.readlink(prison / "bin") == "/usr/bin"


def test_a_link_to_what_a_lower_layer_has_gets_its_target_made(prison):
    extract(prison, symlink("run", "/real/./run"), directory("var"), symlink("var/run", "../run"))
    extract(prison, file("var/run/lock/file"))
    assert (prison / "real/run/lock/file").read_bytes() == b"inside"


names = st.lists(st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh.b"]), max_size=4).map(
    "/".join
)
members = st.one_of(
    st.builds(file, names),
    st.builds(directory, names),
    st.builds(symlink, names, st.one_of(names, names.map(lambda name: "/" + name))),
    st.builds(hard, names, names),
    st.builds(lambda name: file(name + "/.wh..wh..opq", b""), names),
)


@given(st.lists(members, max_size=8), st.sampled_from(list(Whiteouts)))
@settings(max_examples=300, deadline=None)
def test_no_archive_gets_out(tmp_path_factory, archive, whiteouts):
    if os.geteuid():
        pytest.skip("only root may make overlay whiteouts")
    base = tmp_path_factory.mktemp("prison")
    (base / "a").mkdir()
    (base / "a" / "b").write_bytes(b"")
    (base / "b").write_bytes(b"")
    inside = base / "a" / "inside"
    inside.mkdir()
    try:
        extract(inside, *archive, whiteouts=whiteouts)
    except (InvalidArgument, OSError):
        pass
    assert sorted(os.listdir(base)) == ["a", "b"]
    assert sorted(os.listdir(base / "a")) == ["b", "inside"]
    assert (base / "b").stat().st_size == (base / "a" / "b").stat().st_size == 0


def test_what_stands_in_the_way_is_replaced(prison):
    extract(prison, directory("d"), file("d/old"), file("f", b"1"), symlink("l", "f"))
    extract(prison, file("d", b"2"), directory("f"), file("f/new"), directory("l"))
    assert (prison / "d").read_bytes() == b"2"
    assert (prison / "f/new").exists()
    assert (prison / "l").is_dir() and not (prison / "l").is_symlink()


def test_a_directory_keeps_what_it_holds(prison):
    extract(prison, directory("d", 0o700), file("d/f"), directory("d", 0o750))
    assert (prison / "d/f").exists()
    assert stat.S_IMODE((prison / "d").stat().st_mode) == 0o750


def test_kinds_can_be_kept(prison):
    extract(prison, directory("d"), file("f"))
    for member in (file("d"), directory("f")):
        with pytest.raises(InvalidArgument, match="cannot overwrite"):
            extract(prison, member, keep_kinds=True)
    extract(prison, file("f", b"new"), keep_kinds=True)
    assert (prison / "f").read_bytes() == b"new"


@pytest.mark.root
def test_facts_of_every_kind(prison):
    def head(name: bytes, kind: bytes, **fields) -> tuple[bytes, bytes]:
        return tarwrite.header(name, kind, uid=12, gid=34, mtime=1234567, **fields), b""

    outcome = extract(
        prison,
        head(b"d", tar.DIRECTORY, mode=0o3751),
        head(b"d/f", tar.FILE, mode=0o6755),
        head(b"d/l", tar.SYMLINK, link=b"nowhere"),
        head(b"d/p", tar.FIFO, mode=0o640),
        head(b"d/c", tar.CHARACTER, mode=0o666, major=1, minor=3),
    )
    assert outcome.entries == 5
    for name, mode in (("d", 0o3751), ("d/f", 0o6755), ("d/p", 0o640), ("d/c", 0o666)):
        facts = (prison / name).lstat()
        assert stat.S_IMODE(facts.st_mode) == mode, name
        assert (facts.st_uid, facts.st_gid, facts.st_mtime) == (12, 34, 1234567), name
    link = (prison / "d/l").lstat()
    assert (link.st_uid, link.st_mtime) == (12, 1234567)
    assert (prison / "d/c").stat().st_rdev == os.makedev(1, 3)


@pytest.mark.root
def test_an_owner_for_all(prison):
    extract(prison, file("f"), directory("d"), owner=(7, 8))
    for name in ("f", "d"):
        facts = (prison / name).stat()
        assert (facts.st_uid, facts.st_gid) == (7, 8)


def test_hard_links_share_their_file(prison):
    extract(prison, directory("d"), file("d/f"), hard("h", "/d/f"), hard("d/g", "h"))
    inodes = {(prison / name).stat().st_ino for name in ("d/f", "h", "d/g")}
    assert len(inodes) == 1


@pytest.mark.root
class TestWhiteouts:
    def test_marks_of_an_overlay(self, prison):
        extract(
            prison,
            directory("d"),
            file("d/.wh..wh..opq", b""),
            file("d/kept"),
            file(".wh.gone", b""),
            file("new/.wh.deep", b""),
        )
        assert os.getxattr(prison / "d", "user.overlay.opaque") == b"y"
        for name in ("gone", "new/deep"):
            facts = (prison / name).lstat()
            assert stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
        assert os.listdir(prison / "d") == ["kept"]

    @pytest.mark.parametrize("whiteout_first", [True, False])
    def test_a_name_deleted_and_made_anew_in_one_layer(self, prison, whiteout_first):
        members = [[file(".wh.d", b"")], [directory("d"), file("d/new")]]
        first, second = members if whiteout_first else members[::-1]
        extract(prison, *first, *second)
        assert (prison / "d/new").read_bytes() == b"inside"
        assert os.getxattr(prison / "d", "user.overlay.opaque") == b"y"

    def test_an_implied_directory_over_a_whiteout(self, prison):
        extract(prison, file(".wh.d", b""), file("d/new"))
        assert os.getxattr(prison / "d", "user.overlay.opaque") == b"y"

    def test_a_file_made_anew(self, prison):
        extract(prison, file(".wh.f", b""), file("f"), file(".wh.f", b""))
        assert (prison / "f").read_bytes() == b"inside"

    def test_removal(self, prison):
        extract(prison, directory("d"), file("d/a"), file("d/b"), file("f"))
        extract(
            prison,
            file(".wh.f", b""),
            file("d/.wh..wh..opq", b""),
            file("d/c"),
            file(".wh.absent", b""),
            whiteouts=Whiteouts.REMOVE,
        )
        assert sorted(os.listdir(prison)) == ["d"]
        assert os.listdir(prison / "d") == ["c"]

    def test_literally(self, prison):
        extract(prison, file(".wh.f"), file(".wh..wh..opq"), whiteouts=Whiteouts.LITERAL)
        assert sorted(os.listdir(prison)) == [".wh..wh..opq", ".wh.f"]


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.mark.root
def test_attributes_that_pass(prison):
    xattrs = {
        b"security.capability": CAPABILITY,
        b"user.note": b"value",
        b"user.overlay.opaque": b"y",
        b"user.overlay.redirect": b"/etc",
        b"trusted.overlay.redirect": b"/etc",
        b"trusted.overlay.metacopy": b"",
        b"security.selinux": b"x",
        b"system.posix_acl_access": b"x",
    }
    outcome = extract(prison, (tarwrite.header(b"f", xattrs=xattrs, mode=0o4711), b""))
    assert sorted(os.listxattr(prison / "f")) == ["security.capability", "user.note"]
    assert os.getxattr(prison / "f", "security.capability") == CAPABILITY
    assert stat.S_IMODE((prison / "f").stat().st_mode) == 0o4711
    assert outcome.xattrs == 6


def test_revisions_of_file_capabilities():
    name = b"security.capability"
    third = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 0)
    foreign = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 1000)
    first = struct.pack("<III", 0x01000001, 1 << 13, 0)
    assert allowed_attribute(name, CAPABILITY) == CAPABILITY
    assert allowed_attribute(name, third) == CAPABILITY
    assert allowed_attribute(name, foreign) is None
    assert allowed_attribute(name, first) is None
    assert allowed_attribute(name, b"") is None


def test_holes_stay_holes(prison):
    records = b"".join(
        tarwrite._record(key, value)
        for key, value in {
            b"GNU.sparse.map": b"1048576,3",
            b"GNU.sparse.size": b"1073741824",
            b"GNU.sparse.name": b"sparse",
        }.items()
    )
    extract(
        prison,
        (tarwrite.header(b"x", b"x", size=len(records)), records),
        (tarwrite.header(b"GNUSparseFile/sparse", size=3), b"abc"),
    )
    facts = (prison / "sparse").stat()
    assert facts.st_size == 1 << 30
    assert facts.st_blocks * 512 < 1 << 20
    with (prison / "sparse").open("rb") as opened:
        opened.seek(1 << 20)
        assert opened.read(4) == b"abc\0"


def test_more_than_the_disk_has_is_refused_at_once(prison):
    record = tarwrite._record(b"GNU.sparse.map", b"0,0") + tarwrite._record(
        b"GNU.sparse.size", b"4611686018427387904"
    )
    with pytest.raises(OSError, match="No space"):
        extract(
            prison,
            (tarwrite.header(b"x", b"x", size=len(record)), record),
            file("huge", b""),
        )
    assert os.listdir(prison) == []


def test_times_of_directories_outlast_their_entries(prison):
    extract(prison, directory("d"), directory("d/e"), file("d/e/f"), file("d/g"))
    assert (prison / "d").stat().st_mtime == (prison / "d/e").stat().st_mtime == 1000


def test_many_directories_and_deep_ones(prison):
    members = [file(f"d{number}/f") for number in range(300)]
    try:
        extract(prison, *members, file("x/" * 1500 + "f"))
        assert len(os.listdir(prison)) == 301
    finally:
        remove_tree(prison / "x")  # which shutil cannot


def test_a_base_below_the_root(prison):
    extract(prison, directory("etc"), directory("home"), symlink("home/l", "/etc"))
    extract(prison, file("l/passwd"), file("../../up"), base=b"home")
    assert (prison / "etc/passwd").read_bytes() == b"inside"
    assert (prison / "home/up").read_bytes() == b"inside"


def test_unknown_kinds_are_passed_over(prison, make_tar):
    extract(prison, (tarwrite.header(b"odd", b"Z", size=3), b"abc"), file("f"))
    assert os.listdir(prison) == ["f"]


@given(st.binary(max_size=60).filter(lambda name: b"\0" not in name))
def test_clean_names(name):
    cleaned = clean(name)
    assert not cleaned.startswith(b"/") and not cleaned.endswith(b"/")
    assert not {b"", b".", b".."} & set(cleaned.split(b"/")) or cleaned == b""
    assert clean(cleaned) == cleaned


def test_python_writes_what_we_read(prison, make_tar):
    data = make_tar(("ü\udcff", b"data"), ("n" * 150, {"type": tarfile.DIRTYPE}))
    stream = tar.Stream(iter([data]))
    fd = os.open(prison, os.O_RDONLY)
    with Extractor(fd) as extractor:
        for entry in tar.read(stream):
            extractor.add(entry, stream)
    os.close(fd)
    assert sorted(os.listdir(os.fsencode(prison))) == [b"n" * 150, "ü".encode() + b"\xff"]
