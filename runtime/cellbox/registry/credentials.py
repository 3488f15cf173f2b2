"""What ``docker login`` left behind: ``config.json``, and the helpers it names.

The file is ``$DOCKER_CONFIG/config.json``, by default in ``~/.docker``. For a host, the helper of
``credHelpers`` comes first, then ``credsStore``, then the entry of ``auths``. A helper is a program
``docker-credential-NAME``, asked with ``get`` and the host on its standard input; a plugin of kind
*credentials* takes the place of the program of its name.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported, Unauthorized
from cellbox.model.registry import Credential
from cellbox.plugins import CredentialHelper, Login
from cellbox.registry.config import HUB

HUB_KEY = "https://index.docker.io/v1/"
"""What Docker calls its own registry in config.json."""

_HELPER_SECONDS = 30
_NOT_FOUND = "credentials not found in native keychain"
_TOKEN_USER = "<token>"


class Credentials:
    """The credentials of this user, by the host of the registry."""

    def __init__(self, path: Path, helpers: Mapping[str, CredentialHelper] | None = None) -> None:
        self._path = path
        self._helpers = dict(helpers or {})

    @classmethod
    def of_user(
        cls,
        environ: Mapping[str, str] | None = None,
        helpers: Mapping[str, CredentialHelper] | None = None,
    ) -> Credentials:
        """Those of the user whose environment this is."""
        environ = os.environ if environ is None else environ
        folder = environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "~")) / ".docker"
        return cls(Path(folder).expanduser() / "config.json", helpers)

    def get(self, host: str) -> Login | None:
        """The credential for the registry at ``host``, None where there is none.

        Raises InvalidArgument naming the file and line or key that is wrong; NotSupported for a
        helper that is not installed; Unauthorized for one that fails.
        """
        server = HUB_KEY if host == HUB else host
        document = self._load()
        name = self._text(self._table(document, "credHelpers").get(_host_of(server)), "credHelpers")
        name = name or self._text(document.get("credsStore"), "credsStore")
        if name:
            helper = self._helpers.get(name) or _program(name)
            return helper(server)
        return self._entry(self._table(document, "auths"), server)

    def _load(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8") or "{}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except json.JSONDecodeError as error:
            raise InvalidArgument(f"{self._path}: line {error.lineno}: {error.msg}") from None
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{self._path}: {error}") from None
        if not isinstance(document, dict):
            raise InvalidArgument(f"{self._path}: must be a JSON object")
        return document

    def _table(self, document: dict[str, Any], key: str) -> dict[str, Any]:
        value = document.get(key) or {}
        if not isinstance(value, dict):
            raise InvalidArgument(f"{self._path}: {key} must be an object")
        return value

    def _text(self, value: Any, key: str) -> str:
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(f"{self._path}: {key} must be text")
        return value or ""

    def _entry(self, auths: dict[str, Any], server: str) -> Credential | None:
        keys = [server, *(key for key in auths if _host_of(key) == _host_of(server))]
        key = next((key for key in keys if key in auths), None)
        if key is None:
            return None
        where = f"auths.{key}"
        entry = self._table(auths, key)
        username, password = self._decode(self._text(entry.get("auth"), where), where)
        found = Credential(
            username=username or self._text(entry.get("username"), where),
            password=password or self._text(entry.get("password"), where),
            identity_token=self._text(entry.get("identitytoken"), where),
            registry_token=self._text(entry.get("registrytoken"), where),
        )
        return found if found != Credential() else None

    def _decode(self, auth: str, where: str) -> tuple[str, str]:
        if not auth:
            return "", ""
        try:
            username, colon, password = base64.b64decode(auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise InvalidArgument(f"{self._path}: {where}.auth is not base64 of user:password")
        return username, password.rstrip("\0")


def _host_of(server: str) -> str:
    host = server.partition("://")[2].partition("/")[0] or server.partition("/")[0]
    return host.lower().removesuffix(":443")


def _program(name: str) -> CredentialHelper:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InvalidArgument(f"not the name of a credential helper: {name[:100]!r}")
    return lambda server: _ask(f"docker-credential-{name}", server)


def _ask(program: str, server: str) -> Credential | None:
    """The helper protocol: docker/docker-credential-helpers, *Development*."""
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS
        )
    except OSError as error:
        reason = f"{program}, which config.json names, cannot be run: {error.strerror}"
        raise NotSupported(f"{reason}; install it or take its name out") from error
    except subprocess.TimeoutExpired:
        raise Unauthorized(f"{program} did not answer in {_HELPER_SECONDS} seconds") from None
    if done.returncode:
        if _NOT_FOUND.encode() in done.stdout:
            return None
        raise Unauthorized(f"{program} has no credential for {_host_of(server)}: log in again")
    return _answer(program, done.stdout)


def _answer(program: str, output: bytes) -> Credential:
    try:
        answer = json.loads(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Unauthorized(f"{program} gave an answer that is not of its protocol") from None
    if username == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret)
