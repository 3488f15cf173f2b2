"""What is mounted, as people see it."""

from __future__ import annotations

from cellbox.local.mountpoints import points
from cellbox.model.container import MountKind, MountPoint, MountSpec


def test_a_path_for_what_is_on_the_host():
    found = points(
        [
            MountSpec(MountKind.BIND, "/b/", "/host", read_only=True, propagation="rslave"),
            MountSpec(MountKind.BIND, "/c", "/host"),
            MountSpec(MountKind.VOLUME, "/v", "data", driver="local"),
            MountSpec(MountKind.VOLUME, "/n", "far", driver="nfs"),
            MountSpec(MountKind.TMPFS, "/t"),
        ],
        "/store/volumes",
    )
    assert found == (
        MountPoint(MountKind.BIND, "/b", "/host", True, propagation="rslave"),
        MountPoint(MountKind.BIND, "/c", "/host", propagation="rprivate"),
        MountPoint(MountKind.VOLUME, "/v", "/store/volumes/data/_data", False, "data", "local"),
        MountPoint(MountKind.VOLUME, "/n", "", False, "far", "nfs"),
        MountPoint(MountKind.TMPFS, "/t", ""),
    )
