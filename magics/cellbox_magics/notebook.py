"""The notebook's surface: output to the cell, input from its input box, progress in one display.

Output is decoded as it comes, so that a character cut in two by a read arrives whole. An interrupt
ends the program: SIGINT, then SIGKILL when it is still there a moment later or the user interrupts
again. A program that reads (``-i``) is talked with by a :class:`~.conversation.Conversation`.
"""

from __future__ import annotations

import codecs
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from cellbox.engine import Engine, Stream, Watch
from cellbox.errors import InvalidArgument

from .jobs import Job, feed
from .outcome import Interrupted
from .progress import Board, Painter, head
from .session import Session
from .surface import Talking

if TYPE_CHECKING:
    from cellbox.model.image import Progress

GRACE = 1.0
"""Seconds that a program has to end after SIGINT before it is killed."""


class Notebook:
    """A surface over an IPython shell; ``cell`` is the body of the cell that spoke."""

    term = "dumb"

    def __init__(
        self,
        shell: Any,
        session: Session,
        names: Mapping[str, Any] | None = None,
        cell: str | None = None,
    ) -> None:
        self.session = session
        self.cell = cell
        self.hosts: tuple[str, ...] = ()
        self.names: Mapping[str, Any] = {} if names is None else names
        self._shell = shell
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    @property
    def engine(self) -> Engine:
        """The notebook's engine, or the one that the line names."""
        return self.session.chosen(self.hosts)

    def publish(self, values: Mapping[str, Any]) -> None:
        """Set variables of the notebook."""
        self._shell.push(dict(values))

    def keep(self, job: Job) -> Job:
        """Let ``job`` end with the notebook at the latest."""
        return self.session.keep(job)

    def write(self, name: str, data: bytes) -> None:
        """Text of ``data`` to the cell's output; bytes that are not UTF-8 show as U+FFFD."""
        decoder = self._decoders.get(name)
        if decoder is None:
            decoder = self._decoders[name] = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        out = sys.stderr if name == "stderr" else sys.stdout
        if text:
            out.write(text)
        if not text.endswith("\n"):
            out.flush()

    def flush(self) -> None:
        """Write what is left of a character that never became whole."""
        for name, decoder in self._decoders.items():
            (sys.stderr if name == "stderr" else sys.stdout).write(decoder.decode(b"", final=True))
        self._decoders.clear()

    def note(self, text: str) -> None:
        """One line to the cell's standard error."""
        print(text, file=sys.stderr, flush=True)

    def ask(self, question: str) -> str:
        """One line from the cell's input box; empty where the front end has none."""
        try:
            return input(question)
        except (EOFError, NotImplementedError):
            return ""

    def source(self) -> BinaryIO:
        """A cell has no bytes to read."""
        raise InvalidArgument(
            "a notebook has no standard input for this: name a file, as in -i FILE"
        )

    def sink(self) -> BinaryIO:
        """A cell has no place for bytes."""
        raise InvalidArgument("a notebook cannot show a tar: name a file, as in -o FILE")

    @contextlib.contextmanager
    def watch(self, title: str) -> Iterator[Watch]:
        """One display, updated at most ten times a second; plain lines where there is no kernel."""
        board = Board(title)
        if getattr(self._shell, "kernel", None) is None:
            yield lambda step: self._log(board, step)
            return
        with Painter(board, Picture(board).draw) as watch:
            yield watch

    def _log(self, board: Board, step: Progress) -> None:
        if board.record(step):
            self.note(head(step))

    def talk(self, stream: Stream, how: Talking) -> int | None:
        """Connect the program with the cell until it ends."""
        try:
            if how.script is not None:
                script = how.script
                threading.Thread(target=feed, args=(stream, script), daemon=True).start()
            elif how.stdin:
                return self._converse(stream, how)
            return self._listen(stream, how)
        finally:
            self.flush()

    def _converse(self, stream: Stream, how: Talking) -> int | None:
        from .conversation import Conversation

        conversation = Conversation(stream, self.write, self.note, tty=how.tty)
        try:
            return conversation.run()
        except KeyboardInterrupt:
            return stop(stream, how, conversation.join)

    def _listen(self, stream: Stream, how: Talking) -> int | None:
        try:
            for name, data in stream:
                self.write(name, data)
            return stream.wait()
        except KeyboardInterrupt:
            return stop(stream, how, lambda patience: drain(stream, self.write, patience))


class Picture:
    """One output of the cell that shows a board, drawn again in place."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._handle: Any = None

    def draw(self) -> None:
        """Show the board as it is now."""
        from IPython.display import display

        show: Any = display  # it has no type hints

        bundle = {"text/plain": self._board.text(), "text/html": self._board.html()}
        if self._handle is None:
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def stop(stream: Stream, how: Talking, ended: Any) -> int | None:
    """What an interrupt does: end the program, or let go of one that is not ours to end.

    ``ended(seconds)`` waits for its end and raises TimeoutError. Raises Interrupted.
    """
    if not how.owns:
        stream.close()
        raise Interrupted(f"interrupted: let go of {how.label}, which runs on")
    try:
        stream.signal("INT")
        ended(GRACE)
    except (TimeoutError, KeyboardInterrupt):
        stream.signal("KILL")
        with contextlib.suppress(TimeoutError):
            ended(GRACE)
    raise Interrupted(f"interrupted: {how.label} was stopped")


def drain(stream: Stream, write: Any, patience: float) -> None:
    """Write what still comes until the end; raises TimeoutError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while (piece := stream.read(max(0.0, deadline - time.monotonic()))) is not None:
        write(*piece)
