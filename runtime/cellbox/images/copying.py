"""The fallback snapshotter: every container gets a plain copy of its layers.

It works on every file system that can hold Linux files, and costs the size of the image and the
time to copy it for every container.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellbox.errors import NotSupported
from cellbox.images.snapshots import Work
from cellbox.linux.mounts import Mount


class CopyingSnapshotter:
    """Writable directories hold everything, in ``rootfs``."""

    name = "copying"
    copies = True
    upper = "rootfs"

    def __init__(self, work: Work) -> None:
        self._work = work

    def usable(self, scratch: Path) -> str:
        """Copying works everywhere."""
        return ""

    def prepare(self, layers: Sequence[Path], writable: Path) -> None:
        """Copy the layers over each other. Raises OSError."""
        lowers = [str(layer) for layer in reversed(layers)]
        self._work("copy", {"target": str(writable / "rootfs"), "lowers": lowers}, [])

    def mounts(self, layers: Sequence[Path], writable: Path | None) -> tuple[Mount, ...]:
        """A bind of the copy, or of a single layer. Raises NotSupported for more without a copy."""
        if writable is not None:
            return (Mount("bind", "/", source=str(writable / "rootfs"), idmap=True),)
        if len(layers) == 1:
            return (Mount("bind", "/", source=str(layers[0]), flags=("ro",), idmap=True),)
        raise NotSupported("without overlayfs, layers can be shown only as a copy")
