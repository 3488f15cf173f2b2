from __future__ import annotations

import grp
import os
import socket
import ssl
import stat
from pathlib import Path

import pytest

from cellbox.api.listeners import tcp_listener, unix_listener
from cellbox.errors import InUse, InvalidArgument, NotFound, PermissionDenied


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "d.sock"


def test_a_socket_is_for_its_owner_and_group(path: Path) -> None:
    listener = unix_listener(path)
    facts = path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o660
    assert stat.S_ISSOCK(facts.st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another group")
def test_a_group_may_be_given(path: Path) -> None:
    listener = unix_listener(path, group="daemon")
    assert path.stat().st_gid == grp.getgrnam("daemon").gr_gid
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listener.close()


def test_a_group_that_there_is_not(path: Path) -> None:
    with pytest.raises(NotFound, match="No such group: nosuchgroup"):
        unix_listener(path, group="nosuchgroup")
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_server_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = unix_listener(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_live_server_is_left_alone(path: Path) -> None:
    listener = unix_listener(path)
    with pytest.raises(InUse, match=rf"process {os.getpid()}\) listens on"):
        unix_listener(path)
    assert path.exists()
    listener.close()


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(InvalidArgument, match="is no socket"):
        unix_listener(path)
    assert path.read_text() == "precious"


def test_the_file_of_another_server_is_not_removed(path: Path) -> None:
    first = unix_listener(path)
    path.unlink()
    second = unix_listener(path)
    first.close()
    assert path.exists()
    second.close()


@pytest.mark.parametrize("name", ["missing/d.sock", "x" * 200])
def test_a_place_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot listen on"):
        unix_listener(tmp_path / name)


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL])
def test_tcp_is_refused_to_clients_without_a_certificate(mode: ssl.VerifyMode) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = mode
    with pytest.raises(PermissionDenied, match="mutual TLS"):
        tcp_listener("127.0.0.1", 0, context)


def test_an_address_that_is_not_ours() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(InvalidArgument, match="cannot listen on 192.0.2.1:1"):
        tcp_listener("192.0.2.1", 1, context)
