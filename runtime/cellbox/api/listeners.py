"""Where clients come in: a unix socket, or TCP with mutual TLS."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from cellbox.errors import InUse, InvalidArgument, NotFound, PermissionDenied

_BACKLOG = 1024
_MODE = 0o660
_PATIENCE = 2.0
_UCRED = struct.Struct("3i")


@dataclass(frozen=True)
class Listener:
    """A listening socket. With ``tls`` its clients speak TLS; ``path`` and ``inode`` are those of
    its file, if it has one."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Listen no more, and remove the file, unless another server has put its own there."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self.path is not None and self.path.lstat().st_ino == self.inode:
                self.path.unlink()


def unix_listener(path: Path, group: str = "") -> Listener:
    """Listen on a unix socket that its owner and, where there is one, ``group`` may use.

    A file that a server left behind is replaced. Raises InUse where one listens there now, NotFound
    for a group, InvalidArgument for what is no socket or no place for one.
    """
    _refuse_taken(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777)  # nobody connects before the file is as it shall be
        try:
            made.bind(str(fresh))
        finally:
            os.umask(mask)
        if group:
            shutil.chown(fresh, group=group)
        os.chmod(fresh, _MODE)
        made.listen(_BACKLOG)
        inode = fresh.lstat().st_ino
        os.rename(fresh, path)
    except LookupError:
        _discard(made, fresh)
        raise NotFound("group", group) from None
    except OSError as error:
        _discard(made, fresh)
        raise InvalidArgument(f"cannot listen on {path}: {error.strerror or error}") from error
    return Listener(made, path=path, inode=inode)


def tcp_listener(host: str, port: int, tls: ssl.SSLContext) -> Listener:
    """Listen on TCP, for clients whose certificate ``tls`` knows.

    Raises PermissionDenied for a context that lets in clients without one: whoever can reach the
    port would be root here. Raises InvalidArgument where the address cannot be used.
    """
    if tls.verify_mode is not ssl.CERT_REQUIRED:
        raise PermissionDenied(
            "TCP needs mutual TLS: the context must require a client certificate"
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{host}:{port}"
        raise InvalidArgument(f"cannot listen on {where}: {error.strerror or error}") from error
    return Listener(made, tls)


def _refuse_taken(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise InvalidArgument(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except TimeoutError:  # too many wait there already
            raise InUse(f"another daemon listens on {path}") from None
        except OSError:
            return
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, _, _ = _UCRED.unpack(credentials)  # of who called listen; 0 from another pid namespace
    raise InUse(f"another daemon{f' (process {pid})' if pid else ''} listens on {path}")


def _discard(made: socket.socket, path: Path) -> None:
    made.close()
    path.unlink(missing_ok=True)
