"""Images: what is here, names, and what brings, makes and takes away.

Names may have slashes, so their routes take whole paths. A pull tells its steps as it goes; load
and import read the request's body and answer after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from cellbox import handles, several
from cellbox.api.http import Json, Request, Response
from cellbox.api.routing import route
from cellbox.api.tasks import failure_of, told, told_afterwards
from cellbox.engine import Watch
from cellbox.errors import CellboxError, InvalidArgument, NotSupported
from cellbox.model.image import Image, Progress
from cellbox.model.reference import matches
from cellbox.model.registry import Credential
from cellbox.wire.changes import lines_of
from cellbox.wire.filters import with_moments
from cellbox.wire.images import history_json, image_json, image_summary, push_json
from cellbox.wire.progress import progress_json
from cellbox.wire.registry import AUTH_HEADER, credential_from_header
from cellbox.wire.system import shared_sizes

if TYPE_CHECKING:
    from cellbox.api.server import Daemon

_TAR = {"Content-Type": "application/x-tar"}


# --- looking -------------------------------------------------------------------------------------


@route("GET", "/images/json")
def list_images(daemon: Daemon, request: Request) -> Response:
    """``docker images``."""
    filters = with_moments(request.filters())
    found = daemon.engine.images.list(all=request.flag("all"), filters=filters)
    if patterns := filters.get("reference"):
        found = [_shown_as(facts, patterns) for facts in found]
    shared = shared_sizes(found) if request.flag("shared-size") else {}
    return Response(
        json=[{**image_summary(one), "SharedSize": shared.get(one.id, -1)} for one in found]
    )


@route("GET", "/images/{name:path}/json")
def inspect_image(daemon: Daemon, request: Request) -> Response:
    """``docker image inspect``."""
    return Response(json=image_json(daemon.engine.images.get(request.params["name"])))


@route("GET", "/images/{name:path}/history")
def image_history(daemon: Daemon, request: Request) -> Response:
    """``docker history``."""
    return Response(json=history_json(daemon.engine.images.get(request.params["name"])))


@route("GET", "/images/search")
def search_images(daemon: Daemon, request: Request) -> Response:
    """``docker search``, which only Docker Hub's website answers."""
    raise NotSupported(
        "search is not a part of the registry's protocol, and this engine asks no website: "
        "look for images at https://hub.docker.com"
    )


def _shown_as(facts: Image, patterns: Sequence[str]) -> Image:
    """The image with those names only that were asked for."""
    tags = [tag for tag in facts.tags if any(matches(tag, pattern) for pattern in patterns)]
    return replace(facts, tags=tuple(tags))


# --- names ---------------------------------------------------------------------------------------


@route("POST", "/images/{name:path}/tag")
def tag_image(daemon: Daemon, request: Request) -> Response:
    """``docker tag``."""
    daemon.engine.images.tag(request.params["name"], _named(request, "repo"))
    return Response(201)


@route("DELETE", "/images/{name:path}")
def remove_image(daemon: Daemon, request: Request) -> Response:
    """``docker rmi``. There are no untagged parents here that ``noprune`` could keep."""
    name, force = request.params["name"], request.flag("force")
    removed = daemon.engine.images.remove(name, force=force)
    return Response(
        json=[
            {"Untagged": one.untagged} if one.untagged else {"Deleted": one.deleted}
            for one in removed
        ]
    )


@route("POST", "/images/prune")
def prune_images(daemon: Daemon, request: Request) -> Response:
    """``docker image prune``."""
    engine, filters = daemon.engine, with_moments(request.filters())
    names = {facts.id: facts.tags + facts.digests for facts in engine.images.list()}
    pruned = handles.prune_images(engine, filters=filters)
    gone: list[Json] = []
    for id in pruned.removed:
        gone += [{"Untagged": name} for name in names.get(id, ())]
        gone.append({"Deleted": id})
    return Response(json={"ImagesDeleted": gone or None, "SpaceReclaimed": pruned.bytes})


# --- bringing ------------------------------------------------------------------------------------


@route("POST", "/images/create")
def create_image(daemon: Daemon, request: Request) -> Response:
    """``docker pull`` and ``docker import``."""
    return _pull(daemon, request) if request.one("fromImage") else _import(daemon, request)


def _pull(daemon: Daemon, request: Request) -> Response:
    ref, platform = _named(request, "fromImage"), request.one("platform")
    auth = auth_of(request)

    def pull(watch: Watch) -> Iterable[Json]:
        daemon.engine.images.pull(ref, platform=platform, auth=auth, watch=watch)
        return ()

    return told(pull)


