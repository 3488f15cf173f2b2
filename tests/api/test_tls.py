from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cellbox.api import tls
from cellbox.api.listeners import tcp_listener
from cellbox.api.server import Daemon, Server
from cellbox.api.tls import (
    DAYS,
    Certificates,
    ServerFiles,
    default_folder,
    make_certificates,
    server_context,
)
from cellbox.errors import AlreadyExists, InvalidArgument, PermissionDenied

PATIENCE = 20.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), ["box.example", "192.0.2.7"])


@pytest.fixture
def port(made: Certificates, daemon: Daemon) -> Iterator[int]:
    """The port of a daemon behind mutual TLS."""
    listener = tcp_listener("127.0.0.1", 0, server_context(made.server))
    stack = threading.stack_size()
    server = Server(daemon, [listener])
    thread = threading.Thread(target=server.run, daemon=True)
    number = listener.socket.getsockname()[1]
    thread.start()
    yield number
    server.stop()
    thread.join(PATIENCE)
    threading.stack_size(stack)
    assert not thread.is_alive()


# What is made ----------------------------------------------------------------------------------


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def purposes(path: Path) -> list[str]:
    extension = certificate(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return [str(one._name) for one in extension.value]


def test_the_servers_is_for_all_names_of_the_machine(made: Certificates) -> None:
    names = certificate(made.server.cert).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    told = {str(one.value) for one in names.value}
    assert told == set(made.names)
    assert {"localhost", "127.0.0.1", "::1", "box.example", "192.0.2.7"} <= told
    assert purposes(made.server.cert) == ["serverAuth"]


def test_the_clients_folder_is_a_docker_cert_path(made: Certificates) -> None:
    assert sorted(path.name for path in made.client.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert purposes(made.client / "cert.pem") == ["clientAuth"]


def test_the_authority_signs_and_nobody_else(made: Certificates) -> None:
    def facts(path: Path) -> tuple[bool, bool, bool]:
        extensions = certificate(path).extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        constraint = extensions.get_extension_for_class(x509.BasicConstraints).value
        return constraint.ca, usage.key_cert_sign, usage.digital_signature

    assert facts(made.folder / "ca" / "cert.pem") == (True, True, False)
    assert facts(made.server.cert) == facts(made.client / "cert.pem") == (False, False, True)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
@pytest.mark.parametrize("who", ["server", "client"])
def test_openssl_finds_no_fault(made: Certificates, who: str) -> None:
    words = ["openssl", "verify", "-x509_strict", "-purpose", f"ssl{who}", "-CAfile"]
    files = [made.folder / "ca" / "cert.pem", made.folder / who / "cert.pem"]
    subprocess.run([*words, *map(str, files)], check=True, capture_output=True)


def test_keys_are_their_owners(made: Certificates) -> None:
    for path in made.folder.rglob("*"):
        open_to = stat.S_IMODE(path.stat().st_mode)
        wanted = 0o700 if path.is_dir() else 0o600 if path.name == "key.pem" else 0o644
        assert open_to == wanted, path
    assert not [path for path in made.folder.iterdir() if path.name.startswith(".")]


def test_they_are_good_for_a_while(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for days, asked in ((3, 3), (DAYS, None)):
        one = make_certificates(tmp_path / str(days), days=asked)
        assert abs(one.until - now - datetime.timedelta(days=days)) < datetime.timedelta(minutes=1)
        good = certificate(one.server.cert)
        assert good.not_valid_before_utc < now < good.not_valid_after_utc


def test_what_is_there_stays_unless_told(tmp_path: Path) -> None:
    first = make_certificates(tmp_path / "tls")
    before = first.server.cert.read_bytes()
    with pytest.raises(AlreadyExists, match="--force"):
        make_certificates(tmp_path / "tls")
    assert first.server.cert.read_bytes() == before
    make_certificates(tmp_path / "tls", force=True)
    assert first.server.cert.read_bytes() != before
    assert sorted(path.name for path in first.folder.iterdir()) == ["ca", "client", "server"]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "höst", "a..b", "x" * 64, "*", "1.2.3."])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="neither a host's name nor an address"):
        make_certificates(tmp_path / "tls", [name])
    assert not (tmp_path / "tls").exists()


