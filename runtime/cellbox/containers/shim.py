"""The parent of one container: serves whoever is attached, keeps its log and exit record.

A shim is forked from the launcher and outlives it, the engine and the notebook. It is one thread
around one poll(2): every handler does a little and returns. Its life::

    in reserve --order--> starting --exec--> running --exit--> (restart wait --> starting) | ended

At the end it writes ``exit.json``, tells the event log, lets its cgroup go, answers those who wait,
and removes the container's files if that was asked for. Killed at any moment it leaves
``state.json`` with its own pid, by which the next engine knows what to tidy up.

A shim stays small by knowing little of the bundle (``facts``, plain JSON) and by leaving what takes
more to others: a start to ``starter``, a further process to a child
(:func:`~cellbox.containers.task.start_exec`).
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from typing import Any

from cellbox.containers import control, journal, probes, records, restart, starts, wires
from cellbox.containers.logs import LogWriter, clear, driver, open_log
from cellbox.containers.messages import (
    Bundle,
    ExitRecord,
    Failure,
    Handover,
    Kind,
    Process,
    RunState,
    packet,
)
from cellbox.containers.program import Failed, step
from cellbox.containers.streams import Client, Streams
from cellbox.containers.task import Task, begun, start, start_exec
from cellbox.containers.watch import Handler, bind, watch_task
from cellbox.linux import cgroups, sockets, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import from_json, to_json
from cellbox.model.container import LogConfig, RestartPolicy
from cellbox.networks.wiring import Wiring

_FLUSH_SECONDS = 10.0
"""How long an ended container waits for clients that do not read."""
_REAP_SECONDS = 0.05
_ENDING_SECONDS = 0.2
_DESERTED = Failure("start", errno.ESRCH, "the starter was killed")


def _children() -> set[int]:
    with open("/proc/thread-self/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


class Shim:
    """See the module. ``handover`` and ``fds`` are what the starter sent, ``pid`` and ``pidfd``
    those of init."""

    def __init__(self, handover: Handover, fds: Sequence[int], pid: int, pidfd: int) -> None:
        self.fits = handover["fits"]
        self.directory: str = handover["directory"]
        self.run_directory = handover["run_directory"]
        self.facts: dict[str, Any] = handover["facts"]
        self.slot: int = handover["slot"]
        ends = iter(fds)
        self.born = pid, pidfd
        self.lock = next(ends)
        # While somebody has it open, the end of the first process need not wait until all its
        # mounts are gone.
        self.mountns = next(ends) if handover["mounted"] else -1
        self.client: socket.socket | None = None
        self.owner = sockets.seqpacket(next(ends)) if handover["owned"] else None
        self.listener = sockets.seqpacket(next(ends)) if handover["listening"] else None
        self.pipes = [next(ends) if there else -1 for there in handover["pipes"]]
        self.newcomers = [
            Client(sockets.seqpacket(next(ends)), stdin) for stdin in handover["attach"]
        ]
        self.wires: wires.Wires | None = None
        if "wiring" in self.facts:
            run = os.path.dirname(os.path.dirname(self.run_directory))
            facts = self.facts["wiring"]
            ports = handover["ports"]
            self.wires = wires.from_handover(self.facts["id"], facts, ports, list(ends), run)
        self.tasks: list[Task] = []
        self.main: Task | None = None
        self.connections: list[socket.socket] = []
        self.waiting: list[socket.socket] = []
        self.log: LogWriter | None = None
        self.probes: probes.Probes | None = None
        self.asked_to_stop = self.unwell = False
        self.deadlines: dict[str, tuple[float, Handler]] = {}
        self.restart_wait = 0.0
        self.started = handover["started"]
        self.state = RunState(shim=0, shim_start=0)
        self.record: ExitRecord | None = None
        self.saved = True
        self.ended = self.cleaned = False
        self.children: list[int] = []

    @cached_property
    def bundle(self) -> Bundle:
        """The whole bundle, for what is not done by most containers most of the time."""
        with open(os.path.join(self.directory, records.BUNDLE), "rb") as file:
            return from_json(Bundle, {**json.load(file), **self.facts})

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.facts["name"])

    @property
    def group(self) -> cgroups.Group | None:
        """The container's cgroup, if it has one."""
        return cgroups.existing(starts.own_group())

    # The loop ----------------------------------------------------------------------------------

    def serve(self, verdict: Callable[[], tuple[bytes, list[int]]]) -> int:
        """Run the container to its end. ``verdict`` waits for what the starter says of its start,
        with the descriptors that come with it."""
        self._take_over(verdict)
        while True:
            self._prune()
            if self.ended:
                self._clean_up()
                if not self.tasks:
                    return 0
            self._turn()

    def _turn(self) -> None:
        watched = self._watched()
        poll = select.poll()
        for fd, (events, _) in watched.items():
            poll.register(fd, events)
        for fd, _event in poll.poll(self._patience()):
            watched[fd][1]()
        now = time.monotonic()
        for name, (due, handler) in list(self.deadlines.items()):
            # An earlier handler may have called this one off, or put another in its place.
            if due <= now and self.deadlines.get(name) == (due, handler):
                del self.deadlines[name]
                handler()

    def _prune(self) -> None:
        """Let clients go that were told the end of their process, and forget what is done with."""
        for one in [one for one in self.tasks if one.ended]:
            for client in [client for client in one.streams.clients if not client.waiting]:
                one.streams.drop(client)
            if not one.streams.clients:
                self.tasks.remove(one)
        self.children = [pid for pid in self.children if not os.waitpid(pid, os.WNOHANG)[0]]
        if self.facts.get("namespaces", {}).get("pid") == "host":
            self._adopt()

    def _adopt(self) -> None:
        """Without a pid 1 of the container's own, the shim inherits what its processes leave."""
        if any(one.channel is not None for one in self.tasks):
            return  # one of them may be the process that is being started
        known = {pid for one in self.tasks for pid in (one.pid, one.helper)}
        known |= self.wires.children if self.wires else set()
        orphans = _children() - known
        self.children += orphans.difference(self.children)

    def _patience(self) -> float | None:
        """Milliseconds until something is due; a child that helped is to be reaped soon."""
        soon = [_REAP_SECONDS] if self.children else []
        waits = [*soon, *(due - time.monotonic() for due, _ in self.deadlines.values())]
        return max(0.0, min(waits)) * 1000 + 1 if waits else None

    def _watched(self) -> dict[int, tuple[int, Handler]]:
        """What to poll for, and who handles it, keyed by descriptor."""
        watched: dict[int, tuple[int, Handler]] = {}
        for one in self.tasks:
            watch_task(watched, one, self._decided, self._exited)
        if self.owner is not None:
            watched[self.owner.fileno()] = (select.POLLIN, self._owner_gone)
        if not self.ended and self.listener is not None:
            watched[self.listener.fileno()] = (select.POLLIN, self._accept)
        for connection in self.connections:
            watched[connection.fileno()] = (select.POLLIN, bind(self._request, connection))
        if self.wires:
            self.wires.watch(watched)
        for connection in self.waiting:
            watched[connection.fileno()] = (select.POLLIN, bind(self._gave_up, connection))
        return watched

    def later(self, name: str, seconds: float, handler: Handler) -> None:
        """Call ``handler`` in ``seconds``; a later call by the same name takes its place."""
        self.deadlines[name] = (time.monotonic() + seconds, handler)

    def _accept(self) -> None:
        if self.ended or self.listener is None:  # a moment ago, in this very turn
            return
        try:
            connection, _ = self.listener.accept()
        except OSError:  # out of descriptors: whoever asks has to wait until some are free
            return
        connection.setblocking(False)
        self.connections.append(connection)

    def _request(self, connection: socket.socket) -> None:
        self.connections.remove(connection)
        control.handle(self, connection)

    def _gave_up(self, connection: socket.socket) -> None:
        """One who waits for the end has hung up; nothing else can come from there."""
        if connection in self.waiting:
            self.waiting.remove(connection)
            connection.close()

    # Starting ----------------------------------------------------------------------------------

    def get_ready(self) -> None:
        """Do once, to nobody's knowledge, what a client will wait for at the end: while init is on
        its way there is time to make the pages that this writes to our own."""
        self.event("die", os.devnull, exitCode="0")
        ExitRecord(0, self.started, time.time(), oom_killed=False, error=control.failure_text(None))
        self._ran_out_of_memory()
        packet(Kind.EXITED, str(0).encode())
        self._unlink(records.HEALTH)

    def _take_over(self, verdict: Callable[[], tuple[bytes, list[int]]]) -> None:
        """The container's first start: with the init of the reserve, which the starter has seen
        through, or with another one where that is not in the right namespaces."""
        main = begun(*self.born, self.pipes, self._sink) if self.fits else None
        if main:
            self._add_main(main)
        said, fds = verdict()
        if main and said == starts.RUNS:
            if self.wires and self.wires.wiring.resolves:
                main.names = [fds.pop(), fds.pop()][::-1]
            for master in fds:
                main.streams.use_terminal(master)
            self._running(main, told=True)
            return
        self.client = sockets.seqpacket(fds[0]) if fds else None
        told = json.loads(said) if said else to_json(_DESERTED)
        failure = from_json(Failure, told) if told else None
        if main is None:
            self._dismiss(*self.born)
            if failure is None:
                self.start_main()
                return
            main = Task(None, Streams(self._sink))
            self._add_main(main)
        main.failure = failure
        self._not_started(main)

    def start_main(self) -> None:
        """Start the container's first process; :meth:`_decided` hears how that went."""
        try:
            main = self._begin()
        except Failed as failed:
            main = Task(None, Streams(self._sink))
            main.failure = failed.failure
        self._add_main(main)
        if main.failure:
            self._not_started(main)

    def _not_started(self, main: Task) -> None:
        main.announce()
        self._exited(main)

    def _add_main(self, main: Task) -> None:
        self.main = main
        self.tasks.append(main)
        for client in self.newcomers:
            main.streams.add(client)
        self.newcomers = []

    def _begin(self) -> Task:
        """An init in the namespaces that the container is to have. Raises Failed."""
        bundle = self.bundle
        with step("namespaces"):
            if bundle.namespaces.pid == "host":
                syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
            restarts = self.state.restarts
            return start(bundle, self.slot, restarts, self._sink, self._enter_shared)

    def _dismiss(self, pid: int, pidfd: int) -> None:
        """The init of the reserve is of no use here."""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        cgroups.discard(starts.own_group())

    def _enter_shared(self) -> None:
        """Enter the namespaces that the container shares with others, so that its processes are
        born there; the shim itself has no use for its own. Raises Failed when their owner is gone:
        without them the container would be born into the host's."""
        with step("namespaces", "a container whose namespace is shared does not run"):
            for pid, flag in starts.shared(self.bundle.namespaces):
                pidfd = os.pidfd_open(pid)
                try:
                    syscalls.setns(pidfd, flag)
                finally:
                    os.close(pidfd)

    def _sink(self, stream: str, data: bytes) -> None:
        if self.log is None:
            config = from_json(LogConfig, self.facts.get("log", {}))
            self.log = open_log(config, self._log_path())
        if self.log:
            self.log.write(stream, data)

    def _decided(self, one: Task) -> None:
        """A task's start is decided: it runs, or it failed."""
        if one.hear():
            if one.failure and one is not self.main and self._main_gone(one.failure):
                one.overtaken = True
            else:
                one.announce()
            if one.failure:
                self._exited(one)
            elif one is self.main:
                self.started = time.time()
                self._running(one)
            else:
                self._join_later(one)

    def _main_gone(self, failure: Failure) -> bool:
        """Did a further process not start because the container's first one has ended, or is just
        ending (ESRCH from setns(2), ENOMEM from clone3(2)) and about to be seen to?"""
        if self.main is None:
            return True
        ending = failure.errno in (errno.ESRCH, errno.ENOMEM)
        poll = select.poll()
        poll.register(self.main.pidfd, select.POLLIN)
        return bool(poll.poll(_ENDING_SECONDS * 1000 if ending else 0))

    def _join_later(self, one: Task) -> None:
        """Let a further process be counted and paused with the rest; where nothing is limited, that
        can wait until it runs (see ``starter`` for what it costs)."""
        group = self.group
        if group is None or "limits" in self.facts:
            return
        child = os.fork()
        if child == 0:
            try:
                group.add(one.pid)
            finally:
                os._exit(0)
        self.children.append(child)

    def _running(self, main: Task, *, told: bool = False) -> None:
        """It runs; ``told``: the starter has put that on record."""
        if self.wires:
            self.wires.begin(main.pid, main.names)
            if self.wires.ports:  # which a state that another process began does not know
                self.save()
        if self.state.restarting:
            self.save(restarting=False, paused=False)
        if not told:
            self.event("start")
        self._answer({"pid": main.pid})
        if "health" in self.facts:
            self.probes = probes.begin(self)

    def _answer(self, reply: Mapping[str, Any]) -> None:
        """Answer the client who asked for the start, where the starter has left that to us."""
        if self.client:
            control.reply(self.client, reply)
            self.client = None

    # Ending ------------------------------------------------------------------------------------

    def _exited(self, one: Task) -> None:
        """A task's process has ended: reap it, pass its last output on, tell its clients."""
        one.reap()
        one.streams.drain()
        if one is self.main:
            self._main_ended(one)
        one.finish()
        if one.on_end:
            one.on_end(one)

    def _main_ended(self, main: Task) -> None:
        assert main.exit_code is not None
        failure = control.failure_text(main.failure)
        self.probes = None
        self.deadlines.pop("kill", None)
        oom = self._ran_out_of_memory()
        self.record = ExitRecord(
            exit_code=main.exit_code,
            started=self.started,
            finished=time.time(),
            oom_killed=oom,
            error=failure,
            restarts=self.state.restarts,
        )
        if oom:
            self.event("oom")
        self._write_exit()
        if not main.failure:
            self.event("die", exitCode=str(main.exit_code))
            for name, driver in self.facts.get("volumes", {}).items():
                attributes = {"container": self.facts["id"], "driver": driver}
                self._note("volume", "unmount", name, attributes)
        self.main = None
        if self.wires:
            self.wires.end()
        if not self.facts.get("auto_remove"):  # else nobody can have its file system any more
            self._let_mounts_go()
        if self.facts.get("namespaces", {}).get("pid"):  # else all died with their first process
            self._kill_rest()
        if not main.failure and self._restarts(main.exit_code):
            return
        self._end(main.failure)

    def _write_exit(self) -> None:
        if self.facts.get("auto_remove"):
            return  # its directory goes with it
        assert self.record is not None
        self.saved = records.write_exit(self.directory, self.run_directory, self.record)

    def _restarts(self, exit_code: int) -> bool:
        if "restart" not in self.facts:
            return False
        policy = from_json(RestartPolicy, self.facts["restart"])
        count, unwell = self.state.restarts, self.unwell
        self.unwell = False
        if not restart.wanted(policy, exit_code, count, self.asked_to_stop, unwell=unwell):
            return False
        self.restart_wait = restart.wait(self.restart_wait, time.time() - self.started)
        self.save(restarting=True, restarts=count + 1)
        self.later("restart", self.restart_wait, self.start_main)
        return True

    def _ran_out_of_memory(self) -> bool:
        """Did the kernel kill a process for the container's own limit?"""
        if "memory" not in self.facts.get("limits", {}):
            return False
        group = self.group
        return bool(group and group.oom_kills())

    def _kill_rest(self) -> None:
        group = self.group
        if group:
            group.kill()

    def _clean_up(self) -> None:
        """What nobody waits for: no new container has this one's group or, if it removes itself,
        its directory. Repeating it does nothing."""
        if not self.cleaned:
            self.cleaned = True
            # Those who were told of the end wait for this processor; what follows has time.
            os.sched_yield()
            self._let_mounts_go()
            cgroups.discard(starts.own_group())
            if self.facts.get("auto_remove"):
                self._clear_run_directory()
                records.remove_quietly(self.directory)

    def _let_mounts_go(self) -> None:
        starts.close([self.mountns])
        self.mountns = -1

    def end_restart_wait(self) -> None:
        """Somebody stops the container while it waits to be started again."""
        if self.deadlines.pop("restart", None):
            self._end()

    def _end(self, failure: Failure | None = None) -> None:
        """Nothing runs and nothing will; ``failure`` says why nothing ever did."""
        self.ended = True
        for one in self.tasks:
            if one is not self.main and not one.ended:
                one.signal(signal.SIGKILL)
        if self.log:
            self.log.close()
        if self.wires:
            self.wires.close()
        self._let_names_go()
        if failure:  # told only now, so that who hears it finds a container that does not run
            self._answer({"failure": to_json(failure)})
        if self.owner is not None:
            self.owner.close()
            self.owner = None
        self.later("flush", _FLUSH_SECONDS, self._give_up_flushing)

    def _let_names_go(self) -> None:
        """From here on a new shim may take the container's place, if it is to have another one."""
        if self.listener is not None:
            self.listener.close()
        self._unlink(records.STATE)
        if not self.facts.get("auto_remove"):
            self._clear_run_directory()
        exit_code = self.record.exit_code if self.record else 125
        for connection in self.waiting:
            control.reply(connection, {"exit_code": exit_code})
        self.waiting.clear()

    def _clear_run_directory(self) -> None:
        self._unlink(records.SOCKET)
        if "health" in self.facts:
            self._unlink(records.HEALTH)
        if self.saved:  # else its exit record is in there
            records.remove_quietly(self.run_directory)

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(os.path.join(self.run_directory, name))

    def _give_up_flushing(self) -> None:
        self.tasks = []

    def _owner_gone(self) -> None:
        """The notebook that ran this in the foreground is no more, so neither is the container;
        unless it said that its user has detached."""
        if self.owner is None:  # the container has ended in this very turn
            return
        try:
            kept = self.owner.recv(16)
        except BlockingIOError:
            return
        except OSError:  # it has ended before it read our answer
            kept = b""
        self.owner.close()
        self.owner = None
        if not kept:
            self.stop(signal.SIGKILL, 0)

    # What clients ask for ------------------------------------------------------------------------

    def stop(self, number: int, timeout: float) -> None:
        """Signal the program, and kill it after ``timeout`` seconds (below 0: never)."""
        self.asked_to_stop = True
        self.end_restart_wait()
        self._end_main(number, timeout)

    def end_unwell(self) -> None:
        """It is not well: where its policy says so, let it end, to be started again."""
        facts = self.facts
        policy = from_json(RestartPolicy, facts.get("restart", {}))
        if not self.unwell and restart.ends_unwell(policy, self.state.restarts):
            self.unwell = True
            number = processes.signal_number(facts.get("stop_signal", "TERM"))
            self._end_main(number, facts.get("stop_timeout", 10.0))

    def _end_main(self, number: int, timeout: float) -> None:
        main = self.main
        if main is None:
            return
        if self.state.paused:
            self.pause(False)
        main.signal(number)
        if timeout >= 0 and number != signal.SIGKILL:
            self.later("kill", timeout, lambda: main.signal(signal.SIGKILL))

    def pause(self, paused: bool) -> None:
        """Freeze or thaw every process. Raises OSError or NotSupported without a cgroup."""
        cgroups.freeze(self.group, paused)
        self.save(paused=paused)
        self.event("pause" if paused else "unpause")

    def replay(self, client: Client) -> None:
        """Send what the log holds; what comes after it follows with no gap."""
        reader = driver(from_json(LogConfig, self.facts.get("log", {})).driver).reader(
            self._log_path()
        )
        kept = ((stream, data) for _, stream, data in reader.entries())
        for stream, data in chain(kept, self.log.waiting() if self.log else ()):
            client.send(packet(Kind.STDOUT if stream == "stdout" else Kind.STDERR, data))

    def clear_log(self) -> None:
        """Forget the output so far."""
        if self.log:
            self.log.clear()
        else:
            clear(self._log_path())

    def _log_path(self) -> str:
        return os.path.join(self.directory, "container.log")

    def start_exec(self, process: Process, client: Client | None, sink: Any = None) -> Task:
        """Start a further process; ``client`` sees its streams."""
        assert self.main is not None
        group = self.group if "limits" in self.facts else None
        one = start_exec(
            self.bundle,
            process,
            self.main,
            sink or (lambda stream, data: None),
            lambda: group.add(os.getpid()) if group else None,
        )
        if client:
            one.streams.add(client)
        self.tasks.append(one)
        return one

    def change(self, changes: Mapping[str, Any]) -> None:
        """The bundle has changed: new limits, or another restart policy."""
        self.facts.update(changes)
        self.__dict__.pop("bundle", None)

    def rewire(self, wiring: Wiring, names: Sequence[int]) -> None:
        """The container is in other networks now; ``names`` are the sockets for its resolver, where
        it had none."""
        if self.wires is None:
            run = os.path.dirname(os.path.dirname(self.run_directory))
            self.wires = wires.Wires(self.facts["id"], Wiring(), (), run)
            if self.main:
                self.wires.begin(self.main.pid, [])
        self.wires.rewire(wiring, names)

    # Records -------------------------------------------------------------------------------------

    def save(self, **changes: Any) -> None:
        """Change ``state.json``; the starter wrote the first one."""
        pid = self.main.pid if self.main else 0
        known = {
            "shim": os.getpid(),
            "shim_start": processes.start_time(os.getpid()),
            "pid": pid,
            "pid_start": processes.start_time(pid) if pid else 0,
            "started": self.started,
            "ports": tuple(self.wires.ports) if self.wires else (),
        }
        self.state = RunState(**{**vars(self.state), **known, **changes})
        try:
            records.write(os.path.join(self.run_directory, records.STATE), self.state)
        except OSError:  # a full disk must not stop what runs
            pass

    def event(self, action: str, log: str = "", /, **attributes: str) -> None:
        """Append to the engine's event log, or to another one."""
        known = {**self.facts.get("attributes", {}), **attributes}
        self._note("container", action, self.facts.get("id", ""), known, log)

    def _note(
        self, kind: str, action: str, id: str, attributes: Mapping[str, str], log: str = ""
    ) -> None:
        if self.facts.get("events"):
            journal.note(log or self.facts["events"], kind, action, id, attributes)
