"""One place for the names of all that tells Docker's objects."""

from __future__ import annotations

from cellbox.wire import objects


def test_every_object_can_be_told_and_read_back():
    for noun in ("container", "image", "network", "volume"):
        assert {f"{noun}_json", f"{noun}_from"} <= set(objects.__all__)


def test_all_of_them_are_there():
    assert all(callable(getattr(objects, name)) for name in objects.__all__)
