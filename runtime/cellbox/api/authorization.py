"""Asking the authorization plugins of a daemon about its requests and answers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import quote

from cellbox.api.http import Request, Response
from cellbox.drivers.authorization import Asked
from cellbox.errors import PermissionDenied

if TYPE_CHECKING:
    from cellbox.api.sockets import Wire
    from cellbox.drivers.authorization import Gate

LARGEST = 1 << 20
"""Bytes of a body that a plugin is shown. A larger one is refused: what cannot be looked at cannot
be allowed."""

_JSON = "application/json"


def admit(gate: Gate, request: Request, wire: Wire) -> Asked:
    """Raise PermissionDenied for a request that a plugin does not allow, EngineError where one
    cannot be asked. The request can be read as before."""
    user, certificate = wire.peer()
    path = quote(request.path)  # one spelling only, whatever the client has written
    asked = Asked(
        method=request.method,
        uri=f"{path}?{request.query_string}" if request.query_string else path,
        headers=request.headers,
        body=_shown(request),
        user=user,
        certificate=certificate,
    )
    gate.admit(asked)
    return asked


def release(gate: Gate, asked: Asked, answer: Response) -> None:
    """The same for the answer. Of one that is sent in pieces only the head is shown."""
    body, headers = answer.content()
    shown = body if isinstance(body, bytes) and len(body) <= LARGEST else b""
    gate.release(asked, answer.status, headers, shown)


def _shown(request: Request) -> bytes:
    """The body, where it is JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        return b""
    data = request.body.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise PermissionDenied(
            f"a body of over {LARGEST} bytes cannot be shown to the authorization plugins"
        )
    request.body = io.BytesIO(data)
    # Credentials for a registry are nobody else's (moby leaves out the body of /auth too).
    return b"" if request.path.endswith("/auth") else data
