"""A socket that leads to an agent."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from cellbox.build.agents import forwarded
from cellbox.errors import InvalidArgument


def test_what_is_said_goes_both_ways(tmp_path):
    place = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()

        def echo():
            client, _ = listener.accept()
            with client:
                while data := client.recv(100):
                    client.sendall(data.upper())

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with forwarded(place) as agent, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(agent)
            client.sendall(b"key")
            assert client.recv(100) == b"KEY"
        thread.join(10)
    assert not os.path.exists(agent)


def test_no_agent(tmp_path):
    with pytest.raises(InvalidArgument, match="no socket"), forwarded(str(tmp_path / "none")):
        pass
