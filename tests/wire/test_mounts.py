"""The four lists of mounts."""

from __future__ import annotations

from typing import Any

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import MountKind, MountSpec
from cellbox.wire.fields import Fields
from cellbox.wire.mounts import mounts_json, read_mounts, volumes_json

BIND, VOLUME, TMPFS = MountKind.BIND, MountKind.VOLUME, MountKind.TMPFS


def read(volumes: Any = None, **host: Any) -> tuple[MountSpec, ...]:
    return read_mounts(Fields({"Volumes": volumes}, "Config"), Fields(host, "HostConfig"))


def refusal(**host: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        read(**host)
    return str(caught.value)


# Binds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/h:/d", MountSpec(BIND, "/d", "/h", make_source=True)),
        ("/h:/d:ro", MountSpec(BIND, "/d", "/h", read_only=True, make_source=True)),
        (
            "/h:/d:ro,rshared",
            MountSpec(BIND, "/d", "/h", True, propagation="rshared", make_source=True),
        ),
        ("data:/d", MountSpec(VOLUME, "/d", "data")),
        ("data:/d:ro,nocopy", MountSpec(VOLUME, "/d", "data", read_only=True, no_copy=True)),
    ],
)
def test_a_bind_is_told_and_read(text, mount):
    assert mounts_json([mount])["Binds"] == [text]
    assert read(Binds=[text]) == (mount,)


@pytest.mark.parametrize("mode", ["rw", "z", "Z,rw", "cached", "rw,z,delegated", ""])
def test_words_that_change_nothing(mode):
    assert read(Binds=[f"data:/d:{mode}"]) == (MountSpec(VOLUME, "/d", "data"),)


def test_a_target_alone_is_an_anonymous_volume():
    assert read(Binds=["/d"]) == (MountSpec(VOLUME, "/d"),)


@pytest.mark.parametrize("text", ["", ":", "/h:", ":/d", "/d:ro", "/d:ro,z", "a:b:c:d", "::"])
def test_what_is_no_bind_is_refused(text):
    assert refusal(Binds=[text]) == f"invalid volume specification: '{text}'"


@pytest.mark.parametrize("mode", ["x", "ro,rw", "ro,ro", "z,Z", "shared,rshared", "ro,", "RO"])
def test_a_mode_is_checked(mode):
    assert refusal(Binds=[f"/h:/d:{mode}"]) == f"invalid mode: {mode}"


def test_the_target_of_a_bind_is_absolute():
    assert refusal(Binds=["/h:d"]) == (
        "invalid volume specification: '/h:d': invalid mount config for type \"bind\": "
        "invalid mount path: 'd' mount path must be absolute"
    )


# Mounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "mount"),
    [
        ({"Type": "bind", "Target": "/d", "Source": "/h"}, MountSpec(BIND, "/d", "/h")),
        (
            {
                "Type": "bind",
                "Target": "/d",
                "Source": "/h",
                "ReadOnly": True,
                "BindOptions": {
                    "Propagation": "rslave",
                    "NonRecursive": True,
                    "CreateMountpoint": True,
                },
            },
            MountSpec(
                BIND, "/d", "/h", True, propagation="rslave", recursive=False, make_source=True
            ),
        ),
        (
            {"Type": "bind", "Target": "/a:b", "Source": "/h", "BindOptions": {
                "CreateMountpoint": True}},
            MountSpec(BIND, "/a:b", "/h", make_source=True),
        ),
        (
            {
                "Type": "volume",
                "Target": "/d",
                "Source": "data",
                "VolumeOptions": {
                    "NoCopy": True,
                    "Labels": {"l": "1"},
                    "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}},
                    "Subpath": "a/b",
                },
            },
            MountSpec(
                VOLUME, "/d", "data", no_copy=True, labels={"l": "1"}, driver="local",
                driver_options={"type": "tmpfs"}, subpath="a/b",
            ),
        ),
        (
            {"Type": "volume", "Target": "/d", "VolumeOptions": {"Labels": {"l": "1"}}},
            MountSpec(VOLUME, "/d", labels={"l": "1"}),
        ),
    ],
)  # fmt: skip
def test_a_mount_is_told_and_read(told, mount):
    assert mounts_json([mount]) == {"Binds": None, "Mounts": [told], "Tmpfs": None}
    assert read(Mounts=[told]) == (mount,)


