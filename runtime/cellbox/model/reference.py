"""The name of an image, as Docker reads it.

A user types the familiar form, an engine works with the full one::

    ubuntu                      docker.io/library/ubuntu:latest
    lab/tool:2                  docker.io/lab/tool:2
    localhost:5000/a/b          localhost:5000/a/b:latest
    ubuntu@sha256:...           docker.io/library/ubuntu@sha256:...

``domain / path [: tag] [@ digest]``. The first component is a domain when it has a dot, a colon or
a capital letter, or is ``localhost``; all else lives on docker.io, and there below ``library`` when
the name has one component only. A reference with a digest names those bytes for ever; its tag, if
any, is a remark. The grammar is the one of the reference package of Docker's distribution project;
the sentences of the errors are its own too, since users look them up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cellbox.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
OFFICIAL = "library/"
MAX_NAME = 255
"""Most characters of ``domain/path``."""

_LEGACY_DOMAIN = "index.docker.io"
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Digest algorithms, and the hex digits of each."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
_ALGORITHM = r"[a-zA-Z][a-zA-Z0-9]*(?:[-_+.][a-zA-Z][a-zA-Z0-9]*)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_ALGORITHM}:[0-9a-fA-F]{{32,}}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")


@dataclass(frozen=True)
class Reference:
    """An image's full name; ``tag`` and ``digest`` are empty where there is none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def name(self) -> str:
        """``domain/path``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name without tag and digest, as short as Docker prints it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(OFFICIAL)
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The whole reference, as short as Docker prints it."""
        return self.familiar_name + self._suffix

    @property
    def identifier(self) -> str:
        """What names the manifest in its repository: the digest if there is one, else the tag."""
        return self.digest or self.tag

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")


def parse(text: str, default_tag: str = DEFAULT_TAG) -> Reference:
    """The reference that a user means by ``text``.

    A name with neither tag nor digest gets ``default_tag``; an empty one leaves it bare. Raises
    :class:`~cellbox.errors.InvalidReference` with Docker's sentence.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(text)
    path = rest.partition(":")[0]
    if path != path.lower():
        raise InvalidReference(
            f"invalid reference format: repository name ({path}) must be lowercase"
        )
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidReference("invalid reference format")
    if len(match["domain"]) + 1 + len(match["path"]) > MAX_NAME:
        raise InvalidReference(f"repository name must not be more than {MAX_NAME} characters")
    tag, digest = match["tag"] or "", match["digest"] or ""
    if digest:
        _check_digest(digest)
    return Reference(match["domain"], match["path"], tag or ("" if digest else default_tag), digest)


def valid_digest(text: str) -> bool:
    """Whether ``text`` is a digest of a known algorithm: only then may it become part of a path."""
    return _DIGEST.fullmatch(text) is not None


def matches(familiar: str, pattern: str) -> bool:
    """Docker's filter ``reference``: does a familiar name fit the pattern, which may have a tag?

    Both are compared part by part between slashes: a star stands for one part of the path.
    """
    repository = familiar.rpartition(":")[0]
    return any(
        name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)
        for name in (familiar, repository)
    )


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    named = any(sign in first for sign in ".:") or first == "localhost" or first != first.lower()
    domain, rest = (first, rest) if slash and named else (DEFAULT_DOMAIN, text)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + rest
    return domain, rest


def _check_digest(digest: str) -> None:
    algorithm, _, digits = digest.partition(":")
    if algorithm not in _HEX_DIGITS:
        raise InvalidReference("unsupported digest algorithm")
    if len(digits) != _HEX_DIGITS[algorithm]:
        raise InvalidReference("invalid checksum digest length")
    if not valid_digest(digest):
        raise InvalidReference("invalid checksum digest format")
