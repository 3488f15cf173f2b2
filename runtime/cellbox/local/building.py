"""Builds in a store: the engine that ``build`` works with."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cellbox.build import solver
from cellbox.containers import records, users
from cellbox.engine import Tell
from cellbox.errors import InvalidArgument, NotFound
from cellbox.images.config import host_platform, parse_platform
from cellbox.local.build_caches import BuildCaches
from cellbox.local.containers import LocalContainers
from cellbox.local.files import LocalFiles
from cellbox.local.store import Store
from cellbox.model.build import BuildSpec
from cellbox.model.image import Image, ImageConfig, Platform

if TYPE_CHECKING:
    from cellbox.local.images import LocalImages

_MAX_ACCOUNTS = 1 << 22


class LocalWorkshop:
    """See :class:`cellbox.build.workshop.Workshop`."""

    def __init__(self, store: Store, images: LocalImages, containers: LocalContainers) -> None:
        self.images = images
        self.containers = containers
        self.files = LocalFiles(store, containers)
        self._store = store
        caches = BuildCaches(store)
        self.fleeting = caches.fleeting
        self.cache = caches.cache

    def platform(self, text: str = "") -> Platform:
        return parse_platform(text) if text else host_platform()

    def make(
        self,
        parent: str,
        config: ImageConfig,
        *,
        created_by: str,
        container: str = "",
        author: str = "",
    ) -> Image:
        return self.images.derive(
            parent, config, created_by=created_by, container=container, author=author
        )

    def owner(self, container: str, user: str) -> tuple[int, int]:
        name, _, group = user.partition(":")
        if name.isdecimal() and not group:
            user = f"{name}:{name}"
        try:
            found = users.resolve(user, (), lambda path: self._read(container, path))
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        return found.uid, found.gid

    def expose(self, container: str, env: tuple[str, ...]) -> None:
        directory = str(self.containers.directory(container))
        bundle = records.read_bundle(directory)
        if bundle is None:
            raise NotFound("container", container)
        process = replace(bundle.process, env=(*bundle.process.env, *env))
        path = os.path.join(directory, records.BUNDLE)
        records.write(path, replace(bundle, process=process))

    @property
    def told(self) -> Callable[[str], AbstractContextManager[None]]:
        """As :meth:`Store.told`."""
        return self._store.told

    def _read(self, container: str, path: str) -> bytes | None:
        """A small file of a container; None where there is none."""
        out = io.BytesIO()
        try:
            if self.files.stat(container, path).size > _MAX_ACCOUNTS:
                raise InvalidArgument(f"{path} of the image is larger than {_MAX_ACCOUNTS} bytes")
            self.files.get(container, path, out)
        except NotFound:
            return None
        out.seek(0)
        with tarfile.open(fileobj=out) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member and member.isreg() else None
            return file.read() if file else None


def build(
    shop: LocalWorkshop,
    context: BinaryIO | Path,
    spec: BuildSpec,
    tell: Tell | None,
    stop: Callable[[], bool] | None,
) -> Image:
    """See :meth:`cellbox.engine.Images.build`."""
    with shop.told(f"build {' '.join(spec.tags)}".rstrip()):
        return solver.build(shop, context, spec, tell=tell, stop=stop)
