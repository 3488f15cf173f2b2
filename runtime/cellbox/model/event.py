"""What happened: one line of the engine's event log, in the words of ``docker events``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """``kind`` is ``container``, ``image``, ...; ``action`` is Docker's word (``create``, ``die``,
    ``pull``, ...); ``id`` the object's id or, for an image, its name; ``time`` seconds since the
    epoch with nanoseconds kept in the fraction as far as a float holds them."""

    time: float
    kind: str
    action: str
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
