"""-v, --mount, --tmpfs and --device."""

from __future__ import annotations

import pytest

from cellbox.errors import CellboxError
from cellbox.model.container import DeviceSpec, MountKind, MountSpec
from cellbox_magics.grammar import mounts

BIND, TMPFS, VOLUME = MountKind.BIND, MountKind.TMPFS, MountKind.VOLUME


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("type=bind,src=/a,dst=/b", MountSpec(BIND, "/b", "/a")),
        ("type=bind,source=./a,target=/b,readonly", MountSpec(BIND, "/b", "/w/a", True)),
        ("type=bind,src=/a,dst=/b,ro=false", MountSpec(BIND, "/b", "/a")),
        ('type=bind,"src=/a,b",destination=/b', MountSpec(BIND, "/b", "/a,b")),
        ("type=bind,src=x,dst=/b", MountSpec(BIND, "/b", "/w/x")),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-recursive=disabled",
            MountSpec(BIND, "/b", "/a", propagation="rslave", recursive=False),
        ),
        ("type=bind,src=/a,dst=/b,bind-nonrecursive", MountSpec(BIND, "/b", "/a", recursive=False)),
        (
            "type=bind,src=/a,dst=/b,ro,bind-recursive=writable,consistency=cached",
            MountSpec(BIND, "/b", "/a", read_only=True, shallow=True),
        ),
        (
            "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate",
            MountSpec(BIND, "/b", "/a", read_only=True, propagation="rprivate"),
        ),
        ("dst=/b", MountSpec(VOLUME, "/b")),
        ("src=data,dst=/b,volume-nocopy", MountSpec(VOLUME, "/b", "data", no_copy=True)),
        (
            "type=volume,src=data,dst=/b,volume-subpath=a/b,volume-driver=nfs,"
            "volume-opt=type=tmpfs,volume-opt=device=x,volume-label=a=1,volume-label=b",
            MountSpec(
                VOLUME,
                "/b",
                "data",
                subpath="a/b",
                driver="nfs",
                driver_options={"type": "tmpfs", "device": "x"},
                labels={"a": "1", "b": ""},
            ),
        ),
        (
            'type=volume,dst=/b,"volume-opt=o=addr=1.2.3.4,rw",readonly',
            MountSpec(VOLUME, "/b", read_only=True, driver_options={"o": "addr=1.2.3.4,rw"}),
        ),
        ("type=tmpfs,dst=/t", MountSpec(TMPFS, "/t")),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=700",
            MountSpec(TMPFS, "/t", size=64 << 20, mode=0o700),
        ),
    ],
)
def test_mount_is_a_line_of_csv(text, made):
    assert mounts.mount(text, "/w") == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("/t", MountSpec(TMPFS, "/t")),
        ("/t:", MountSpec(TMPFS, "/t")),
        (
            "/t:rw,noexec,size=1k,mode=755",
            MountSpec(TMPFS, "/t", size=1024, mode=0o755),
        ),
        ("/t:ro", MountSpec(TMPFS, "/t", read_only=True)),
    ],
)
def test_tmpfs_has_its_options_behind_a_colon(text, made):
    assert mounts.tmpfs(text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("/a:/b", MountSpec(BIND, "/b", "/a", make_source=True)),
        ("/a/../c//:/b/./d", MountSpec(BIND, "/b/d", "/c", make_source=True)),
        (".:/b:z,ro", MountSpec(BIND, "/b", "/w", True, make_source=True)),
        ("~:/b", MountSpec(BIND, "/b", "/home/ada", make_source=True)),
        (
            "/a:/b:rslave",
            MountSpec(BIND, "/b", "/a", propagation="rslave", make_source=True),
        ),
        ("data:/b", MountSpec(VOLUME, "/b", "data")),
        ("data:/b:ro,nocopy,z", MountSpec(VOLUME, "/b", "data", True, no_copy=True)),
        ("/b/", MountSpec(VOLUME, "/b")),
    ],
)
def test_volume_is_source_target_options(text, made):
    assert mounts.volume(text, "/w", "/home/ada") == made


@pytest.mark.parametrize(
    "call",
    [
        lambda: mounts.volume("na me:/b", "/w"),
        lambda: mounts.volume("a/b:/b", "/w"),
        lambda: mounts.volume("x:/b", "/w"),
        lambda: mounts.volume("data:/b:rslave", "/w"),
        lambda: mounts.volume("/a:/b:nocopy", "/w"),
        lambda: mounts.volume("/a:/b:slave,shared", "/w"),
        lambda: mounts.volume("data", "/w"),
        lambda: mounts.volume("/a:b", "/w"),
        lambda: mounts.volume("/a:/", "/w"),
        lambda: mounts.volume("/a:/b:exec", "/w"),
        lambda: mounts.volume(":/b", "/w"),
        lambda: mounts.tmpfs("/t:exec"),
        lambda: mounts.tmpfs("/t:mode=9"),
        lambda: mounts.tmpfs("t"),
        lambda: mounts.mount("", "/w"),
        lambda: mounts.mount("dst=/b,src=/name", "/w"),
        lambda: mounts.mount("dst=/b,src=name,volume-subpath=../x", "/w"),
        lambda: mounts.mount("dst=/b,volume-subpath=x", "/w"),
        lambda: mounts.mount("dst=/b,volume-opt=x", "/w"),
        lambda: mounts.mount("dst=/b,tmpfs-size=5m", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,volume-opt=a=b", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,volume-label=a", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,bind-recursive=writable", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,bind-recursive=odd", "/w"),
        lambda: mounts.mount("type=odd,dst=/b", "/w"),
        lambda: mounts.mount("type=bind,dst=/b", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,odd=1", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,readonly=perhaps", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,bind-propagation=odd", "/w"),
        lambda: mounts.mount(
            "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=slave", "/w"
        ),
        lambda: mounts.mount("type=tmpfs,dst=/b,src=/a", "/w"),
    ],
)
def test_what_is_no_mount_is_refused_with_its_own_words(call):
    with pytest.raises(CellboxError, match="-v |--mount|--tmpfs"):
        call()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("/dev/fuse", DeviceSpec("/dev/fuse", "/dev/fuse")),
        ("/dev/full:/dev/mynull", DeviceSpec("/dev/full", "/dev/mynull")),
        ("/dev/fuse:r", DeviceSpec("/dev/fuse", "/dev/fuse", "r")),
        ("/dev/fuse:/dev/x:rw", DeviceSpec("/dev/fuse", "/dev/x", "rw")),
    ],
)
def test_device_is_source_target_rights(text, made):
    assert mounts.device(text) == made


@pytest.mark.parametrize("text", ["fuse", "/dev/a:b", "/dev/a:/dev/b:x", "/a:/b:/c:r", ""])
def test_what_is_no_device_is_refused(text):
    with pytest.raises(CellboxError, match="--device"):
        mounts.device(text)
