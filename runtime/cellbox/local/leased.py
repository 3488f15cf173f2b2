"""The stores of a verb that brings something: whatever it looks for is held under its lease first.

Held after the look, a blob or layer that is there could be swept in between, and one that is not
could be brought by somebody else and swept before the database knows of it.
"""

from __future__ import annotations

from pathlib import Path

from cellbox.images.content import ContentStore
from cellbox.images.snapshots import LayerStore, Work
from cellbox.local.lease import Hold, Lease


class LeasedContent(ContentStore):
    """The content store of ``root`` for the holder of ``lease``."""

    def __init__(self, root: Path, lease: Lease) -> None:
        super().__init__(root)
        self._lease = lease
        self._held: set[str] = set()

    def path(self, digest: str) -> Path:
        """As :meth:`ContentStore.path`, by which all of its methods go."""
        path = super().path(digest)
        if digest not in self._held:
            self._lease.hold(Hold.BLOB, digest)
            self._held.add(digest)
        return path


class LeasedLayers(LayerStore):
    """The layer store of ``root`` for the holder of ``lease``."""

    def __init__(self, root: Path, work: Work, lease: Lease) -> None:
        super().__init__(root, work)
        self._lease = lease
        self._held: set[str] = set()

    def has(self, diff_id: str) -> bool:
        """As :meth:`LayerStore.has`, which comes before every other use of a layer."""
        if diff_id not in self._held:
            self._lease.hold(Hold.LAYER, diff_id)
            self._held.add(diff_id)
        return super().has(diff_id)
