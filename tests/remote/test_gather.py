"""Several objects at once."""

from __future__ import annotations

import threading

import pytest

from cellbox.errors import NotFound, Unavailable
from cellbox.remote.gather import gathered


def test_their_order_is_kept_and_those_that_are_gone_are_left_out():
    def get(ref):
        if ref == "gone":
            raise NotFound("container", ref)
        return ref.upper()

    assert gathered(get, ["a", "gone", "b"]) == ["A", "B"]
    assert gathered(get, ["gone"]) == gathered(get, []) == []


def test_they_are_asked_for_at_the_same_time():
    barrier = threading.Barrier(8)
    assert gathered(lambda ref: barrier.wait(10) >= 0, list("abcdefgh")) == [True] * 8


@pytest.mark.parametrize("refs", [["a"], ["a", "b"]])
def test_another_error_is_raised(refs):
    def get(ref):
        raise Unavailable("it went away")

    with pytest.raises(Unavailable):
        gathered(get, refs)
