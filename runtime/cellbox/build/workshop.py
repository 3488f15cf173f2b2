"""What a build works with: an engine's collections, and two things that only its store can do."""

from __future__ import annotations

from typing import Protocol

from cellbox.engine import Containers, Files, Images
from cellbox.model.image import Image, ImageConfig, Platform


class Workshop(Protocol):
    """The engine of a build."""

    @property
    def images(self) -> Images: ...

    @property
    def containers(self) -> Containers: ...

    @property
    def files(self) -> Files: ...

    def platform(self, text: str = "") -> Platform:
        """``os/architecture[/variant]``; that of this machine where it is empty. Raises
        InvalidArgument."""
        ...

    def make(
        self,
        parent: str,
        config: ImageConfig,
        *,
        created_by: str,
        container: str = "",
        author: str = "",
    ) -> Image:
        """Make an image without a name: ``parent`` (an id; empty for no layers) with this config,
        and the writable layer of ``container`` on top where one is named."""
        ...

    def owner(self, container: str, user: str) -> tuple[int, int]:
        """Ids of ``user[:group]``, names looked up in the container. Raises InvalidArgument."""
        ...
