"""Log drivers: where a container's output is kept, and how it is read again.

``json-file`` (the default) and ``local`` keep it in ``container.log`` as Docker's json-file driver
does, one JSON object a line, and differ in how much they keep: 3 files of 10 MiB, 5 of 20 MiB.
``none`` keeps nothing. A shim writes while nobody else does; any process may read meanwhile.

::

    {"log":"hello\\n","stream":"stdout","time":"2024-05-01T10:00:00.123456789Z"}

An entry is a line of output with its newline; a longer one is cut into pieces of 16 KiB, and only
the last piece has the newline. What comes without a newline waits for the rest, or for the end.

**Bytes that are not UTF-8** are kept: each is written as the escape of a lone surrogate,
``\\udc80`` to ``\\udcff``, which is what Python's *surrogateescape* makes of it. This engine reads
the same bytes back; others, Docker among them, show U+FFFD there, which is what they would have
written.

**A full disk** must not stop a container: entries that cannot be written are dropped and counted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache

from cellbox.containers import journal
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import LogConfig

PIECE = 16384
"""Most bytes of output in one entry, as Docker's."""

_BATCH = 256
"""Entries of another log that are written at once."""

Entry = tuple[float, str, bytes]
"""When (seconds since the epoch), ``"stdout"`` or ``"stderr"``, and what was written."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmg]?)i?b?", re.IGNORECASE)


class LogWriter:
    """Writes one container's output; one writer a file at a time.

    ``max_size`` in bytes (0: no bound), ``max_files`` counts the one that is written too.
    ``dropped`` counts the entries that found no room on the disk.
    """

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._partial: dict[str, bytes] = {}
        self._fd = -1
        self._size = 0
        self.dropped = 0

    def write(self, stream: str, data: bytes, now: int | None = None) -> None:
        """Keep output as it comes, in pieces of any size; ``now`` in nanoseconds since the epoch.

        Never raises OSError: what cannot be written is dropped.
        """
        data = self._partial.get(stream, b"") + data
        stamp = _stamp(time.time_ns() if now is None else now)
        whole = data[: data.rfind(b"\n") + 1]
        if whole and _has_short_lines(whole) and self._keep_all(_entries(whole, stream, stamp)):
            self._partial[stream] = data[len(whole) :]
            return
        pieces, self._partial[stream] = _cut(data)
        if pieces:
            self._keep([_entry(piece, stream, stamp) for piece in pieces])

    def extend(self, entries: Iterable[Entry]) -> None:
        """Keep what another log has told, as it told it. Never raises OSError, as :meth:`write`."""
        batch: list[bytes] = []
        for when, stream, data in entries:
            batch.append(_entry(data, stream, _stamp(round(when * 1_000_000_000))))
            if len(batch) == _BATCH:
                self._keep(batch)
                batch = []
        self._keep(batch)

    def waiting(self) -> list[tuple[str, bytes]]:
        """Output that waits for its newline, and that no reader can see yet: (stream, data)."""
        return [(stream, rest) for stream, rest in self._partial.items() if rest]

    def close(self) -> None:
        """Write what still waits for a newline, and close the file. Repeating it does nothing."""
        for stream, rest in self._partial.items():
            if rest:
                self._keep([_entry(rest, stream, _stamp(time.time_ns()))])
        self._partial.clear()
        self._shut()

    def clear(self) -> None:
        """Forget what is in the file, and all older ones; what waits for a newline is kept."""
        self._shut()
        clear(self._path)

    def _keep_all(self, entries: bytes) -> bool:
        """Write entries that go into one file; False where they do not."""
        try:
            self._open()
            if self._is_full(len(entries)):
                return False
            self._flush([entries])
        except OSError:
            self.dropped += entries.count(b"\n")
        return True

    def _keep(self, entries: list[bytes]) -> None:
        batch: list[bytes] = []
        try:
            self._open()
            waiting = 0
            for entry in entries:
                if self._is_full(waiting + len(entry)):
                    self._flush(batch)
                    self._rotate()
                    batch, waiting = [], 0
                batch.append(entry)
                waiting += len(entry)
            self._flush(batch)
        except OSError:
            self.dropped += max(1, len(batch))

    def _is_full(self, more: int) -> bool:
        return self._size > 0 and 0 < self._max_size < self._size + more

    def _flush(self, batch: list[bytes]) -> None:
        data = b"".join(batch)
        written = os.write(self._fd, data) if data else 0
        if written < len(data):
            os.ftruncate(self._fd, self._size)  # no torn line is left behind
            self.dropped += len(batch)
            return
        self._size += written

    def _open(self) -> None:
        if self._fd >= 0:
            return
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")  # an earlier writer died in a line

    def _rotate(self) -> None:
        self._shut()
        journal.rotate(self._path, self._max_files - 1)
        self._open()

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NoWriter(LogWriter):
    """Keeps nothing."""

    def __init__(self) -> None:
        super().__init__("", 0, 1)

    def write(self, stream: str, data: bytes, now: int | None = None) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


class LogReader:
    """Reads what a :class:`LogWriter` wrote, or writes at this moment."""

    def __init__(self, path: str) -> None:
        self._path = path

    def entries(
        self,
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        ended: Callable[[], bool] = lambda: False,
        wait: Callable[[float], None] = time.sleep,
    ) -> Iterator[Entry]:
        """Entries, the oldest first: of the last ``tail`` those from ``since`` to ``until``.

        With ``follow`` it goes on until ``ended`` says that the writer is gone, and all is read, or
        until ``until`` has passed; who follows holds the file open from this call on, and reads it
        to its end even if it goes with its container. Entries out of order (a clock was set) are
        each judged by their own time, and lines that are no entries are skipped.
        """

        def over() -> bool:
            return ended() or (until is not None and time.time() > until)

        if follow:
            with suppress(OSError):  # of a container that has just gone
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lines = journal.lines(self._path, tail=tail, follow=follow, ended=over, wait=wait)
        return (
            entry
            for entry in map(_parse, lines)
            if entry is not None
            and (since is None or entry[0] >= since)
            and (until is None or entry[0] <= until)
        )


class JsonFile:
    """The driver ``json-file``; options ``max-size`` (``10m``; ``-1``: no bound), ``max-file``."""

    name = "json-file"
    max_size = 10 << 20
    max_files = 3

    def check(self, options: Mapping[str, str]) -> None:
        """Raise InvalidArgument for options that this driver does not have or cannot read."""
        self._settings(options)

    def writer(self, path: str, options: Mapping[str, str]) -> LogWriter:
        """A writer of the log at ``path``. Raises as :meth:`check`."""
        return LogWriter(path, *self._settings(options))

    def reader(self, path: str) -> LogReader:
        """A reader of the log at ``path``. Raises NotSupported where nothing is kept."""
        return LogReader(path)

    def _settings(self, options: Mapping[str, str]) -> tuple[int, int]:
        for key in options:
            if key not in ("max-size", "max-file"):
                raise InvalidArgument(f"unknown log opt '{key}' for {self.name} log driver")
        size, files = options.get("max-size"), options.get("max-file")
        return (
            self.max_size if size is None else _size(size),
            self.max_files if files is None else _count(files),
        )


class Local(JsonFile):
    """The driver ``local``: as ``json-file``, and keeps more."""

    name = "local"
    max_size = 20 << 20
    max_files = 5


class NoLog(JsonFile):
    """The driver ``none``: nothing is kept, and no option is refused, as Docker does."""

    name = "none"

    def writer(self, path: str, options: Mapping[str, str]) -> LogWriter:
        return NoWriter()

    def reader(self, path: str) -> LogReader:
        raise NotSupported("configured logging driver does not support reading")

    def _settings(self, options: Mapping[str, str]) -> tuple[int, int]:
        return 0, 0


DRIVERS: Mapping[str, JsonFile] = {kind.name: kind() for kind in (JsonFile, Local, NoLog)}


def driver(name: str) -> JsonFile:
    """The driver of this name, the default for an empty one. Raises InvalidArgument."""
    try:
        return DRIVERS[name or JsonFile.name]
    except KeyError:
        raise InvalidArgument(f"logger: no log driver named '{name}' is registered") from None


def open_log(config: LogConfig, path: str) -> LogWriter:
    """A writer of the log at ``path``. Raises InvalidArgument for an unknown driver or option."""
    return driver(config.driver).writer(path, config.options)


def clear(path: str) -> None:
    """Forget the log at ``path``, which nobody writes to. Who follows it goes on with the next."""
    folder, name = os.path.split(path)
    for old in os.listdir(folder):
        if old == name or old.startswith(f"{name}."):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, old))


# --- text ----------------------------------------------------------------------------------------


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Pieces that are entries, and the rest that is none yet."""
    pieces, start = [], 0
    while start < len(data):
        end = data.find(b"\n", start, start + PIECE) + 1
        if not end:
            if len(data) - start < PIECE:
                break
            end = _boundary(data, start + PIECE)
        pieces.append(data[start:end])
        start = end
    return pieces, data[start:]


