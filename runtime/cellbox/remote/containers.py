"""The containers of a remote engine.

They belong to the daemon: also one that was not asked to be detached runs on when this client goes
away, as Docker's do.
"""

from __future__ import annotations

import builtins
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cellbox.engine import Filters, Stream
from cellbox.errors import (
    CellboxError,
    InvalidArgument,
    NotFound,
    NotSupported,
    StartError,
    WrongState,
)
from cellbox.model.container import (
    ALLOWED,
    Container,
    ExecSpec,
    Limits,
    MountSpec,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Status,
)
from cellbox.remote import paths
from cellbox.remote.deadline import Deadline
from cellbox.remote.gather import gathered
from cellbox.remote.own import own
from cellbox.remote.process import ContainerProcess, ExecProcess, Wait
from cellbox.remote.streams import RemoteStream, log_entries, not_started
from cellbox.remote.transport import Transport
from cellbox.wire.containers import container_from
from cellbox.wire.requests import create_body, exec_body, remake_body, update_body

_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})
_SIGNAL_TO_STOP = (1, 42)
"""The API version since which it can be chosen."""
_ROUNDING = 1e-6
"""Seconds: more than what a float loses of a time with nanoseconds."""


class RemoteContainers:
    """See :class:`cellbox.engine.Containers`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    # Looking -----------------------------------------------------------------------------------

    def get(self, ref: str) -> Container:
        return container_from(self._http.json("GET", paths.container(ref, "/json")))

    def list(
        self, *, all: bool = False, filters: Filters | None = None
    ) -> builtins.list[Container]:
        filters = filters or {}
        # Without ``all``, dockerd looks for exit codes among those that run.
        query = {"all": all or "exited" in filters, "filters": filters}
        found = self._http.json("GET", "/containers/json", query)
        return gathered(self.get, [one["Id"] for one in found])

    # Making and taking away ----------------------------------------------------------------------

    def create(self, spec: RunSpec, *, name: str = "") -> Container:
        query = {"name": name or None, "platform": spec.platform or None}
        made = self._http.json("POST", "/containers/create", query, json=create_body(spec))
        return self.get(made["Id"])

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        self._http.request("DELETE", paths.container(ref), {"force": force, "v": volumes})

    def update(
        self,
        ref: str,
        *,
        name: str = "",
        limits: Limits | None = None,
        restart: RestartPolicy | None = None,
        ports: Sequence[PortSpec] | None = None,
        mounts: Sequence[MountSpec] | None = None,
        env: Sequence[str] | None = None,
    ) -> None:
        anew = remake_body({"ports": ports, "mounts": mounts, "env": env})
        if anew:
            with own("change ports, mounts or environment of a container"):
                self._http.request("POST", paths.container(ref, "/remake"), json=anew)
        if limits is not None or restart is not None:
            body = update_body(limits or Limits(), restart)
            self._http.request("POST", paths.container(ref, "/update"), json=body)
        if name:
            self._http.request("POST", paths.container(ref, "/rename"), {"name": name})

    # Starting and ending -------------------------------------------------------------------------

    def start(self, ref: str) -> None:
        try:
            self._say(ref, "start")
        except (NotFound, StartError):
            raise
        except CellboxError as error:
            raise self._start_error(ref, error) from error

    def _start_error(self, ref: str, error: CellboxError) -> CellboxError:
        """A daemon tells by words alone that a program could not be started; the container's own
        record has them too."""
        try:
            facts = self.get(ref)
        except CellboxError:
            return error
        if facts.error and facts.error in str(error) and facts.status in ALLOWED["start"]:
            return not_started(facts.error, facts.exit_code)
        return error

    def stop(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        self._end(ref, "stop", timeout, signal)

    def restart(self, ref: str, *, timeout: float | None = None, signal: str = "") -> None:
        self._end(ref, "restart", timeout, signal)

    def _end(self, ref: str, verb: str, timeout: float | None, signal: str) -> None:
        if signal and self._http.api_version() < _SIGNAL_TO_STOP:
            raise NotSupported(
                f"this engine always takes the container's own signal for {verb}: send yours with "
                "kill, or give the container a stop signal"
            )
        self._say(ref, verb, t=_seconds(timeout), signal=signal or None)

    def kill(self, ref: str, *, signal: str = "KILL") -> None:
        self._say(ref, "kill", signal=signal)

    def pause(self, ref: str) -> None:
        self._say(ref, "pause")

    def unpause(self, ref: str) -> None:
        self._say(ref, "unpause")

    def _say(self, ref: str, verb: str, **query: Any) -> None:
        self._http.request("POST", paths.container(ref, f"/{verb}"), query)

    def wait(
        self, ref: str, *, timeout: float | None = None, condition: str = "not-running"
    ) -> int:
        if condition not in _CONDITIONS:  # dockerd 20.10 takes it for another one
            raise InvalidArgument(f'invalid condition: "{condition}"')
        deadline = Deadline(timeout)
        while True:
            code = self._wait_once(ref, condition, deadline)
            if condition != "not-running" or not self._starts_again(ref):
                return code

    def _wait_once(self, ref: str, condition: str, deadline: Deadline) -> int:
        with contextlib.ExitStack() as held:
            waiting = held.enter_context(Wait(self._http, ref, condition))
            removal = self._removal(ref, condition)
            if removal is not None:
                held.enter_context(removal)
            code = waiting.exit_code(deadline.left)
            if removal is not None:
                removal.exit_code(deadline.left)
            return code

    def _removal(self, ref: str, condition: str) -> Wait | None:
        """One that removes itself has ended only when its name is free; a daemon says so before."""
        with contextlib.suppress(NotFound):  # it is gone by now
            facts = self.get(ref)
            ends = condition == "next-exit" or facts.status in ALLOWED["kill"]
            if facts.spec.auto_remove and ends:
                return Wait(self._http, facts.id, "removed")
        return None

    def _starts_again(self, ref: str) -> bool:
        """dockerd tells of every end of one that it restarts."""
        with contextlib.suppress(NotFound):
            facts = self.get(ref)
            return facts.spec.restart.name != "no" and facts.status in ALLOWED["stop"]
        return False

    # Streams -----------------------------------------------------------------------------------

    def attach(self, ref: str, *, stdin: bool = False, logs: bool = False) -> Stream:
        facts = self.get(ref)
        if facts.status not in ALLOWED["attach"]:
            raise WrongState(f"Container {facts.name} is {facts.status}")
        query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "logs": logs}
        created = "next-exit" if facts.status is Status.CREATED else "not-running"
        condition = "removed" if facts.spec.auto_remove else created
        waiting = Wait(self._http, facts.id, condition)
        try:
            path = paths.container(facts.id, "/attach")
            exchange = self._http.open("POST", path, query, switch=True)
        except BaseException:
            waiting.close()
            raise
        process = ContainerProcess(self._http, facts.id, waiting)
        stdin = stdin and facts.spec.interactive
        return RemoteStream(exchange, process, tty=facts.spec.tty, stdin=stdin)

    def exec(self, ref: str, spec: ExecSpec) -> Stream:
        body = exec_body(spec)
        id = self._http.json("POST", paths.container(ref, "/exec"), json=body)["Id"]
        process = ExecProcess(self._http, id)
        start = {"Detach": False, "Tty": spec.tty}
        exchange = self._http.open("POST", f"/exec/{id}/start", json=start, switch=True)
        return RemoteStream(exchange, process, tty=spec.tty, stdin=spec.interactive, executed=True)

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[float, str, bytes]]:
        facts = self.get(ref)
        query = {
            "stdout": True,
            "stderr": True,
            "timestamps": True,
            "follow": follow,
            "tail": "all" if tail is None else tail,
            "since": None if since is None else f"{max(0.0, since - _ROUNDING):.9f}",
            "until": None if until is None else f"{until + _ROUNDING:.9f}",
        }
        exchange = self._http.open("GET", paths.container(facts.id, "/logs"), query)
        return log_entries(exchange, tty=facts.spec.tty, stop=stop)


def _seconds(timeout: float | None) -> int | None:
    """Whole ones, as Docker counts, and none too few."""
    return None if timeout is None else math.ceil(timeout)
