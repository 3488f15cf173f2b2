"""What a client may ask of a shim: one request a connection, one answer.

======== ====================================== ==================================================
op       with                                   answer
======== ====================================== ==================================================
attach   stdin, logs; a stream                  ``{}``, then the stream tells all
exec     process; a stream (or none: detached)  ``{}``, then the stream tells all
stop     signal, timeout                        ``{}`` at once; ``wait`` tells the end
kill     signal                                 ``{}``
pause    paused                                 ``{}``
update   limits, restart, name, attributes,     ``{}``
         wiring; sockets for names
clear                                           ``{}``: its log is empty
wait                                            ``{"exit_code"}`` when the container has ended
work     job, args; descriptors                 the worker's answer, done inside the container
======== ====================================== ==================================================
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cellbox.containers import records, worker
from cellbox.containers.messages import MAX_REQUEST, Failure, Process
from cellbox.containers.streams import Client
from cellbox.errors import InvalidArgument, WrongState
from cellbox.linux import sockets
from cellbox.linux.process import signal_number
from cellbox.model.codec import from_json
from cellbox.model.container import Limits
from cellbox.networks.wiring import Wiring

if TYPE_CHECKING:
    from cellbox.containers.shim import Shim


def listen(run_directory: str) -> socket.socket:
    """The shim's socket. It lies in a directory that only its owner can enter, so there is no
    moment at which anybody else can connect; its name is relative, as a path of over 107 bytes has
    no room in sockaddr_un (unix(7))."""
    os.makedirs(run_directory, mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    fd = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{fd}/{records.SOCKET}"
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
    finally:
        os.close(fd)
    listener.listen(64)
    return listener


def reply(connection: socket.socket, answer: Mapping[str, Any], *, keep: bool = False) -> None:
    """Answer and hang up, unless ``keep``; a client who is gone, or reads nothing, is no error."""
    try:
        connection.send(json.dumps(answer).encode())
    except OSError:
        pass
    if not keep:
        connection.close()


def handle(shim: Shim, connection: socket.socket) -> None:
    """Read one request from ``connection`` and do it."""
    try:
        data, fds = sockets.receive(connection, MAX_REQUEST)
    except OSError:
        connection.close()
        return
    if not data:
        connection.close()
        return
    try:
        request = json.loads(data)
        answer = _OPERATIONS[request["op"]](shim, request, fds, connection)
    except Exception as error:  # told to the client; the container goes on
        answer = {"error": worker.describe(error)}
    for fd in fds:
        os.close(fd)
    if answer is not None:
        reply(connection, answer)


def _stream(fds: list[int]) -> socket.socket:
    """The stream that came with a request. Raises OSError for what is no socket."""
    end = socket.socket(fileno=fds[0])
    del fds[0]  # it is the socket's from here on
    return end


def _attach(shim: Shim, request: Any, fds: list[int], _: socket.socket) -> dict[str, Any]:
    client = Client(_stream(fds), request["stdin"])
    client.socket.setblocking(False)
    if request.get("logs"):
        shim.replay(client)
    if shim.main is None:
        shim.newcomers.append(client)
    else:
        shim.main.streams.add(client)
    return {}


def _exec(shim: Shim, request: Any, fds: list[int], _: socket.socket) -> dict[str, Any]:
    if shim.main is None or shim.main.channel is not None:
        raise WrongState(f"Container {shim.name} is not running")
    if shim.state.paused:
        raise WrongState(f"Container {shim.name} is paused, unpause the container before exec")
    process = from_json(Process, request["process"])
    client = Client(_stream(fds), process.stdin or process.tty) if fds else None
    shim.start_exec(process, client)
    return {}


def _stop(shim: Shim, request: Any, *_: Any) -> dict[str, Any]:
    facts = shim.facts  # what equals the default is not in there
    number = request.get("signal") or signal_number(facts.get("stop_signal", "TERM"))
    timeout = request.get("timeout")
    shim.stop(number, facts.get("stop_timeout", 10.0) if timeout is None else float(timeout))
    return {}


def _kill(shim: Shim, request: Any, *_: Any) -> dict[str, Any]:
    number = int(request["signal"])
    if number == signal.SIGKILL:
        shim.stop(number, 0)
    elif shim.main is None:
        raise WrongState(f"Container {shim.name} is not running")
    else:
        shim.asked_to_stop = True
        shim.main.signal(number)
    return {}


def _pause(shim: Shim, request: Any, *_: Any) -> dict[str, Any]:
    shim.pause(bool(request["paused"]))
    return {}


def _update(shim: Shim, request: Any, fds: list[int], *_: Any) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if request.get("limits"):
        group = shim.group
        if group is None:
            raise InvalidArgument("the container has no cgroup, so its limits cannot be changed")
        group.set(from_json(Limits, request["limits"]))
        changes["limits"] = request["limits"]
    told = ("restart", "name", "attributes", "wiring")
    changes |= {key: request[key] for key in told if key in request}
    shim.change(changes)
    if "wiring" in request:
        shim.rewire(from_json(Wiring, request["wiring"]), fds)
        fds.clear()  # they are the resolver's
    return {}


def _clear(shim: Shim, *_: Any) -> dict[str, Any]:
    shim.clear_log()
    return {}


def _wait(shim: Shim, _request: Any, _fds: Any, connection: socket.socket) -> None:
    shim.waiting.append(connection)


def _work(shim: Shim, request: Any, fds: list[int], connection: socket.socket) -> None:
    if shim.main is None:
        raise WrongState(f"Container {shim.name} is not running")
    child = os.fork()
    if child == 0:
        private = shim.bundle.namespaces.user == "private"
        worker.run(connection, {**request, "userns": private}, fds, shim.main.pidfd)
    connection.close()
    shim.children.append(child)


_OPERATIONS: Mapping[str, Any] = {
    "attach": _attach,
    "exec": _exec,
    "stop": _stop,
    "kill": _kill,
    "pause": _pause,
    "update": _update,
    "clear": _clear,
    "wait": _wait,
    "work": _work,
}


def failure_text(one: Failure | None) -> str:
    """A failure as Docker words it in a container's State.Error; empty for none."""
    return f"{one.detail}: {os.strerror(one.errno)}" if one else ""
