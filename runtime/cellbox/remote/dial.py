"""A connection to the daemon: a connected socket, whatever lies between.

ssh runs as a child whose standard input and output are one end of a socket pair, so that it too is
a socket to everybody else, and can be half closed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
from collections import deque

from cellbox.errors import (
    CellboxError,
    InvalidArgument,
    NotSupported,
    PermissionDenied,
    Unavailable,
)
from cellbox.remote.address import Address, Tls

CONNECT_TIMEOUT = 10.0
"""Seconds until a daemon that does not answer is given up."""

_WORDS = 4
"""Lines of ssh's complaints that are told: of either way in there may be one."""
_WAYS_OUT = "start it (`cellbox serve`, or dockerd), or leave the URL out for the embedded engine"


class Dialer:
    """Connects to one daemon, again and again, from any thread."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._ssh: list[_Ssh] = []

    def dial(self) -> socket.socket:
        """A connected socket, with TLS where the address has it, that blocks without a timeout.

        Raises Unavailable, PermissionDenied, NotSupported, each with a sentence.
        """
        raw = self.dial_plain()
        context = self.tls_context()
        if context is None:
            return raw
        raw.settimeout(CONNECT_TIMEOUT)
        try:
            wrapped = context.wrap_socket(raw, server_hostname=self.address.host)
        except OSError as error:
            raw.close()
            raise self.explain(error) from error
        wrapped.settimeout(None)
        return wrapped

    def dial_plain(self) -> socket.socket:
        """A connected socket before any TLS."""
        if self.address.scheme == "ssh":
            return self._dial_ssh()
        try:
            return self._unix() if self.address.scheme == "unix" else self._tcp()
        except OSError as error:
            raise self.explain(error) from error

    def tls_context(self) -> ssl.SSLContext | None:
        """What TLS is to trust and to show; None without TLS. Raises InvalidArgument."""
        tls = self.address.tls
        if tls is None:
            return None
        with self._lock:
            if self._context is None:
                self._context = _context(tls)
            return self._context

    def explain(self, error: BaseException) -> CellboxError:
        """What failed on the way, as one sentence and a way out."""
        for child in reversed(self._ssh):
            if said := child.last_words():
                return Unavailable(f"ssh to {self.address.host} failed: {said}")
        return _explained(error, self.address)

    def close(self) -> None:
        """End what still runs for our connections."""
        with self._lock:
            children, self._ssh = self._ssh, []
        for child in children:
            child.end()

    def _unix(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(CONNECT_TIMEOUT)
        try:
            made.connect(self.address.path)
        except BaseException:
            made.close()
            raise
        made.settimeout(None)
        return made

    def _tcp(self) -> socket.socket:
        made = socket.create_connection((self.address.host, self.address.port), CONNECT_TIMEOUT)
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made

    def _dial_ssh(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = _Ssh(self.address, theirs)
            except BaseException:
                ours.close()
                raise
        with self._lock:
            self._ssh = [one for one in self._ssh if one.alive] + [child]
        return ours


class _Ssh:
    """One ssh, and what it says on its standard error."""

    def __init__(self, address: Address, end: socket.socket) -> None:
        if shutil.which("ssh") is None:
            raise NotSupported("ssh:// needs the ssh command: install it (openssh-client)")
        # A session of its own: an interrupt at the terminal is not for the connection.
        self._process = subprocess.Popen(
            ssh_command(address),
            stdin=end.fileno(),
            stdout=end.fileno(),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said: deque[str] = deque(maxlen=_WORDS)
        self._listener = threading.Thread(target=self._listen, name="cellbox-ssh", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Does it run?"""
        return self._listener.is_alive()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                self._said.append(line.decode(errors="replace").strip())
        self._process.wait()

    def last_words(self) -> str:
        """What it said last, where it has failed."""
        self._listener.join(1.0)
        return "; ".join(filter(None, self._said)) if self._process.returncode else ""

    def end(self) -> None:
        """Kill it, if it runs, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        self._listener.join()


def ssh_command(address: Address) -> list[str]:
    """The words that reach a daemon over ssh: Docker's way in first, then our own, as a host may
    have either."""
    at = f"--host {shlex.quote('unix://' + address.path)} " if address.path else ""
    there = f"docker {at}system dial-stdio || cellbox {at}system dial-stdio"
    user = ["-l", address.user] if address.user else []
    port = ["-p", str(address.port)] if address.port else []
    timeout = ["-o", f"ConnectTimeout={CONNECT_TIMEOUT:.0f}"]
    return ["ssh", *timeout, *user, *port, "--", address.host, there]


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # of which ssl.SSLError is one
        where = os.path.dirname(tls.cert or tls.ca)
        raise InvalidArgument(f"the certificates of {where} cannot be used: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _explained(error: BaseException, address: Address) -> CellboxError:
    if isinstance(error, ssl.SSLCertVerificationError):
        ca = address.tls.ca if address.tls and address.tls.ca else "the system's authorities"
        return PermissionDenied(
            f"{address} shows a certificate that {ca} did not sign for this host "
            f"({error.verify_message}): check the address and ca.pem"
        )
    if isinstance(error, ssl.SSLError):
        return PermissionDenied(
            f"{address} refused the TLS connection ({error.reason or error}): it may want a "
            "certificate of ours (DOCKER_CERT_PATH), or speak no TLS at all"
        )
    if isinstance(error, PermissionError):
        return PermissionDenied(
            f"permission denied while trying to connect to the engine at {address}: ask to be "
            "let into the group that owns the socket (docker, cellbox), or be root"
        )
    if isinstance(error, socket.gaierror):
        return Unavailable(f"there is no host {address.host}: check the address")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{address} did not answer in time: is it the right address?")
    if isinstance(error, OSError) and error.errno:
        why = os.strerror(error.errno)
        return Unavailable(f"Cannot connect to the engine at {address} ({why}): {_WAYS_OUT}")
    return Unavailable(f"the connection to {address} was lost: {error}; is the daemon running?")
