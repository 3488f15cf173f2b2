"""What ``--chmod`` makes of a mode."""

from __future__ import annotations

import pytest

from cellbox.build.modes import parse
from cellbox.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "result"),
    [
        ("600", 0o755, False, 0o600),
        ("4755", 0, False, 0o4755),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, True, 0o755),
        ("u=rwX,go=rX", 0o711, False, 0o755),
        ("+x", 0o644, False, 0o755),
        ("a-w,u+w", 0o666, False, 0o644),
        ("g+s,+t", 0o755, True, 0o3755),
        ("o=", 0o777, False, 0o770),
        ("u+s-x", 0o755, False, 0o4655),
    ],
)
def test_a_change(text, mode, is_directory, result):
    change = parse(text)
    assert change is not None
    assert oct(change.apply(mode, is_directory)) == oct(result)


def test_nothing_is_no_change():
    assert parse("") is None


@pytest.mark.parametrize("text", ["9", "77777", "u", "x=r", "u=z", "u=r,", "rw"])
def test_what_is_no_mode_is_refused(text):
    with pytest.raises(InvalidArgument, match="invalid chmod parameter"):
        parse(text)
