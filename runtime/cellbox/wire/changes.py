"""The config in the body of ``POST /commit`` as the Dockerfile lines that say the same; pure."""

from __future__ import annotations

import json
import shlex
from typing import Any

from cellbox.wire.fields import Fields

Json = dict[str, Any]


def lines_of(config: Json) -> list[str]:
    """One line for each thing that the config says. Raises InvalidArgument for values of another
    type than Docker's."""
    fields = Fields(config, "Config")
    pairs = [f"{key}={value}" for key, value in fields.text_map("Labels").items()]
    entrypoint, command = fields.words("Entrypoint"), fields.words("Cmd")
    words = {
        "ENV": [shlex.quote(word) for word in fields.texts("Env")],
        "LABEL": [shlex.quote(pair) for pair in pairs],
        "EXPOSE": list(fields.names("ExposedPorts")),
        "VOLUME": [json.dumps([path]) for path in fields.names("Volumes")],
        "ENTRYPOINT": [json.dumps(list(entrypoint))] if entrypoint else [],
        "CMD": [json.dumps(list(command))] if command else [],
        "USER": [fields.text("User")],
        "WORKDIR": [shlex.quote(path)] if (path := fields.text("WorkingDir")) else [],
        "STOPSIGNAL": [fields.text("StopSignal")],
        "ONBUILD": list(fields.texts("OnBuild")),
    }
    return [f"{word} {rest}" for word, found in words.items() for rest in found if rest]
