"""Network namespaces for the tests: nothing here touches the machine's own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.conftest import run_in_child

from cellbox.linux import syscalls


@pytest.fixture
def apart() -> Callable[[Callable[[], Any]], Any]:
    """``apart(action)``: run it in a child with a network namespace of its own, which ends with
    it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")

    def run(action: Callable[[], Any]) -> Any:
        def inside() -> Any:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            return action()

        return run_in_child(inside)

    return run


def rights(pid: int) -> tuple[int, int, int]:
    """Which capabilities a process has and could have, and whether it can never get any."""
    with open(f"/proc/{pid}/status") as file:
        told = {line.partition(":")[0]: line.partition(":")[2].strip() for line in file}
    return int(told["CapEff"], 16), int(told["CapPrm"], 16), int(told["NoNewPrivs"])


"name".encode("idna")  # loaded now: a test's child may not be able to read the library


class Space:
    """A network namespace, a fresh one or that of now, held by a descriptor; the process stays
    where it is."""

    def __init__(self, *, new: bool = True) -> None:
        if not new:
            self.fd = _own()
            return
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            theirs.send(b"x")
            theirs.recv(1)
            os._exit(0)
        ours.recv(1)
        self.fd = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        ours.send(b"x")
        os.waitpid(child, 0)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it for a while; for root alone, who may go back."""
        here = _own()
        syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(here, syscalls.CLONE_NEWNET)
            os.close(here)

    def run(self, *words: str) -> str:
        """What a command prints in there."""
        return self._inside(
            lambda: subprocess.run(words, check=True, capture_output=True, text=True).stdout
        )

    def listen(self, address: str, port: int) -> socket.socket:
        """A TCP socket that listens in there."""
        ours, theirs = socket.socketpair()

        def make() -> None:
            with socket.socket(_family(address), socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                listener.listen(8)
                socket.send_fds(theirs, [b"x"], [listener.fileno()])

        self._inside(make)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fd)

    def reaches(self, address: str, port: int, timeout: float = 2.0) -> bool:
        """Does a TCP connection from in there come about?"""

        def attempt() -> bool:
            try:
                socket.create_connection((address, port), timeout).close()
            except OSError:
                return False
            return True

        return bool(self._inside(attempt))

    def _inside(self, action: Callable[[], Any]) -> Any:
        def enter() -> Any:
            if os.readlink("/proc/self/ns/net") != os.readlink(f"/proc/self/fd/{self.fd}"):
                syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
            return action()

        return run_in_child(enter)


def _own() -> int:
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
def space() -> type[Space]:
    """``space()``: a further network namespace, for use below ``apart``."""
    return Space
