"""Networks of a user without rights: a network namespace of the store's own, and its way out.

Bridges need rights over a network namespace, which an ordinary user has only over their own. So a
small process, the **holder**, makes one in the launcher's user namespace, and has ``pasta``
(passt(1)), else ``slirp4netns``, carry what leaves it into the user's sockets outside. The keeper
works in that namespace. The holder outlives it, for what is plugged stays connected when a keeper
is killed; it ends when there is neither a keeper nor a cable.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NoReturn

from cellbox.linux import process as processes
from cellbox.linux import syscalls
from cellbox.model.codec import dumps, loads
from cellbox.networks import links, rules
from cellbox.networks.client import HOLDER, LOCK, locked_by
from cellbox.networks.links import Routing

DNS = "10.0.2.3"
"""Where the way out answers for names, with what the host would say."""

_ADDRESS, _GATEWAY, _PREFIX = "10.0.2.100", "10.0.2.2", "24"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_NONE = (
    "containers have no way out: neither pasta nor slirp4netns is there "
    "(apt-get install passt, or slirp4netns)"
)


@dataclass(frozen=True)
class Outlet:
    """The holder (``pid`` and its start time), and its namespace's way out: ``tool`` and the
    process that it is, the address ``dns`` for names, or in ``missing`` why there is none."""

    pid: int
    started: int
    tool: str = ""
    tool_pid: int = 0
    tool_started: int = 0
    dns: str = ""
    missing: str = ""


def enter(run: str) -> Outlet:
    """Enter the network namespace of the store with the run directory ``run``, made if there is
    none that we can enter. For a process of one thread with rights in its user namespace. Raises
    OSError."""
    found = _recorded(run)
    if found is not None:
        try:
            _join(found)
            return found
        except ProcessLookupError:  # it was killed, and could not take its tool with it
            if found.tool_pid:
                processes.kill(found.tool_pid, found.tool_started, signal.SIGTERM)
        except PermissionError:  # of another user namespace, which our launcher could not enter
            pass
    for network in rules.bridges(run):  # which are not in a new namespace
        rules.forget_bridge(run, network)
    made = _make(run)
    _join(made)
    return made


def _recorded(run: str) -> Outlet | None:
    try:
        with open(f"{run}/{HOLDER}") as file:
            return loads(Outlet, file.read())
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _join(outlet: Outlet) -> None:
    holder = processes.open_process(outlet.pid, outlet.started)
    try:
        syscalls.setns(holder, syscalls.CLONE_NEWNET)
    finally:
        os.close(holder)


def _make(run: str) -> Outlet:
    """Fork a holder, and wait until it is ready."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _hold(run, ready_write)
        finally:
            os._exit(0)
    os.close(ready_write)
    os.waitpid(child, 0)
    with open(ready_read) as file:
        told = json.loads(file.read() or "{}")
    if "pid" not in told:
        number = int(told.get("errno", 5))
        raise OSError(number, os.strerror(number), "unshare CLONE_NEWNET")
    return loads(Outlet, json.dumps(told))


# The holder -------------------------------------------------------------------------------------


def _hold(run: str, ready: int) -> NoReturn:
    """Be the holder, and tell on ``ready`` what came of it."""
    try:
        os.closerange(3, ready)
        os.closerange(ready + 1, 4096)
        syscalls.set_name("cellbox-netns")
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # the tool finds our namespace through /proc
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            outlet = _open()
        except OSError as error:
            os.write(ready, json.dumps({"errno": error.errno}).encode())
        else:
            _record(run, outlet)
            os.write(ready, dumps(outlet).encode())
            os.close(ready)
            _wait(run)
            _forget(run, outlet)
    finally:
        os._exit(0)


def _open() -> Outlet:
    """Make the namespace and its way out. The tool is forked first: it has to work from the
    namespace of before."""
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    tool = _find_tool()
    pid = _fork_tool(tool, go_read, said) if tool else 0
    os.close(go_read)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    with Routing() as routing:
        routing.do(links.change(links.LOOPBACK))
    # pasta has few capabilities, and may look into /proc of one who has no more than it.
    syscalls.capset(0, 0, 0)
    if tool:
        os.write(go_write, b"x")
    return _await_tool(tool, pid, said)


def _find_tool() -> list[str]:
    """The command that makes a way out of our namespace; empty where there is none."""
    target = f"/proc/{os.getpid()}/ns/net"
    if path := shutil.which("pasta", path=_PATH):
        nothing = ["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]
        own = ["-a", _ADDRESS, "-n", _PREFIX, "-g", _GATEWAY, "--dns-forward", DNS]
        return [path, "-f", "-q", "--config-net", *nothing, *own, "--netns", target]
    if path := shutil.which("slirp4netns", path=_PATH):
        apart = ["--disable-host-loopback", "--mtu=65520", "--netns-type=path"]
        return [path, "--configure", *apart, target, "tap0"]
    return []


def _fork_tool(words: Sequence[str], go: int, said: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        syscalls.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.read(go, 1):
            null = os.open(os.devnull, os.O_RDWR)
            for source, target in ((null, 0), (null, 1), (said, 2)):
                os.dup2(source, target)
            processes.reset_signals()
            os.execve(words[0], list(words), {"PATH": _PATH})
    finally:
        os._exit(127)


def _await_tool(words: Sequence[str], pid: int, said: int) -> Outlet:
    """Wait until there is an interface that is up, or the tool has given up."""
    us = Outlet(os.getpid(), processes.start_time(os.getpid()))
    if not words:
        return replace(us, missing=_NONE)
    name = os.path.basename(words[0])
    deadline = time.monotonic() + _SECONDS
    with Routing() as routing:
        while time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0):
            if any(one.up and one.index != links.LOOPBACK for one in routing.links()):
                started = processes.start_time(pid)
                return replace(us, tool=name, tool_pid=pid, tool_started=started, dns=DNS)
            time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.lseek(said, 0, os.SEEK_SET)
    lines = os.read(said, 65536).decode(errors="replace").split("\n")
    why = next((line for line in reversed(lines) if line.strip()), "it did not start")
    return replace(us, missing=f"containers have no way out: {name} failed: {why.strip()}")


def _record(run: str, outlet: Outlet) -> None:
    temporary = f"{run}/{HOLDER}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(dumps(outlet))
    os.rename(temporary, f"{run}/{HOLDER}")


def _wait(run: str) -> None:
    """Until there is neither a keeper nor a cable; looked for once a second, as a cable's end is
    told to nobody who does not listen to all that happens."""
    poll = select.poll()
    with Routing() as routing:
        while locked_by(f"{run}/{LOCK}") or any(one.kind == "veth" for one in routing.links()):
            poll.poll(1000)


def _forget(run: str, outlet: Outlet) -> None:
    if outlet.tool_pid:
        processes.kill(outlet.tool_pid, outlet.tool_started, signal.SIGTERM)
    if _recorded(run) == outlet:
        with suppress(FileNotFoundError):
            os.unlink(f"{run}/{HOLDER}")
