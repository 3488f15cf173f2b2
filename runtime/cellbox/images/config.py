"""Manifests, indexes and image configs: JSON of strangers to facts, and facts to canonical JSON.

Pure. OCI image specification 1.1 (manifest.md, image-index.md, config.md) and Docker's manifest
version 2, schema 2. Two parsers must never read one document in two ways (CVE-2021-41190), so what
is ambiguous is refused: duplicate keys (Go's parser ignores case, so keys that differ by case too),
both ``layers`` and ``manifests``, a media type that differs from the descriptor's. Sizes, depth and
counts are bounded before anything is built from them.
"""

from __future__ import annotations

import json
import platform as machine
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.images.content import check_digest
from cellbox.model.container import HealthCheck
from cellbox.model.image import (
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_MANIFEST,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Platform,
)
from cellbox.model.times import instant, timestamp

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
MAX_DEPTH = 64
MAX_LAYERS = 1000
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "loongarch64": ("loong64", ""),
}
_KEYS = frozenset({"schemaVersion", "mediaType", "config", "layers", "manifests", "annotations"})
_FOLDED_KEYS = frozenset(key.lower() for key in _KEYS)
NANO = 1e9


@dataclass(frozen=True)
class Manifest:
    """One image of one platform: its config, and its layers from the lowest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedConfig:
    """What an image config says, in the model's words."""

    config: ImageConfig
    platform: Platform
    diff_ids: tuple[str, ...]
    history: tuple[HistoryEntry, ...] = ()
    created: float | None = None
    author: str = ""
    comment: str = ""


def strict_json(data: bytes, limit: int, what: str) -> Any:
    """The value of the JSON text ``data``, read the one way there is to read it.

    Raises InvalidArgument when it has over ``limit`` bytes, nests over 64 deep, repeats a key, or
    is not JSON in UTF-8 (RFC 8259).
    """
    if len(data) > limit:
        raise InvalidArgument(f"{what} is larger than {limit} bytes")
    _check_depth(data, what)
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not valid JSON: {error}") from None


