"""The daemon as a person starts it, and the way to it from another machine.

``cellbox serve`` is :func:`serve`: the embedded engine behind Docker's API, on a unix socket and,
with mutual TLS, on TCP. Containers don't need it: they go on when it ends, and the next one finds
them. ``cellbox system dial-stdio`` is :func:`dial_stdio`, what ssh runs over there.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import resource
import select
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellbox.errors import InvalidArgument, NotSupported, PermissionDenied, Unavailable
from cellbox.local.places import make_private, root_directory, run_directory, socket_path
from cellbox.remote.address import Address, Tls, parse

if TYPE_CHECKING:
    from cellbox.api.listeners import Listener
    from cellbox.api.tls import ServerFiles

GROUP = "docker"
"""Who else may use root's socket, where there is such a group: it is as good as root."""

IDLE = 60.0
"""Seconds for which a daemon that :func:`dial_stdio` started stays with no client."""

LOG = "daemon.log"
"""What such a daemon says, in the run directory."""

_STARTING = 20.0
_PIECE = 1 << 18
_FILES = 1 << 16
"""Descriptors that a daemon may have, where it may: clients and logs want one each. Containers
inherit that, so it is not all that there could be: some programs go through all of theirs."""

_EVERYWHERE = frozenset({"0.0.0.0", "::"})
_PRIVATE = f"from cellbox.daemon import serve; serve(idle={IDLE}, tell=print)"


# Serving ------------------------------------------------------------------------------------------


def serve(
    hosts: Sequence[str] = (),
    *,
    group: str | None = None,
    certificates: Sequence[Path] = (),
    authorization: Sequence[str] = (),
    idle: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve this user's store on ``hosts`` (``unix:///PATH``, ``tcp://HOST[:PORT]``; none: the
    usual socket) until SIGTERM or SIGINT, or ``idle`` seconds without a client.

    ``group`` may use the sockets, None is :data:`GROUP` where root has one. ``certificates`` are
    for TCP: the CA's, ours and its key, none for those of ``cellbox tls init``. The plugins of
    ``authorization`` are asked, in that order, whether a client may do what it asks for. ``tell``
    hears a line a listener, with what to type. Raises InvalidArgument, InUse, NotFound,
    PermissionDenied, Unavailable.
    """
    from cellbox.api import server
    from cellbox.api.tls import ServerFiles, default_folder, server_files
    from cellbox.drivers.authorization import Gate
    from cellbox.local.engine import LocalEngine

    files = ServerFiles(*certificates) if certificates else server_files(default_folder())
    places = [_place(host) for host in hosts] or [Address("unix", path=str(_usual()))]
    _allow_many_files()
    with contextlib.ExitStack() as stack:
        engine = LocalEngine()
        stack.callback(engine.close)
        gate = Gate(authorization, engine.drivers.find) if authorization else None
        if gate is not None:
            gate.check()
        listeners = []
        for place in places:
            listener = _listener(place, _group() if group is None else group, files)
            stack.callback(listener.close)
            listeners.append(listener)

        def ready() -> None:
            for place in places:
                tell(f"listening on {place}: export {_way(place, files)}")

        server.serve(server.Daemon(engine, gate), listeners, idle=idle, ready=ready)


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < (most := min(_FILES, hard)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _usual() -> Path:
    return socket_path(root_directory())


def _place(host: str) -> Address:
    place = parse(host, tls=Tls(), environ={})
    if place.scheme == "ssh":
        raise InvalidArgument(
            f"{host} is no place to listen: ssh reaches the socket by itself, from the other side "
            "(`cellbox -H ssh://USER@HOST ps`)"
        )
    return place


def _group() -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrnam(GROUP).gr_name if os.geteuid() == 0 else ""
    return ""


def _listener(place: Address, group: str, files: ServerFiles) -> Listener:
    from cellbox.api.listeners import tcp_listener, unix_listener
    from cellbox.api.tls import server_context

    if place.scheme == "unix":
        return unix_listener(Path(place.path), group)
    lacking = [path for path in files if not path.is_file()]
    if lacking:
        raise PermissionDenied(
            f"{place} is served with mutual TLS only, since whoever reaches it may do all that you "
            f"may, and there is no {lacking[0]}: `cellbox tls init` makes certificates, "
            "--tlscacert, --tlscert and --tlskey name others"
        )
    return tcp_listener(place.host, place.port, server_context(files))


def _way(place: Address, files: ServerFiles) -> str:
    """What to export so that Docker's clients come here."""
    if place.scheme == "unix":
        return f"DOCKER_HOST={shlex.quote(str(place))}"
    name = socket.gethostname() if place.host in _EVERYWHERE else place.host
    beside = files.ca.parent.parent / "client"
    return docker_variables(name, beside if beside.is_dir() else Path("DIR"), place.port)


def docker_variables(host: str, certificates: Path, port: int = 2376) -> str:
    """Words for a shell's ``export`` that lead Docker's clients to a daemon on TCP; the folder
    ``certificates`` is the client's."""
    folder = shlex.quote(str(certificates))
    return f"DOCKER_HOST={Address('tcp', host, port)} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={folder}"


# Standard streams ---------------------------------------------------------------------------------


def dial_stdio(url: str = "", *, source: int = 0, sink: int = 1) -> None:
    """Connect two descriptors with the daemon at ``url`` (``unix:///PATH``; empty: the usual
    socket) until it hangs up; an end of input is passed on, and answers still come.

    Where nobody listens on the usual socket, a daemon is started, which ends when it has been left
    alone for :data:`IDLE` seconds. Raises Unavailable, PermissionDenied, NotSupported.
    """
    with _connected(url) as connection:
        threading.Thread(target=_send, args=(source, connection), daemon=True).start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while data := connection.recv(_PIECE):
                _write(sink, data)


def _send(source: int, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source, _PIECE):
            connection.sendall(data)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _connected(url: str) -> socket.socket:
    from cellbox.remote.dial import Dialer

    address = parse(url or f"unix://{_usual()}", environ={})
    if address.scheme != "unix":
        raise NotSupported(f"{url}: the standard streams are connected with a unix:// socket only")
    dialer = Dialer(address)
    if url:
        return dialer.dial()
    run = run_directory(root_directory())
    make_private(run)
    with _alone(run):
        try:
            return dialer.dial()
        except Unavailable:
            _start(run / LOG)
        return dialer.dial()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time is in here: several connections often come at once."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _start(log: Path) -> None:
    """Start a daemon on the usual socket, in a session of its own, and wait until it listens."""
    with log.open("wb") as errors:
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-u", "-c", _PRIVATE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd="/",
        )
    assert daemon.stdout is not None
    with daemon.stdout as told:
        listens = select.select([told], [], [], _STARTING)[0] and told.readline()
    if not listens:
        daemon.kill()
        daemon.wait()
        said = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise Unavailable(f"no daemon listens, and none could be started: {said or f'see {log}'}")