def _import(daemon: Daemon, request: Request) -> Response:
    if request.one("fromSrc") != "-":
        raise NotSupported(
            "this engine fetches no URL to import: curl URL | docker import - NAME does the same"
        )
    image = daemon.engine.images.import_(
        request.body,
        name=_named(request, "repo") if request.one("repo") else "",
        message=request.one("message"),
        changes=change_lines(request),
    )
    return told_afterwards([{"status": image.id}])


def auth_of(request: Request) -> Credential:
    """Whom the client is to the registry. As in Docker, a header that cannot be read is nobody."""
    try:
        return credential_from_header(request.headers.get(AUTH_HEADER.lower(), ""))
    except InvalidArgument:
        return Credential()


@route("POST", "/images/load")
def load_images(daemon: Daemon, request: Request) -> Response:
    """``docker load``. A tar that is no archive of images is told in the stream, as moby does."""
    steps: list[Json] = []

    def watch(step: Progress) -> None:
        steps.append(progress_json(step))

    quiet = request.flag("quiet")
    try:
        loaded = daemon.engine.images.load(request.body, watch=None if quiet else watch)
    except CellboxError as error:
        return told_afterwards([*steps, failure_of(error)])
    names = dict.fromkeys(name for image in loaded for name in image.tags or (image.id,))
    return told_afterwards([*steps, *map(_loaded, names)])


def _loaded(name: str) -> Json:
    kind = "image ID" if name.startswith("sha256:") else "image"
    return {"stream": f"Loaded {kind}: {name}\n"}


@route("GET", "/images/get")
def save_images(daemon: Daemon, request: Request) -> Response:
    """``docker save`` of several images."""
    return _save(daemon, request.query.get("names", []))


@route("GET", "/images/{name:path}/get")
def save_image(daemon: Daemon, request: Request) -> Response:
    """``docker save`` of one image."""
    return _save(daemon, [request.params["name"]])


def _save(daemon: Daemon, names: Sequence[str]) -> Response:
    if not names:
        raise InvalidArgument("no image to save: name one")

    def save(out: BinaryIO) -> None:
        daemon.engine.images.save(names, out)

    return Response(body=save, headers=_TAR)


@route("POST", "/images/{name:path}/push/{compression}")
@route("POST", "/images/{name:path}/push")
def push_image(daemon: Daemon, request: Request) -> Response:
    """``docker push``, of all tags where none is named. By the first route, which Docker has not,
    a client can be sure that its ``compression`` is heeded."""
    name, tag, auth = request.params["name"], request.one("tag"), auth_of(request)
    how: dict[str, Any] = {"auth": auth, "compression": request.params.get("compression", "")}

    def push(watch: Watch) -> Iterable[Json]:
        images = daemon.engine.images
        names = [_tagged(name, tag)] if tag else several.tags_of(daemon.engine, name)
        pushed = [images.push(one, **how, watch=watch) for one in names]
        return [{"progressDetail": {}, "aux": push_json(one)} for one in pushed]

    return told(push)


# --- making --------------------------------------------------------------------------------------


@route("POST", "/containers/{id}/commit")
@route("POST", "/commit")
def commit(daemon: Daemon, request: Request) -> Response:
    """``docker commit``. What the body asks for goes before the lines of ``changes``. By the first
    route, which Docker has not, a client can be sure that ``volumes`` is heeded."""
    image = daemon.engine.images.commit(
        request.params.get("id") or request.one("container"),
        name=_named(request, "repo") if request.one("repo") else "",
        message=request.one("comment"),
        author=request.one("author"),
        changes=[*lines_of(request.json()), *change_lines(request)],
        pause=request.flag("pause", default=True),
        volumes=request.flag("volumes"),
    )
    return Response(201, json={"Id": image.id})


def change_lines(request: Request) -> list[str]:
    """The Dockerfile lines of ``changes``: one a value, or several in one."""
    lines = [line for text in request.query.get("changes", []) for line in text.split("\n")]
    return [line for line in lines if line.strip()]


def _named(request: Request, parameter: str) -> str:
    return _tagged(request.one(parameter), request.one("tag"))


def _tagged(name: str, tag: str) -> str:
    """A name with its tag or digest, which clients send apart. One that the name has itself gives
    way to it."""
    if not tag:
        return name
    if tag.startswith("sha256:"):
        return f"{name}@{tag}"
    bare, colon, last = name.rpartition(":")
    return f"{name if not colon or '/' in last else bare}:{tag}"
