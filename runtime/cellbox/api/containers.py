"""Containers: what there is, their life from create to remove, and what they use."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cellbox import handles
from cellbox.api.http import Json, Request, Response
from cellbox.api.routing import route
from cellbox.engine import Engine
from cellbox.errors import CellboxError, Conflict, InvalidArgument, NotFound, WrongState
from cellbox.model.container import Container, Stats, Status
from cellbox.model.image import Image
from cellbox.model.reference import parse
from cellbox.wire.filters import with_moments
from cellbox.wire.objects import container_json, container_summary
from cellbox.wire.requests import remake, run_spec, update
from cellbox.wire.stats import changes_json, stats_json, top_json

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_RUNS = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})
_LOOK = 30.0
"""Seconds after which is looked whether who waits is still there."""
_TICK = 1.0
_JSON = {"Content-Type": "application/json"}


# --- looking -------------------------------------------------------------------------------------


@route("GET", "/containers/json")
def list_containers(daemon: Daemon, request: Request) -> Response:
    """``docker ps``."""
    engine, filters = daemon.engine, request.filters()
    limit = request.number("limit") or 0
    for name in ("before", "since"):
        if request.one(name):
            filters.setdefault(name, []).append(request.one(name))
    found = engine.containers.list(all=request.flag("all") or limit > 0, filters=filters)
    images = _Images(engine)
    sized, now = request.flag("size"), time.time()
    summaries = []
    for facts in found[:limit] if limit > 0 else found:
        with contextlib.suppress(NotFound):  # removed meanwhile
            sizes = engine.files.size(facts.id) if sized else None
            summaries.append(container_summary(facts, images.of(facts), sizes=sizes, now=now))
    return Response(json=summaries)


@route("GET", "/containers/{id}/json")
def inspect(daemon: Daemon, request: Request) -> Response:
    """``docker inspect``."""
    engine = daemon.engine
    facts = engine.containers.get(request.params["id"])
    sizes = engine.files.size(facts.id) if request.flag("size") else None
    told = container_json(facts, _Images(engine).of(facts), sizes=sizes)
    return Response(json={**told, "ExecIDs": daemon.sessions.of(facts.id) or None})


class _Images:
    """The images of containers, each looked up once; None for one that is gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, Image | None] = {}

    def of(self, facts: Container) -> Image | None:
        if facts.image_id not in self._known:
            self._known[facts.image_id] = None
            with contextlib.suppress(NotFound):
                self._known[facts.image_id] = self._engine.images.get(facts.image_id)
        return self._known[facts.image_id]


@route("GET", "/containers/{id}/top")
def top(daemon: Daemon, request: Request) -> Response:
    """``docker top``."""
    words = request.one("ps_args") or "-ef"
    table = daemon.engine.files.processes(request.params["id"], ps_args=words)
    return Response(json=top_json(table))


@route("GET", "/containers/{id}/changes")
def changes(daemon: Daemon, request: Request) -> Response:
    """``docker diff``; null where nothing has changed."""
    return Response(json=changes_json(daemon.engine.files.diff(request.params["id"])))


# --- life ----------------------------------------------------------------------------------------


@route("POST", "/containers/create")
def create(daemon: Daemon, request: Request) -> Response:
    """``docker create``. Where the image is missing, clients pull it and ask again."""
    body = request.json()
    if not body:
        raise InvalidArgument("config cannot be empty in order to create a container")
    spec = run_spec(body, request.one("platform"))
    try:
        facts = daemon.engine.containers.create(spec, name=request.one("name"))
    except NotFound as error:
        if error.kind == "image":
            raise NotFound("image", _familiar(error.ref)) from error
        raise
    return Response(201, json={"Id": facts.id, "Warnings": []})


def _familiar(ref: str) -> str:
    """An image's name with its tag, as clients look for it."""
    try:
        return parse(ref).familiar
    except InvalidArgument:
        return ref


@route("POST", "/containers/{id}/start")
def start(daemon: Daemon, request: Request) -> Response:
    """``docker start``; 304 for one that runs."""
    facts = daemon.engine.containers.get(request.params["id"])
    if facts.status in (Status.RUNNING, Status.RESTARTING):
        return Response(304)
    daemon.engine.containers.start(facts.id)
    return Response(204)


@route("POST", "/containers/{id}/stop")
def stop(daemon: Daemon, request: Request) -> Response:
    """``docker stop``; 304 for one that does not run."""
    facts = daemon.engine.containers.get(request.params["id"])
    if facts.status not in _RUNS:
        return Response(304)
    timeout, signal = request.number("t"), request.one("signal")
    daemon.engine.containers.stop(facts.id, timeout=timeout, signal=signal)
    return Response(204)


@route("POST", "/containers/{id}/restart")
def restart(daemon: Daemon, request: Request) -> Response:
    """``docker restart``."""
    timeout, signal = request.number("t"), request.one("signal")
    daemon.engine.containers.restart(request.params["id"], timeout=timeout, signal=signal)
    return Response(204)


@route("POST", "/containers/{id}/kill")
def kill(daemon: Daemon, request: Request) -> Response:
    """``docker kill``."""
    name = request.params["id"]
    try:
        daemon.engine.containers.kill(name, signal=request.one("signal") or "KILL")
    except WrongState as error:
        raise WrongState(f"cannot kill container: {name}: {error}") from error
    return Response(204)


@route("POST", "/containers/{id}/pause")
def pause(daemon: Daemon, request: Request) -> Response:
    """``docker pause``."""
    daemon.engine.containers.pause(request.params["id"])
    return Response(204)