def test_other_things_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in (0, -1, 10**6):
        with pytest.raises(InvalidArgument, match="days"):
            make_certificates(tmp_path / "tls", days=days)
    (tmp_path / "file").touch()
    with pytest.raises(PermissionDenied, match="another --dir"):
        make_certificates(tmp_path / "file" / "tls")
    monkeypatch.setattr(socket, "gethostname", lambda: "my computer!")
    assert make_certificates(tmp_path / "odd").names == ("localhost", "127.0.0.1", "::1")


def test_where_they_are() -> None:
    assert default_folder({"CELLBOX_TLS": "/etc/tls"}) == Path("/etc/tls")
    assert default_folder({}) == Path.home() / ".cellbox" / "tls"


# Who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ServerFiles._fields)
def test_files_that_cannot_be_used(made: Certificates, tmp_path: Path, lacking: str) -> None:
    with pytest.raises(InvalidArgument, match="cellbox tls init"):
        server_context(made.server._replace(**{lacking: tmp_path / "nothing"}))
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidArgument, match="cellbox tls init"):
        server_context(made.server._replace(**{lacking: tmp_path / "empty"}))


def test_a_locked_key_is_refused_without_a_question(made: Certificates, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(made.server.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "key.pem").write_bytes(locked)
    with pytest.raises(InvalidArgument, match="locked with a password"):
        server_context(made.server._replace(key=tmp_path / "key.pem"))


def ping(port: int, ca: Path, cert: Path | None = None, key: Path | None = None) -> bytes:
    """The first line of the answer to a ping. Raises OSError."""
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert, key)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        return client.recv(4096).partition(b"\r\n")[0]


def is_let_in(port: int, *files: Path) -> bool:
    """Does the daemon answer? With TLS 1.3 a client hears only afterwards that it is refused."""
    with contextlib.suppress(ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return ping(port, *files) == b"HTTP/1.1 200 OK"
    return False


def client_files(made: Certificates) -> tuple[Path, Path, Path]:
    return made.client / "ca.pem", made.client / "cert.pem", made.client / "key.pem"


def test_with_its_certificate_a_client_is_let_in(port: int, made: Certificates) -> None:
    assert is_let_in(port, *client_files(made))


def test_without_one_it_is_not(port: int, made: Certificates) -> None:
    assert not is_let_in(port, made.client / "ca.pem")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        plain.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert said(plain).startswith(b"HTTP/1.0 400 Bad Request")


def said(client: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return client.recv(4096)
    return b""


def test_with_one_of_another_authority_it_is_not(
    port: int, made: Certificates, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        ping(port, *client_files(other))
    assert not is_let_in(port, made.client / "ca.pem", *client_files(other)[1:])


def test_the_servers_own_does_not_let_a_client_in(port: int, made: Certificates) -> None:
    assert not is_let_in(port, *made.server)


@pytest.mark.parametrize(("ended", "let_in"), [(-1, False), (1, True)])
def test_one_that_has_expired_is_not_good_any_more(
    port: int, made: Certificates, tmp_path: Path, ended: int, let_in: bool
) -> None:
    files = signed(made, tmp_path, datetime.timedelta(hours=ended))
    assert is_let_in(port, made.client / "ca.pem", *files) is let_in


def signed(made: Certificates, folder: Path, ends: datetime.timedelta) -> tuple[Path, Path]:
    """A client's certificate that the authority's key has signed, and its key."""
    authority = made.folder / "ca"
    signer = serialization.load_pem_private_key((authority / "key.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(certificate(authority / "cert.pem").subject)
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "late")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + ends)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    )
    cert = builder.sign(signer, hashes.SHA256())
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    tls._put(
        folder / "key.pem",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        0o600,
    )
    return folder / "cert.pem", folder / "key.pem"


def test_who_is_slow_to_shake_hands_holds_up_nobody(port: int, made: Certificates) -> None:
    with contextlib.ExitStack() as stack:
        for hello in (b"", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00\x01" * 9):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            slow.sendall(hello)
        assert is_let_in(port, *client_files(made))


def test_old_versions_are_not_spoken(port: int, made: Certificates) -> None:
    context = ssl.create_default_context(cafile=made.client / "ca.pem")
    context.load_cert_chain(made.client / "cert.pem", made.client / "key.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as raw,
        pytest.raises(OSError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
