"""Talking with a program that reads its standard input, line by line, through an input box.

A thread shows output as it comes. The main thread asks for a line when the program has been quiet
for a moment and still runs: it may be waiting for one. (If it was only busy, its output goes on
while the box is open, and the line waits for it.) What a user expects of the box:

- a line is sent with its line break; ``^D`` alone ends the input, as the key does in a terminal;
- an interrupt while the box is open ends the input too; a second one, or one while no box is open,
  stops the program (:class:`KeyboardInterrupt` leaves :meth:`Conversation.run`);
- the box closes by itself when the program ends. Only a signal can end a read in the main thread,
  so the listening thread sends SIGINT there, and a flag tells that it was meant so;
- behind a prompt for a password the box hides what is typed.
"""

from __future__ import annotations

import contextlib
import contextvars
import getpass
import re
import signal
import threading
import time
from collections.abc import Callable

from cellbox.engine import Stream

QUIET = 0.3
"""Seconds without output after which a program that runs is taken to wait for a line."""

END = "^D"

_SECRET = re.compile(r"(password|passphrase|passcode)[^\n]*:\s*$", re.IGNORECASE)
_TAIL = 200


class Conversation:
    """One program that reads, and one user who types."""

    def __init__(
        self,
        stream: Stream,
        write: Callable[[str, bytes], None],
        note: Callable[[str], None],
        *,
        tty: bool,
        quiet: float = QUIET,
    ) -> None:
        self._stream = stream
        self._write = write
        self._note = note
        self._tty = tty
        self._quiet = quiet
        self._state = threading.Condition()
        self._last = time.monotonic()
        self._tail = b""
        self._echo = Echo()
        self._asking = self._poked = self._ended = False
        self._input_over = self._warned = False
        run = contextvars.copy_context().run  # so that output finds the cell it belongs to
        self._thread = threading.Thread(target=run, args=(self._listen,), daemon=True)

    def run(self) -> int:
        """Talk until the program ends; its exit code. KeyboardInterrupt means: stop it."""
        self._thread.start()
        while self._waits_for_line():
            try:
                line = self._ask()
            except (EOFError, NotImplementedError):
                self._end_input()
                continue
            except KeyboardInterrupt:
                self._interrupted()
                continue
            if line == END:
                self._end_input()
            elif line is not None:
                self._send(line)
        self.join()
        return self._stream.wait()

    def join(self, patience: float | None = None) -> None:
        """Wait until the program's last output is shown; raises TimeoutError."""
        self._thread.join(patience)
        if self._thread.is_alive():
            raise TimeoutError

    def _listen(self) -> None:
        try:
            for name, data in self._stream:
                shown = self._echo.strip(data) if self._tty else data
                self._write(name, shown)
                with self._state:
                    self._last = time.monotonic()
                    self._tail = (self._tail + data)[-_TAIL:]
                    self._state.notify_all()
        finally:
            self._finish()

    def _finish(self) -> None:
        with self._state:
            self._ended = True
            self._state.notify_all()
            if self._asking:
                self._poked = True
                signal.pthread_kill(_main_thread(), signal.SIGINT)

    def _waits_for_line(self) -> bool:
        """Block until the program seems to wait (True) or has ended (False)."""
        with self._state:
            while not self._ended:
                left = self._last + self._quiet - time.monotonic()
                if left <= 0 and not self._input_over:
                    return True
                self._state.wait(None if self._input_over else left)
            return False

    def _ask(self) -> str | None:
        """A line; None when the program ended while the box was open."""
        try:
            return self._asked()
        except KeyboardInterrupt:
            with self._state:
                self._asking = False
            if self._ended:
                return None
            raise

    def _asked(self) -> str | None:
        with self._state:
            if self._ended:
                return None
            self._asking = threading.current_thread() is threading.main_thread()
            secret = _SECRET.search(self._tail.decode("utf-8", "replace"))
        try:
            line = getpass.getpass("") if secret else input("")
        finally:
            with self._state:
                self._asking = False
        if self._poked:  # the signal is on its way: let it arrive here, where it is known
            threading.Event().wait(1)
        return None if self._ended else line

    def _send(self, line: str) -> None:
        data = line.encode() + b"\n"
        self._touch()
        if self._tty:
            self._echo.expect(data[:-1] + b"\r\n")
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(data)

    def _touch(self) -> None:
        with self._state:
            self._last = time.monotonic()
            self._tail = b""

    def _end_input(self) -> None:
        self._touch()
        with contextlib.suppress(BrokenPipeError):
            if self._tty and not self._warned:
                self._stream.write(b"\x04")
            else:
                self._input_over = True
                self._stream.close_stdin()
        self._warned = True

    def _interrupted(self) -> None:
        if self._warned:
            raise KeyboardInterrupt
        self._end_input()
        self._note("cellbox: the input was ended; interrupt again to stop the program")


class Echo:
    """Takes the terminal's echo of a line out of the output, since the input box shows the line;
    pure."""

    def __init__(self) -> None:
        self._expected = b""

    def expect(self, data: bytes) -> None:
        """``data`` was typed; the terminal will most likely write it back."""
        self._expected = data

    def strip(self, data: bytes) -> bytes:
        """``data`` without the expected echo at its start; anything else ends the expectation."""
        length = min(len(data), len(self._expected))
        if length and data[:length] == self._expected[:length]:
            self._expected = self._expected[length:]
            return data[length:]
        self._expected = b""
        return data


def _main_thread() -> int:
    ident = threading.main_thread().ident
    assert ident is not None  # it has run since before this module was imported
    return ident
