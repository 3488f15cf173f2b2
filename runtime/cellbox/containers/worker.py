"""One job on layers or on a container's files, in a process of its own.

The launcher's workshop (:func:`serve`) forks a worker for what must be done as the root of
containers (apply a layer, pack one, delete a tree), a shim for what must be done inside its running
container (copy files in and out). The modules are imported before anything is entered. What a job
raises travels back as data.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from cellbox.containers.messages import MAX_REQUEST
from cellbox.errors import describe as describe
from cellbox.errors import rebuild as rebuild
from cellbox.linux import mounts, sockets, syscalls
from cellbox.linux.mounts import Mount
from cellbox.model.codec import from_json
from cellbox.networks import client

_PATIENCE = 2.0
"""Seconds that one who has connected has for sending a request; nobody else is heard meanwhile."""
_INLINE = 65536
"""Bytes of a reply that fit one packet; a longer one is handed over as a file in memory."""


def serve(ping: Mapping[str, Any], launcher: socket.socket, listener: socket.socket) -> NoReturn:
    """Be the workshop of a launcher: fork a worker for each request on ``listener``, and answer a
    ping. The modules of the jobs are loaded here, for the first one, so that shims, which are
    copies of the launcher, have nothing of them. Ends with the launcher, which hears of every
    request."""
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    poll.register(listener, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if listener.fileno() in ready:
            _accept(ping, launcher, listener)
        if launcher.fileno() in ready:
            os._exit(0)


def _accept(ping: Mapping[str, Any], launcher: socket.socket, listener: socket.socket) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:  # it has gone again, or we are out of descriptors
        return
    with connection:
        fds: list[int] = []
        connection.settimeout(_PATIENCE)
        try:
            data, fds = sockets.receive(connection, MAX_REQUEST)
            with suppress(OSError):  # it has ended, which is no reason not to do this
                launcher.send(b"busy")
            if not data:
                return
            request = json.loads(data)
            if request["op"] == "ping":
                send(connection, ping)
                return
            if request["op"] == "networks":
                client.ask_anew(".", {"op": "ping"})
                send(connection, {})
                return
            from cellbox.images import jobs  # noqa: F401

            if os.fork() == 0:
                launcher.close()
                listener.close()
                run(connection, request, fds)
        except Exception as error:  # whatever was sent, the others are to be served
            send(connection, {"error": describe(error)})
        finally:
            for fd in fds:
                os.close(fd)


def run(
    connection: socket.socket, request: Mapping[str, Any], fds: Sequence[int], enter: int = -1
) -> NoReturn:
    """Do the job that ``request`` names, reply on ``connection``, and end.

    A job on a container's files gets a descriptor of its root before all others: that of the
    running container whose first process is the pidfd ``enter``, or one that is built of the mounts
    in ``request["rootfs"]``.
    """
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = _serve(connection, request, fds, enter)
    finally:  # whatever happens, this must not go on as a copy of its parent
        os._exit(code)


def _serve(
    connection: socket.socket, request: Mapping[str, Any], fds: Sequence[int], enter: int
) -> int:
    try:
        from cellbox.images import jobs

        roots = []
        if enter >= 0:
            roots = [_enter(enter, bool(request.get("userns", True)))]
        elif "rootfs" in request:
            roots = [_build([from_json(Mount, one) for one in request["rootfs"]])]
        result = jobs.run_confined(request["job"], request["args"], [*roots, *fds])
        send(connection, {"result": result})
    except BaseException as error:
        send(connection, {"error": describe(error)})
        return 1
    return 0


def _enter(pidfd: int, userns: bool) -> int:
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    flags = syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if userns else 0)
    syscalls.setns(pidfd, flags)
    if userns:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _build(wanted: Sequence[Mount]) -> int:
    """The root file system of a container that does not run, in a mount namespace of our own."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    os.chdir("mnt")
    scratch = mounts.make_scratch()
    sources = iter(mounts.open_sources(wanted, -1))
    root = mounts.build_root(wanted[0], sources, scratch)
    for mount in wanted[1:]:
        mounts.attach(root, mount, sources, scratch)
    return os.open(f"/proc/self/fd/{root}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def send(connection: socket.socket, reply: Mapping[str, Any]) -> None:
    """Send ``reply``, by way of a memory file where it is long; a caller who is gone is no
    error."""
    data = json.dumps(reply).encode()
    try:
        if len(data) <= _INLINE:
            connection.send(data)
            return
        memory = os.memfd_create("reply", os.MFD_CLOEXEC)
        with open(memory, "wb") as file:
            file.write(data)
            file.flush()
            socket.send_fds(connection, [b'{"long": true}'], [memory])
    except OSError:
        pass


def receive(connection: socket.socket) -> dict[str, Any]:
    """The reply of :func:`send`. Raises what the job raised, or EOFError when it died."""
    data, fds = sockets.receive(connection, _INLINE + 1)
    if not data:
        raise EOFError("the worker ended without an answer")
    if fds:
        with open(fds[0], "rb") as file:
            file.seek(0)
            data = file.read()
    reply: dict[str, Any] = json.loads(data)
    if "error" in reply:
        raise rebuild(reply["error"])
    return reply
