"""Steps that were done before, found among the images of a store.

The key of a step is the image that it begins from, the line of history that tells all it depends
on (arguments, contents), and the config that comes of it. So what is cached lives and goes with the
images: who removes an image, and has no other one that was made from the same steps, forgets them.
"""

from __future__ import annotations

from collections.abc import Iterable

from cellbox.model.image import Image, ImageConfig


class Cache:
    """The steps of ``images``, which come newest first."""

    def __init__(self, images: Iterable[Image]) -> None:
        self._by_key: dict[tuple[str, str], list[Image]] = {}
        for image in images:
            if image.history and image.history[-1].created_by:
                self._by_key.setdefault(_key(image), []).append(image)

    def find(self, parent: str, created_by: str, config: ImageConfig, author: str) -> Image | None:
        """The image that this step made the last time."""
        found = self._by_key.get((parent, created_by), ())
        return next((one for one in found if (one.config, one.author) == (config, author)), None)


def _key(image: Image) -> tuple[str, str]:
    return image.parent, image.history[-1].created_by
