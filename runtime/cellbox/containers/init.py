"""The first process of a container, from its birth in new namespaces to the program.

The shim clones it, so it begins as a copy of the shim. What follows is a straight list of steps:

1. wait until the starter has written the id maps; become root of the new user namespace, and
   undumpable, so that nothing in the container can reach this process's executable, descriptors or
   memory (CVE-2016-9962, CVE-2019-5736);
2. build /proc, /sys and /dev, hidden and protected as most containers want them; with a spare root,
   build that too, out of sight, and pivot; give up the capabilities that nobody will want;
3. wait for the order: the bundle, standard streams and the sources of the mounts, as descriptors;
   if the root is another one, build that and pivot; attach the other mounts;
4. open the terminal, if there is one, and hand its master to the shim;
5. wait until the starter says to go, and become the program (``containers.program``).

A failure travels to the shim as a :class:`~cellbox.containers.messages.Failure` over the channel,
which closes by itself at exec: end of file means *running*.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cellbox.containers import console, users
from cellbox.containers.messages import (
    KERNEL_TOPS,
    SAMPLE,
    Bundle,
    Failure,
    Namespaces,
    Preparation,
    preparation,
)
from cellbox.containers.program import Failed, become, environ, step
from cellbox.containers.program import rehearse as rehearse_program
from cellbox.linux import capabilities, mounts, sockets, syscalls
from cellbox.linux import process as processes
from cellbox.model.codec import from_json, to_json
from cellbox.networks import names

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_TTY = (5, 0)
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CAP_KILL = 1 << 5
_STAND_IN = "kernel"
ROOTED = b'{"rooted": true}'
"""What init says when the spare root is mounted."""
_SAMPLE = json.dumps(to_json(SAMPLE))
_DETAIL = 2000


def run(feed: socket.socket, channel: socket.socket, prepared: Preparation) -> NoReturn:
    """Be the first process of a container: orders come on ``feed``, ``channel`` leads to the shim.
    Never returns."""
    try:
        data, spare = sockets.receive(feed, 65536)
        first = _read_order(data)
        with step("namespaces"):
            _enter_namespaces(prepared.namespaces)
        ground = _prepare(prepared, first, spare)
        with step("capabilities"):
            capabilities.bound(capabilities.mask(prepared.bounding))
        if ground.root >= 0:
            channel.send(ROOTED)
        rehearse()
        rehearse_program()
        bundle, program, ready, sources = _await_order(feed, ground)
        root = _build(bundle, sources, prepared, ground, ready)
        keep = _finish(bundle, root, channel)
        if (word := feed.recv(65536)) != b"go":
            _read_order(word)
        feed.close()
        _run_program(bundle, program, keep)
    except Failed as failed:
        report(channel, failed.failure)
    except BaseException as error:  # whatever it is, the shim must hear of it
        report(channel, Failure("init", getattr(error, "errno", None) or errno.EIO, repr(error)))
    os._exit(125)


def rehearse() -> None:
    """Go through the motions of a start while there is time, so that the pages it writes to are
    this process's own by then; a copy made at a first write is what a start spends most on."""
    ours, theirs = sockets.pair()
    with ours, theirs, open(os.devnull, "rb") as file:
        socket.send_fds(ours, [b"{}"], [file.fileno()])
        data, fds = sockets.receive(theirs, 65536)
        _read_order(data)
        _read_all(fds[0])
    preparation(from_json(Bundle, json.loads(_SAMPLE)))
    users.resolve("", (), {"/etc/passwd": b"root:x:0:0::/root:/bin/sh\n"}.get)
    capabilities.mask(SAMPLE.process.capabilities)
    environ(SAMPLE.process.env, "/root")
    mounts.source_paths(SAMPLE.mounts[0])


def report(channel: socket.socket, failure: Failure) -> None:
    """Tell the shim why this process will not become the program. ``detail`` may hold what an image
    or a user wrote, so it is cut to what fits a packet."""
    failure = replace(failure, detail=failure.detail[:_DETAIL])
    try:
        channel.send(json.dumps({"failure": to_json(failure)}).encode())
    except OSError:
        pass  # the shim is gone


