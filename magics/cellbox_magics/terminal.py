"""The ``cellbox`` command's surface: this process's own standard streams.

Bytes go through as they are. With ``-t`` the local terminal is put into raw mode, so that every key
(``Ctrl-C`` too) reaches the program; its size is passed on at the start and at every SIGWINCH; the
detach keys let go of the program. Without ``-t`` signals are passed on instead. Nothing is sent
from a signal handler: it only leaves a word for a thread that may wait.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from cellbox.errors import InvalidArgument

from .session import Session

if TYPE_CHECKING:
    from cellbox.engine import Engine, Stream, Watch
    from cellbox.model.image import Progress

    from .jobs import Job
    from .progress import Board
    from .surface import Talking

_PROXIED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
_CHUNK = 1 << 16


class Terminal:
    """A surface over three file descriptors."""

    cell: str | None = None
    term = ""

    def __init__(self, session: Session | None = None, fds: tuple[int, int, int] = (0, 1, 2)):
        self.session = session or Session()
        self.hosts: tuple[str, ...] = ()
        self._in, self._out, self._err = fds

    @property
    def engine(self) -> Engine:
        """The engine of this command."""
        return self.session.chosen(self.hosts)

    @property
    def names(self) -> Mapping[str, Any]:
        """A shell has no variables to pass."""
        return {}

    def publish(self, values: Mapping[str, Any]) -> None:
        """Nothing comes here, since nothing can be asked for."""

    def keep(self, job: Job) -> Job:
        """A job ends with the command."""
        return self.session.keep(job)

    def write(self, name: str, data: bytes) -> None:
        """All of ``data`` to standard output or error, unchanged."""
        write_all(self._err if name == "stderr" else self._out, data)

    def note(self, text: str) -> None:
        """One line to standard error."""
        write_all(self._err, f"{text}\n".encode())

    def ask(self, question: str) -> str:
        """A line from standard input."""
        write_all(self._err, question.encode())
        with open(self._in, "rb", closefd=False) as source:
            return source.readline().decode("utf-8", "replace")

    def source(self) -> BinaryIO:
        """Standard input; a terminal is refused, since nobody types a tar."""
        if os.isatty(self._in):
            raise InvalidArgument("standard input is a terminal: use < FILE, or name a file")
        return open(self._in, "rb", closefd=False)

    def sink(self) -> BinaryIO:
        """Standard output; a terminal is refused, since a tar would garble it."""
        if os.isatty(self._out):
            raise InvalidArgument("cowardly refusing to save to a terminal: use -o FILE, or > FILE")
        return open(self._out, "wb", closefd=False)

    @contextlib.contextmanager
    def watch(self, title: str) -> Iterator[Watch]:
        """A live display on a terminal, a line a step elsewhere; both on standard error."""
        from .progress import Board

        board = Board(title)
        if not os.isatty(self._err):
            yield lambda step: self._log_step(board, step)
            return
        with _Live(board, self._err) as watch:
            yield watch

    def _log_step(self, board: Board, step: Progress) -> None:
        from .progress import head

        if board.record(step):
            self.note(head(step))

    def talk(self, stream: Stream, how: Talking) -> int | None:
        """Connect the program with the standard streams; None when the user detached."""
        raw = how.tty and how.stdin and os.isatty(self._in)
        with contextlib.ExitStack() as stack:
            words = stack.enter_context(_Messenger(stream))
            if how.tty and os.isatty(self._out):
                stack.enter_context(_sizes(self._out, stream, words))
            if how.proxy and not raw:
                stack.enter_context(_proxied(stream, words))
            if raw:
                stack.enter_context(raw_mode(self._in))
            keys = _Keyboard(self._in, stream, how.detach_keys if how.tty else b"")
            if how.script is not None:
                _feed(stream, how.script)
            elif how.stdin:
                stack.enter_context(keys)
            for name, data in stream:
                self.write(name, data)
            return None if keys.detached else stream.wait()


def _feed(stream: Stream, script: bytes) -> None:
    from .jobs import feed

    threading.Thread(target=feed, args=(stream, script), daemon=True).start()


class _Live:
    """rich's live display of a board; rich is imported when the first step comes."""

    def __init__(self, board: Board, fd: int) -> None:
        self._board = board
        self._file = open(os.dup(fd), "w", encoding="utf-8")
        self._live: Any = None
        self._lock = threading.Lock()

    def _watch(self, step: Progress) -> None:
        self._board.record(step)
        with self._lock:
            if self._live is None:
                self._live = self._begin()

    def _begin(self) -> Any:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        live = Live(
            console=Console(file=self._file),
            get_renderable=lambda: Text(self._board.text()),
            refresh_per_second=10,
        )
        live.start()
        return live

    def __enter__(self) -> Watch:
        return self._watch

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._file.close()


