"""-v, --mount and --tmpfs."""

from __future__ import annotations

import pytest

from cellbox.errors import CellboxError
from cellbox.model.container import MountKind, MountSpec
from cellbox_magics.grammar import mounts

BIND, TMPFS = MountKind.BIND, MountKind.TMPFS


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("type=bind,src=/a,dst=/b", MountSpec(BIND, "/b", "/a")),
        ("type=bind,source=./a,target=/b,readonly", MountSpec(BIND, "/b", "/w/a", True)),
        ("type=bind,src=/a,dst=/b,ro=false", MountSpec(BIND, "/b", "/a")),
        ('type=bind,"src=/a,b",destination=/b', MountSpec(BIND, "/b", "/a,b")),
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
        ("/a:/b", MountSpec(BIND, "/b", "/a")),
        ("/a/../c//:/b/./d", MountSpec(BIND, "/b/d", "/c")),
        (".:/b:z,ro", MountSpec(BIND, "/b", "/w", True)),
        ("~:/b", MountSpec(BIND, "/b", "/home/ada")),
    ],
)
def test_volume_is_source_target_options(text, made):
    assert mounts.volume(text, "/w", "/home/ada") == made


@pytest.mark.parametrize(
    "call",
    [
        lambda: mounts.volume("name:/b", "/w"),
        lambda: mounts.volume("/a:b", "/w"),
        lambda: mounts.volume("/a:/", "/w"),
        lambda: mounts.volume("/a:/b:exec", "/w"),
        lambda: mounts.volume(":/b", "/w"),
        lambda: mounts.tmpfs("/t:exec"),
        lambda: mounts.tmpfs("/t:mode=9"),
        lambda: mounts.tmpfs("t"),
        lambda: mounts.mount("", "/w"),
        lambda: mounts.mount("dst=/b,src=name", "/w"),
        lambda: mounts.mount("type=odd,dst=/b", "/w"),
        lambda: mounts.mount("type=bind,dst=/b", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,odd=1", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,readonly=perhaps", "/w"),
        lambda: mounts.mount("type=bind,src=/a,dst=/b,bind-propagation=shared", "/w"),
        lambda: mounts.mount("type=tmpfs,dst=/b,src=/a", "/w"),
    ],
)
def test_what_is_no_mount_is_refused_with_its_own_words(call):
    with pytest.raises(CellboxError, match="-v |--mount|--tmpfs"):
        call()
