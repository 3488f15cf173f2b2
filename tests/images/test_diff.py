"""What a writable directory changed, in Docker's letters."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from cellbox.images.diff import Merged, copy_changes, upper_changes
from cellbox.images.extract import OPAQUE_XATTR

pytestmark = pytest.mark.root


def build(folder: Path, **names: str) -> Path:
    """Files by path (``__`` for a slash); ``!`` makes a whiteout, ``/`` a directory, ``~`` an
    opaque one."""
    folder.mkdir()
    for name, what in names.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "!":
            os.mknod(path, 0o020000, 0)
        elif what in ("/", "~"):
            path.mkdir(exist_ok=True)
            if what == "~":
                os.setxattr(path, OPAQUE_XATTR, b"y")
        elif what.startswith("->"):
            path.symlink_to(what[2:])
        else:
            path.write_text(what)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (0, 0), follow_symlinks=False)
    return folder


@pytest.fixture
def opened():
    with ExitStack() as stack:

        def do(*folders: Path) -> list[int]:
            fds = [os.open(folder, os.O_RDONLY) for folder in folders]
            for fd in fds:
                stack.callback(os.close, fd)
            return fds

        yield do


def told(changes: dict[bytes, str]) -> list[str]:
    return [f"{kind} {path.decode()}" for path, kind in changes.items()]


def test_letters(tmp_path, opened):
    low = build(tmp_path / "low", a="1", d__b="2", d__c="3", e__x="4")
    upper = build(tmp_path / "upper", a="11", d__b="!", d__new="5", f="6", e="/", absent="!")
    assert told(upper_changes(*opened(upper), opened(low))) == [
        "C a",
        "C d",
        "D d/b",
        "A d/new",
        "A f",
    ]


def test_a_directory_with_another_mode_is_changed(tmp_path, opened):
    low = build(tmp_path / "low", d__a="1")
    upper = build(tmp_path / "upper", d="/")
    (upper / "d").chmod(0o700)
    assert told(upper_changes(*opened(upper), opened(low))) == ["C d"]


def test_an_opaque_directory_deletes_what_it_does_not_have(tmp_path, opened):
    low = build(tmp_path / "low", d__a="1", d__b="2", d__c__x="3")
    middle = build(tmp_path / "middle", d__b="!")
    upper = build(tmp_path / "upper", d="~", d__a="9")
    changes = upper_changes(*opened(upper), opened(middle, low))
    assert told(changes) == ["C d", "C d/a", "D d/c"]


def test_a_file_becomes_a_directory_and_back(tmp_path, opened):
    low = build(tmp_path / "low", a="1", d__b="2")
    upper = build(tmp_path / "upper", a__x="1", d="2")
    assert told(upper_changes(*opened(upper), opened(low))) == ["C a", "A a/x", "C d"]


def test_layers_hide_each_other(tmp_path, opened):
    low = build(tmp_path / "low", a="1", b__x="1", c__x="1", d__x__y="1", e__x="1", f__x="1")
    high = build(tmp_path / "high", a="22", b="!", c="~", d="->c", e="file", f__y="2")
    merged = Merged(opened(high, low))
    visible = {}
    for path in ("a", "b", "b/x", "c/x", "d/x", "e/x", "f/x", "f/y", "none", "none/x"):
        facts = merged.stat(path.encode())
        visible[path] = None if facts is None else facts.st_size
    assert visible["a"] == 2
    assert visible["f/x"] == visible["f/y"] == 1
    hidden = ("b", "b/x", "c/x", "d/x", "e/x", "none", "none/x")
    assert {visible[path] for path in hidden} == {None}
    assert merged.children(b"f") == [b"f/x", b"f/y"]
    assert merged.children(b"c") == []
    assert list(merged.walk()) == [b"a", b"c", b"d", b"e", b"f", b"f/x", b"f/y"]


def test_a_layer_may_hide_all_below_it(tmp_path, opened):
    low = build(tmp_path / "low", a="1", d__b="2")
    high = build(tmp_path / "high", d__c="3")
    os.setxattr(high, OPAQUE_XATTR, b"y")
    merged = Merged(opened(high, low))
    assert list(merged.walk()) == [b"d", b"d/c"]
    assert merged.stat(b"a") is None and merged.stat(b"d/b") is None


def test_a_copy_compared(tmp_path, opened):
    low = build(tmp_path / "low", a="1", d__b="2", d__c="3", e__x__y="4")
    copy = build(tmp_path / "copy", a="1", d__b="22", d__n="5", f="6", d="/")
    assert told(copy_changes(*opened(copy), opened(low))) == [
        "C d",
        "C d/b",
        "D d/c",
        "A d/n",
        "D e",
        "A f",
    ]


def test_nothing_changed(tmp_path, opened):
    low = build(tmp_path / "low", a="1", d__b="2")
    same = build(tmp_path / "same", a="1", d__b="2")
    upper = build(tmp_path / "upper", d="/")
    assert copy_changes(*opened(same), opened(low)) == {}
    assert upper_changes(*opened(upper), opened(low)) == {}