def _await_order(feed: socket.socket, ground: _Ground) -> tuple[Bundle, bytes, bool, Iterator[int]]:
    """What to run, the compiled seccomp filter, whether in the root that is there, and the sources
    of the mounts that are to be made."""
    data, fds = sockets.receive(feed, 65536)
    order = _read_order(data)
    received = iter(fds)
    bundle = from_json(Bundle, json.loads(_read_all(next(received))))
    program = _read_all(next(received)) if order["program"] else b""
    if order["stdio"]:
        for number in range(3):
            fd = next(received)
            os.dup2(fd, number)
            os.close(fd)
    ready = order["rooted"] and ground.root >= 0
    if ready and order["layers"]:  # it was not known yet that they would not be needed
        for _ in mounts.source_paths(bundle.mounts[0]):
            os.close(next(received))
    return bundle, program, ready, received


def _read_order(data: bytes) -> dict[str, Any]:
    if not data:
        raise Failed(Failure("start", errno.ESRCH, "the launcher has ended"))
    order: dict[str, Any] = json.loads(data)
    if "failure" in order:
        raise Failed(from_json(Failure, order["failure"]))
    return order


def read_program(path: str) -> bytes:
    """The compiled seccomp filter in ``path``, empty for no path."""
    return _read_all(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) if path else b""


def _read_all(fd: int) -> bytes:
    with open(fd, "rb", buffering=0) as file:
        return file.readall()


def _enter_namespaces(namespaces: Namespaces) -> None:
    if namespaces.user == "private":
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if namespaces.ipc == "private":
            # Anew, as root: the message queues' file system belongs to whoever makes the namespace.
            syscalls.unshare(syscalls.CLONE_NEWIPC)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.setsid()
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    if namespaces.network == "private":
        _raise_loopback()
    renew_keyring()


def renew_keyring() -> None:
    """Leave the session keyring that was inherited for a new, empty one (session-keyring(7))."""
    try:
        syscalls.join_new_session_keyring()
    except OSError:  # a kernel without keyrings has none to leak
        pass


def _raise_loopback() -> None:
    """Bring ``lo`` up; the kernel gives it its addresses (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16xh", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


@dataclass
class _Ground:
    """What stands before the order comes: ``scratch``, -1 once it went with the host's files; below
    ``kernel`` the file systems that the kernel fills, -1 where they are to be made anew; the
    ``root``, -1 for none. ``sysctls`` is the host's /proc/sys. A scratch that is made after the
    host's files are gone is ``above`` the root."""

    scratch: int
    kernel: int
    root: int
    sysctls: int
    above: int = 0


def _prepare(prepared: Preparation, told: dict[str, Any], sources: list[int]) -> _Ground:
    """Make what the next container will want, it is hoped: ``told`` may be of its ``root``, over a
    spare directory, with ``sources`` as its layers, and of ``places`` for files in it."""
    with step("namespaces"):
        scratch = mounts.make_scratch()
        sysctls = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if prepared.namespaces.network == "private":
        with suppress(OSError):  # as in Docker's, any user may listen on any port
            _write_sysctl(sysctls, "net.ipv4.ip_unprivileged_port_start", "0")
    kernel = _build_kernel(prepared, scratch, _STAND_IN)
    ground = _Ground(scratch, kernel, -1, sysctls)
    if told["root"]:
        # If it can't be, and is ordered nevertheless, the same failure is told then.
        with suppress(OSError, Failed):
            mount = from_json(mounts.Mount, told["root"])
            root = mounts.build_root(mount, iter(sources), scratch, "spare")
            for place in told["places"]:
                os.close(mounts.make_target(root, place, False))
            ground.kernel = -1
            _move_kernel(kernel, root, prepared)
            mounts.pivot(root)
            os.close(kernel)
            os.close(scratch)
            ground = _Ground(-1, root, root, sysctls)
    return ground


