"""Reading a client's JSON as Docker's Go types would: one object, member by member; pure.

Go's rules: names match in any case, null and absent are the zero value, unknown members are
ignored, a value of another type is an error that names the member.

Source: Go ``encoding/json`` (``Unmarshal``, ``UnmarshalTypeError``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cellbox.errors import InvalidArgument

Json = dict[str, Any]
Object = Mapping[str, object]
T = TypeVar("T")

_NOTHING: Object = {}
_NO_ITEMS: list[Object] = []

_INT64 = range(-(1 << 63), 1 << 63)


class Fields:
    """The members of one JSON object; ``struct`` is what Docker calls its type, ``path`` where it
    is in the request. Reading a member of the wrong type raises InvalidArgument in Go's words."""

    def __init__(self, value: object, struct: str, path: str = "") -> None:
        self._struct = struct
        self._path = path
        if value is not None and not isinstance(value, Mapping):
            raise InvalidArgument(
                f"json: cannot unmarshal {_kind(value)} into Go value of type {struct}"
            )
        self._members = {str(name).lower(): member for name, member in (value or {}).items()}

    def given(self, name: str) -> bool:
        """Is the member there, and not null?"""
        return self._members.get(name.lower()) is not None

    def text(self, name: str) -> str:
        """A string; empty where there is none."""
        return self._read(name, _text, "string") or ""

    def flag(self, name: str) -> bool:
        """A boolean; false where there is none."""
        return self._read(name, _flag, "bool") or False

    def whole(self, name: str) -> int:
        """An integer of 64 bits; 0 where there is none."""
        return self._read(name, _whole, "int64") or 0

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(self._read(name, _list_of(_text, ""), "string") or ())

    def text_map(self, name: str) -> dict[str, str]:
        """An object of strings."""
        return self._read(name, _map_of(_text, ""), "string") or {}

    def words(self, name: str) -> tuple[str, ...] | None:
        """A command: a list of strings, or one string for a list of one; None where there is
        none."""
        if isinstance(self._members.get(name.lower()), str):
            return (self.text(name),)
        return self.texts(name) if self.given(name) else None

    def names(self, name: str) -> tuple[str, ...]:
        """The names of a set, which Go writes as an object of empty objects."""
        return tuple(self._read(name, _map_of(_object, _NOTHING), "struct {}") or ())

    def inner(self, name: str, struct: str) -> Fields:
        """An object; one without members where there is none."""
        found = self._read(name, _object, f"*{struct}")
        return Fields(found, struct, self._below(name))

    def items(self, name: str, struct: str) -> list[Fields]:
        """A list of objects."""
        found = self._read(name, _list_of(_object, _NOTHING), struct) or []
        return [Fields(item, struct, self._below(name)) for item in found]

    def members(self, name: str, struct: str) -> dict[str, Fields]:
        """An object of objects; null ones have no members."""
        found = self._read(name, _map_of(_object, _NOTHING), struct) or {}
        return {key: Fields(item, struct, self._below(name)) for key, item in found.items()}

    def lists(self, name: str, struct: str) -> dict[str, list[Fields]]:
        """An object of lists of objects; null ones are empty."""
        found = self._read(name, _map_of(_list_of(_object, _NOTHING), _NO_ITEMS), struct) or {}
        return {
            key: [Fields(item, struct, self._below(name)) for item in items]
            for key, items in found.items()
        }

    def _read(self, name: str, read: Callable[[object], T], kind: str) -> T | None:
        value = self._members.get(name.lower())
        if value is None:
            return None
        try:
            return read(value)
        except _WrongType as wrong:
            raise InvalidArgument(
                f"json: cannot unmarshal {wrong} into Go struct field "
                f"{self._struct}.{self._below(name)} of type {kind}"
            ) from None

    def _below(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


class _WrongType(Exception):
    """Says what kind of JSON was there instead."""

    def __init__(self, value: object) -> None:
        super().__init__(_kind(value))


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list):
        return "array"
    return "null" if value is None else f"number {value}"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongType(value)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _WrongType(value)
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _INT64:
        raise _WrongType(value)
    return value


def _object(value: object) -> Object:
    if not isinstance(value, Mapping):
        raise _WrongType(value)
    return value


def _list_of(read: Callable[[object], T], zero: T) -> Callable[[object], list[T]]:
    def read_list(value: object) -> list[T]:
        if not isinstance(value, list):
            raise _WrongType(value)
        return [zero if item is None else read(item) for item in value]

    return read_list


def _map_of(read: Callable[[object], T], zero: T) -> Callable[[object], dict[str, T]]:
    def read_map(value: object) -> dict[str, T]:
        return {key: zero if item is None else read(item) for key, item in _object(value).items()}

    return read_map
