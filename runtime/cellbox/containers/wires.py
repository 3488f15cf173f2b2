"""What a shim does for its container's networks while it runs: it holds the ports of the host that
lead there, and the sockets on which the container asks for names.

Most of the time nothing happens on either, so no process waits there but the shim: one that serves
the ports is forked when the program runs, one that answers for names when somebody asks. Both end
with the run.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cellbox.containers import starts
from cellbox.containers.watch import Handler, bind
from cellbox.errors import CellboxError
from cellbox.linux import syscalls
from cellbox.model.codec import from_json, to_json
from cellbox.model.container import PortSpec
from cellbox.networks import client, names, owed, rules
from cellbox.networks.ports import Bound
from cellbox.networks.wiring import Wiring

_HIGH = 512
_CRASH_SECONDS = 1.0


@dataclass
class _Child:
    """A process that works for a container, and the end of the pipe that stops it."""

    pid: int
    pidfd: int
    end: int
    born: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        starts.close([self.end])
        self.end = -1

    def reap(self) -> None:
        self.stop()
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)


class Wires:
    """The connections of one container: ``wiring`` says which, ``bound`` holds the ports."""

    def __init__(self, id: str, wiring: Wiring, bound: Sequence[Bound], run: str) -> None:
        self._id = id
        self.wiring = wiring
        self._bound = bound
        self._run = run
        self._names: list[int] = []
        self._pid = 0
        self._used = 0
        self._children: dict[str, _Child] = {}

    @property
    def ports(self) -> list[PortSpec]:
        """The ports that are held, as they were got."""
        return [one.spec for one in self._bound]

    def begin(self, pid: int, names: list[int]) -> None:
        """The program runs as ``pid``; ``names`` are the sockets that it asks."""
        self._pid = pid
        self._names = names
        self._note_namespace()
        if self._bound:
            self._fork("ports", self._serve_ports)

    def end(self) -> None:
        """It has ended."""
        self._pid = 0
        starts.close(self._names)
        self._names = []
        for child in self._children.values():
            child.stop()
        self.withdraw()

    def rewire(self, wiring: Wiring, names: Sequence[int]) -> None:
        """The container is in other networks now; ``names`` are sockets where it had none."""
        self.wiring = wiring
        self._note_namespace()
        self._names = [*self._names, *names]
        if "names" in self._children:  # the next one knows
            self._children["names"].stop()

    def withdraw(self) -> None:
        """Its neighbours need not know it any more."""
        for place in self.wiring.places:
            with suppress(OSError):
                names.withdraw(os.path.join(self._run, place.directory), place.endpoint)

    def close(self) -> None:
        """Let the ports go, and the rules of the firewall."""
        for one in self._bound:
            one.close()
        self._bound = ()
        if rules.forget(self._run, self._id):
            self._fork("rules", self._have_rules_made)
        if self.wiring.driven:
            if not self._used:  # its program has never run
                self._note_namespace()
            self._fork("release", self._release)

    def _note_namespace(self) -> None:
        """By which a driver that hears of an end knows which run it was. The process cannot be
        asked: one that has ended, as it may have by now, is in no namespace."""
        used = (owed.used(self._run, one.endpoint) for one in self.wiring.driven if one.endpoint)
        self._used = next(filter(None, used), self._used)

    def _release(self, _stop: int, _more: list[int]) -> None:
        plugs = [to_json(one) for one in self.wiring.driven]
        with suppress(CellboxError, OSError):  # then it hears of it when somebody looks
            client.ask_anew(self._run, {"op": "release", "plugs": plugs, "ended": self._used})

    def _have_rules_made(self, _stop: int, _more: list[int]) -> None:
        with suppress(OSError):  # without a keeper they are made anew by the next one
            client.ask(self._run, {"op": "firewall"})

    def watch(self, watched: dict[int, tuple[int, Handler]]) -> None:
        """What to poll for: somebody asks for a name, and nobody answers yet."""
        for what, child in self._children.items():
            watched[child.pidfd] = (select.POLLIN, bind(self._reap, what, child))
        if "names" not in self._children:
            for fd in self._names:
                watched[fd] = (select.POLLIN, self._answer)

    @property
    def children(self) -> set[int]:
        """Processes that work for it now."""
        return {child.pid for child in self._children.values()}

    def _reap(self, what: str, child: _Child) -> None:
        """One has ended: of those who serve ports, perhaps because somebody killed it."""
        child.reap()
        del self._children[what]
        if what == "ports" and self._pid:
            if time.monotonic() - child.born > _CRASH_SECONDS:
                self._fork("ports", self._serve_ports)

    def _answer(self) -> None:
        if "names" not in self._children and self._names:
            self._fork("names", self._serve_names)

    def _fork(self, what: str, serve: Callable[[int, list[int]], None]) -> None:
        """A child that holds nothing of the shim's but what it serves, and a pipe that ends when
        the shim lets go of it."""
        stop, ours = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            try:
                syscalls.set_name(f"cellbox-{what}")
                serve(stop, [self._namespace()])
            finally:
                os._exit(0)
        os.close(stop)
        self._children[what] = _Child(child, os.pidfd_open(child), ours)

    def _namespace(self) -> int:
        """The container's network namespace, or ours when it has ended."""
        pid = self._pid or "self"
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _serve_ports(self, stop: int, more: list[int]) -> None:
        sockets = [end.detach() for one in self._bound for end in one.sockets]
        stop, namespace, *fds = _keep([stop, *more, *sockets])
        bound = rebind([(one.spec, len(one.sockets)) for one in self._bound], fds)
        addresses = [plug.ip for plug in self.wiring.plugs if plug.ip]
        address = addresses[0].partition("/")[0] if addresses else "127.0.0.1"
        import_module("cellbox.networks.proxy").serve(bound, namespace, address, stop)

    def _serve_names(self, stop: int, more: list[int]) -> None:
        stop, namespace, udp, tcp = _keep([stop, *more, *self._names])
        resolver = import_module("cellbox.networks.resolver")
        wiring = self.wiring
        settings = resolver.Settings(
            networks={
                place.network: os.path.join(self._run, place.directory) for place in wiring.places
            },
            aliases=wiring.aliases,
            upstreams=wiring.servers,
            allow=wiring.allow,
        )
        netns = namespace if wiring.inside else None
        resolver.serve(udp, tcp, settings, stop, netns=netns, learned=self._learned)

    def _learned(self, _name: str, addresses: Sequence[str], seconds: int) -> None:
        """Let the container reach what a name that it may ask for stands for. Raises OSError."""
        told = {"container": self._id[:12], "addresses": dict.fromkeys(addresses, seconds)}
        answer, _ = client.ask(self._run, {"op": "allow", **told})
        if "error" in answer:
            raise OSError(str(answer["error"]))


def rebind(ports: Sequence[tuple[PortSpec, int]], fds: Sequence[int]) -> list[Bound]:
    """What was bound in another process: each port with the number of its sockets, and all of
    these."""
    rest = iter(fds)
    return [
        Bound(spec, tuple(socket.socket(fileno=next(rest)) for _ in range(count)))
        for spec, count in ports
    ]


def from_handover(
    id: str, wiring: Any, ports: Sequence[tuple[Any, int]], fds: Sequence[int], run: str
) -> Wires:
    """The wires of the container ``id``, of which a starter tells."""
    specs = [(from_json(PortSpec, spec), count) for spec, count in ports]
    return Wires(id, from_json(Wiring, wiring), rebind(specs, fds), run)


def _keep(fds: Sequence[int]) -> list[int]:
    """Close all others but standard streams; what these are called from then on."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in fds]
    for number, fd in enumerate(high, 3):
        os.dup2(fd, number, inheritable=False)
    syscalls.close_range(3 + len(high))
    return list(range(3, 3 + len(high)))
