"""Where a stage has come to, between two of its steps."""

from __future__ import annotations

from dataclasses import dataclass

from cellbox.build.config import environment
from cellbox.build.scope import StageScope, Variables
from cellbox.model.image import ImageConfig


@dataclass(frozen=True)
class StageState:
    """The image so far (its id, empty for one without layers and steps), its config and author, and
    the ARGs in scope. ``command_given`` says that this stage has a CMD of its own."""

    scope: StageScope
    config: ImageConfig
    image: str = ""
    author: str = ""
    command_given: bool = False

    @property
    def short_id(self) -> str:
        """As Docker prints it."""
        return self.image.removeprefix("sha256:")[:12]

    @property
    def variables(self) -> Variables:
        """What the next instruction sees."""
        return self.scope.variables(environment(self.config))
