"""Which libraries a program needs, from its ELF headers alone (elf(5), ld.so(8))."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Needs:
    """What one ELF file asks of the linker; ``machine`` tells which libraries can serve it."""

    machine: tuple[int, int, int]
    interpreter: str
    libraries: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def needs(path: str) -> Needs | None:
    """What the file at ``path`` needs; None when it is not ELF, or a damaged one."""
    try:
        with open(path, "rb") as file:
            fd = file.fileno()
            head = os.pread(fd, 64, 0)
            if head[:4] != b"\x7fELF" or len(head) < 52:
                return None
            return _read(fd, head)
    except (OSError, OverflowError, struct.error, ValueError, IndexError):
        return None


def _read(fd: int, head: bytes) -> Needs:
    wide = head[4] == 2
    order = "<" if head[5] == 1 else ">"
    segments = list(_segments(fd, head, wide, order))
    interpreter = ""
    entries: list[tuple[int, int]] = []
    for segment in segments:
        data = os.pread(fd, min(segment.size, _LIMIT), segment.offset)
        if segment.kind == _PT_INTERP:
            interpreter = data.rstrip(b"\0").decode()
        elif segment.kind == _PT_DYNAMIC:
            pair = struct.Struct(order + ("qQ" if wide else "iI"))
            entries = list(pair.iter_unpack(data[: len(data) // pair.size * pair.size]))
    strings = _strings(fd, segments, dict(entries).get(_DT_STRTAB, 0))
    named = [(tag, _text(strings, value)) for tag, value in entries if tag in _NAMED]
    machine = struct.unpack_from(order + "H", head, 18)[0]
    return Needs(
        machine=(head[4], head[5], machine),
        interpreter=interpreter,
        libraries=tuple(text for tag, text in named if tag == _DT_NEEDED),
        paths=tuple(
            part for tag, text in named if tag != _DT_NEEDED for part in text.split(":") if part
        ),
    )


_NAMED = frozenset({_DT_NEEDED, _DT_RPATH, _DT_RUNPATH})


def _segments(fd: int, head: bytes, wide: bool, order: str) -> Iterator[_Segment]:
    if wide:
        (start,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
        layout = struct.Struct(order + "IIQQQQ")
    else:
        (start,) = struct.unpack_from(order + "I", head, 28)
        size, count = struct.unpack_from(order + "HH", head, 42)
        layout = struct.Struct(order + "IIIII")
    table = os.pread(fd, min(size * count, _LIMIT), start)
    for number in range(count):
        fields = layout.unpack_from(table, number * size)
        if wide:
            kind, _, offset, address, _, length = fields
        else:
            kind, offset, address, _, length = fields
        if kind in (_PT_LOAD, _PT_DYNAMIC, _PT_INTERP):
            yield _Segment(kind, offset, address, length)


def _strings(fd: int, segments: Iterable[_Segment], address: int) -> bytes:
    """The string table, whose place is told as an address in memory."""
    for segment in segments:
        inside = address - segment.address
        if segment.kind == _PT_LOAD and 0 <= inside < segment.size:
            return os.pread(fd, min(segment.size - inside, _LIMIT), segment.offset + inside)
    return b""


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


class Linker:
    """Finds libraries as ld.so does, by the search paths of this machine."""

    def __init__(self, conf: str = "/etc/ld.so.conf") -> None:
        self._folders = list(dict.fromkeys((*_configured(conf, 8), *_DEFAULT)))

    def closure(self, programs: Iterable[str]) -> set[str]:
        """``programs``, the linker they name, and every library they need, directly or not."""
        found: set[str] = set()
        pending = list(programs)
        while pending:
            path = pending.pop()
            if path in found:
                continue
            found.add(path)
            if (what := needs(path)) is not None:
                pending += [what.interpreter] if what.interpreter else []
                pending += filter(None, (self._find(name, what, path) for name in what.libraries))
        return found

    def library(self, name: str, program: str) -> str:
        """Where ``program`` would find the library ``name``; empty where it would not."""
        what = needs(program)
        return "" if what is None else self._find(name, what, program)

    def _find(self, name: str, what: Needs, path: str) -> str:
        origin = os.path.dirname(os.path.realpath(path))
        own = [part.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for part in what.paths]
        for folder in (*own, *self._folders, origin):
            candidate = os.path.normpath(os.path.join(folder, name))
            there = needs(candidate)
            if there is not None and there.machine == what.machine:
                return candidate
        return ""


def _configured(path: str, depth: int) -> Iterator[str]:
    """The directories of an ld.so.conf and of the files it includes."""
    try:
        with open(path, errors="replace") as file:
            lines = file.read(_LIMIT).splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"] and depth:
            for pattern in words[1:]:
                for name in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    yield from _configured(name, depth - 1)
        elif words and words[0].startswith("/"):
            yield words[0]
