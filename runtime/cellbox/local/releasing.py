"""What plugins of networks are to hear of containers that have ended or are gone; small, since most
containers concern none of them, and everybody comes through here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from cellbox.errors import CellboxError, NotFound
from cellbox.local.store import Store
from cellbox.model.network import Endpoint
from cellbox.networks import owed


def owes(store: Store, endpoints: Iterable[Endpoint]) -> bool:
    """Is there a driver that believes these endpoints to be in use?"""
    return bool(owed.among(str(store.run), endpoints))


def leave(store: Store, endpoints: Iterable[Endpoint]) -> None:
    """The container does not run: let drivers know. One that fails does not keep it."""
    for one in owed.among(str(store.run), endpoints):
        from cellbox.networks import driven  # with what it takes to speak to programs

        with contextlib.suppress(CellboxError, OSError):
            driven.leave(str(store.run), one)


def addresses_of(store: Store, network: str) -> Path:
    """Where addresses are noted that somebody else has given to this network's containers."""
    return store.root / "networks" / f"{network}.addresses"


def give_back(store: Store, endpoints: Iterable[Endpoint]) -> None:
    """The container is not in these places any more: nor are their addresses its own."""
    for one in endpoints:
        if os.path.isdir(addresses_of(store, one.network_id)):
            from cellbox.local.addressing import Addressing

            with contextlib.suppress(NotFound):
                Addressing(store).sweep(store.state.networks.get(one.network_id))
