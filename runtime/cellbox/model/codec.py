"""Facts to JSON values and back, by their type hints.

The one place that turns the frozen dataclasses of this folder into plain values (for SQLite, for
the messages between processes) and back. It knows dataclasses, enums, ``tuple[X, ...]``,
``Mapping[str, X]``, optional values and JSON's own scalars, and refuses all else, so that a fact
that cannot travel fails in its first test. Unknown keys are dropped: an older engine can read what
a newer one wrote.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, TypeVar, Union

T = TypeVar("T")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_encode = json.JSONEncoder(separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """``value`` as JSON text without spaces. Raises as :func:`to_json`."""
    return _encode(to_json(value))


def loads(kind: type[T], text: str | bytes) -> T:
    """The fact of type ``kind`` that :func:`dumps` told. Raises ValueError, TypeError or
    AttributeError for any other text."""
    return from_json(kind, json.loads(text))


def to_json(value: Any) -> Any:
    """``value`` as dict, list, str, int, float, bool or None.

    Fields that equal their default are left out, so that stored facts stay small.
    Raises :class:`TypeError` for what cannot be told as JSON.
    """
    return _writer(typing.cast(Hashable, type(value)))(value)


@cache
def _writer(kind: Any) -> Callable[[Any], Any]:
    if issubclass(kind, enum.Enum):
        return lambda value: value.value
    if issubclass(kind, str | int | float | types.NoneType):
        return _same
    if dataclasses.is_dataclass(kind):
        return _dataclass_writer(kind)
    if issubclass(kind, Mapping):
        return lambda value: {str(key): to_json(item) for key, item in value.items()}
    if issubclass(kind, tuple | list):
        return lambda value: [item if type(item) in _PLAIN else to_json(item) for item in value]
    raise TypeError(f"{kind.__name__} does not travel as JSON")


def _dataclass_writer(kind: Any) -> Callable[[Any], Any]:
    defaults = _defaults(kind)

    def write(value: Any) -> Any:
        facts = vars(value)
        return {
            name: item if type(item) in _PLAIN else to_json(item)
            for name, default in defaults
            if (item := facts[name]) != default
        }

    return write


def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Name and default of every field; MISSING, which equals nothing, where there is none."""
    return tuple(
        (field.name, field.default if factory is dataclasses.MISSING else factory())
        for field in dataclasses.fields(kind)
        for factory in (field.default_factory,)
    )


def from_json(kind: type[T], value: Any) -> T:
    """The fact of type ``kind`` that :func:`to_json` told as ``value``."""
    return typing.cast(T, _reader(typing.cast(Hashable, kind))(value))


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast(type, kind))
    if origin is tuple:
        item = _reader(args[0])
        return tuple if item is _same else lambda value: tuple(item(part) for part in value)
    if origin in (Mapping, dict):
        item = _reader(args[1])
        return dict if item is _same else lambda value: {k: item(part) for k, part in value.items()}
    if origin in (Union, types.UnionType):
        inner = _reader(next(arg for arg in args if arg is not type(None)))
        return lambda value: None if value is None else inner(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    if kind in (str, int, float, bool, Any, object):
        return _same
    raise TypeError(f"{kind} does not travel as JSON")


def _same(value: Any) -> Any:
    return value


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers: dict[str, Callable[[Any], Any]] = {}
    fields = dataclasses.fields(kind)
    plain = {one.name: one.default for one in fields if one.default is not dataclasses.MISSING}
    others = {one.name: one.default_factory for one in fields if one.name not in plain}

    def read(value: Any) -> Any:
        known = dict(plain)
        for name, item in value.items():
            reader = readers.get(name)
            if reader is None:
                if name not in hints:
                    continue
                # looked up late, so that a type may refer to itself
                reader = readers[name] = _reader(hints[name])
            known[name] = item if reader is _same else reader(item)
        for name, make in others.items():
            if name not in known:
                if make is dataclasses.MISSING:
                    return kind(**known)  # which says what is missing
                known[name] = make()
        # What __init__ would do, which sets the fields of a frozen fact one by one.
        fact: Any = object.__new__(kind)
        vars(fact).update(known)
        return fact

    return read
