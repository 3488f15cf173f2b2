"""The Dockerfile lines of ``commit -c`` and ``import -c``: config and lines to config; pure."""

from __future__ import annotations

from collections.abc import Iterable

from cellbox.build import config as configs
from cellbox.build import parser, scope, syntax
from cellbox.build.instructions import Cmd
from cellbox.build.scope import Variables
from cellbox.errors import InvalidArgument
from cellbox.model.image import ImageConfig


def apply_changes(config: ImageConfig, lines: Iterable[str]) -> ImageConfig:
    """``config`` after the instructions of ``lines``, of which each changes the config only.
    Raises InvalidArgument."""
    command_given = False
    for node in map(parser.parse_line, lines):
        step = scope.expanded(syntax.instruction(node), Variables(configs.environment(config)))
        if not configs.changes_config(step):
            raise InvalidArgument(f"{node.written} is not a valid change command")
        config = configs.changed(config, step, command_given=command_given)
        command_given = command_given or isinstance(step, Cmd)
    return config