def _move_kernel(source: int, root: int, prepared: Preparation) -> None:
    for mount in prepared.mounts:
        if mount.target in KERNEL_TOPS:
            with step("mounts", f"{mount.kind} on {mount.target}"):
                mounts.move(source, mount.target.lstrip("/"), root, mount.target)


def _build_kernel(prepared: Preparation, scratch: int, name: str) -> int:
    """The file systems that the kernel fills, in a stand-in for the root that is not there yet; a
    descriptor of it."""
    os.fchdir(scratch)
    for path in (name, *(name + top for top in KERNEL_TOPS)):
        os.mkdir(path)
    root = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for mount in prepared.mounts:
        with step("mounts", f"{mount.kind} on {mount.target}"):
            mounts.attach(root, _as_mapped(mount), iter(()), scratch)
        if mount.target == "/dev":
            with step("devices"):
                _fill_dev(root)
    with step("masks"):
        null = _open_device("null")
        mounts.make_read_only(root, prepared.read_only)
        mounts.mask(root, prepared.masked, null)
        os.close(null)
    return root


def _as_mapped(mount: mounts.Mount) -> mounts.Mount:
    """Group 5 is tty, to whom terminals belong; a user with no id but their own has no such group
    inside."""
    if mount.kind != "devpts" or _is_group(5):
        return mount
    return replace(mount, data=mount.data.replace(",gid=5", ""))


def _is_group(number: int) -> bool:
    with open("/proc/self/gid_map", "rb") as file:  # bytes: a codec would be looked up
        lines = [[int(word) for word in line.split()] for line in file]
    return any(first <= number < first + count for first, _, count in lines)


def _build(
    bundle: Bundle,
    sources: Iterator[int],
    prepared: Preparation,
    ground: _Ground,
    ready: bool,
) -> int:
    """All mounts of the container, and the pivot where it has not been; a descriptor of the
    root."""
    wanted = preparation(bundle)
    with step("names"):
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        _set_names(bundle, ground.sysctls)
    os.close(ground.sysctls)
    if ready:
        root = ground.root
    else:
        root = _new_root(bundle.mounts[0], sources, ground, wanted, prepared.looks_like(wanted))
    for mount in bundle.mounts[1:]:
        if mount not in wanted.mounts:
            with step("mounts", f"{mount.kind} on {mount.target}"):
                mounts.attach(root, mount, sources, ground.scratch)
    with step("masks"):
        _protect_rest(bundle, wanted, root)
        _seal(bundle, root)
    if not ready:
        os.close(ground.scratch)
        with step("pivot"):
            mounts.pivot(root, above=ground.above)
    return root


def _new_root(
    mount: mounts.Mount,
    sources: Iterator[int],
    ground: _Ground,
    wanted: Preparation,
    prepared: bool,
) -> int:
    """The root that was ordered, where there is none or another one: that goes with the scratch.
    ``prepared``: are the kernel's file systems those that are wanted?"""
    with step("rootfs"):
        if ground.scratch < 0:
            ground.scratch = mounts.make_scratch()
            ground.above = 1
    if ground.kernel < 0 or not prepared:
        ground.kernel = _build_kernel(wanted, ground.scratch, f"{_STAND_IN}.anew")
    with step("rootfs"):
        root = mounts.build_root(mount, sources, ground.scratch)
    _move_kernel(ground.kernel, root, wanted)
    return root


def _seal(bundle: Bundle, root: int) -> None:
    """Make the root's own mounts read-only that are to be, now that all places in them are made."""
    last = {mount.target: mount for mount in bundle.mounts}
    for mount in bundle.mounts:
        of_root = mount.kind == "overlay" or mount is bundle.mounts[0]
        if of_root and "ro" in mount.flags and last[mount.target] is mount:
            fd = mounts.open_inside(root, mount.target)
            mounts.seal(fd)
            os.close(fd)


