"""A long task whose steps are told while it runs, as JSON lines.

The engine tells steps from any thread and waits for nobody, so the task has a thread of its own and
puts its lines into a queue, from which the connection's thread sends them. A client that hangs up
ends the sending, not the task: what a pull has brought by then is kept, and the next one goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

from cellbox.api.http import Json, Response
from cellbox.engine import Tell
from cellbox.errors import CellboxError, StepFailed
from cellbox.model.image import Progress
from cellbox.wire.errors import error_json
from cellbox.wire.progress import failure_json, line, progress_json

Task = Callable[[Tell], Iterable[Json]]
"""Does the work, telling its steps and its text; what it returns are the last lines."""

JSON_LINES = {"Content-Type": "application/json"}


def told(task: Task) -> Response:
    """Run ``task``. What it raises before its first line is an error with a status; after that it
    is the last line."""
    return Response(body=_lines(task), headers=JSON_LINES)


def told_afterwards(messages: Iterable[Json]) -> Response:
    """The lines of a task that is over, chunked all the same: by that clients know a stream."""
    return Response(body=map(line, messages), headers=JSON_LINES)


def failure_of(error: CellboxError) -> Json:
    """The line that tells what went wrong."""
    code = error.exit_code if isinstance(error, StepFailed) else 0
    return failure_json(error_json(error)["message"], code)


def _lines(task: Task) -> Iterator[bytes]:
    steps: SimpleQueue[Json | BaseException | None] = SimpleQueue()

    def tell(step: str | Progress) -> None:
        steps.put({"stream": step} if isinstance(step, str) else progress_json(step))

    def work() -> None:
        try:
            for message in task(tell):
                steps.put(message)
            steps.put(None)
        except BaseException as error:
            steps.put(error)

    threading.Thread(target=work, name="task", daemon=True).start()
    first = True
    while (step := steps.get()) is not None:
        if isinstance(step, BaseException):
            if first or not isinstance(step, CellboxError):
                raise step
            yield line(failure_of(step))
            return
        yield line(step)
        first = False
