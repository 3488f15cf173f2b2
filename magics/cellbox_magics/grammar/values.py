"""Docker's ways to write a size, a limit, a label; pure. (Durations and instants are read as the
API reads them, by ``cellbox.wire.filters``.)

Sizes follow ``units.RAMInBytes`` (docker/go-units: binary multiples, ``256m``, ``1.5GiB``). What
cannot be read raises :class:`~cellbox.errors.InvalidArgument` with a sentence that shows the right
form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cellbox.errors import InvalidArgument
from cellbox.model.container import RestartPolicy, Ulimit

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_RESTARTS = ("no", "always", "unless-stopped", "on-failure", "on-unhealthy")


def size(text: str) -> int:
    """Bytes of ``256m``, ``1.5g``, ``4096``; multiples are binary, as in Docker."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(
            f"{text!r} is not a size: write a number and b, k, m or g, as in 256m"
        )
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**power)


def size_or_unlimited(text: str) -> int:
    """As :func:`size`, and ``-1`` for no limit."""
    return -1 if text.strip() == "-1" else size(text)


def ulimit(text: str) -> Ulimit:
    """``name=soft[:hard]`` of ``--ulimit``; one number is both limits."""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        low, high = int(soft), int(hard or soft)
    except ValueError:
        raise InvalidArgument(
            f"--ulimit {text}: write it as nofile=1024 or nofile=1024:4096"
        ) from None
    if 0 <= high < low or (low == -1 and high != -1):
        raise InvalidArgument(f"--ulimit {text}: the soft limit must not be above the hard limit")
    return Ulimit(name.lower(), low, high)


def restart(text: str) -> RestartPolicy:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:retries]`` or
    ``on-unhealthy[:retries]`` of ``--restart``."""
    name, _, retries = text.partition(":")
    if name not in _RESTARTS or (retries and (name[:3] != "on-" or not retries.isdigit())):
        raise InvalidArgument(f"--restart {text}: the policies are {', '.join(_RESTARTS)}[:N]")
    return RestartPolicy(name, int(retries or 0))


def pairs(words: Iterable[str], flag: str) -> dict[str, str]:
    """``key=value`` words as a mapping; a later key wins; ``flag`` is named when one has no
    value."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"{flag} {word}: write it as key=value")
        found[key] = value
    return found


def labels(words: Iterable[str]) -> dict[str, str]:
    """``key[=value]`` words as a mapping; a label without a value is empty, as in Docker."""
    return {key: value for key, _, value in (word.partition("=") for word in words) if key}


def listed(words: Iterable[str]) -> list[str]:
    """The members of words that are lists with commas: ``a,b`` and ``c`` are three."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def filters(words: Iterable[str]) -> dict[str, list[str]]:
    """``--filter key=value`` words as Docker's filters; values of one key are kept in order."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(f"--filter {word}: write it as key=value")
        key, value = (key[:-1] + "!", value) if key.endswith("!") else (key, value)
        found.setdefault(key.strip().lower(), []).append(value.strip())
    return found