def _boundary(data: bytes, end: int) -> int:
    """``end``, or up to three bytes before it, where a character of UTF-8 begins."""
    for back in range(4):
        if end - back < len(data) and data[end - back] & 0xC0 != 0x80:
            return end - back
    return end


def _has_short_lines(lines: bytes) -> bool:
    """Is none of them longer than an entry may be?"""
    return len(lines) <= PIECE or max(map(len, lines.split(b"\n"))) < PIECE


def _entries(lines: bytes, stream: str, stamp: str) -> bytes:
    """The entries of whole lines, by as many calls as for a single one."""
    text = _strings(lines.decode("utf-8", "surrogateescape").split("\n")[:-1])
    end = f'\\n","stream":"{stream}","time":"{stamp}"}}\n'
    joined = text[2:-2].replace(_BETWEEN, f'{end}{{"log":"')
    told = f'{{"log":"{joined}{end}'
    try:
        return told.encode()
    except UnicodeEncodeError:
        return told.encode("utf-8", "backslashreplace")


_strings = json.JSONEncoder(ensure_ascii=False, separators=("\0", "")).encode
"""A list as JSON but for what separates its strings, which can stand in none of them."""
_BETWEEN = '"\0"'


def _entry(piece: bytes, stream: str, stamp: str) -> bytes:
    text = json.dumps(piece.decode("utf-8", "surrogateescape"), ensure_ascii=False)
    # the escape of a lone surrogate in Python's notation is JSON's
    told = text.encode("utf-8", "backslashreplace")
    return b'{"log":%b,"stream":"%b","time":"%b"}\n' % (told, stream.encode(), stamp.encode())


def _parse(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        data = fields["log"].encode("utf-8", "surrogateescape")
        return _instant(fields["time"]), fields["stream"], data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _stamp(now: int) -> str:
    """RFC3339Nano, as Go writes it: UTC, and no zeros at the end of the fraction."""
    seconds, fraction = divmod(now, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{_second(seconds)}{digits}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _instant(stamp: str) -> float:
    return _seconds(stamp[:19]) + float("0" + stamp[19:].removesuffix("Z"))


@lru_cache(maxsize=8)
def _seconds(stamp: str) -> float:
    from datetime import datetime  # for who reads a log; shims only write theirs

    return datetime.fromisoformat(stamp + "+00:00").timestamp()


def _size(text: str) -> int:
    if text == "-1":
        return 0
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size <= 0:
        raise InvalidArgument(f"invalid value for max-size: '{text}' is not a size such as 10m")
    return size


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise InvalidArgument(f"invalid value for max-file: '{text}' is not in 1 to 1000")
    return int(text)
