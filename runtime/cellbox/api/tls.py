"""Mutual TLS: an authority of our own, the certificates it signs, and what a server makes of them.

:func:`make_certificates` lays a folder out as Docker's own images do (``docker:dind``)::

    ca/cert.pem  key.pem             the authority; its key signs whatever else shall be let in
    server/ca.pem  cert.pem  key.pem for the daemon
    client/ca.pem  cert.pem  key.pem for those who may use it: DOCKER_CERT_PATH is this folder

Whoever has the client's key is root on the daemon's machine. Source: RFC 5280, section 4.2, for the
extensions; Docker's "Protect the Docker daemon socket" for who checks whom.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import shutil
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, NamedTuple

from cellbox.errors import AlreadyExists, InvalidArgument, PermissionDenied

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

FOLDER = "CELLBOX_TLS"
"""The environment variable that says where certificates are kept."""

DAYS = 825
"""Days for which certificates are good unless one asks for others; what Docker's image takes."""

_PARTS = ("ca", "server", "client")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_EARLY = datetime.timedelta(hours=1)
_LONGEST = 100 * 365
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")


class ServerFiles(NamedTuple):
    """Paths of a server's PEM files: who signs for its clients, its own certificate and key."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """What :func:`make_certificates` made below ``folder``: good until ``until`` (UTC), the
    server's for ``names``."""

    folder: Path
    names: tuple[str, ...]
    until: datetime.datetime

    @property
    def server(self) -> ServerFiles:
        """What the daemon needs."""
        return server_files(self.folder)

    @property
    def client(self) -> Path:
        """What a client needs, and all that it may have: its DOCKER_CERT_PATH."""
        return self.folder / "client"


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user's certificates are: CELLBOX_TLS, else ``~/.cellbox/tls``."""
    chosen = environ.get(FOLDER)
    return Path(chosen).absolute() if chosen else Path.home() / ".cellbox" / "tls"


def server_files(folder: Path) -> ServerFiles:
    """Those that :func:`make_certificates` made in ``folder``."""
    return ServerFiles(*(folder / "server" / f"{name}.pem" for name in ServerFiles._fields))


def make_certificates(
    folder: Path | None = None,
    names: Sequence[str] = (),
    *,
    days: int | None = None,
    force: bool = False,
) -> Certificates:
    """Make an authority, a server's certificate for ``names`` (host names and addresses; those of
    this machine are added) and a client's, in ``folder`` (None: :func:`default_folder`), good for
    ``days`` (None: :data:`DAYS`).

    All are there, or none: certificates that were there before are replaced at the end, and only
    with ``force``. Raises AlreadyExists, InvalidArgument, PermissionDenied.
    """
    folder = folder or default_folder()
    days = DAYS if days is None else days
    if not 1 <= days <= _LONGEST:
        raise InvalidArgument(f"certificates can be good for 1 to {_LONGEST} days, not for {days}")
    every = tuple(dict.fromkeys((*_LOCAL, *_own_name(), *map(_checked, names))))
    there = [part for part in _PARTS if (folder / part).exists()]
    if there and not force:
        raise AlreadyExists(
            f"{folder} holds certificates already: --force makes them anew, and whoever uses the "
            "old ones is locked out"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=".new-", dir=folder))
        try:
            until = _fill(fresh, every, days)
            _replace(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise PermissionDenied(
            f"cannot write certificates to {folder}: {error.strerror}: choose another --dir"
        ) from error
    return Certificates(folder, every, until)


def server_context(files: ServerFiles) -> ssl.SSLContext:
    """What lets in only clients with a certificate that ``files.ca`` signed: TLS 1.2 or later.
    Raises InvalidArgument."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except OSError as error:  # of which ssl.SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or error
        raise InvalidArgument(
            f"the certificates {', '.join(map(str, files))} cannot be used ({why}): "
            "`cellbox tls init` makes some"
        ) from error
    return context


def _no_password() -> str:
    """Else OpenSSL would ask at the terminal."""
    raise InvalidArgument("the server's key is locked with a password: give one that is not")


def _own_name() -> list[str]:
    with contextlib.suppress(InvalidArgument):  # a machine may be called anything
        return [_checked(socket.gethostname())]
    return []


def _checked(name: str) -> str:
    """A host's name or address in one way of writing it. Raises InvalidArgument."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if len(name) > 253 or not _HOST.fullmatch(name):
            raise InvalidArgument(
                f"{name!r} is neither a host's name nor an address: write it as in "
                "host.example.org or 192.0.2.7, a name with other letters in its xn-- form"
            ) from None
    return name.lower()


# Files --------------------------------------------------------------------------------------------


def _fill(folder: Path, names: Sequence[str], days: int) -> datetime.datetime:
    """Make all three parts in ``folder``; until when they are good."""
    from cryptography.x509 import oid

    authority = _Authority(days)
    server = authority.sign("cellbox daemon", oid.ExtendedKeyUsageOID.SERVER_AUTH, names)
    client = authority.sign("cellbox client", oid.ExtendedKeyUsageOID.CLIENT_AUTH)
    _write(folder / "ca", authority.pair)
    for part, pair in (("server", server), ("client", client)):
        _write(folder / part, pair)
        _put(folder / part / "ca.pem", _pem(authority.pair[0]), 0o644)
    return authority.until


def _write(folder: Path, pair: tuple[x509.Certificate, EllipticCurvePrivateKey]) -> None:
    from cryptography.hazmat.primitives import serialization

    folder.mkdir(mode=0o700)
    _put(folder / "cert.pem", _pem(pair[0]), 0o644)
    secret = pair[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _put(folder / "key.pem", secret, 0o600)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _put(path: Path, data: bytes, mode: int) -> None:
    """Nobody sees the file with rights that it shall not have."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _replace(folder: Path, fresh: Path) -> None:
    for part in _PARTS:
        if (folder / part).exists():
            (folder / part).rename(fresh / f"old-{part}")
        (fresh / part).rename(folder / part)


# Certificates -------------------------------------------------------------------------------------


class _Authority:
    """Signs certificates that are good as long as its own."""

    def __init__(self, days: int) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        now = datetime.datetime.now(datetime.UTC)
        self._since, self.until = now - _EARLY, now + datetime.timedelta(days=days)
        self._name = _named(f"cellbox authority {now:%Y-%m-%d}")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = _usage(sign=False, authority=True)
        builder = self._begin(self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(True, path_length=0), critical=True)
        self.pair = self._end(builder.add_extension(usage, critical=True)), self._key

    def sign(
        self, name: str, purpose: x509.ObjectIdentifier, names: Sequence[str] = ()
    ) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
        """A certificate for one ``purpose``, and its key."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._begin(_named(name), key)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(sign=True, authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(_alternatives(names), critical=False)
        return self._end(builder), key

    def _begin(self, name: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        from cryptography import x509

        subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        signer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._subject)
        builder = x509.CertificateBuilder(issuer_name=self._name, subject_name=name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(self._since).not_valid_after(self.until)
        return builder.add_extension(subject, critical=False).add_extension(signer, critical=False)

    def _end(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography.hazmat.primitives import hashes

        return builder.sign(self._key, hashes.SHA256())


def _named(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _usage(*, sign: bool, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)
