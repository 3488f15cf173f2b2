"""Challenges and tokens: what a registry asks for with 401, and how it is answered.

A challenge (RFC 9110 section 11.6.1) is ``Basic``, answered with name and password, or ``Bearer``:
a token has to be fetched from its *realm* first, for a *service* and a *scope* (distribution token
specification). We ask for the scope that we need, ``repository:PATH:pull``
(``pull,push``; several with blanks between), whatever the challenge names. Tokens are kept until
shortly before they expire, for each (realm, service, scope).

The realm is where name and password go, so it must be https when the registry is; it may not be an
address that only this machine reaches unless the registry is there too (``transport`` sees to it).
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from cellbox.errors import Unauthorized, Unavailable
from cellbox.model.registry import Credential
from cellbox.plugins import Login
from cellbox.registry.origins import Origin, check_lead, origin_of

MAX_HEADER = 8192
MAX_CHALLENGES = 8
MAX_TOKEN = 65536
DEFAULT_LIFE = 60.0
"""Seconds that a token lives whose answer does not say (token specification)."""

_MARGIN = 10.0
"""Seconds before its end in which a token is not used any more."""

_PARAMETER = re.compile(
    r'\s*+([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*+=\s*+(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))\s*+(?:,|$)'
)
_SCHEME = re.compile(r"[\s,]*+([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|(?=,)|$)")


@dataclass(frozen=True)
class Challenge:
    """One challenge: its scheme and the names of its parameters in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    expires: float


class Fetch(Protocol):
    """A request to a realm that ``origin`` named: the status and the body (at most 1 MiB)."""

    def __call__(
        self, method: str, url: str, origin: Origin, authorization: str, form: bytes | None
    ) -> tuple[int, bytes]: ...


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a WWW-Authenticate header, at most eight; what is not one ends the list."""
    found: list[Challenge] = []
    position = 0
    while position < len(header) <= MAX_HEADER and len(found) < MAX_CHALLENGES:
        scheme = _SCHEME.match(header, position)
        if scheme is None:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        while match := _PARAMETER.match(header, position):
            name, quoted, plain = match.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            position = match.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)


def basic(username: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Authenticator:
    """Answers challenges, and remembers the answers; safe for any number of threads."""

    def __init__(
        self,
        fetch: Fetch,
        credential: Callable[[str], Login | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._credential = credential
        self._clock = clock
        self._lock = threading.Lock()
        self._challenges: dict[tuple[Origin, str], Challenge] = {}
        self._tokens: dict[tuple[str, str, str], _Token] = {}
        self._logins: dict[str, Login] = {}

    def known(self, origin: Origin, scope: str) -> str:
        """The Authorization value that is expected to do for ``origin``; empty for none yet."""
        with self._lock:
            challenge = self._challenges.get((origin, scope))
            return self._respond(challenge, origin, scope) if challenge else ""

    def answer(self, origin: Origin, scope: str, header: str, refused: str) -> str:
        """The Authorization value that answers ``header``; ``refused`` is the one that did not do.

        Raises Unauthorized when there is nothing (more) to answer with.
        """
        challenge = _choose(parse_challenges(header), origin)
        with self._lock:
            value = self._respond(challenge, origin, scope)
            if value == refused:
                self._tokens.pop(_key(challenge, scope), None)
                self._logins.pop(origin.authority, None)
                value = self._respond(challenge, origin, scope)
            if value == refused:
                raise Unauthorized(f"unauthorized: {origin.authority} refuses the credentials")
            self._challenges[origin, scope] = challenge
            return value

    def _respond(self, challenge: Challenge, origin: Origin, scope: str) -> str:
        if challenge.scheme == "bearer":
            return "Bearer " + self._token(challenge, origin, scope)
        credential = self._login(origin.authority)
        if not credential.username:
            host = origin.authority
            raise Unauthorized(f"unauthorized: {host} wants a user name: docker login {host}")
        return basic(credential.username, credential.password)

    def _login(self, host: str) -> Login:
        """The credential for ``host``, asked for once; an empty one is asked for again, since the
        user may log in meanwhile."""
        found = self._logins.get(host) or self._credential(host)
        if found is None:
            return Credential()
        self._logins[host] = found
        return found

    def _token(self, challenge: Challenge, origin: Origin, scope: str) -> str:
        key = _key(challenge, scope)
        token = self._tokens.get(key)
        if token is None or token.expires <= self._clock():
            credential = self._login(origin.authority)
            if credential.registry_token:
                return credential.registry_token
            token = self._request(key, origin, credential)
            self._tokens[key] = token
        return token.value

    def _request(self, key: tuple[str, str, str], origin: Origin, user: Login) -> _Token:
        realm, service, scope = key
        fields: dict[str, str | list[str]] = {"service": service, "scope": scope}
        authorization, form = "", None
        if user.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": user.identity_token}
            form = urlencode({**fields, **grant, "client_id": "cellbox"}).encode()
        else:
            if user.username:
                authorization = basic(user.username, user.password)
                fields["account"] = user.username
            fields["scope"] = scope.split()  # one parameter each, as every realm reads them
            query = urlencode({name: value for name, value in fields.items() if value}, doseq=True)
            realm += ("&" if "?" in realm else "?") + query
        method = "POST" if form else "GET"
        status, body = self._fetch(method, realm, origin, authorization, form)
        if status != 200:
            host = origin_of(realm).authority
            raise Unauthorized(f"unauthorized: {host} gives no token for {origin.authority}")
        return self._read(body, origin_of(realm).authority)

    def _read(self, body: bytes, host: str) -> _Token:
        try:
            answer = json.loads(body)
            value = answer.get("token") or answer.get("access_token")
            life = answer.get("expires_in") or DEFAULT_LIFE
        except (ValueError, AttributeError, RecursionError):
            value, life = None, 0.0
        if not _is_token(value) or isinstance(life, bool) or not isinstance(life, int | float):
            raise Unavailable(f"{host} answers with something that is not a token")
        return _Token(value, self._clock() + max(float(life) - _MARGIN, 0.0))


def _is_token(value: Any) -> bool:
    """Whether ``value`` may stand in a header (RFC 6750 section 2.1, without its finer points)."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TOKEN
        and re.fullmatch(r"[!-~]+", value) is not None
    )


def _key(challenge: Challenge, scope: str) -> tuple[str, str, str]:
    parameters = challenge.parameters
    return parameters.get("realm", ""), parameters.get("service", ""), scope


def _choose(challenges: tuple[Challenge, ...], origin: Origin) -> Challenge:
    """The challenge to answer: Bearer if there is one, else Basic."""
    known = {challenge.scheme: challenge for challenge in reversed(challenges)}
    chosen = known.get("bearer") or known.get("basic")
    if chosen is None:
        host = origin.authority
        raise Unauthorized(f"unauthorized: {host} asks for credentials in a way that is not known")
    if chosen.scheme == "bearer":
        realm = origin_of(chosen.parameters.get("realm", ""))
        check_lead(origin, realm)
    return chosen
