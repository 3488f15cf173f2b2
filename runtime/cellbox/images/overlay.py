"""The default snapshotter: overlayfs over layer directories that do not know each other.

A container's writable directory holds ``upper`` (the changes), ``work`` (the kernel's) and
``none``, an empty directory that stands below an image without layers. Marks are ``user.overlay.*``
attributes, since the mount belongs to the container's user namespace.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from cellbox.errors import NotSupported
from cellbox.images.snapshots import Work
from cellbox.linux.mounts import Mount

MAX_LAYERS = 120
"""Layers whose paths fit the options of one mount, which are one page; Docker's limit is 125."""


class OverlaySnapshotter:
    """Writable directories hold the changes only."""

    name = "overlay"
    copies = False
    upper = "upper"

    def __init__(self, work: Work) -> None:
        self._work = work

    def usable(self, scratch: Path) -> str:
        """As :meth:`~cellbox.images.snapshots.Snapshotter.usable`."""
        probe = scratch / f"probe-{secrets.token_hex(8)}"
        error: str = self._work("overlay-probe", {"scratch": str(probe)}, [])["error"]
        return error and f"overlayfs does not work on {scratch}: {error}"

    def prepare(self, layers: Sequence[Path], writable: Path) -> None:
        """Make the directories; ``upper`` becomes the mode of the root."""
        wanted = [("upper", 0o755), ("work", 0o700), *([] if layers else [("none", 0o755)])]
        for name, mode in wanted:
            path = writable / name
            path.mkdir(mode=mode)
            path.chmod(mode)

    def mounts(self, layers: Sequence[Path], writable: Path | None) -> tuple[Mount, ...]:
        """One overlay; one layer that nobody writes to is a bind mount. Raises NotSupported."""
        # Of a layer that an image has twice (the empty one, most often) the upper place counts: it
        # says all that the lower one does, and the kernel takes a directory only once (ELOOP).
        lowers = tuple(dict.fromkeys(str(layer) for layer in reversed(layers)))
        if len(lowers) > MAX_LAYERS:
            raise NotSupported(
                f"the image has {len(lowers)} layers and overlayfs takes {MAX_LAYERS}: squash it"
            )
        if writable is None and len(lowers) == 1:
            return (Mount("bind", "/", source=lowers[0], flags=("ro",), idmap=True),)
        if writable is None:
            return (Mount("overlay", "/", lowers=lowers, flags=("ro",), idmap=True),)
        return (
            Mount(
                "overlay",
                "/",
                lowers=lowers or (f"{writable}/none",),
                upper=f"{writable}/upper",
                work=f"{writable}/work",
                idmap=True,
            ),
        )
