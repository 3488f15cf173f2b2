"""The half of the exchange that runs in the container."""

from __future__ import annotations

import pytest

from cellbox_magics.inside import is_table, need, plain


@pytest.mark.parametrize(
    "value", [None, True, 5, 2.5, "é", [1, (2, "x")], {"a": {"b": [None]}}, [], {}]
)
def test_json_values_are_plain(value):
    assert plain(value) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"x", b"x"),
        ([1, {2}], {2}),
        ({"a": {1: 2}}, {1: 2}),
        ({"a": [object]}, object),
    ],
)
def test_the_first_value_that_is_not_is_found(value, found):
    assert plain(value) == (found,)


def test_a_subclass_would_not_come_back_as_itself():
    class Own(list):
        pass

    assert plain(Own()) is not None


def test_tables_are_known_by_their_type():
    class DataFrame:
        __module__ = "pandas"

    DataFrame.__module__ = "pandas.core.frame"
    assert is_table(DataFrame())
    assert not is_table([])


def test_a_missing_module_is_a_sentence(capsys):
    with pytest.raises(SystemExit):
        need("no_such_module.part", "df")
    assert "df is a table, and this image has no no_such_module" in capsys.readouterr().err