def _check_depth(data: bytes, what: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(data):
        char = token.group()
        if char in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidArgument(f"{what} nests deeper than {MAX_DEPTH}")
        elif char in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def canonical_json(value: Any) -> bytes:
    """The one encoding this engine writes: sorted keys, no blanks, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


class _Reader:
    """Typed access to one JSON object; ``what`` names it in errors.

    null counts as absent, as it does for the Go programs that write these documents.
    """

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise InvalidArgument(f"{what} is not a JSON object")
        self._value = value
        self._what = what

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        item = self._value.get(key)
        if item is None:
            return default
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
            raise InvalidArgument(f"{self._what}: {key} has the wrong type")
        return item

    def has(self, key: str) -> bool:
        return self._value.get(key) is not None

    def text(self, key: str) -> str:
        item: str = self._get(key, str, "")
        if "\0" in item:
            raise InvalidArgument(f"{self._what}: {key} holds a NUL")
        return item

    def number(self, key: str) -> int:
        item: int = self._get(key, int, 0)
        return item

    def flag(self, key: str) -> bool:
        return bool(self._get(key, bool, False))

    def items(self, key: str) -> list[Any]:
        item: list[Any] = self._get(key, list, [])
        return item

    def object(self, key: str) -> dict[str, Any]:
        item: dict[str, Any] = self._get(key, dict, {})
        return item

    def child(self, key: str) -> _Reader:
        return _Reader(self.object(key), f"{self._what}: {key}")

    def check_case(self) -> None:
        """Refuse a key that only a parser blind to case would take for a known one."""
        for key in self._value:
            if key not in _KEYS and key.lower() in _FOLDED_KEYS:
                raise InvalidArgument(f"{self._what}: the key {key} is spelt wrong")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; one string stands for a list of it, as old Dockers wrote it."""
        item = self._get(key, (list, str), [])
        texts = [item] if isinstance(item, str) else item
        if any(not isinstance(text, str) or "\0" in text for text in texts):
            raise InvalidArgument(f"{self._what}: {key} must be strings without NUL")
        return tuple(texts)

    def names(self, key: str) -> tuple[str, ...]:
        """The keys of a Go ``map[string]struct{}``, sorted; old writers used a list."""
        item = self._get(key, (dict, list), {})
        return tuple(sorted(str(name) for name in item))

    def table(self, key: str) -> dict[str, str]:
        item = self.object(key)
        if any(not isinstance(value, str) for value in item.values()):
            raise InvalidArgument(f"{self._what}: {key} must hold strings")
        return dict(item)


def parse_descriptor(value: Any, what: str = "descriptor") -> Descriptor:
    """A descriptor (descriptor.md); ``urls`` are never looked at. Raises InvalidArgument."""
    reader = _Reader(value, what)
    size = reader.number("size")
    if size < 0 or size >= 1 << 63:
        raise InvalidArgument(f"{what}: size is out of range")
    platform = reader.object("platform").items()
    return Descriptor(
        media_type=reader.text("mediaType"),
        digest=check_digest(reader.text("digest")),
        size=size,
        annotations=reader.table("annotations"),
        platform={key: item for key, item in platform if isinstance(item, str)},
    )


def _document(data: bytes, media_type: str, allowed: frozenset[str], what: str) -> _Reader:
    reader = _Reader(strict_json(data, MANIFEST_LIMIT, what), what)
    reader.check_case()
    stated = reader.text("mediaType")
    if media_type not in allowed:
        raise InvalidArgument(f"{media_type or 'a missing media type'} is not that of a {what}")
    if stated and stated != media_type:
        raise InvalidArgument(f"the {what} says it is {stated}, its descriptor says {media_type}")
    if reader.number("schemaVersion") != 2:
        raise InvalidArgument(f"the {what} is not of schema version 2")
    if reader.has("manifests") and (reader.has("layers") or reader.has("config")):
        raise InvalidArgument(f"the {what} is a manifest and an index at once")
    return reader


def parse_manifest(data: bytes, media_type: str) -> Manifest:
    """The manifest of one image; ``media_type`` is what its descriptor or the registry said.

    Raises InvalidArgument.
    """
    reader = _document(data, media_type, MANIFESTS, "manifest")
    if not reader.has("config"):
        raise InvalidArgument("the manifest names no config")
    layers = reader.items("layers")
    if len(layers) > MAX_LAYERS:
        raise InvalidArgument(f"the manifest has {len(layers)} layers")
    return Manifest(
        config=parse_descriptor(reader.object("config"), "manifest: config"),
        layers=tuple(parse_descriptor(layer, "manifest: layer") for layer in layers),
        annotations=reader.table("annotations"),
    )


def parse_index(data: bytes, media_type: str) -> tuple[Descriptor, ...]:
    """The manifests that an index lists. Raises InvalidArgument."""
    reader = _document(data, media_type, INDEXES, "index")
    if not reader.has("manifests"):
        raise InvalidArgument("the index lists no manifests")
    return tuple(parse_descriptor(item, "index: manifest") for item in reader.items("manifests"))


def parse_config(data: bytes) -> ParsedConfig:
    """An image config, OCI's or Docker's. Raises InvalidArgument."""
    reader = _Reader(strict_json(data, CONFIG_LIMIT, "image config"), "image config")
    diff_ids = reader.child("rootfs").texts("diff_ids")
    if len(diff_ids) > MAX_LAYERS:
        raise InvalidArgument(f"the image config has {len(diff_ids)} layers")
    return ParsedConfig(
        config=_parse_execution(reader.child("config")),
        platform=Platform(
            os=reader.text("os") or "linux",
            architecture=reader.text("architecture") or host_platform().architecture,
            variant=reader.text("variant"),
        ),
        diff_ids=tuple(check_digest(item) for item in diff_ids),
        history=tuple(_parse_history(item) for item in reader.items("history")),
        created=instant(reader.text("created")),
        author=reader.text("author"),
        comment=reader.text("comment"),
    )


def _parse_execution(reader: _Reader) -> ImageConfig:
    return ImageConfig(
        user=reader.text("User"),
        env=tuple(item for item in reader.texts("Env") if item.partition("=")[0]),
        entrypoint=reader.texts("Entrypoint"),
        command=reader.texts("Cmd"),
        workdir=reader.text("WorkingDir"),
        labels=reader.table("Labels"),
        volumes=reader.names("Volumes"),
        exposed_ports=reader.names("ExposedPorts"),
        stop_signal=reader.text("StopSignal"),
        shell=reader.texts("Shell"),
        on_build=reader.texts("OnBuild"),
        health=_parse_health(reader.child("Healthcheck")) if reader.has("Healthcheck") else None,
    )


def _parse_health(reader: _Reader) -> HealthCheck:
    return HealthCheck(
        test=reader.texts("Test"),
        interval=reader.number("Interval") / NANO,
        timeout=reader.number("Timeout") / NANO,
        start_period=reader.number("StartPeriod") / NANO,
        start_interval=reader.number("StartInterval") / NANO,
        retries=reader.number("Retries"),
    )


def _parse_history(value: Any) -> HistoryEntry:
    reader = _Reader(value, "image config: history")
    return HistoryEntry(
        created=instant(reader.text("created")),
        created_by=reader.text("created_by"),
        comment=reader.text("comment"),
        empty_layer=reader.flag("empty_layer"),
    )


def write_config(image: ParsedConfig) -> bytes:
    """The canonical JSON of an image config; :func:`parse_config` reads the same facts back."""
    value: dict[str, Any] = {
        "architecture": image.platform.architecture,
        "os": image.platform.os,
        "config": execution_json(image.config),
        "rootfs": {"type": "layers", "diff_ids": list(image.diff_ids)},
        "history": [_history_json(entry) for entry in image.history],
    }
    optional = {
        "variant": image.platform.variant,
        "created": None if image.created is None else timestamp(image.created),
        "author": image.author,
        "comment": image.comment,
    }
    return canonical_json(value | {key: item for key, item in optional.items() if item})


def execution_json(config: ImageConfig) -> dict[str, Any]:
    """The ``config`` object of an image config; what is empty is left out."""
    value = {
        "User": config.user,
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.command),
        "WorkingDir": config.workdir,
        "Labels": dict(config.labels),
        "Volumes": {name: {} for name in config.volumes},
        "ExposedPorts": {name: {} for name in config.exposed_ports},
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "OnBuild": list(config.on_build),
        "Healthcheck": _health_json(config.health) if config.health else {},
    }
    return {key: item for key, item in value.items() if item}


