"""Which drivers of networks are still to hear of a container's end: small, since shims look, and
everybody who looks at a container that has ended (``driven`` does the rest)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cellbox.model.network import Endpoint

DRIVER, JOINED = "driver", "joined"


def is_driven(run: str, network: str) -> bool:
    """Is it noted that another driver has the network with this id?"""
    return os.path.exists(f"{run}/networks/{network}/{DRIVER}")


def note(run: str, network: str, endpoint: str) -> Path:
    """The file that is there while the network's driver believes in the endpoint."""
    return Path(run, "networks", network, JOINED, endpoint)


def used(run: str, endpoint: Endpoint) -> int:
    """The namespace that has what the driver gave for the endpoint, 0 while none has; it stands in
    the note, and so is known even when the namespace has gone."""
    try:
        return int(json.loads(note(run, endpoint.network_id, endpoint.id).read_text())["used"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def among(run: str, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Those of whose end a driver has not heard."""
    return [
        one
        for one in endpoints
        if os.path.exists(f"{run}/networks/{one.network_id}/{JOINED}/{one.id}")
    ]
