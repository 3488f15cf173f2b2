"""Images as ``docker image inspect``, ``docker images`` and ``docker history`` tell them, and back;
pure.

Source: Engine API 1.45, ``ImageInspect``, ``ImageSummary``, ``HistoryResponseItem``; moby
``api/types`` (``PushResult``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cellbox.model.image import HistoryEntry, Image, ImageConfig, Layer, Platform, Pushed
from cellbox.model.times import instant, timestamp
from cellbox.wire.config import life_json, read_health
from cellbox.wire.fields import Fields, Json


def image_json(facts: Image) -> Json:
    """``docker inspect IMAGE``. ``Container`` and ``ContainerConfig`` left the API with 1.45, and
    are asked for by clients that are older."""
    return {
        "Id": facts.id,
        "RepoTags": list(facts.tags),
        "RepoDigests": list(facts.digests),
        "Parent": facts.parent,
        "Comment": facts.comment,
        "Created": timestamp(facts.created),
        "DockerVersion": "",
        "Author": facts.author,
        "Container": "",
        "ContainerConfig": _config(ImageConfig()),
        "Config": _config(facts.config),
        "Architecture": facts.platform.architecture,
        "Variant": facts.platform.variant,
        "Os": facts.platform.os,
        "Size": facts.size,
        "VirtualSize": facts.size,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in facts.layers]},
        "Metadata": {"LastTagTime": timestamp(None)},
    }


def image_summary(facts: Image, containers: int = -1) -> Json:
    """One entry of ``docker images``; -1 stands for a number that was not asked for."""
    return {
        "Id": facts.id,
        "ParentId": facts.parent,
        "RepoTags": list(facts.tags),
        "RepoDigests": list(facts.digests),
        "Created": int(facts.created or 0),
        "Size": facts.size,
        "SharedSize": -1,
        "VirtualSize": facts.size,
        "Labels": dict(facts.config.labels) or None,
        "Containers": containers,
    }


def history_json(facts: Image) -> list[Json]:
    """``docker history``: newest first. Only the last step is an image that is here."""
    newest = len(facts.history) - 1
    return [
        {
            "Id": facts.id if place == newest else "<missing>",
            "Created": int(entry.created or 0),
            "CreatedBy": entry.created_by,
            "Tags": (list(facts.tags) or None) if place == newest else None,
            "Size": entry.size,
            "Comment": entry.comment,
        }
        for place, entry in reversed(list(enumerate(facts.history)))
    ]


def _config(config: ImageConfig) -> Json:
    return {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "ExposedPorts": {port: {} for port in config.exposed_ports} or None,
        "Env": list(config.env) or None,
        "Cmd": list(config.command) or None,
        "Image": "",
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.workdir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(config.labels) or None,
        **life_json(config.stop_signal, config.health),
        **({"Shell": list(config.shell)} if config.shell else {}),
    }


def image_from(body: object, history: Sequence[Json] = ()) -> Image:
    """The image that a daemon tells by ``docker inspect`` and, if asked, ``docker history``, which
    alone says how large its layers are."""
    image = Fields(body, "ImageInspect")
    steps = tuple(_step(Fields(one, "HistoryResponseItem")) for one in reversed(history))
    return Image(
        id=image.text("Id"),
        tags=_known(image.texts("RepoTags")),
        digests=_known(image.texts("RepoDigests")),
        layers=_layers(image.inner("RootFS", "RootFS").texts("Layers"), steps),
        config=_read_config(image.inner("Config", "Config")),
        platform=Platform(
            image.text("Os") or "linux", image.text("Architecture"), image.text("Variant")
        ),
        size=image.whole("Size"),
        created=instant(image.text("Created")),
        author=image.text("Author"),
        comment=image.text("Comment"),
        parent=image.text("Parent"),
        history=steps,
    )


def _known(names: Iterable[str]) -> tuple[str, ...]:
    """Old daemons write ``<none>:<none>`` for an image without a name."""
    return tuple(name for name in names if not name.startswith("<none>"))


def _layers(diff_ids: Sequence[str], steps: Iterable[HistoryEntry]) -> tuple[Layer, ...]:
    sizes = [step.size for step in steps if not step.empty_layer]
    if len(sizes) != len(diff_ids):  # a layer may be empty too, and history does not say which
        sizes = [0] * len(diff_ids)
    return tuple(map(Layer, diff_ids, sizes))


def _step(entry: Fields) -> HistoryEntry:
    size = entry.whole("Size")
    return HistoryEntry(
        created=float(entry.whole("Created")) or None,
        created_by=entry.text("CreatedBy"),
        comment=entry.text("Comment"),
        empty_layer=not size,
        size=size,
    )


def _read_config(config: Fields) -> ImageConfig:
    return ImageConfig(
        user=config.text("User"),
        env=config.texts("Env"),
        entrypoint=config.words("Entrypoint") or (),
        command=config.words("Cmd") or (),
        workdir=config.text("WorkingDir"),
        labels=config.text_map("Labels"),
        volumes=config.names("Volumes"),
        exposed_ports=config.names("ExposedPorts"),
        stop_signal=config.text("StopSignal"),
        shell=config.texts("Shell"),
        on_build=config.texts("OnBuild"),
        health=read_health(config),
    )


def push_json(pushed: Pushed) -> Json:
    """``PushResult``, the ``aux`` of a push's last line."""
    tag = pushed.name.rpartition(":")[2]
    return {"Tag": tag, "Digest": pushed.digest, "Size": pushed.size}


def pushed_from(name: str, aux: Json) -> Pushed:
    """The inverse, for the familiar ``name`` that was pushed."""
    fields = Fields(aux, "PushResult")
    return Pushed(name, fields.text("Digest"), fields.whole("Size"))
