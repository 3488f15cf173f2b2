"""One start: what init is sent, what is done for it meanwhile, and what its shim is handed over.

See :mod:`cellbox.containers.starter`, whose parts these are.
"""

from __future__ import annotations

import errno
import json
import marshal
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

from cellbox.containers import control, init, journal, records, spares, worker
from cellbox.containers.messages import (
    Bundle,
    Failure,
    Handover,
    Kind,
    Namespaces,
    Preparation,
    Process,
    RunState,
    group_name,
    packet,
    preparation,
)
from cellbox.containers.program import Failed, step
from cellbox.containers.spares import Spare
from cellbox.errors import IntegrityError
from cellbox.linux import cgroups, idmap, mounts, sockets, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import from_json, to_json
from cellbox.model.container import Limits
from cellbox.networks import client, names, ports, rules
from cellbox.networks.wiring import Plug

_FLAGS = {
    "network": syscalls.CLONE_NEWNET,
    "pid": syscalls.CLONE_NEWPID,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "user": syscalls.CLONE_NEWUSER,
}
AT_ONCE, UNTIL_WOKEN = b"!", b"z"
"""The first byte of a handover: is there something for the shim to do, or only when it is asked?"""
RUNS = b"runs"
"""What a shim is told after it, or a Failure as JSON; null where it is to start by itself."""
_ALWAYS = syscalls.CLONE_NEWNS


def clone_flags(namespaces: Namespaces) -> int:
    """CLONE_NEW* of the namespaces that init is born into; init makes that of its control groups
    itself, when it is in the group that is to be seen as the root."""
    return _ALWAYS | sum(
        flag for name, flag in _FLAGS.items() if getattr(namespaces, name) == "private"
    )


def shared(namespaces: Namespaces) -> list[tuple[int, int]]:
    """(pid, CLONE_NEW*) of those that the container shares with another one."""
    return [
        (int(owner), flag)
        for name, flag in _FLAGS.items()
        if (owner := getattr(namespaces, name)).isdecimal()
    ]


def receive(connection: socket.SocketType, size: int) -> tuple[bytes, list[int]]:
    """The next message, and what comes with it; nothing when the other side has ended."""
    try:
        return sockets.receive(connection, size)
    except ConnectionError:  # with something of ours unread
        return b"", []


