"""``docker exec``: a session is made, started once, and asked how it ended.

The sessions live in the daemon; of one that has ended its exit code is kept for a while, as that is
what its client asks for next.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cellbox.api import keys
from cellbox.api.http import Hijack, Json, Request, Response
from cellbox.api.routing import route
from cellbox.api.streams import BOTH, Carrier, Client, Terms, content_type, size_of
from cellbox.engine import Engine, Stream
from cellbox.errors import CellboxError, NotFound, StartError, WrongState
from cellbox.model.container import ALLOWED, Container, ExecSpec, Status
from cellbox.wire.errors import error_json
from cellbox.wire.fields import Fields
from cellbox.wire.requests import exec_spec

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

KEPT = 300.0
"""Seconds for which the exit code of a session is kept, and one that is never started."""
_SWEEP = 30.0
_LOST = 137


@dataclass
class Session:
    """One exec of a container. ``exit_code`` is there when all output has been sent."""

    id: str
    container: str
    spec: ExecSpec
    wanted: frozenset[str] = BOTH
    keys: bytes = keys.DEFAULT
    stream: Stream | None = None
    exit_code: int | None = None
    begun: bool = False
    touched: float = field(default_factory=time.monotonic)
    size: tuple[int, int] | None = None

    @property
    def running(self) -> bool:
        """Has it been started, and not ended?"""
        return self.stream is not None and self.exit_code is None

    def end(self, code: int) -> None:
        """It has ended, and whoever reads its output has it all."""
        self.exit_code, self.touched = code, time.monotonic()


class Sessions:
    """The exec sessions of a daemon."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._swept = time.monotonic()

    def add(self, session: Session) -> None:
        """Keep a new session; old ones are forgotten on this occasion."""
        if time.monotonic() - self._swept > _SWEEP:
            self.sweep()
        with self._lock:
            self._sessions[session.id] = session

    def get(self, id: str) -> Session:
        """Raises NotFound."""
        with self._lock:
            session = self._sessions.get(id)
        if session is None:
            raise NotFound("exec instance", id)
        return session

    def of(self, container: str) -> list[str]:
        """The ids of those that run in a container."""
        with self._lock:
            found = list(self._sessions.values())
        return [one.id for one in found if one.container == container and one.running]

    def start(self, session: Session, launch: Callable[[], Stream]) -> Stream:
        """Start a session, once. Raises WrongState the second time."""
        with self._lock:
            if session.begun:
                raise WrongState(f"Error: Exec command {session.id} has already run")
            session.begun = True
        try:
            session.stream = launch()
        except BaseException:
            session.begun = False
            raise
        if session.size is not None:
            session.stream.resize(*session.size)
        return session.stream

    def sweep(self) -> None:
        """Forget the sessions that nothing will be asked of any more: those of removed containers,
        and those that have not run for a while."""
        self._swept = now = time.monotonic()
        known = {facts.id for facts in self._engine.containers.list(all=True)}
        with self._lock:
            for one in list(self._sessions.values()):
                old = not one.running and now - one.touched > KEPT
                if old or one.container not in known:
                    del self._sessions[one.id]


@route("POST", "/containers/{id}/exec")
def create_exec(daemon: Daemon, request: Request) -> Response:
    """Make a session; nothing runs yet."""
    facts = daemon.engine.containers.get(request.params["id"])
    body = request.json()
    fields = Fields(body, "ExecOptions")
    session = Session(
        id=secrets.token_hex(32),
        container=facts.id,
        spec=exec_spec(body),
        wanted=frozenset(name for name in BOTH if fields.flag(f"Attach{name.capitalize()}")),
        keys=keys.parse(fields.text("DetachKeys")),
        size=_console_size(body),
    )
    _check(facts)
    daemon.sessions.add(session)
    return Response(201, json={"Id": session.id})


