"""Docker's objects as its API tells them, and back: the names of the modules that do it, in one
place.

Every key that the Engine API names for these objects is there, also when it is empty: templates
that ask for an absent key fail. ``[]`` or null for nothing, as moby has it. What reads takes what a
Docker daemon tells, of any version since API 1.40.
"""

from __future__ import annotations

from cellbox.wire.containers import container_from, container_json, container_summary
from cellbox.wire.images import history_json, image_from, image_json, image_summary
from cellbox.wire.networks import network_from, network_json
from cellbox.wire.volumes import volume_from, volume_json

__all__ = [
    "container_from",
    "container_json",
    "container_summary",
    "history_json",
    "image_from",
    "image_json",
    "image_summary",
    "network_from",
    "network_json",
    "volume_from",
    "volume_json",
]
