"""Looking users up in an image's files, and the attacks that those files can try."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbox.containers import users
from cellbox.containers.users import Identity, resolve

PASSWD = b"""\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

# operator:x:11:0::/root:
app:x:1000:1000:App,,,:/home/app:/bin/sh
nohome:x:1001:100
app:x:0:0:a second entry:/root:/bin/sh
1234:x:7:7:a name of digits:/seven:/bin/sh
broken:x:zero:0::/:
nogroup:x:1002:::/:
huge:x:4294967296:0::/:
negative:x:-5:0::/:
huge_group:x:1003:99999999999::/:
+
"""
GROUP = b"""\
root:x:0:
wheel:x:10:root,app
# audio:x:29:app
video:x:44:app
app:x:1000:
bad:x:none:app
more:x:99999999999:app
docker:x:999:x,app,y
"""


def files(path: str) -> bytes | None:
    return {"/etc/passwd": PASSWD, "/etc/group": GROUP}.get(path)


def nothing(path: str) -> bytes | None:
    return None


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), Identity(0, 0, (0, 10), "/root", "root")),
        ("root", (), Identity(0, 0, (0, 10), "/root", "root")),
        ("0", (), Identity(0, 0, (0, 10), "/root", "root")),
        ("app", (), Identity(1000, 1000, (1000, 10, 44, 999), "/home/app", "app")),
        ("1000", (), Identity(1000, 1000, (1000, 10, 44, 999), "/home/app", "app")),
        ("0001000", (), Identity(1000, 1000, (1000, 10, 44, 999), "/home/app", "app")),
        ("app:video", (), Identity(1000, 44, (44,), "/home/app", "app")),
        ("app:0", (), Identity(1000, 0, (0,), "/home/app", "app")),
        ("4000:4001", (), Identity(4000, 4001, (4001,), "/", "")),
        (":video", (), Identity(0, 44, (44,), "/root", "root")),
        ("app:", (), Identity(1000, 1000, (1000, 10, 44, 999), "/home/app", "app")),
        ("4000", (), Identity(4000, 0, (0,), "/", "")),
        ("nohome", (), Identity(1001, 100, (100,), "/", "nohome")),
        ("4000", ("video", "77", "video"), Identity(4000, 0, (0, 44, 77), "/", "")),
        ("app", ("root",), Identity(1000, 1000, (1000, 10, 44, 999, 0), "/home/app", "app")),
        ("2147483647", (), Identity(2147483647, 0, (0,), "/", "")),
    ],
)
def test_users_of_an_image(user: str, groups: tuple[str, ...], expected: Identity) -> None:
    assert resolve(user, groups, files) == expected


@pytest.mark.parametrize("user", ["", "0", "5", "5:6"])
def test_numbers_need_no_files(user: str) -> None:
    assert resolve(user, (), nothing).home == "/"


@pytest.mark.parametrize(
    ("user", "groups", "message"),
    [
        ("nobody", (), "unable to find user nobody: no matching entries in passwd file"),
        ("app:nothere", (), "unable to find group nothere"),
        ("app", ("nothere",), "unable to find group nothere"),
        ("#", (), "unable to find user #"),
        ("broken", (), "no valid uid"),
        ("nogroup", (), "no valid gid"),
        ("app:bad", (), "unable to find group bad: its entry has no valid gid"),
        ("\u0661\u0662", (), "unable to find user"),
    ],
)
def test_what_is_not_there_is_an_error(user: str, groups: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(user, groups, files)


@pytest.mark.parametrize(
    "user",
    [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "9" * 5000,
        "-1",
        "+5",
        "huge",
        "negative",
        "huge_group",
        "app:4294967296",
        "1:-0",
        "more:more",
    ],
)
def test_a_number_out_of_range_is_never_root(user: str) -> None:
    with pytest.raises(ValueError, match="must be in range 0-2147483647|unable to find user"):
        resolve(user, (), files)


def test_a_number_that_does_not_fit_is_not_looked_up_as_a_name() -> None:
    """CVE-2026-46680: an image's passwd gives such a name uid 0."""
    number = "4294967296"
    hostile = f"{number}:x:0:0::/root:/bin/sh\n".encode()
    with pytest.raises(ValueError, match="must be in range"):
        resolve(number, (), {"/etc/passwd": hostile}.get)


def test_digits_are_a_number_even_where_the_image_has_such_a_name() -> None:
    assert resolve("1234", (), files) == Identity(1234, 0, (0,), "/", "")


def test_bytes_that_are_not_utf8_survive() -> None:
    passwd = b"caf\xe9:x:50:51::/home/caf\xe9:\n"
    user = os.fsdecode(b"caf\xe9")
    identity = resolve(user, (), {"/etc/passwd": passwd}.get)
    assert os.fsencode(identity.home) == b"/home/caf\xe9"
    assert (identity.uid, identity.gid) == (50, 51)


def test_lines_without_fields_are_passed_over() -> None:
    passwd = b"\x00\n:::\n::::::\nroot\n" + b"a:" * 1000 + b"\nok:x:7:8::/:"
    assert resolve("ok", (), {"/etc/passwd": passwd}.get).uid == 7


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_file_is_read(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/etc/passwd").write_bytes(PASSWD)
    assert users.read_file(root, "/etc/passwd") == PASSWD


@pytest.mark.parametrize("path", ["/etc/passwd", "/nowhere/passwd"])
def test_a_file_that_is_not_there(root: int, path: str) -> None:
    assert users.read_file(root, path) is None


def test_a_link_stays_inside_the_root(tmp_path: Path, root: int) -> None:
    (tmp_path / "passwd").write_bytes(b"outside")
    (tmp_path / "root/inside").write_bytes(b"inside")
    (tmp_path / "root/etc/passwd").symlink_to("../../passwd")
    (tmp_path / "root/etc/group").symlink_to("/inside")
    assert users.read_file(root, "/etc/passwd") is None
    assert users.read_file(root, "/etc/group") == b"inside"


def test_a_fifo_does_not_hang(tmp_path: Path, root: int) -> None:
    os.mkfifo(tmp_path / "root/etc/passwd")
    with pytest.raises(OSError, match="not a regular file"):
        users.read_file(root, "/etc/passwd")


def test_a_directory_is_refused(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/etc/passwd").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        users.read_file(root, "/etc/passwd")


def test_a_loop_of_links_is_refused(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/etc/passwd").symlink_to("passwd")
    with pytest.raises(OSError) as caught:
        users.read_file(root, "/etc/passwd")
    assert caught.value.errno == errno.ELOOP


def test_a_file_above_the_cap_is_refused(tmp_path: Path, root: int) -> None:
    file = tmp_path / "root/etc/passwd"
    file.write_bytes(b"x" * users.MAX_FILE)
    assert len(users.read_file(root, "/etc/passwd") or b"") == users.MAX_FILE
    with open(file, "ab") as out:
        out.truncate(1 << 40)
    with pytest.raises(OSError) as caught:
        users.read_file(root, "/etc/passwd")
    assert caught.value.errno == errno.EFBIG