def _health_json(health: HealthCheck) -> dict[str, Any]:
    value = {
        "Test": list(health.test),
        "Interval": round(health.interval * NANO),
        "Timeout": round(health.timeout * NANO),
        "StartPeriod": round(health.start_period * NANO),
        "StartInterval": round(health.start_interval * NANO),
        "Retries": health.retries,
    }
    return {key: item for key, item in value.items() if item}


def _history_json(entry: HistoryEntry) -> dict[str, Any]:
    value = {
        "created": None if entry.created is None else timestamp(entry.created),
        "created_by": entry.created_by,
        "comment": entry.comment,
        "empty_layer": entry.empty_layer,
    }
    return {key: item for key, item in value.items() if item}


def descriptor_json(descriptor: Descriptor) -> dict[str, Any]:
    """A descriptor as its JSON object."""
    value: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        value["annotations"] = dict(descriptor.annotations)
    if descriptor.platform:
        value["platform"] = dict(descriptor.platform)
    return value


def write_manifest(manifest: Manifest, media_type: str = OCI_MANIFEST) -> bytes:
    """The canonical JSON of a manifest, as OCI's or Docker's (which has no annotations)."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_json(manifest.config),
        "layers": [descriptor_json(layer) for layer in manifest.layers],
    }
    if manifest.annotations and media_type != DOCKER_MANIFEST:
        value["annotations"] = dict(manifest.annotations)
    return canonical_json(value)


def write_index(manifests: Iterable[Descriptor], media_type: str) -> bytes:
    """The canonical JSON of an index."""
    listed = [descriptor_json(item) for item in manifests]
    return canonical_json({"schemaVersion": 2, "mediaType": media_type, "manifests": listed})


def host_platform() -> Platform:
    """The platform of this machine, in Go's words."""
    name = machine.machine()
    architecture, variant = _ARCHITECTURES.get(name, (name, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """``linux/arm64/v8``, ``linux/amd64``, ``arm64`` as a platform. Raises InvalidArgument."""
    parts = text.lower().split("/")
    if not all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", part) for part in parts) or len(parts) > 3:
        raise InvalidArgument(f"not a platform: {text!r} (say linux/amd64 or linux/arm64/v8)")
    if len(parts) == 1:
        parts = ["linux", *parts]
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)


def select_platform(descriptors: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The manifest of an index that fits ``wanted`` best: its variant, else one without, else any.

    Attestations (platform ``unknown``) never fit. Raises NotSupported with what there is.
    """
    fitting = [
        item
        for item in descriptors
        if item.platform.get("os") == wanted.os
        and item.platform.get("architecture") == wanted.architecture
    ]
    if not fitting:
        known = sorted({_platform_text(item.platform) for item in descriptors} - {""})
        raise NotSupported(f"there is no image for {wanted}, only for {', '.join(known) or 'none'}")
    return min(fitting, key=lambda item: _distance(item.platform.get("variant", ""), wanted))


def _distance(variant: str, wanted: Platform) -> int:
    if variant == wanted.variant:
        return 0
    if not variant or (wanted.architecture, variant) == ("arm64", "v8"):
        return 1
    older = variant.startswith("v") and bool(wanted.variant) and variant < wanted.variant
    return 2 if older else 3


def _platform_text(platform: Mapping[str, str]) -> str:
    parts = (platform.get(key, "") for key in ("os", "architecture", "variant"))
    text = "/".join(part for part in parts if part)
    return "" if text.startswith("unknown") else text
