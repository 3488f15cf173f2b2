"""The Dockerfile lines that ``commit -c`` and ``import -c`` take: config and lines to config; pure.

Only instructions that change the config and need no file system. Words are split as Docker does it:
the JSON form where the rest of a line is a JSON array of strings, else by blanks with quotes.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from posixpath import join, normpath

from cellbox.errors import InvalidArgument
from cellbox.model.container import HealthCheck
from cellbox.model.image import ImageConfig

_SHELL = ("/bin/sh", "-c")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_HEALTH_OPTIONS = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}


def apply_changes(config: ImageConfig, lines: Iterable[str]) -> ImageConfig:
    """``config`` after the instructions of ``lines``. Raises InvalidArgument."""
    for line in lines:
        keyword, _, rest = line.strip().partition(" ")
        change = _CHANGES.get(keyword.upper())
        if change is None:
            raise InvalidArgument(f"{keyword or 'an empty line'} is not a valid change command")
        rest = rest.strip()
        if not rest:
            raise InvalidArgument(f"{keyword.upper()} needs an argument")
        config = change(config, rest)
    return config


def _json_words(text: str) -> tuple[str, ...] | None:
    """The words of the JSON form, None if ``text`` is not in it."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"{error}: {text}") from None


def _command(config: ImageConfig, text: str) -> tuple[str, ...]:
    words = _json_words(text)
    return (*(config.shell or _SHELL), text) if words is None else words


def _pairs(text: str) -> dict[str, str]:
    """``k=v k2="v 2"``, or the old form ``k the rest``."""
    words = _words(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise InvalidArgument(f"{text} must have two arguments")
        return {key: value.strip()}
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"can't find = in {word!r}: it must be of the form name=value")
        pairs[key] = value
    return pairs


def _env(config: ImageConfig, text: str) -> ImageConfig:
    env = dict(item.partition("=")[::2] for item in config.env) | _pairs(text)
    return replace(config, env=tuple(f"{key}={value}" for key, value in env.items()))


def _entrypoint(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, entrypoint=_command(config, text))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    path = normpath(join(config.workdir or "/", _words(text)[0]))
    return replace(config, workdir=path if path.startswith("/") else "/" + path)


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    for word in _words(text):
        match = _PORT.fullmatch(word.lower())
        if not match:
            raise InvalidArgument(f"not a port: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last < 1 << 16:
            raise InvalidArgument(f"not a port: {word}")
        ports.update(f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1))
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    words = _json_words(text) or _words(text)
    return replace(config, volumes=tuple(sorted({*config.volumes, *words})))


def _label(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, labels={**config.labels, **_pairs(text)})


def _on_build(config: ImageConfig, text: str) -> ImageConfig:
    if text.split()[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidArgument(f"ONBUILD {text.split()[0].upper()} is not allowed")
    return replace(config, on_build=(*config.on_build, text))


def _health(config: ImageConfig, text: str) -> ImageConfig:
    if text.upper() == "NONE":
        return replace(config, health=HealthCheck(test=("NONE",)))
    options: dict[str, float] = {}
    retries = 0
    while text.startswith("--"):
        word, _, text = text.partition(" ")
        name, _, value = word[2:].partition("=")
        text = text.strip()
        if name == "retries" and value.isdigit():
            retries = int(value)
        elif name in _HEALTH_OPTIONS:
            options[_HEALTH_OPTIONS[name]] = _duration(value)
        else:
            raise InvalidArgument(f"unknown flag of HEALTHCHECK: {word}")
    kind, _, rest = text.partition(" ")
    if kind.upper() != "CMD" or not rest.strip():
        raise InvalidArgument("HEALTHCHECK needs CMD and a command, or NONE")
    words = _json_words(rest.strip())
    test = ("CMD-SHELL", rest.strip()) if words is None else ("CMD", *words)
    return replace(config, health=HealthCheck(test=test, retries=retries, **options))


def _duration(text: str) -> float:
    """Seconds of a Go duration (``1m30s``)."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidArgument(f"not a duration: {text!r} (say 30s or 1m30s)")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


_CHANGES: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": lambda config, text: replace(config, command=_command(config, text)),
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": lambda config, text: replace(config, shell=_json_words(text) or (text,)),
    "STOPSIGNAL": lambda config, text: replace(config, stop_signal=_words(text)[0]),
    "USER": lambda config, text: replace(config, user=_words(text)[0]),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