@route("POST", "/containers/{id}/unpause")
def unpause(daemon: Daemon, request: Request) -> Response:
    """``docker unpause``."""
    daemon.engine.containers.unpause(request.params["id"])
    return Response(204)


@route("POST", "/containers/{id}/rename")
def rename(daemon: Daemon, request: Request) -> Response:
    """``docker rename``."""
    name = request.one("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    daemon.engine.containers.update(request.params["id"], name=name)
    return Response(204)


@route("POST", "/containers/{id}/update")
def update_container(daemon: Daemon, request: Request) -> Response:
    """``docker update``."""
    limits, policy = update(request.json())
    daemon.engine.containers.update(request.params["id"], limits=limits, restart=policy)
    return Response(json={"Warnings": None})


@route("POST", "/containers/{id}/remake")
def remake_container(daemon: Daemon, request: Request) -> Response:
    """Change its ports, mounts or environment; Docker has no such route."""
    daemon.engine.containers.update(request.params["id"], **remake(request.json()))
    return Response(204)


@route("DELETE", "/containers/{id}")
def remove(daemon: Daemon, request: Request) -> Response:
    """``docker rm``."""
    if request.flag("link"):
        raise Conflict("Conflict, cannot remove the default link name of the container")
    force, volumes = request.flag("force"), request.flag("v")
    daemon.engine.containers.remove(request.params["id"], force=force, volumes=volumes)
    return Response(204)


@route("POST", "/containers/prune")
def prune(daemon: Daemon, request: Request) -> Response:
    """``docker container prune``."""
    pruned = handles.prune_containers(daemon.engine, with_moments(request.filters()))
    deleted = list(pruned.removed) or None
    return Response(json={"ContainersDeleted": deleted, "SpaceReclaimed": pruned.bytes})


# --- waiting -------------------------------------------------------------------------------------


@route("POST", "/containers/{id}/wait")
def wait(daemon: Daemon, request: Request) -> Response:
    """``docker wait``. The head goes out at once: a client that gets it may start the container."""
    condition = request.one("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    before = daemon.engine.containers.get(request.params["id"])
    body = _ended(daemon.engine, before, condition, time.time(), request)
    return Response(body=body, headers=_JSON, eager=request.version >= (1, 30))


def _ended(
    engine: Engine, before: Container, condition: str, since: float, request: Request
) -> Iterator[bytes]:
    """How it ends, after it was ``before`` at ``since``. The wait is cut into pieces, so that a
    client that hangs up is found out; an end between two of them is in the event log."""
    told: Json | None = None
    piece = 0.05
    while told is None:
        try:
            code = engine.containers.wait(before.id, timeout=piece, condition=condition)
            told = {"StatusCode": code}
        except TimeoutError:
            if request.gone():
                return
            if condition == "next-exit" and _has_ended(engine, before):
                told = {"StatusCode": _last_code(engine, before, since)}
        except NotFound:
            told = {"StatusCode": _last_code(engine, before, since)}
        except CellboxError as error:
            told = {"StatusCode": -1, "Error": {"Message": str(error)}}
        piece = min(piece * 2, _LOOK)
    yield json.dumps(told).encode() + b"\n"


def _has_ended(engine: Engine, before: Container) -> bool:
    try:
        now = engine.containers.get(before.id)
    except NotFound:
        return True
    if now.status in _RUNS:
        return before.status in _RUNS and now.started != before.started
    return now.finished != before.finished


def _last_code(engine: Engine, before: Container, since: float) -> int:
    told = {"container": [before.id], "event": ["die"]}
    codes = [
        event.attributes.get("exitCode", "")
        for event in engine.events(since=since, until=time.time(), filters=told)
    ]
    if codes and codes[-1].isdigit():
        return int(codes[-1])
    try:
        return engine.containers.get(before.id).exit_code
    except NotFound:
        return before.exit_code


# --- resources -----------------------------------------------------------------------------------


@route("GET", "/containers/{id}/stats")
def stats(daemon: Daemon, request: Request) -> Response:
    """``docker stats``: one reading a second, or the first two in one answer."""
    facts = daemon.engine.containers.get(request.params["id"])
    memory = daemon.engine.info().memory
    stream = request.flag("stream", True)
    if not stream:
        one_shot = request.flag("one-shot") and request.version >= (1, 41)
        return Response(json=_reading(daemon.engine, facts, memory, one_shot=one_shot))
    return Response(body=_readings(daemon.engine, facts, memory, request), headers=_JSON)


def _reading(engine: Engine, facts: Container, memory: int, *, one_shot: bool) -> Json:
    previous = None if one_shot else _measure(engine, facts)
    if previous is not None and previous.read:
        time.sleep(_TICK)
    now = _measure(engine, facts)
    return stats_json(now, previous, name=facts.name, id=facts.id, host_memory=memory)


def _readings(engine: Engine, facts: Container, memory: int, request: Request) -> Iterator[bytes]:
    previous: Stats | None = None
    while not request.gone():
        try:
            now = _measure(engine, facts)
        except NotFound:
            return
        told = stats_json(now, previous, name=facts.name, id=facts.id, host_memory=memory)
        yield json.dumps(told).encode() + b"\n"
        previous = now
        time.sleep(_TICK)


def _measure(engine: Engine, facts: Container) -> Stats:
    """A reading; an empty one of a container that does not run."""
    try:
        return engine.files.stats(facts.id)
    except WrongState:
        return Stats(read=0.0, cpus=0)
