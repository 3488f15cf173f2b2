"""Asking the keeper, where there is none and where none can be."""

from __future__ import annotations

import fcntl
import os
import socket
import time

import pytest

from cellbox.errors import Unavailable
from cellbox.networks import client


def test_one_that_cannot_begin_is_not_waited_for(tmp_path, monkeypatch):
    """And says why."""
    started = []

    def start(run):
        started.append(run)
        (tmp_path / client.LOG).write_text("Traceback\nModuleNotFoundError: No module named 'x'\n")

    monkeypatch.setattr(client, "start", start)
    monkeypatch.setattr(client, "_FIRST_WORD", 0.0)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"does not answer: ModuleNotFoundError.*network\.log"):
        client.ask_anew(str(tmp_path), {"op": "ping"})
    assert started == [str(tmp_path)] and time.monotonic() - begun < client._SECONDS / 2


def test_one_that_begins_is_waited_for(tmp_path, monkeypatch):
    """It holds its lock long before it listens."""
    lock = os.open(tmp_path / client.LOCK, os.O_RDWR | os.O_CREAT)
    ready, done = os.pipe()
    holder = os.fork()
    if holder == 0:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        os.write(done, b"x")
        time.sleep(1000)
    os.read(ready, 1)
    asked = []

    def ask(run, request, fds=()):
        asked.append(request)
        if len(asked) < 5:
            raise ConnectionRefusedError
        return {"pid": 1}, []

    monkeypatch.setattr(client, "ask", ask)
    monkeypatch.setattr(client, "start", lambda run: None)
    monkeypatch.setattr(client, "_FIRST_WORD", 0.0)
    try:
        assert client.ask_anew(str(tmp_path), {"op": "ping"}) == ({"pid": 1}, [])
        assert len(asked) == 5
    finally:
        os.kill(holder, 9)
        os.waitpid(holder, 0)
        for fd in (lock, ready, done):
            os.close(fd)


def test_a_keeper_that_ends_meanwhile(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / client.SOCKET))
        listener.listen()
        child = os.fork()
        if child == 0:
            listener.accept()[0].close()
            os._exit(0)
        with pytest.raises(ConnectionResetError):
            client.ask(str(tmp_path), {"op": "ping"})
        os.waitpid(child, 0)
