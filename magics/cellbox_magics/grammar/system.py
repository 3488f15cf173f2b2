"""The verbs of the engine itself: info, version, events, system df, system check, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import click

from cellbox import handles
from cellbox.model.image import Platform
from cellbox.model.system import Damage, Finding, Info
from cellbox.wire.system import version_json

from .. import humanize, rows, template
from ..outcome import CommandFailed
from ..surface import Surface
from ..tables import Facts, Lines, Table
from .answers import confirmed, pruned
from .commands import format_option, verb
from .lifecycle import instants


@verb("info")
@format_option()
@click.pass_obj
def info(surface: Surface, format: str) -> Facts | Lines:
    facts = surface.engine.info()
    if format:
        return _formatted(_docker_info(facts), format)
    shown = {field.name: getattr(facts, field.name) for field in fields(facts)}
    shown["memory"] = humanize.binary_size(facts.memory)
    return Facts({_title(name): value for name, value in shown.items() if value != ()})


@verb("version")
@format_option()
@click.pass_obj
def version(surface: Surface, format: str) -> Facts | Lines:
    facts = surface.engine.info()
    told = version_json(facts.version, facts.kernel, Platform(architecture=facts.architecture))
    if format:
        return _formatted({"Client": told, "Server": told}, format)
    return Facts({"cellbox": facts.version, "engine": surface.engine.url, **told})


@verb("doctor")
@click.pass_obj
def doctor(surface: Surface) -> Table:
    found = surface.engine.doctor()
    return Table(("", "SUBJECT", "DETAIL", "REMEDY"), [_finding(one) for one in found], found)


@verb("system df")
@click.option("--format", default="", help="Format output using a Go template")
@click.option("-v", "--verbose", is_flag=True, help="Show detailed information on space usage")
@click.pass_obj
def df(surface: Surface, format: str, verbose: bool) -> Table | Lines:
    usage = surface.engine.disk_usage()
    return rows.show(rows.DISK, [rows.disk(one) for one in usage], usage, format=format)


@verb("system check")
@click.option("--repair", is_flag=True, help="Mend what can be mended")
@click.pass_obj
def check(surface: Surface, repair: bool) -> Table | Lines:
    found = surface.engine.check(repair=repair)
    if not found:
        return Lines(["no damage found"])
    table = Table(("KIND", "OBJECT", "DAMAGE", "REPAIR"), [_damage(one) for one in found], found)
    left = [one for one in found if not one.repaired]
    if left:
        surface.write("stdout", f"{table!r}\n".encode())
        remedy = "" if repair else ": system check --repair mends what can be mended"
        raise CommandFailed(1, f"{len(left)} damaged object(s){remedy}")
    return table


@verb("system prune")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused images")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes")
@click.option("--filter", "filters", multiple=True, help='Provide filter values ("until=<time>")')
@click.pass_obj
def prune(
    surface: Surface, all_: bool, force: bool, volumes: bool, filters: Sequence[str]
) -> Lines:
    which = "all images without a container" if all_ else "dangling images"
    also = ", anonymous volumes without one" if volumes else ""
    warning = f"This will remove all stopped containers, networks without one{also} and {which}."
    confirmed(surface, warning, force)
    asked = instants(filters)
    parts = [
        handles.prune_containers(surface.engine, asked),
        handles.prune_networks(surface.engine, asked),
        handles.prune_images(surface.engine, all=all_, filters=asked),
    ]
    if volumes:
        labels = {key: words for key, words in asked.items() if key != "until"}
        parts.insert(2, handles.prune_volumes(surface.engine, filters=labels))
    removed = tuple(name for part in parts for name in part.removed)
    return pruned("Objects", handles.Pruned(removed, sum(part.bytes for part in parts)))


def _formatted(facts: dict[str, Any], format: str) -> Lines:
    return Lines([template.parse("{{json .}}" if format == "json" else format).render(facts)])


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _finding(one: Finding) -> tuple[str, str, str, str]:
    return ("ok" if one.ok else "!!", one.subject, one.detail, one.remedy)


def _damage(one: Damage) -> tuple[str, str, str, str]:
    return (one.kind, one.ref, one.detail, one.repaired or "none")


def _docker_info(facts: Info) -> dict[str, Any]:
    return {
        "ID": facts.id,
        "Containers": facts.containers,
        "ContainersRunning": facts.containers_running,
        "ContainersPaused": facts.containers_paused,
        "ContainersStopped": facts.containers_stopped,
        "Images": facts.images,
        "Driver": facts.snapshotter,
        "CgroupVersion": facts.cgroup_version,
        "KernelVersion": facts.kernel,
        "OperatingSystem": facts.operating_system,
        "OSType": "linux",
        "Architecture": facts.architecture,
        "NCPU": facts.cpus,
        "MemTotal": facts.memory,
        "DockerRootDir": facts.root,
        "ServerVersion": facts.version,
        "Warnings": list(facts.warnings),
    }
