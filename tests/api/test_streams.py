from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cellbox.api.http import Upgraded
from cellbox.api.sockets import Wire
from cellbox.api.streams import MULTIPLEXED, RAW, Carrier, Terms, content_type
from cellbox.wire.streams import frame

PATIENCE = 20.0


class Carried:
    """A carrier at work in a thread, and the client's end of it."""

    def __init__(self, process: Any, terms: Terms) -> None:
        self.near, far = socket.socketpair()
        self.near.settimeout(PATIENCE)
        self._wire = Wire(far)
        self._carrier = Carrier(Upgraded(self._wire, b""), process, terms)
        self.delivered: bool | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.delivered = self._carrier.run()
        self._carrier.close()

    def done(self) -> bool | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._wire.close()
        return self.delivered

    def rest(self) -> bytes:
        return b"".join(iter(lambda: self.near.recv(65536), b""))


@pytest.fixture
def carry(process: Any) -> Iterator[Callable[[Terms], Carried]]:
    made: list[Carried] = []

    def make(terms: Terms) -> Carried:
        made.append(Carried(process, terms))
        return made[-1]

    yield make
    for one in made:
        one.near.close()
        one.done()


@pytest.mark.parametrize(
    ("version", "framed", "upgrade", "kind"),
    [
        ((1, 45), True, True, MULTIPLEXED),
        ((1, 42), True, True, MULTIPLEXED),
        ((1, 41), True, True, RAW),
        ((1, 45), False, True, RAW),
        ((1, 45), True, False, RAW),
    ],
)
def test_what_a_stream_is_called(
    version: tuple[int, int], framed: bool, upgrade: bool, kind: str
) -> None:
    assert content_type(version, framed=framed, upgrade=upgrade) == kind


def test_output_comes_in_frames_until_the_process_ends(carry: Any, process: Any) -> None:
    client = carry(Terms())
    process.out(b"out")
    process.out(b"err", "stderr")
    process.end()
    assert client.rest() == frame("stdout", b"out") + frame("stderr", b"err")
    assert client.done() is True


def test_a_terminals_output_is_bare(carry: Any, process: Any) -> None:
    client = carry(Terms(framed=False))
    process.out(b"a")
    process.out(b"b")
    process.end()
    assert client.rest() == b"ab"


def test_only_the_streams_that_are_wanted_are_sent(carry: Any, process: Any) -> None:
    client = carry(Terms(wanted=frozenset({"stderr"})))
    process.out(b"out")
    process.out(b"err", "stderr")
    process.end()
    assert client.rest() == frame("stderr", b"err")


def test_the_clients_end_of_input_is_the_processs(carry: Any, process: Any) -> None:
    client = carry(Terms(stdin=True))
    client.near.sendall(b"typed")
    client.near.shutdown(socket.SHUT_WR)
    assert process.input_ended.wait(PATIENCE)
    assert process.typed == b"typed"
    process.out(b"after")
    process.end()
    assert client.rest() == frame("stdout", b"after")
    assert client.done() is True


def test_where_input_is_not_only_his_a_client_that_says_no_more_leaves(
    carry: Any, process: Any
) -> None:
    client = carry(Terms(stdin=True, ends_stdin=False))
    client.near.sendall(b"typed")
    client.near.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    assert client.done() is False
    assert process.typed == b"typed"
    assert not process.input_ended.is_set()


def test_half_closing_without_input_changes_nothing(carry: Any, process: Any) -> None:
    client = carry(Terms())
    client.near.shutdown(socket.SHUT_WR)
    process.out(b"a")
    process.end()
    assert client.rest() == frame("stdout", b"a")
    assert client.done() is True


def test_the_keys_end_it_at_once(carry: Any, process: Any) -> None:
    client = carry(Terms(framed=False, stdin=True, keys=b"\x10\x11"))
    client.near.sendall(b"ls\n\x10")
    client.near.sendall(b"\x11")
    assert client.rest() == b""
    client.near.close()
    assert client.done() is False
    assert process.typed == b"ls\n"
    assert process.closed.is_set()


def test_an_exec_that_is_left_goes_on(carry: Any, process: Any) -> None:
    client = carry(Terms(framed=False, stdin=True, keys=b"\x10\x11", owns=False))
    client.near.sendall(b"\x10\x11")
    assert client.rest() == b""
    client.near.close()
    assert client.done() is False
    assert not process.closed.is_set()


def test_a_client_that_dies_is_found_out(carry: Any, process: Any) -> None:
    client = carry(Terms())
    client.near.close()
    assert client.done() is False


def test_input_that_nobody_reads_is_thrown_away(carry: Any, process: Any) -> None:
    process.close_stdin()
    client = carry(Terms(stdin=True))
    client.near.sendall(b"x" * 500_000)
    client.near.shutdown(socket.SHUT_WR)
    process.out(b"a")
    process.end()
    assert client.rest() == frame("stdout", b"a")
    assert client.done() is True


def test_much_output_arrives_whole(carry: Any, process: Any) -> None:
    client = carry(Terms(framed=False))
    for number in range(200):
        process.out(bytes([number]) * 30_000)
    process.end()
    assert client.rest() == b"".join(bytes([number]) * 30_000 for number in range(200))
