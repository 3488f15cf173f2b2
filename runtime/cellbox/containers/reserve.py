"""A shim before it has a container, and while nothing happens to that.

What a forked process writes to is its own from then on, and a shim in reserve, or asleep, may stay
for days: so until there is something to do, it does little, with few objects.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from cellbox.containers import control, starts
from cellbox.containers.messages import Handover, Preparation
from cellbox.containers.shim import Shim
from cellbox.containers.task import bear
from cellbox.linux import cgroups, sockets, syscalls, trees

_MAX_HANDOVER = 1 << 20
_SIGCHLD = int(signal.SIGCHLD)


def be(ends: Sequence[int], flags: int, prepared: Preparation) -> NoReturn:
    """Be a shim in reserve: have ``prepared`` made by an init that is cloned with ``flags``, wait
    until the starter hands a container over, then be its shim. ``ends`` lead to the starter: the
    shim's own, and two of init's. Ends with the starter."""
    code = 1
    try:
        syscalls.default_signal(_SIGCHLD)
        syscalls.set_name("cellbox-shim")
        os.chdir("mnt")
        pid, pidfd = bear(ends, flags, prepared)
        if not flags & syscalls.CLONE_NEWPID:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        connection = sockets.bare(ends[0])
        data, fds = starts.receive(connection, _MAX_HANDOVER)
        if data[:1] == starts.UNTIL_WOKEN:
            verdict = starts.receive(connection, _MAX_HANDOVER)
            connection.close()
            if verdict[0] == starts.RUNS:
                _sleep((pidfd, *fds[2:], *verdict[1]))  # not the slot and the mount namespace
            code = Shim(marshal.loads(data[1:]), fds, pid, pidfd).serve(lambda: verdict)
        elif data:
            one = Shim(marshal.loads(data[1:]), fds, pid, pidfd)
            one.get_ready()
            code = one.serve(lambda: starts.receive(connection, _MAX_HANDOVER))
        else:  # the starter is gone, and nobody else knows of init
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            cgroups.discard(starts.own_group())
    except BaseException:
        sys.excepthook(*sys.exc_info())  # to launcher.log; there is nobody else to tell
    finally:
        os._exit(code)


def _sleep(fds: Sequence[int]) -> None:
    """Wait until one of ``fds`` has something to say. What a shim has not looked at yet costs it no
    memory: this is where that of a container is which nobody asks for anything, and which prints
    nothing."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll()


def rehearse(run: str) -> None:
    """Live through a few short lives while there is time, in the process that shims are forked
    from: what is worked out at first use, and where, is then the same page for all of them."""
    for _ in range(10):
        theirs, ours = starts.stdio(False, False)
        client, connection = sockets.pair()
        stream, end = sockets.pair()
        child = os.fork()
        if child == 0:
            os.write(theirs[1], b"x")
            os._exit(0)
        starts.close(theirs)
        directory = os.path.join(run, "rehearsal")
        with suppress(FileNotFoundError):
            trees.remove_tree(directory)  # of one that was killed
        os.makedirs(directory)
        facts = {"auto_remove": True, "id": "", "name": ""}
        facts["events"] = os.path.join(directory, "events")
        handover: Handover = {
            "directory": directory,
            "run_directory": directory,
            "facts": {**facts, "log": {"driver": "none"}},
            "slot": 0,
            "mounted": True,
            "fits": True,
            "started": time.time(),
            "owned": True,
            "listening": True,
            "pipes": [fd >= 0 for fd in ours],
            "attach": [False],
            "ports": [],
        }
        fds = [os.dup(0), os.dup(0), connection.detach()]
        fds += [control.listen(directory).detach(), *ours[1:], end.detach()]
        one = Shim(marshal.loads(marshal.dumps(dict(handover))), fds, child, os.pidfd_open(child))
        one.serve(lambda: (starts.RUNS, []))
        os.close(one.lock)  # else it ends with its process
        client.close()
        stream.close()
