"""The config in the body of ``POST /commit`` as the Dockerfile lines that say the same; pure."""

from __future__ import annotations

import json
import re
from typing import Any

from cellbox.wire.fields import Fields

Json = dict[str, Any]

_PLAIN = re.compile(r"[\w./:@%+,-]*", re.ASCII)


def lines_of(config: Json) -> list[str]:
    """One line for each thing that the config says. Raises InvalidArgument for values of another
    type than Docker's."""
    fields = Fields(config, "Config")
    labels = fields.text_map("Labels").items()
    env = (word.partition("=")[::2] for word in fields.texts("Env"))
    entrypoint, command = fields.words("Entrypoint"), fields.words("Cmd")
    words = {
        "ENV": [f"{_quoted(name)}={_quoted(value)}" for name, value in env],
        "LABEL": [f"{_quoted(name)}={_quoted(value)}" for name, value in labels],
        "EXPOSE": list(fields.names("ExposedPorts")),
        "VOLUME": [json.dumps([path]) for path in fields.names("Volumes")],
        "ENTRYPOINT": [json.dumps(list(entrypoint))] if entrypoint else [],
        "CMD": [json.dumps(list(command))] if command else [],
        "USER": [fields.text("User")],
        "WORKDIR": [_quoted(path)] if (path := fields.text("WorkingDir")) else [],
        "STOPSIGNAL": [fields.text("StopSignal")],
        "ONBUILD": list(fields.texts("OnBuild")),
    }
    return [f"{word} {rest}" for word, found in words.items() for rest in found if rest]


def _quoted(text: str) -> str:
    """A word of a Dockerfile that is ``text`` when it is read."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r'(["$\\])', r"\\\1", text) + '"'