class _Messenger:
    """A thread that does what signal handlers ask for: they may not wait, it may."""

    def __init__(self, stream: Stream) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def post(self, task: Callable[[], None]) -> None:
        """Do ``task`` soon; safe in a signal handler (SimpleQueue.put is reentrant)."""
        self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            with contextlib.suppress(
                Exception
            ):  # the program may be gone; its end is seen elsewhere
                task()

    def __enter__(self) -> _Messenger:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._tasks.put(None)
        self._thread.join()


class _Keyboard:
    """A thread that passes input on until it ends, or the detach keys come."""

    def __init__(self, fd: int, stream: Stream, detach_keys: bytes) -> None:
        self.detached = False
        self._fd = fd
        self._stream = stream
        self._keys = DetachKeys(detach_keys)
        self._wake_read, self._wake_write = -1, -1
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def _pass_on(self) -> None:
        with contextlib.suppress(OSError):  # the program or the terminal is gone
            while self._readable():
                data = os.read(self._fd, _CHUNK)
                if not data:
                    self._stream.close_stdin()
                    return
                passed, self.detached = self._keys.feed(data)
                if passed:
                    self._stream.write(passed)
                if self.detached:
                    self._stream.close()
                    return

    def _readable(self) -> bool:
        ready, _, _ = select.select([self._fd, self._wake_read], [], [])
        return self._wake_read not in ready

    def __enter__(self) -> _Keyboard:
        self._wake_read, self._wake_write = os.pipe()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        os.write(self._wake_write, b"x")
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)


class DetachKeys:
    """Finds a key sequence in typed bytes; pure. A part of it is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the whole sequence was typed."""
        if not self._keys:
            return data, False
        data = self._held + data
        before, found, _ = data.partition(self._keys)
        if found:
            self._held = b""
            return before, True
        held = next(n for n in range(len(self._keys) - 1, -1, -1) if data.endswith(self._keys[:n]))
        self._held = data[len(data) - held :]
        return data[: len(data) - held], False


@contextlib.contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """The terminal passes every key on unread while the block lasts (termios(3), ``cfmakeraw``)."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _handled(names: tuple[str, ...], handler: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names]
    before = {number: signal.signal(number, lambda got, _: handler(got)) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _proxied(stream: Stream, words: _Messenger) -> Iterator[None]:
    def pass_on(number: int) -> None:
        name = signal.Signals(number).name
        words.post(lambda: stream.signal(name))

    with _handled(_PROXIED, pass_on):
        yield


@contextlib.contextmanager
def _sizes(fd: int, stream: Stream, words: _Messenger) -> Iterator[None]:
    def tell() -> None:
        size = os.get_terminal_size(fd)
        stream.resize(size.lines, size.columns)

    words.post(tell)
    with _handled(("SIGWINCH",), lambda number: words.post(tell)):
        yield


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; a reader that has gone away raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def show(result: Any, out: int = 1) -> str:
    """The text of a verb's result for a terminal or a pipe; empty where there is nothing to say."""
    from .tables import Table

    if result is None or isinstance(result, int):
        return ""
    if isinstance(result, Table):
        return _drawn(result) if os.isatty(out) else repr(result)
    if hasattr(result, "facts") and hasattr(result, "reload"):  # a handle
        return str(next(iter(getattr(result, "tags", ())), result.id))
    return repr(result)


def _drawn(table: Any) -> str:
    from rich.console import Console
    from rich.table import Table as Drawing
    from rich.text import Text

    drawing = Drawing(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title in table.titles:
        drawing.add_column(title, overflow="fold")
    for row in table.rows:
        drawing.add_row(
            *(Text("".join(c if c.isprintable() else " " for c in cell)) for cell in row)
        )
    console = Console(file=sys.stdout)
    with console.capture() as drawn:
        console.print(drawing)
    return drawn.get().rstrip("\n")