def test_a_tmpfs_among_the_mounts():
    told = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o700}}
    assert read(Mounts=[told]) == (MountSpec(TMPFS, "/t", size=4096, mode=0o700),)
    assert read(Mounts=[{"Type": "tmpfs", "Target": "/t"}]) == (MountSpec(TMPFS, "/t"),)


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("image", {}, "mount type unknown"),
        ("", {}, "mount type unknown"),
        ("bind", {"Target": ""}, "field Target must not be empty"),
        ("bind", {"Source": ""}, "field Source must not be empty"),
        ("bind", {"VolumeOptions": {}}, "field VolumeOptions must not be specified"),
        ("bind", {"BindOptions": {"Propagation": "x"}}, "invalid propagation mode: x"),
        ("volume", {"BindOptions": {}}, "field BindOptions must not be specified"),
        ("tmpfs", {"VolumeOptions": {}}, "field VolumeOptions must not be specified"),
        (
            "volume",
            {"Source": "", "VolumeOptions": {"Subpath": "a"}},
            "must not set Subpath when using anonymous volumes",
        ),
        *(
            (
                "volume",
                {"VolumeOptions": {"Subpath": path}},
                "subpath must be a relative path within the volume",
            )
            for path in ("/a", "..", "a/../../b")
        ),
    ],
)
def test_a_mount_that_contradicts_itself_is_refused(kind, more, reason):
    told = {"Type": kind, "Target": "/d", "Source": "/h", **more}
    assert refusal(Mounts=[told]) == f'invalid mount config for type "{kind}": {reason}'


# Tmpfs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        ("", MountSpec(TMPFS, "/t")),
        ("ro,size=4096,mode=700", MountSpec(TMPFS, "/t", read_only=True, size=4096, mode=0o700)),
        ("size=0,mode=0", MountSpec(TMPFS, "/t", size=0, mode=0)),
    ],
)
def test_a_tmpfs_is_told_and_read(options, mount):
    assert mounts_json([mount])["Tmpfs"] == {"/t": options}
    assert read(Tmpfs={"/t": options}) == (mount,)


@pytest.mark.parametrize(
    ("text", "size"), [("64k", 64 << 10), ("64M", 64 << 20), ("1g", 1 << 30), ("5b", 5)]
)
def test_sizes_have_units(text, size):
    assert read(Tmpfs={"/t": f"rw,noexec,size={text},"}) == (MountSpec(TMPFS, "/t", size=size),)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [("shiny", "shiny"), ("x=1", "x"), ("size=big", "size=big"), ("mode=9", "mode=9")],
)
def test_an_unknown_option_is_refused(options, wrong):
    assert refusal(Tmpfs={"/t": options}) == f'Invalid tmpfs option "{wrong}"'


# Volumes --------------------------------------------------------------------------------------


def test_an_anonymous_volume_is_told_and_read():
    mount = MountSpec(VOLUME, "/d")
    assert volumes_json([mount, MountSpec(BIND, "/b", "/h")]) == {"/d": {}}
    assert mounts_json([mount]) == {"Binds": None, "Mounts": None, "Tmpfs": None}
    assert read({"/d": {}}) == (mount,)


def test_a_volume_where_something_else_is_mounted_says_nothing():
    found = read({"/d/": {}, "/t": None, "/v": {}}, Binds=["/h:/d"], Tmpfs={"/t": ""})
    assert [mount.target for mount in found] == ["/d", "/t", "/v"]
    assert [mount.kind for mount in found] == [BIND, TMPFS, VOLUME]