def hear(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a process that is being started tells next, with its descriptors; nothing at the end."""
    data, fds = receive(channel, 65536)
    return json.loads(data) if data else {}, fds


def own_group() -> str:
    """The name of this shim's group; a shim stays in the folder ``mnt`` of the run directory."""
    return group_name(os.path.dirname(os.getcwd()), os.getpid())


def stdio(tty: bool, stdin: bool) -> tuple[list[int], list[int]]:
    """Three descriptors for a program and three for its shim (-1: none); empty lists for a
    terminal."""
    if tty:
        return [], []
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    if stdin:
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
    else:
        in_read, in_write = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    return [in_read, out_write, err_write], [in_write, out_read, err_read]


def close(fds: Iterable[int]) -> None:
    """Close all that are there (-1: none)."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


@dataclass
class Unborn:
    """A shim that was forked, of whose init nothing is known yet: the connection with it, what
    leads to init, and what init tells of itself."""

    connection: socket.socket
    feed: socket.socket
    channel: socket.socket
    prepared: Preparation

    def forget(self) -> None:
        """Let go of it."""
        for end in (self.connection, self.feed, self.channel):
            end.close()


@dataclass
class Birth:
    """An init that waits for its order. ``state`` is what is known of its run; ``lock`` holds the
    ``slot``, -1 where its shim does."""

    pid: int
    pidfd: int
    feed: socket.socket
    channel: socket.socket
    prepared: Preparation
    slot: int
    lock: int
    state: RunState
    spare: Spare | None = None
    userns: int = -1
    root: int = 0
    mountns: int = -1

    @classmethod
    def told(
        cls, message: bytes, unborn: Unborn, slot: int, lock: int, spare: Spare | None = None
    ) -> Birth:
        """What a shim tells of, ``PID SHIM``, with its ids mapped, and ``spare`` for its root.
        Raises OSError."""
        pid, shim = map(int, message.split())
        state = RunState(shim, processes.start_time(shim), pid, processes.start_time(pid))
        pidfd = os.pidfd_open(pid)
        at = (unborn.feed, unborn.channel, unborn.prepared)
        birth = cls(pid, pidfd, *at, slot, lock, state, spare)
        birth.attempt(birth._map)
        return birth

    @property
    def group(self) -> str:
        """The name of its control group."""
        return group_name(os.getcwd(), self.state.shim)

    def tell(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send it to init; one that is gone is seen by whoever hears its channel."""
        with suppress(OSError):
            socket.send_fds(self.feed, [message], fds)

    def attempt(self, action: Callable[[], None]) -> Failure | None:
        """Do it; a failure is told to init, which passes it on, and given back."""
        try:
            action()
            return None
        except Failed as failed:
            failure = failed.failure
        except Exception as error:
            number = getattr(error, "errno", None) or errno.EIO
            failure = Failure("start", number, str(error))
        self.tell(json.dumps({"failure": to_json(failure)}).encode())
        return failure

    def _map(self) -> None:
        with step("namespaces"):
            private = self.prepared.namespaces.user == "private"
            self.userns, self.root = _map_ids(private, self.pid, self.slot)
            self.mountns = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._tell_mapped()
        # Moving a process into a group of v1 waits for all processors to pass a quiet state, up to
        # ten milliseconds; here nobody waits for it.
        with step("cgroup"):
            cgroups.discard(self.group)  # of an earlier process with this pid, which was killed
            group = cgroups.create(self.group, Limits())
            if group:
                _join(group, self.pid)

    def _tell_mapped(self) -> None:
        """Let init begin: with a root to be mounted already now, if there is a spare for it."""
        sources: list[int] = []
        if self.spare:
            with suppress(OSError):  # it has just gone: then without
                sources = mounts.open_sources([self.spare.mount], self.userns)
        told: dict[str, Any] = {"root": None}
        if self.spare and sources:
            told = {"root": to_json(self.spare.mount), "places": self.spare.prepared.places}
        self.tell(json.dumps(told).encode(), sources)
        close(sources)

    def limit(self, bundle: Bundle) -> None:
        """Set its limits; before it has its order, as its view of its groups is that of the moment
        at which it makes a namespace of them."""
        if bundle.limits != Limits():
            with step("cgroup"):
                _limit(self.group, bundle.limits)

    def order(self, bundle: Bundle, directory: str, stdio: list[int], rooted: bool = False) -> None:
        """Send init what it is to build and to run; ``rooted``: in the root that it has."""
        with ExitStack() as sent:
            file = sent.enter_context(open(os.path.join(directory, records.BUNDLE), "rb"))
            fds = [file.fileno()]
            if bundle.process.seccomp:
                with step("seccomp", bundle.process.seccomp):
                    fds.append(sent.enter_context(open(bundle.process.seccomp, "rb")).fileno())
            layers = not (rooted and self._is_rooted())
            with step("rootfs"):
                if not rooted:
                    mounts.renew_volatile(bundle.mounts[0])
                sources = mounts.open_sources(bundle.mounts[not layers :], self.userns)
            sent.callback(close, sources)
            give_streams(stdio, self.root)
            order = {
                "program": bool(bundle.process.seccomp),
                "stdio": bool(stdio),
                "rooted": rooted,
                "layers": layers,
            }
            self.tell(json.dumps(order).encode(), [*fds, *stdio, *sources])

    def _is_rooted(self) -> bool:
        """Has init said by now that the spare root is mounted?"""
        try:
            said = self.channel.recv(len(init.ROOTED), socket.MSG_PEEK)
        except OSError:
            return False
        return said == init.ROOTED

    def prepare(self, bundle: Bundle, run_directory: str, restarts: int) -> None:
        """Do what must be done before the program runs, but not before its root is built."""
        _adjust_oom(self.pid, bundle.process)
        # By which the next engine knows what to tidy up, should the shim be killed.
        self.state = replace(self.state, started=time.time(), restarts=restarts)
        with step("start"):
            records.write(f"{run_directory}/{records.STATE}", self.state)

    def connect(self, bundle: Bundle) -> None:
        """Plug the container into its networks, and let its neighbours know its names."""
        wiring = bundle.wiring
        if own := wiring.own:
            ruled = bool(wiring.ports) or wiring.egress is not None
            self._plug({"op": "plug", "rules": ruled}, own)
        if driven := wiring.driven:
            self._plug({"op": "drive"}, driven)
        for place in wiring.places:
            with step("network"):
                names.publish(
                    place.directory, place.endpoint, bundle.id, place.names, place.ip, place.ip6
                )

    def _plug(self, request: Mapping[str, Any], plugs: Sequence[Plug]) -> None:
        with step("network"):
            namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                told = {**request, "plugs": [to_json(one) for one in plugs]}
                answer, _ = client.ask_anew(".", told, [namespace])
            finally:
                close([namespace])
            if "error" in answer:
                raise worker.rebuild(answer["error"])

    def forget(self) -> None:
        """Let go of it."""
        self.feed.close()
        self.channel.close()
        close([self.userns, self.mountns, self.pidfd, self.lock])

    def end(self) -> None:
        """Its shim is gone: so is it."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        cgroups.discard(self.group)


@dataclass
class Order:
    """A client who wants a container started: ``request`` as :mod:`~cellbox.containers.launcher`
    says, and the streams to attach."""

    request: Mapping[str, Any]
    connection: socket.socket
    streams: list[socket.socket]

    def refuse(self, error: Exception) -> None:
        """Tell the client that nothing was started, and let go."""
        control.reply(self.connection, {"error": worker.describe(error)})
        self.forget()

    def forget(self) -> None:
        """Let go of all that came with it."""
        for end in (self.connection, *self.streams):
            end.close()


class Start:
    """A container that is being started with an init and a shim of the reserve.

    Raises OSError, IntegrityError where the bundle cannot be read or is of another place, and
    what says that a port cannot be had.
    """

    def __init__(self, order: Order, birth: Birth, shim: socket.socket) -> None:
        self.directory: str = order.request["directory"]
        facts, self.bundle = _read(self.directory)
        self.run_directory = records.run_directory(os.getcwd(), self.bundle.id)
        self.preparation = preparation(self.bundle)
        self.fits = self.bundle.namespaces == birth.prepared.namespaces and birth.prepared.allows(
            self.bundle.process
        )
        """Else the shim starts the container by itself."""
        self.wanted = spares.wanted(self.bundle.mounts)
        self._bound = ports.bind(self.bundle.wiring.ports, self.bundle.name)
        self._names: list[int] = []
        self._rooted = False
        self._facts = {name: fact for name, fact in facts.items() if name not in _OF_INIT}
        self._order, self._birth, self._shim = order, birth, shim
        self._listener: socket.socket | None = None
        self._ours: list[int] = []
        self._terminal = -1
        self._failure: Failure | None = None
        self._lost: OSError | None = None

    @property
    def channel(self) -> socket.socket:
        """What init tells of the start."""
        return self._birth.channel

    @property
    def exchanged(self) -> Spare | None:
        """The spare whose directory the container has now, for its own that nobody has used."""
        return self._birth.spare if self._rooted else None

    @property
    def unwanted(self) -> Spare | None:
        """The spare that was of no use to it."""
        return None if self._rooted else self._birth.spare

    def begin(self) -> bool:
        """Order init to build the container, do what else comes before it runs, let it go. False
        when the shim turns out to have been killed; then nothing has been done."""
        failure = self._birth.attempt(self._begin)
        poll = select.poll()
        poll.register(self._shim, select.POLLIN)
        if poll.poll(0):  # it says nothing, so it has hung up
            self._birth.end()
            if self._rooted and self._birth.spare:
                with suppress(OSError):
                    self._birth.spare.change_places(self.bundle.mounts[0])
                self._rooted = False
            self._forget()
            return False
        if not self.fits:
            self._failure = failure
        elif not failure:
            self._birth.tell(b"go")
        self._hand_over()
        return True

    def _begin(self) -> None:
        taken = tuple(one.spec for one in self._bound)
        if ruled := rules.of(self.bundle.wiring, self.bundle.id, taken):
            rules.note(".", self.bundle.id, ruled)
        if self.fits:
            theirs, self._ours = stdio(self.bundle.process.tty, self.bundle.process.stdin)
            spare, root = self._birth.spare, self.bundle.mounts[0]
            if spare and self._birth.prepared.looks_like(self.preparation):
                self._rooted = spare.give(root, self.wanted)
            try:
                self._birth.limit(self.bundle)
                self._birth.order(self.bundle, self.directory, theirs, self._rooted)
            finally:
                close(theirs)
            self._birth.connect(self.bundle)
        with step("start"):
            self._listener = control.listen(self.run_directory)
        self._birth.state = replace(self._birth.state, ports=taken)
        if self.fits:
            self._birth.prepare(self.bundle, self.run_directory, 0)

    def hear(self) -> bool:
        """The channel is readable; True when the program runs, or will not."""
        message, fds = hear(self.channel)
        if "terminal" in message:
            self._terminal = fds[0]
        elif "names" in message:
            self._names = fds
        elif "failure" in message:
            self._failure = from_json(Failure, message["failure"])
        return not message

    def _hand_over(self) -> None:
        """Give all of it to the shim, while init is on its way."""
        order, birth = self._order, self._birth
        owned = bool(order.request.get("owned"))
        message: Handover = {
            "directory": self.directory,
            "run_directory": self.run_directory,
            "facts": self._facts,
            "slot": birth.slot,
            "mounted": birth.mountns >= 0,
            "fits": self.fits,
            "started": birth.state.started or time.time(),
            "owned": owned,
            "listening": self._listener is not None,
            "pipes": [fd >= 0 for fd in self._ours],
            "attach": [wish["stdin"] for wish in order.request.get("attach", ())],
            "ports": [(to_json(one.spec), len(one.sockets)) for one in self._bound],
        }
        watched = "health" in self._facts or "wiring" in self._facts
        idle = not owned and not order.streams and not watched
        there = [order.connection] if owned else []
        there += [self._listener] if self._listener else []
        fds = [fd for fd in (birth.lock, birth.mountns) if fd >= 0]
        fds += [end.fileno() for end in there]
        fds += [fd for fd in self._ours if fd >= 0]
        fds += [stream.fileno() for stream in order.streams]
        fds += [end.fileno() for one in self._bound for end in one.sockets]
        data = (UNTIL_WOKEN if idle else AT_ONCE) + marshal.dumps(dict(message))
        self._tell_shim(data, fds)

    def _tell_shim(self, data: bytes, fds: Sequence[int]) -> None:
        """Send it this, unless it has turned out to have been killed just now."""
        if self._lost is None:
            try:
                socket.send_fds(self._shim, [data], fds)
            except OSError as error:
                self._lost = error

    def decide(self) -> None:
        """Tell the shim and the client how the start went, and keep nothing."""
        order, birth = self._order, self._birth
        runs = self.fits and not self._failure
        if runs:
            self._note_start()  # before the shim can note that it has ended
            verdict, fds = RUNS, [self._terminal] if self._terminal >= 0 else []
            fds += self._names
        else:
            verdict = json.dumps(to_json(self._failure)).encode()
            fds = [order.connection.fileno()]
        for stream in order.streams if runs else ():
            with suppress(OSError):
                stream.send(packet(Kind.STARTED, str(birth.pid).encode()))
        self._tell_shim(verdict, fds)
        if self._lost:
            birth.end()
            failure = Failure("start", self._lost.errno or errno.EPIPE, "its monitor was killed")
            control.reply(order.connection, {"failure": to_json(failure)}, keep=True)
        elif runs:
            control.reply(order.connection, {"pid": birth.pid}, keep=True)
        order.forget()
        self._forget()

    def _note_start(self) -> None:
        bundle = self.bundle
        journal.note(bundle.events, "container", "start", bundle.id, bundle.attributes)

    def _forget(self) -> None:
        close([*self._ours, self._terminal, *self._names])
        for one in self._bound:
            one.close()
        for end in (self._listener, self._shim):
            if end:
                end.close()
        self._birth.forget()


def _read(directory: str) -> tuple[dict[str, Any], Bundle]:
    with open(os.path.join(directory, records.BUNDLE), "rb") as file:
        try:
            facts: dict[str, Any] = json.load(file)
            bundle = from_json(Bundle, facts)
        except (ValueError, TypeError, AttributeError):
            raise IntegrityError(file.name, "a bundle", "damage") from None
    if bundle.directory != directory:  # the store has been moved
        raise IntegrityError(file.name, f"of {directory}", f"one of {bundle.directory}")
    return facts, bundle


_OF_INIT = {
    "process",
    "mounts",
    "hostname",
    "domainname",
    "masked",
    "read_only",
    "sysctls",
    "id_map",
}


def give_streams(stdio: list[int], root: int) -> None:
    """Let pipes belong to the container's root, who may then hand them to the program's user."""
    for fd in stdio:
        if root and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, root, root)


def _join(group: cgroups.Group, pid: int) -> None:
    try:
        group.add(pid)
    except OSError:  # it was not wanted after all, and is gone
        group.remove()
        raise


def _limit(name: str, limits: Limits) -> None:
    group = cgroups.existing(name)
    if group:
        group.set(limits)
    else:
        cgroups.refuse_missing(limits)


def _map_ids(private: bool, pid: int, slot: int) -> tuple[int, int]:
    """Write the id maps of the new process: a descriptor of its user namespace, -1 where ids on
    disk need no mapping, and what its root is here."""
    if not private:
        return -1, 0
    wanted = [idmap.slot_range(slot)]
    own = idmap.nested_map("uid", wanted)
    idmap.write_maps(pid, own, idmap.nested_map("gid", wanted))
    if own != wanted:
        return -1, 0
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), own[0][1]


def _adjust_oom(pid: int, process: Process) -> None:
    if process.oom_score_adj is not None:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(process.oom_score_adj).encode())
        os.close(fd)
