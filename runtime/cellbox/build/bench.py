"""Where steps are done: containers that live as long as a step, and images that come of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from cellbox.build.cache import Cache
from cellbox.build.report import Output, Report
from cellbox.build.sources import ImageFiles
from cellbox.build.stage import StageState
from cellbox.build.workshop import Workshop
from cellbox.errors import Cancelled, Conflict, InvalidArgument, NotFound
from cellbox.linux import process as processes
from cellbox.model.container import HealthCheck, LogConfig, RunSpec
from cellbox.model.image import ImageConfig

Stop = Callable[[], bool]

_LOOK = 0.25
"""Seconds of silence after which is asked whether to give up."""
_OWNER = "org.cellbox.build"
"""The label of a container that is to go with its step: the process that builds, and its start."""
_IDLE = ("true",)
"""What a container would run that never runs."""


class Bench:
    """``held`` are the things that live until the build is over."""

    def __init__(
        self, shop: Workshop, report: Report, cache: Cache, held: ExitStack, stop: Stop, keep: bool
    ) -> None:
        self.shop = shop
        self.report = report
        self.held = held
        self._cache = cache
        self._stop = stop
        self._keep = keep
        self._ground = ""
        self._origins: dict[str, ImageFiles] = {}

    def check(self) -> None:
        """Raise Cancelled where the build is to be given up."""
        if self._stop():
            raise Cancelled("the build was cancelled")

    # Images --------------------------------------------------------------------------------------

    def cached(self, state: StageState, told: str, config: ImageConfig) -> StageState | None:
        """Where the step brings the stage, if it was done before."""
        found = self._cache.find(state.image, told, config, state.author)
        if found is None:
            return None
        self.report.cached()
        return replace(state, image=found.id, config=config)

    def make(
        self, state: StageState, told: str, config: ImageConfig, container: str = ""
    ) -> StageState:
        """Where the step brings the stage: a new image, with what ``container`` has changed."""
        made = self.shop.make(
            state.image, config, created_by=told, container=container, author=state.author
        )
        return replace(state, image=made.id, config=config)

    def change(self, state: StageState, told: str, config: ImageConfig) -> StageState:
        """A step that changes the config only."""
        return self.cached(state, told, config) or self.make(state, told, config)

    # Containers ----------------------------------------------------------------------------------

    @contextmanager
    def container(
        self, state: StageState, *, announced: bool = False, **asked: Any
    ) -> Iterator[str]:
        """The id of a container on the stage's image, for the length of a block, which can be
        ``announced``. ``asked`` are fields of its RunSpec."""
        made = self.shop.containers.create(
            RunSpec(
                state.image or self._empty(state.config),
                **{"command": _IDLE, **asked},
                labels={} if self._keep else _mark(),
                entrypoint=(),
                health=HealthCheck(("NONE",)),
                log=LogConfig("none"),
                image_volumes=False,
            )
        )
        try:
            if announced:
                self.report.running(made.id)
            yield made.id
        except BaseException:
            self._remove(made.id)
            raise
        if self._keep and announced:
            return
        self._remove(made.id)
        if announced:
            self.report.removed(made.id)

    def attend(self, container: str) -> int:
        """Start the container and tell what it writes, to its end; its exit code."""
        output = Output(self.report.tell)
        with self.shop.containers.attach(container) as stream:
            self.shop.containers.start(container)
            while True:
                try:
                    piece = stream.read(_LOOK)
                except TimeoutError:
                    self.check()
                    continue
                if piece is None:
                    break
                output.write(*piece)
            output.end()
            return stream.wait()

    def is_directory(self, container: str, path: str) -> bool:
        """Is there a directory at ``path`` in the container, or a link to one?"""
        try:
            self.shop.files.stat(container, path.rstrip("/") + "/")
        except (NotFound, InvalidArgument):
            return False
        return True

    def files_of(self, image: str) -> ImageFiles:
        """The files of an image, for COPY."""
        if image not in self._origins:
            made = self.shop.containers.create(
                RunSpec(
                    image,
                    command=_IDLE,
                    entrypoint=(),
                    network="none",
                    image_volumes=False,
                    labels=_mark(),
                )
            )
            self.held.callback(self._remove, made.id)
            self._origins[image] = ImageFiles(self.shop.files, made.id, self.held)
        return self._origins[image]

    def _empty(self, config: ImageConfig) -> str:
        """An image of no layers, to make containers from; gone when the build is over."""
        if not self._ground:
            self._ground = self.shop.make("", config, created_by="").id
            self.held.callback(self._forget_ground)
        return self._ground

    def _forget_ground(self) -> None:
        with suppress(NotFound, Conflict):  # kept containers may hold it
            self.shop.images.remove(self._ground)

    def _remove(self, container: str) -> None:
        with suppress(NotFound):
            self.shop.containers.remove(container, force=True, volumes=True)


def sweep(shop: Workshop) -> None:
    """Take away the containers of builds whose process was killed."""
    for left in shop.containers.list(all=True, filters={"label": [_OWNER]}):
        pid, _, started = left.spec.labels[_OWNER].partition(":")
        if not (started.isdecimal() and processes.is_alive(int(pid), int(started))):
            with suppress(NotFound, Conflict):  # another build is about it too
                shop.containers.remove(left.id, force=True, volumes=True)


def _mark() -> dict[str, str]:
    pid = os.getpid()
    return {_OWNER: f"{pid}:{processes.start_time(pid)}"}
