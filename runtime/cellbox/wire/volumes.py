"""Volumes as ``docker volume inspect`` tells them, and back; pure.

Source: Engine API 1.45, ``Volume``.
"""

from __future__ import annotations

from cellbox.model.times import instant, timestamp
from cellbox.model.volume import Volume
from cellbox.wire.fields import Fields, Json


def volume_json(facts: Volume, size: int | None = None) -> Json:
    """One volume; with its ``size`` (bytes), as ``docker system df`` wants it, it tells its use
    too."""
    usage: Json = {}
    if size is not None:
        usage = {"UsageData": {"Size": size, "RefCount": len(facts.users)}}
    return {
        "Name": facts.name,
        "Driver": facts.driver,
        "Mountpoint": facts.mountpoint,
        "CreatedAt": timestamp(facts.created),
        "Labels": dict(facts.labels) or None,
        "Options": dict(facts.options) or None,
        "Scope": "local",
        **usage,
    }


def volume_from(body: object) -> Volume:
    """The volume that a daemon tells; who uses it is not said."""
    volume = Fields(body, "Volume")
    return Volume(
        name=volume.text("Name"),
        driver=volume.text("Driver"),
        mountpoint=volume.text("Mountpoint"),
        created=instant(volume.text("CreatedAt")) or 0.0,
        options=volume.text_map("Options"),
        labels=volume.text_map("Labels"),
    )
