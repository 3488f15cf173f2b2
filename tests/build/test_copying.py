"""What COPY and ADD bring, without an engine."""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import ExitStack

import pytest

from cellbox.build import copying, modes, tree
from cellbox.build.copying import Source, Wish
from cellbox.build.ignore import Ignore
from cellbox.build.tree import Kind, Node
from cellbox.errors import InvalidArgument


def directory(**entries: Node) -> Node:
    return Node(Kind.DIRECTORY, entries=entries)


@pytest.fixture
def root():
    shared = tree.file(b"shared", 5.0)
    return directory(
        a=shared,
        b=shared,
        abc=tree.file(b"3"),
        link=Node(Kind.LINK, target="sub/x"),
        gone=Node(Kind.LINK, target="nowhere"),
        sub=directory(x=tree.file(b"x"), deep=directory(y=tree.file(b"y"))),
    )


def tarred(files) -> dict[str, tarfile.TarInfo]:
    data = b"".join(copying.packed(files))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a", ["a"]),
        ("/a", ["a"]),
        ("./sub/../a", ["a"]),
        ("a*", ["a", "abc"]),
        ("[ab]", ["a", "b"]),
        ("a?c", ["abc"]),
        ("s*/?", ["x"]),
        ("**/y", ["y"]),
        ("sub/**", ["sub", "deep"]),
        ("g*", []),
        ("l*", ["link"]),
        (r"\a", ["a"]),
        (".", [""]),
    ],
)
def test_what_a_source_names(root, source, names):
    assert sorted(one.name for one in copying.select(root, source)) == sorted(names)


def test_a_link_that_is_named_is_followed(root):
    (found,) = copying.select(root, "link")
    assert (found.name, found.node) == ("link", root.entries["sub"].entries["x"])


def test_what_is_not_there_is_refused(root):
    with pytest.raises(InvalidArgument, match="stat gone: file does not exist"):
        copying.select(root, "gone")
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        copying.select(root, "[z-a]")


def test_parents_are_kept_from_the_pivot_on(root):
    for source, paths in (
        ("sub/deep/y", ["sub", "sub/deep", "sub/deep/y"]),
        ("./sub/./deep", ["deep", "deep/y"]),
        ("sub/./", ["deep", "deep/y", "x"]),
        ("l*", ["link"]),
    ):
        found = tarred(copying.place([copying.with_parents(root, source)], "", "", Wish()))
        assert list(found) == paths
    root.entries["way"] = Node(Kind.LINK, target="sub")
    for source in ("none", "none/./x", "way/x"):
        with pytest.raises(InvalidArgument, match="file does not exist"):
            copying.with_parents(root, source)


def test_what_is_excluded(root):
    left = copying.excluding(Source("", root), Ignore(["a*", "**/y", "!abc"]))
    assert left is not None
    assert list(tarred(copying.place([left], "", "", Wish()))) == [
        "abc", "b", "gone", "link", "sub", "sub/deep", "sub/x",
    ]  # fmt: skip
    assert copying.excluding(Source("a", root.entries["a"]), Ignore(["a"])) is None
    assert "a" in root.entries


def test_files_get_their_places_owners_and_modes(root):
    sources = [Source("a", root.entries["a"]), Source("b", root.entries["b"])]
    found = tarred(copying.place(sources, "", "into", Wish((7, 8), modes.parse("600"))))
    assert list(found) == ["into/a", "into/b"]
    first, second = found.values()
    assert (first.uid, first.gid, first.mode, first.mtime) == (7, 8, 0o600, 5)
    assert (second.islnk(), second.linkname) == (True, "into/a")
    renamed = copying.place(sources[:1], "new", "", Wish())
    assert [one.path for one in renamed] == ["new"]


def test_of_a_directory_the_content_is_copied(root):
    found = tarred(copying.place([Source("sub", root.entries["sub"])], "", "", Wish()))
    assert list(found) == ["deep", "deep/y", "x"]
    assert found["deep"].isdir()


def test_owners_are_kept_where_they_are_meant(root):
    node = Node(Kind.FILE, uid=3, gid=4)
    for wish, owner in (
        (Wish(), (0, 0)),
        (Wish(keeps_owners=True), (3, 4)),
        (Wish((1, 2)), (1, 2)),
    ):
        (placed,) = copying.place([Source("n", node)], "", "", wish)
        assert (placed.uid, placed.gid) == owner
    (placed,) = copying.place([Source("n", node, unpacked=True)], "", "", Wish())
    assert (placed.uid, placed.gid) == (3, 4)


def test_archives_are_unpacked_and_others_are_not(tar_of):
    data = tar_of(f=b"1").read()
    with ExitStack() as held:
        for one in (data, gzip.compress(data)):
            source = copying.unpacked(Source("t", tree.file(one)), held)
            assert (source.unpacked, list(source.node.entries)) == (True, ["f"])
        for other in (b"", b"text", gzip.compress(b"text"), b"\x1f\x8b\x08 broken", b"BZh"):
            assert not copying.unpacked(Source("t", tree.file(other)), held).unpacked


def test_a_digest_stands_for_all_but_times_and_foreign_owners(root):
    def digest(keeps_owners=False):
        return copying.digest([Source("", root)], keeps_owners)

    before = digest()
    root.entries["a"].mtime = 99.0
    root.entries["a"].uid = 5
    root.mode = 0o700
    assert digest() == before != digest(keeps_owners=True)
    root.entries["a"].mode = 0o600
    changed = digest()
    root.entries["link"].target = "a"
    again = digest()
    root.entries["abc"] = tree.file(b"4")
    assert len({before, changed, again, digest()}) == 4
    one = Source("a", root.entries["a"])
    assert copying.digest([one], False) != copying.digest([Source("b", one.node)], False)


def test_a_file_that_shrinks_meanwhile_is_told(root):
    node = Node(Kind.FILE, size=5, open=lambda: io.BytesIO(b"123"))
    with pytest.raises(InvalidArgument, match="has become shorter"):
        tarred(copying.place([Source("f", node)], "", "", Wish()))


def test_long_names_and_odd_ones_come_through():
    long = "d" * 120 + "/" + "f" * 120
    node = tree.file(b"1")
    placed = [copying.Placed(name, node, 0, 0, 0o644) for name in (long, "naïve \udcff")]
    assert list(tarred(placed)) == [long, "naïve \udcff"]


def test_pieces_are_a_file():
    file = copying.reader([b"ab", b"", b"cde"])
    assert (file.read(3), file.read(), file.read()) == (b"abc", b"de", b"")
