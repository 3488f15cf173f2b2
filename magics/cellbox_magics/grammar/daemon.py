"""The verbs of the daemon, in a shell only: serve, system dial-stdio, tls init."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

import cellbox
from cellbox.errors import InvalidArgument, NotSupported

from ..surface import Surface
from ..tables import Lines
from .commands import verb


@verb("serve")
@click.option("-H", "--host", "hosts", multiple=True, help="Socket to listen on (unix:///PATH, "
              "tcp://HOST:PORT)")  # fmt: skip
@click.option("-G", "--group", help="Group for the unix socket (docker, where root has one)")
@click.option("--tlsverify/--no-tlsverify", default=True, help="Let in only clients with a "
              "certificate (always so on TCP)")  # fmt: skip
@click.option("--tlscacert", help="Trust certs signed only by this CA")
@click.option("--tlscert", help="Path to TLS certificate file")
@click.option("--tlskey", help="Path to TLS key file")
@click.option("--authorization-plugin", "authorization", multiple=True, help="Authorization "
              "plugins to load")  # fmt: skip
@click.option("-D", "--debug", is_flag=True, help="Say more")
@click.pass_obj
def serve(
    surface: Surface, hosts: Sequence[str], group: str | None, tlsverify: bool,
    tlscacert: str | None, tlscert: str | None, tlskey: str | None, authorization: Sequence[str],
    debug: bool,
) -> None:  # fmt: skip
    if surface.hosts:
        raise click.UsageError("what serve listens on is named behind it: cellbox serve -H ...")
    if not tlsverify:
        raise NotSupported("--tlsverify=false: whoever reached the port would be root here")
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    cellbox.serve(
        hosts,
        group=group,
        certificates=_files(tlscacert, tlscert, tlskey),
        authorization=authorization,
        tell=lambda line: surface.write("stdout", f"{line}\n".encode()),
    )


def _files(*named: str | None) -> Sequence[Path]:
    """The CA's certificate, ours, its key; nothing where none is named."""
    if any(named) and not all(named):
        raise InvalidArgument("--tlscacert, --tlscert and --tlskey belong together: name all three")
    return [Path(name).absolute() for name in named if name]


@verb("system dial-stdio")
@click.pass_obj
def dial_stdio(surface: Surface) -> None:
    if len(surface.hosts) > 1:
        raise InvalidArgument("dial-stdio connects with one engine: name one --host")
    cellbox.dial_stdio(*surface.hosts)


@verb("tls init")
@click.option("--dir", "folder", help="Where to put them (CELLBOX_TLS, or ~/.cellbox/tls)")
@click.option("--name", "names", multiple=True, help="A further name or address of this machine")
@click.option("--days", type=int, default=None, help="Days for which they are good")
@click.option("-f", "--force", is_flag=True, help="Replace those that are there")
@click.pass_obj
def tls_init(
    surface: Surface, folder: str | None, names: Sequence[str], days: int | None, force: bool
) -> Lines:
    where = Path(folder).expanduser().absolute() if folder else None
    made = cellbox.make_certificates(where, names, days=days, force=force)
    server = "".join(
        f" {flag} {shlex.quote(str(path))}"
        for flag, path in zip(("--tlscacert", "--tlscert", "--tlskey"), made.server, strict=True)
    )
    return Lines(
        [
            f"Certificates for {', '.join(made.names)}, good until {made.until:%Y-%m-%d}, are in",
            f"{made.folder}. Serve with them:",
            f"  cellbox serve -H tcp://0.0.0.0:2376{server if where else ''}",
            f"Who may be root here gets a copy of {made.client}, and types:",
            f"  export {cellbox.docker_variables(made.names[-1], certificates=made.client)}",
        ]
    )
