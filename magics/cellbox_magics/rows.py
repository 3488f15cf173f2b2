"""Facts to the rows of ``ps``, ``images``, ``history``, ``stats``, ...: Docker's field names; pure.

A :class:`View` is a kind of listing: its default columns, and the title of each field that
``--format`` may name. :func:`show` makes the result of a listing out of rows: a table, or lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellbox.model.container import Container, MountKind, Stats
from cellbox.model.event import Event
from cellbox.model.image import HistoryEntry, Image
from cellbox.model.network import Network
from cellbox.model.plugin import Plugin
from cellbox.model.system import DiskUsage
from cellbox.model.times import timestamp
from cellbox.model.volume import Volume
from cellbox.wire.humanize import ago, status
from cellbox.wire.objects import container_summary

from . import humanize, published, template
from .tables import Lines, Table

if TYPE_CHECKING:
    from cellbox.remote.contexts import Context

Row = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """One kind of listing: default ``columns``, and the ``titles`` of all fields."""

    columns: tuple[str, ...]
    titles: Mapping[str, str]


CONTAINERS = View(
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
    {
        "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED",
        "CreatedAt": "CREATED AT", "Status": "STATUS", "State": "STATE", "Ports": "PORTS",
        "Names": "NAMES", "Labels": "LABELS", "Mounts": "MOUNTS", "Networks": "NETWORKS",
        "Size": "SIZE", "LocalVolumes": "LOCAL VOLUMES", "Platform": "PLATFORM",
    },
)  # fmt: skip
IMAGES = View(
    ("Repository", "Tag", "ID", "CreatedSince", "Size"),
    {
        "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID",
        "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE",
    },
)  # fmt: skip
HISTORY = View(
    ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
    {
        "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
    },
)  # fmt: skip
STATS = View(
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    {
        "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
        "Container": "CONTAINER",
    },
)  # fmt: skip
NETWORKS = View(
    ("ID", "Name", "Driver", "Scope"),
    {
        "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4",
        "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
    },
)  # fmt: skip
VOLUMES = View(
    ("Driver", "Name"),
    {
        "Driver": "DRIVER", "Name": "VOLUME NAME", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS", "Links": "LINKS", "Size": "SIZE",
    },
)  # fmt: skip
PLUGINS = View(
    ("ID", "Name", "Description", "Enabled", "Origin"),
    {
        "ID": "ID", "Name": "NAME", "Description": "DESCRIPTION", "Enabled": "ENABLED",
        "Origin": "ORIGIN", "PluginReference": "REFERENCE",
    },
)  # fmt: skip
CONTEXTS = View(
    ("Name", "Description", "DockerEndpoint", "Error"),
    {
        "Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT",
        "Error": "ERROR", "Current": "CURRENT",
    },
)  # fmt: skip
DISK = View(
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    {
        "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
)  # fmt: skip


def show(
    view: View,
    rows: Sequence[Row],
    items: Sequence[Any] = (),
    *,
    format: str = "",
    columns: Sequence[str] = (),
) -> Table | Lines:
    """A listing as the user asked for it: ``format`` empty or ``table`` is the table of ``columns``
    (the view's own where empty), ``json`` one object a line, else a Go template."""
    if format in ("", "table"):
        chosen = columns or view.columns
        titles = [view.titles[name] for name in chosen]
        return Table(titles, [[row[name] for name in chosen] for row in rows], items)
    if format == "json":
        return Lines(
            template.to_json({key: row[key] for key in row if key != "Label"}) for row in rows
        )
    if format.startswith("table "):
        return _template_table(view, rows, items, format.removeprefix("table ").strip())
    read = template.parse(format)
    return Lines(read.render(row) for row in rows)


def _template_table(view: View, rows: Sequence[Row], items: Sequence[Any], source: str) -> Table:
    cells = [template.parse(cell) for cell in source.replace("\\t", "\t").split("\t")]
    titles = [cell.render(view.titles) for cell in cells]
    return Table(titles, [[cell.render(row) for cell in cells] for row in rows], items)


def container(
    facts: Container, image: Image | None = None, *, full: bool = False, now: float | None = None
) -> Row:
    """The row of ``ps``; ``image`` tells of more ports that may be published, ``full`` leaves ids
    and commands uncut (``--no-trunc``)."""
    now = time.time() if now is None else now
    told = container_summary(facts, image, now=now)
    command = " ".join(facts.command)
    volumes = [mount.name for mount in facts.mounts if mount.kind is MountKind.VOLUME]
    binds = [mount.source for mount in facts.mounts if mount.kind is MountKind.BIND]
    mounted = (*volumes, *binds)
    return {
        "ID": facts.id if full else facts.short_id,
        "Image": facts.spec.image,
        "Command": f'"{command if full else humanize.shorten(command, 20)}"',
        "CreatedAt": humanize.clock(facts.created),
        "RunningFor": ago(facts.created, now),
        "Status": status(facts, now),
        "State": str(facts.status),
        "Ports": published.summary(told["Ports"]),
        "Names": facts.name,
        "Labels": ",".join(f"{key}={value}" for key, value in facts.spec.labels.items()),
        "Label": facts.spec.labels,
        "Mounts": ",".join(one if full else humanize.shorten(one, 15) for one in mounted),
        "Networks": ",".join(told["NetworkSettings"]["Networks"]),
        "Size": "",
        "LocalVolumes": str(len(volumes)),
        "Platform": facts.spec.platform,
    }


def network(facts: Network, *, full: bool = False) -> Row:
    """The row of ``network ls``."""
    spec = facts.spec
    return {
        "ID": facts.id if full else facts.short_id,
        "Name": facts.name,
        "Driver": spec.driver,
        "Scope": "local",
        "IPv4": "true",
        "IPv6": str(spec.ipv6).lower(),
        "Internal": str(spec.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in spec.labels.items()),
        "Label": spec.labels,
        "CreatedAt": humanize.clock(facts.created),
    }


def volume(facts: Volume) -> Row:
    """The row of ``volume ls``."""
    return {
        "Driver": facts.driver,
        "Name": facts.name,
        "Scope": "local",
        "Mountpoint": facts.mountpoint,
        "Labels": ",".join(f"{key}={value}" for key, value in facts.labels.items()),
        "Label": facts.labels,
        "Links": str(len(facts.users)),
        "Size": "N/A",
    }


def plugin(facts: Plugin, id: str) -> Row:
    """The row of ``plugin ls``, which shows as much of its ``id``."""
    own = facts.config.description if facts.config else ""
    return {
        "ID": id,
        "Name": facts.name,
        "Description": facts.error or own or f"{facts.kind} driver",
        "Enabled": str(facts.enabled and not facts.error).lower(),
        "Origin": facts.origin,
        "PluginReference": facts.reference,
    }


def context(facts: Context, *, current: bool = False) -> Row:
    """The row of ``context ls``."""
    return {
        "Name": f"{facts.name} *" if current else facts.name,
        "Description": facts.description,
        "DockerEndpoint": facts.url,
        "Error": facts.error,
        "Current": current,
    }


def images(facts: Image, *, full: bool = False, now: float | None = None) -> list[Row]:
    """The rows of ``images``: one a tag, ``<none>`` where there is none."""
    now = time.time() if now is None else now
    digest = next((word.partition("@")[2] for word in facts.digests), "<none>")
    common = {
        "ID": facts.id if full else facts.short_id,
        "Digest": digest,
        "CreatedSince": ago(facts.created, now),
        "CreatedAt": humanize.clock(facts.created),
        "Size": humanize.size(facts.size),
    }
    names = [tag.rpartition(":")[::2] for tag in facts.tags] or [("<none>", "<none>")]
    return [{"Repository": name, "Tag": tag, **common} for name, tag in names]


def history(
    entry: HistoryEntry, image_id: str = "", *, full: bool = False, now: float | None = None
) -> Row:
    """The row of ``history``; only the newest step has an ``image_id``."""
    now = time.time() if now is None else now
    short = image_id if full else image_id.partition(":")[2][:12]
    made_by = " ".join(entry.created_by.split())
    return {
        "ID": short or "<missing>",
        "CreatedSince": ago(entry.created, now),
        "CreatedAt": timestamp(entry.created),
        "CreatedBy": made_by if full else humanize.shorten(made_by, 45),
        "Size": humanize.size(entry.size),
        "Comment": entry.comment,
    }


def stats(facts: Container, then: Stats, now: Stats) -> Row:
    """The row of ``stats``: the processor's share is measured between two readings."""
    passed = now.system_cpu - then.system_cpu
    share = (now.cpu - then.cpu) / passed * now.cpus * 100 if passed > 0 else 0.0
    memory = now.memory / now.memory_limit * 100 if now.memory_limit else 0.0
    limit = humanize.binary_size(now.memory_limit) if now.memory_limit else "unlimited"
    return {
        "Container": facts.short_id,
        "ID": facts.short_id,
        "Name": facts.name,
        "CPUPerc": f"{max(0.0, share):.2f}%",
        "MemUsage": f"{humanize.binary_size(now.memory)} / {limit}",
        "MemPerc": f"{memory:.2f}%",
        "NetIO": f"{humanize.size(now.received_bytes)} / {humanize.size(now.sent_bytes)}",
        "BlockIO": f"{humanize.size(now.read_bytes)} / {humanize.size(now.written_bytes)}",
        "PIDs": str(now.pids),
    }


def disk(usage: DiskUsage) -> Row:
    """The row of ``system df``."""
    share = f" ({usage.reclaimable * 100 // usage.size}%)" if usage.size else ""
    return {
        "Type": usage.kind,
        "TotalCount": str(usage.total),
        "Active": str(usage.active),
        "Size": humanize.size(usage.size),
        "Reclaimable": f"{humanize.size(usage.reclaimable)}{share}",
    }


def event_line(happened: Event) -> str:
    """``2026-01-31T12:00:00Z container start ID (image=ubuntu, name=web)``."""
    words = ", ".join(f"{key}={value}" for key, value in sorted(happened.attributes.items()))
    when = timestamp(happened.time)
    return f"{when} {happened.kind} {happened.action} {happened.id}" + (
        f" ({words})" if words else ""
    )