def _set_names(bundle: Bundle, sysctls: int) -> None:
    if bundle.namespaces.uts == "private":
        socket.sethostname(bundle.hostname)
        if bundle.domainname:
            syscalls.setdomainname(bundle.domainname)
    for key, value in bundle.sysctls.items():
        _write_sysctl(sysctls, key, value)


def _protect_rest(bundle: Bundle, done: Preparation, root: int) -> None:
    mounts.make_read_only(root, [path for path in bundle.read_only if path not in done.read_only])
    masked = [path for path in bundle.masked if path not in done.masked]
    if masked:
        null = _open_device("null")
        mounts.mask(root, masked, null)
        os.close(null)


def _open_device(name: str) -> int:
    """The host's device node, as a path descriptor that was checked to be the device it should be
    (CVE-2025-31133)."""
    fd = os.open(f"/dev/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    expected = _DEVICES.get(name, _TTY)
    found = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if not stat.S_ISCHR(status.st_mode) or found != expected:
        os.close(fd)
        raise Failed(Failure("devices", 6, f"/dev/{name} of the host is not that device"))
    return fd


def _fill_dev(root: int) -> None:
    """The private /dev: a bind of each harmless device of the host, and the usual links.

    Nodes cannot be made in a user namespace; the new tmpfs is opened once and filled by descriptor,
    so that nothing the image holds can stand in between (CVE-2026-41579).
    """
    dev = mounts.open_inside(root, "/dev", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in (*_DEVICES, "tty"):
            device = _open_device(name)
            copy = syscalls.open_tree(device, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
            syscalls.move_mount(copy, dev, name)
            os.close(copy)
            os.close(device)
        for name, target in _LINKS.items():
            os.symlink(target, name, dir_fd=dev)
    finally:
        os.close(dev)


def _write_sysctl(sysctls: int, key: str, value: str) -> None:
    """Through the host's /proc, which the container has never seen (CVE-2025-52881); the kernel
    looks at the writer's namespaces."""
    fd = os.open(key.replace(".", "/"), os.O_WRONLY | os.O_CLOEXEC, dir_fd=sysctls)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _finish(bundle: Bundle, root: int, channel: socket.socket) -> int:
    """Standard streams; the descriptor of the channel, which stays open until exec."""
    if bundle.wiring.resolves:
        with step("network", "the sockets for names"):
            _open_names(channel)
    if bundle.process.tty:
        with step("terminal"):
            give_terminal(root, channel)
    os.close(root)
    return channel.fileno()


def _open_names(channel: socket.socket) -> None:
    """Hand the shim the sockets on which its resolver is asked, of the container's network."""
    udp, tcp = names.listen()
    with udp, tcp:
        socket.send_fds(channel, [b'{"names": true}'], [udp.fileno(), tcp.fileno()])


def give_terminal(root: int, channel: socket.socket) -> None:
    """Open a terminal inside, hand its master to the shim, and sit on its other end."""
    master, slave = console.open_pty(root)
    socket.send_fds(channel, [b'{"terminal": true}'], [master])
    os.close(master)
    console.take(slave)
    os.fchmod(slave, 0o620)
    os.close(slave)


def _run_program(bundle: Bundle, program: bytes, keep: int) -> None:
    if not bundle.init:
        become(bundle.process, program, keep)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        # A group of its own, so that what the terminal sends reaches it once, not through pid 1
        # too.
        os.setpgid(0, 0)
        if bundle.process.tty:
            os.tcsetpgrp(0, os.getpid())
        become(bundle.process, program, keep)
    syscalls.set_name("cellbox-init")
    # Or the sockets of a dead launcher would seem alive for as long as this container.
    syscalls.close_range(3)
    syscalls.capset(_CAP_KILL, _CAP_KILL, 0)
    _reap(child)


def _reap(child: int) -> NoReturn:
    """Be pid 1: pass every signal on to the program, wait for orphans, end as the program ends."""
    waited = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD:
            try:
                os.kill(child, received.si_signo)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child:
                os._exit(processes.exit_code(status))
            if pid == 0:
                break
