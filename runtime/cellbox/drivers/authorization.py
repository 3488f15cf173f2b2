"""Programs that decide what a client of the API may do (``AuthZPlugin.*``).

Each one is asked about every request before it is served, and about its answer before that is sent.
What a program does not allow, or cannot be asked about, does not happen.

Source: docs.docker.com/engine/extend/plugins_authorization; moby ``pkg/authorization``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbox.drivers.client import Client, printable
from cellbox.errors import CellboxError, EngineError, PermissionDenied

INTERFACE = "authz"
_SECRET = frozenset({"authorization", "x-registry-auth", "x-registry-config"})
"""Headers that are none of their business."""


@dataclass(frozen=True)
class Asked:
    """One request: ``user`` is the name in the client's certificate, empty without TLS;
    ``certificate`` that itself (DER); ``body`` is there where it is JSON."""

    method: str
    uri: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: str = ""
    certificate: bytes = b""


class Gate:
    """Asks the programs ``names``, in that order; ``find`` gets the client of one by name and
    interface."""

    def __init__(self, names: Sequence[str], find: Callable[[str, str], Client]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._find = find

    def check(self) -> None:
        """Raise NotFound, InvalidArgument, Unavailable unless all can be asked."""
        for name in self.names:
            self._find(name, INTERFACE)

    def admit(self, asked: Asked) -> None:
        """Raise PermissionDenied where one of them does not allow the request, EngineError where
        one cannot be asked."""
        self._ask("AuthZPlugin.AuthZReq", _request(asked))

    def release(self, asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The same for its answer; ``body`` is there where it is JSON."""
        answer = {
            "ResponseStatusCode": status,
            "ResponseHeaders": dict(headers),
            "ResponseBody": base64.b64encode(body).decode(),
        }
        self._ask("AuthZPlugin.AuthZRes", {**_request(asked), **answer})

    def _ask(self, method: str, body: Mapping[str, Any]) -> None:
        for name in self.names:
            try:
                told = self._find(name, INTERFACE).call(method, body)
            except CellboxError as error:
                raise EngineError(f"plugin {name} failed with error: {error}") from error
            if told.get("Allow") is not True:
                why = printable(told.get("Msg") or "")
                raise PermissionDenied(f"authorization denied by plugin {name}: {why}")


def _request(asked: Asked) -> dict[str, Any]:
    told = {
        "RequestMethod": asked.method,
        "RequestUri": asked.uri,
        "RequestHeaders": {
            name.title(): value
            for name, value in asked.headers.items()
            if name.lower() not in _SECRET
        },
        "RequestBody": base64.b64encode(asked.body).decode(),
    }
    if asked.certificate:
        told |= {
            "User": asked.user,
            "UserAuthNMethod": "TLS",
            "RequestPeerCertificates": [base64.b64encode(_pem(asked.certificate)).decode()],
        }
    return told


def _pem(certificate: bytes) -> bytes:
    import ssl

    return ssl.DER_cert_to_PEM_cert(certificate).encode()
