"""Waiting for an end that is yet to come: Docker's conditions ``next-exit`` and ``removed``.

Who waits for that is attached as one who hears of the end only, also to a container that has not
been started, so that an end cannot be missed however short the run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cellbox.errors import EngineError, InvalidArgument, NotFound, StartError
from cellbox.local.records import ContainerRecord
from cellbox.model.container import Status

if TYPE_CHECKING:
    from cellbox.local.containers import LocalContainers

CONDITIONS = ("not-running", "next-exit", "removed")
_LOOK = 0.25
"""Seconds after which is looked whether another process has started or removed the container."""
_NOT_RUNNING = frozenset({Status.CREATED, Status.EXITED, Status.DEAD})


def wait(
    containers: LocalContainers, record: ContainerRecord, condition: str, deadline: float | None
) -> int:
    """The exit code of the next end, by ``deadline`` (of the monotonic clock). Raises TimeoutError,
    InvalidArgument."""
    if condition not in CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    code: int | None = None
    try:
        code = containers.facts(record).exit_code if condition == "removed" else None
        while code is None or condition == "removed":
            code = _next_exit(containers, record, deadline)
            if condition == "removed":
                _gone(containers, record, deadline)
        return code
    except NotFound:  # it has removed itself
        told = containers.exit_code_told(record)
        return told if told is not None else code or 0


def _next_exit(containers: LocalContainers, record: ContainerRecord, deadline: float | None) -> int:
    before = containers.facts(record)
    try:
        attached = containers.attach_to_end(record)
    except EngineError:  # its shim is just leaving: the end has come
        return containers.wait(record.id, timeout=_left(deadline))
    with attached as stream:
        while True:
            try:
                code = stream.wait(min(_LOOK, _left(deadline)))
                containers.ended(record)
                return code
            except StartError as error:
                return error.exit_code
            except TimeoutError:
                _left(deadline)
            now = containers.facts(containers.record(record.id))
            if before.status in _NOT_RUNNING and now.started != before.started:
                return containers.wait(record.id, timeout=_left(deadline))


def _gone(containers: LocalContainers, record: ContainerRecord, deadline: float | None) -> None:
    """Wait while the container is there and does not run. Raises NotFound when it is gone."""
    pause = 0.002
    while containers.facts(containers.record(record.id)).status in (*_NOT_RUNNING, Status.REMOVING):
        time.sleep(min(pause, _left(deadline)))
        pause = min(pause * 2, _LOOK)


def _left(deadline: float | None) -> float:
    if deadline is None:
        return 3600.0
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
