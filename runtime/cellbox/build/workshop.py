"""What a build works with: an engine's collections, and what only its store can do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from cellbox.build.mounts import Sharing
from cellbox.engine import Containers, Files, Images
from cellbox.model.image import Image, ImageConfig, Platform

Archive = Callable[[], BinaryIO]
"""Makes a tar to be read once."""


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

    def fleeting(self, content: Archive, *, secret: bool = False) -> AbstractContextManager[str]:
        """A directory of this machine with what a tar holds, for a block; of a ``secret`` one
        nothing is in the store."""
        ...

    def cache(
        self, name: str, first: Archive, sharing: Sharing, check: Callable[[], None]
    ) -> AbstractContextManager[str]:
        """The directory of a cache, which holds ``first`` when it is new, for a block. While it is
        waited for ``check`` is called, which may raise."""
        ...

    def expose(self, container: str, env: tuple[str, ...]) -> None:
        """Give a container that has not been started more variables (``NAME=value``), of which its
        record does not tell."""
        ...
