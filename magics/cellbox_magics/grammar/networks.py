"""The verbs of networks: create, ls, inspect, rm, connect, disconnect, prune."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import click

from cellbox import handles
from cellbox.errors import NotFound, NotSupported
from cellbox.handles import NetworkHandle
from cellbox.model.network import NetworkSpec
from cellbox.wire.objects import network_json

from .. import rows
from ..surface import Surface
from ..tables import Document, Lines, Table
from . import networking, pools, values
from .answers import confirmed, over
from .commands import complete_networks, container, format_option, listing, verb
from .hosts import of_all_hosts
from .lifecycle import instants
from .look import documents


def network() -> Callable[[Any], Any]:
    """``NETWORK``."""
    return click.argument("network", metavar="NETWORK", shell_complete=complete_networks)


def networks() -> Callable[[Any], Any]:
    """``NETWORK [NETWORK...]``."""
    return click.argument(
        "networks",
        nargs=-1,
        required=True,
        metavar="NETWORK...",
        shell_complete=complete_networks,
    )


_WORDS = (
    ("-d/--driver", "Driver to manage the Network"),
    ("--ipam-driver", "IP Address Management Driver"),
    ("--scope", "Control the network's scope"),
)
_LISTS = (
    ("--aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver (NAME=ADDRESS)"),
    ("--gateway", "IPv4 or IPv6 Gateway for the master subnet"),
    ("--ip-range", "Allocate container ip from a sub-range"),
    ("--ipam-opt", "Set IPAM driver specific options"),
    ("--label", "Set metadata on a network"),
    ("-o/--opt", "Set driver specific options"),
    ("--subnet", "Subnet in CIDR format that represents a network segment"),
)
_FLAGS = (
    ("--attachable", "Enable manual container attachment"),
    ("--internal", "Restrict external access to the network"),
    ("--ipv6", "Enable or disable IPv6 address assignment"),
)


def _made(function: Any) -> Any:
    options = (
        *(click.option(*names.split("/"), default="", help=text) for names, text in _WORDS),
        *(click.option(*names.split("/"), multiple=True, help=text) for names, text in _LISTS),
        *(click.option(name, is_flag=True, help=text) for name, text in _FLAGS),
    )
    for option in reversed(options):
        function = option(function)
    return function


@verb("network create")
@_made
@click.argument("name", metavar="NETWORK")
@click.pass_obj
def create(surface: Surface, /, name: str, **given: Any) -> Lines:
    return Lines([surface.engine.networks.create(_spec(name, **given)).id])


def _spec(name: str, *, scope: str, **given: Any) -> NetworkSpec:
    if scope not in ("", "local"):
        raise NotSupported(f"--scope {scope}: the networks of this engine are local to it")
    return NetworkSpec(
        name,
        driver=given["driver"] or "bridge",
        subnets=pools.subnets(
            values.listed(given["subnet"]),
            values.listed(given["ip_range"]),
            values.listed(given["gateway"]),
            values.pairs(given["aux_address"], "--aux-address"),
        ),
        ipv6=given["ipv6"],
        internal=given["internal"],
        attachable=given["attachable"],
        options=values.labels(given["opt"]),
        labels=values.labels(given["label"]),
        ipam_driver=given["ipam_driver"] or "default",
        ipam_options=values.labels(given["ipam_opt"]),
    )


@verb("network ls")
@listing("network")
@click.pass_obj
@of_all_hosts
def ls(
    surface: Surface, filters: Sequence[str], format: str, full: bool, quiet: bool
) -> Table | Lines:
    found = surface.engine.networks.list(filters=values.filters(filters))
    if quiet and not format:
        return Lines(facts.id if full else facts.short_id for facts in found)
    items = [NetworkHandle(surface.engine, facts) for facts in found]
    shown = [rows.network(facts, full=full) for facts in found]
    return rows.show(rows.NETWORKS, shown, items, format=format)


@verb("network inspect")
@format_option()
@networks()
@click.pass_obj
def inspect(surface: Surface, networks: Sequence[str], format: str) -> Document | Lines:
    def told(name: str) -> dict[str, Any]:
        return network_json(surface.engine.networks.get(name))

    return documents(surface, networks, format, told)


@verb("network rm")
@click.option("-f", "--force", is_flag=True, help="Do not error if the network does not exist")
@networks()
@click.pass_obj
def rm(surface: Surface, networks: Sequence[str], force: bool) -> Lines:
    def remove(ref: str) -> None:
        with contextlib.suppress(*([NotFound] if force else [])):
            surface.engine.networks.remove(ref)

    return over(surface, networks, remove)


@verb("network connect")
@click.option("--alias", multiple=True, help="Add network-scoped alias for the container")
@click.option("--driver-opt", multiple=True, help="Driver options for the network")
@click.option("--gw-priority", default="", help="Highest gw-priority provides the default gateway")
@click.option("--ip", default="", help='IPv4 address (e.g., "172.30.100.104")')
@click.option("--ip6", default="", help='IPv6 address (e.g., "2001:db8::33")')
@click.option("--link", multiple=True, help="Add link to another container")
@network()
@container()
@click.pass_obj
def connect(
    surface: Surface, network: str, container: str, alias: Sequence[str],
    driver_opt: Sequence[str], gw_priority: str, ip: str, ip6: str, link: Sequence[str],
) -> None:  # fmt: skip
    spec = networking.endpoint(
        network,
        aliases=values.listed(alias),
        ip=ip,
        ip6=ip6,
        links=link,
        driver_options=values.listed(driver_opt),
        priority=gw_priority,
    )
    surface.engine.networks.connect(network, container, spec)


@verb("network disconnect")
@click.option("-f", "--force", is_flag=True, help="Force the container to disconnect")
@network()
@container()
@click.pass_obj
def disconnect(surface: Surface, network: str, container: str, force: bool) -> None:
    surface.engine.networks.disconnect(network, container, force=force)


@verb("network prune")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
@click.option("--filter", "filters", multiple=True, help='Provide filter values ("until=<time>")')
@click.pass_obj
def prune(surface: Surface, force: bool, filters: Sequence[str]) -> Lines:
    which = "all custom networks not used by at least one container"
    confirmed(surface, f"This will remove {which}.", force)
    gone = handles.prune_networks(surface.engine, instants(filters)).removed
    return Lines(["Deleted Networks:", *gone] if gone else ())
