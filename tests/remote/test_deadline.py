"""A number of seconds that several steps share."""

from __future__ import annotations

import pytest

from cellbox.remote.deadline import Deadline, poll


def test_what_is_left():
    assert Deadline(None).left is None
    assert Deadline(0.0).left == Deadline(-1.0).left == 0.0
    assert 9.0 < Deadline(10.0).left <= 10.0


def test_asking_until_there_is_an_answer():
    answers = iter([None, None, 0])
    assert poll(lambda: next(answers), 10) == 0
    assert poll(lambda: 3, 0.0) == 3
    with pytest.raises(TimeoutError):
        poll(lambda: None, 0.02)