@route("POST", "/exec/{id}/start")
def start_exec(daemon: Daemon, request: Request) -> Response | Hijack:
    """Run it: with the client's connection as its streams, or detached from it."""
    session = daemon.sessions.get(request.params["id"])
    body = request.json()
    fields = Fields(body, "ExecStartOptions")
    session.size = _console_size(body) or session.size
    _check(daemon.engine.containers.get(session.container))
    launch = partial(daemon.engine.containers.exec, session.container, session.spec)
    stream = daemon.sessions.start(session, launch)
    if fields.flag("Detach"):
        threading.Thread(target=_unheard, args=(session, stream), daemon=True).start()
        return Response()
    framed = not fields.flag("Tty")
    terms = Terms(
        wanted=session.wanted,
        framed=framed,
        stdin=session.spec.interactive,
        keys=session.keys if session.spec.tty else b"",
        owns=False,
    )
    kind = content_type(request.version, framed=framed, upgrade="upgrade" in request.headers)
    return Hijack(partial(_heard, session, stream, terms), kind)


@route("POST", "/exec/{id}/resize")
def resize_exec(daemon: Daemon, request: Request) -> Response:
    """Tell its terminal its size; before the start it is remembered."""
    session = daemon.sessions.get(request.params["id"])
    session.size = size_of(request)
    if session.stream is not None:
        session.stream.resize(*session.size)
    return Response()


@route("GET", "/exec/{id}/json")
def inspect_exec(daemon: Daemon, request: Request) -> Response:
    """How it goes, or went; the exit code is null while it runs."""
    session = daemon.sessions.get(request.params["id"])
    spec = session.spec
    entrypoint, *arguments = spec.command
    process = {
        "tty": spec.tty,
        "entrypoint": entrypoint,
        "arguments": arguments,
        "privileged": spec.privileged,
        **({"user": spec.user} if spec.user else {}),
    }
    return Response(
        json={
            "ID": session.id,
            "Running": session.running,
            "ExitCode": session.exit_code,
            "ProcessConfig": process,
            "OpenStdin": spec.interactive,
            "OpenStderr": "stderr" in session.wanted,
            "OpenStdout": "stdout" in session.wanted,
            "CanRemove": session.exit_code is not None,
            "ContainerID": session.container,
            "DetachKeys": session.keys.decode("ascii"),
            # a stream of the embedded engine knows it; the contract does not ask for it
            "Pid": getattr(session.stream, "pid", 0),
        }
    )


def _check(facts: Container) -> None:
    if facts.status is Status.PAUSED:
        name = facts.name
        raise WrongState(f"Container {name} is paused, unpause the container before exec")
    if facts.status is Status.RESTARTING:
        raise WrongState(f"Container {facts.id} is restarting, wait until the container is running")
    if facts.status not in ALLOWED["exec"]:
        raise WrongState(f"container {facts.id} is not running")


def _console_size(body: Json) -> tuple[int, int] | None:
    match body.get("ConsoleSize"):
        case [int(rows), int(columns)] if 0 < min(rows, columns) <= max(rows, columns) < 65536:
            return rows, columns
    return None


def _heard(session: Session, stream: Stream, terms: Terms, client: Client) -> None:
    """Carry its streams. The client sees the end of its output when the exit code is there."""
    carrier = Carrier(client, stream, terms)
    try:
        if not carrier.run():
            client.end()
            _drain(stream)
        code, message = _outcome(stream)
        if message:
            carrier.say("stdout", f"{message}\r\n".encode())
        session.end(code)
    finally:
        stream.close()
        carrier.close()


def _unheard(session: Session, stream: Stream) -> None:
    with stream:
        _drain(stream)
        session.end(_outcome(stream)[0])


def _drain(stream: Stream) -> None:
    for _ in stream:
        pass


def _outcome(stream: Stream) -> tuple[int, str]:
    """The exit code, and what is to be said of a process that could not be started."""
    try:
        return stream.wait(), ""
    except StartError as error:
        failed = "OCI runtime exec failed: exec failed"
        return error.exit_code, f"{failed}: {error_json(error)['message']}"
    except CellboxError as error:
        return _LOST, str(error)
